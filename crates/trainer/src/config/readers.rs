//! Who reads which key, and the keys that nobody reads.
//!
//! A kind of layer, a data set, a policy and a learning rate schedule have keys of their own. One that is set without
//! anybody to read it was meant to do something, so it is refused: *every key that is set must be read under the choices
//! of its own layer and those below, or under those of a later layer*. A file for `mamba` may so be run with
//! `--set model.kind=lru`, and a file with a tolerance with `--set compress.policy=none`, while `model.r_max` beside
//! `model.kind=mamba` is an error wherever the two meet.
//!
//! What is in a table is read by the word that the table is named after; every section says the rest in its [`Rules`].

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::layers::Layer;
use super::rules::{KindReaders, Rules, When};
use super::schema::{self, Entry};
use super::{ConfigError, LayerKind, UnreadKey, compress, data, model, run, training};

pub(super) const RULES: [Rules; 5] = [
    data::RULES,
    model::RULES,
    training::RULES,
    compress::RULES,
    run::RULES,
];

fn rules_of(section: &str) -> Option<&'static Rules> {
    RULES.iter().find(|rules| rules.section == section)
}

fn choices() -> impl Iterator<Item = &'static str> {
    RULES.iter().flat_map(|rules| rules.choices).copied()
}

/// The tables that a short form, `section.key`, can lead to; none if it is no short form.
pub(super) fn tables_of_short_form(key: &str) -> Vec<&'static str> {
    let Some((section, name)) = key.split_once('.') else {
        return Vec::new();
    };
    match rules_of(section) {
        Some(rules) if rules.short_forms.contains(&name) => schema::tables_with(section, name),
        _ => Vec::new(),
    }
}

/// The choice whose word a table is named after.
fn owner(section: &str, table: &str) -> Option<&'static str> {
    let mut choices = rules_of(section)?.choices.iter().copied();
    choices.find(|choice| match schema::at(&split(choice)) {
        Some(Entry::Word(words)) => words.contains(&table),
        // Names of data sets: nothing but tables says which there are.
        entry => entry == Some(Entry::Text),
    })
}

/// Each way in which a key, `section.key` or `section.table.key`, comes to be read; none if it always is.
fn readers_of(key: &str) -> Vec<When> {
    let path = split(key);
    let tables = match path[..] {
        [section, table, _] => {
            let mut known = schema::tables(section);
            known.find(|known| *known == table).into_iter().collect()
        }
        _ => tables_of_short_form(key),
    };
    if let Some(choice) = tables.first().and_then(|table| owner(path[0], table)) {
        return vec![vec![(choice, tables)]];
    }
    let readers = RULES.iter().flat_map(|rules| rules.readers);
    let readers = readers.filter(|readers| readers.keys.contains(&key));
    let by_kind = RULES.iter().flat_map(|rules| rules.by_kind);
    let by_kind = by_kind.filter(|readers| readers.keys.contains(&key));
    let with_kinds = |readers: &KindReaders| {
        let kinds = LayerKind::ALL.iter().filter(|kind| (readers.reads)(**kind));
        let mut when = (readers.when)();
        when.push((model::KIND, kinds.map(|kind| kind.word()).collect()));
        when
    };
    let declared = RULES.iter().filter_map(|rules| (rules.declared)(key));
    readers
        .map(|readers| (readers.when)())
        .chain(by_kind.map(with_kinds))
        .chain(declared)
        .collect()
}

/// The words that stand for the choices at some height of the layers.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices(BTreeMap<&'static str, String>);

impl Choices {
    /// Those of a configuration with every choice in it.
    pub(super) fn of(sections: &Table) -> Self {
        let mut choices = Self::default();
        choices.overrule(sections);
        choices
    }

    /// Takes over those that these sections make.
    fn overrule(&mut self, sections: &Table) {
        for choice in choices() {
            if let Some(chosen) = value_at(sections, &split(choice)).and_then(Value::as_str) {
                self.0.insert(choice, chosen.to_owned());
            }
        }
    }

    fn word(&self, choice: &str) -> &str {
        self.0.get(choice).map_or("", String::as_str)
    }

    fn is_one_of(&self, choice: &str, words: &[&str]) -> bool {
        let word = self.word(choice);
        // An unknown data set is refused with the known ones, where it is loaded.
        let unknown = choice == data::DATASET && !datasets::names().contains(&word);
        unknown || words.contains(&word)
    }

    /// Whether anybody reads this key.
    fn read(&self, key: &str) -> bool {
        let readers = readers_of(key);
        let all = |when: &When| {
            let mut when = when.iter();
            when.all(|(choice, words)| self.is_one_of(choice, words))
        };
        readers.is_empty() || readers.iter().any(all)
    }

    /// What a short form, `section.key`, stands for: the key of its name in the table of what is chosen.
    pub(super) fn spelled_out(&self, key: &str) -> Option<String> {
        let (section, name) = key.split_once('.')?;
        let chosen =
            |table: &&str| owner(section, table).is_some_and(|choice| self.word(choice) == *table);
        let table = tables_of_short_form(key).into_iter().find(chosen)?;
        Some(format!("{section}.{table}.{name}"))
    }

    /// Takes out of the sections what nobody reads, and tables with nothing in them.
    pub(super) fn drop_unread(&self, sections: &mut Table) {
        for (section, keys) in sections {
            let Some(keys) = keys.as_table_mut() else {
                continue;
            };
            keys.retain(|key, value| match value.as_table_mut() {
                Some(table) => {
                    table.retain(|name, _| self.read(&format!("{section}.{key}.{name}")));
                    !table.is_empty()
                }
                None => self.read(&format!("{section}.{key}")),
            });
        }
    }

    /// What is chosen of that on which it depends whether `key` is read, in words.
    fn described(&self, key: &str) -> String {
        let readers = readers_of(key);
        let matters = |choice: &str| readers.iter().flatten().any(|(of, _)| *of == choice);
        let chosen = choices().filter(|choice| matters(choice));
        let chosen = chosen.map(|choice| format!("`{choice}` is {}", self.word(choice)));
        chosen.collect::<Vec<_>>().join(" and ")
    }
}

pub(super) fn split(key: &str) -> Vec<&str> {
    key.split('.').collect()
}

pub(super) fn value_at<'a>(sections: &'a Table, path: &[&str]) -> Option<&'a Value> {
    let (first, below) = path.split_first()?;
    let mut names = below.iter();
    names.try_fold(sections.get(*first)?, |value, name| value.get(name))
}

/// Refuses a key that nobody reads, by the rule above, and one that a layer gives twice. Returns the choices of all
/// layers together.
pub(super) fn check(layers: &[Layer]) -> Result<Choices, ConfigError> {
    let mut so_far = Choices::default();
    let heights: Vec<Choices> = layers
        .iter()
        .map(|layer| {
            so_far.overrule(layer.sections());
            so_far.clone()
        })
        .collect();
    for (height, layer) in layers.iter().enumerate() {
        let from_here = &heights[height..];
        check_spellings(layer, from_here)?;
        let unread: Vec<(&str, &str)> = layer
            .needed()
            .filter(|(key, _)| !from_here.iter().any(|choices| choices.read(key)))
            .collect();
        if let Some((key, origin)) = unread.first() {
            return Err(ConfigError::Unread(Box::new(UnreadKey {
                origin: (*origin).to_owned(),
                key: (*key).to_owned(),
                readers: described(key),
                chosen: heights[height].described(key),
                others: unread[1..].iter().map(|(key, _)| (*key).into()).collect(),
            })));
        }
    }
    Ok(so_far)
}

/// Refuses a short form beside what it stands for, under the choices of this layer and those above it.
fn check_spellings(layer: &Layer, heights: &[Choices]) -> Result<(), ConfigError> {
    for (key, origin) in layer.given() {
        let mut meanings = heights
            .iter()
            .filter_map(|choices| choices.spelled_out(key));
        let twice = meanings.find(|meaning| value_at(layer.sections(), &split(meaning)).is_some());
        if let Some(meaning) = twice {
            return Err(ConfigError::TwoSpellings {
                origin: origin.to_owned(),
                short_form: key.to_owned(),
                key: meaning,
            });
        }
    }
    Ok(())
}

/// Who reads `key`, in words.
fn described(key: &str) -> String {
    let words = |(choice, words): &(&str, Vec<&str>)| format!("`{choice}` = {}", words.join(" | "));
    let all = readers_of(key).into_iter().map(|when| {
        let when = when.iter().map(words);
        when.collect::<Vec<_>>().join(" and ")
    });
    all.collect::<Vec<_>>().join(", or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The rules are of words, so nothing but this finds one that is spelled wrong.
    #[test]
    fn every_key_and_every_word_of_the_rules_is_one_of_the_configuration() {
        let key = |key: &str| matches!(schema::at(&split(key)), Some(entry) if !is_table(entry));
        for rules in &RULES {
            assert!(schema::at(&[rules.section]).is_some(), "{}", rules.section);
            for choice in rules.choices {
                assert!(choice.starts_with(rules.section) && key(choice), "{choice}");
            }
            for name in rules.alternatives.iter().copied().flatten() {
                assert!(key(&format!("{}.{name}", rules.section)), "{name}");
            }
            for readers in rules.readers {
                for (choice, words) in (readers.when)() {
                    let Some(Entry::Word(known)) = schema::at(&split(choice)) else {
                        panic!("{choice} is no choice");
                    };
                    assert!(words.iter().all(|word| known.contains(word)), "{words:?}");
                }
                assert!(readers.keys.iter().all(|name| key(name)));
            }
            for readers in rules.by_kind {
                assert!(LayerKind::ALL.iter().any(|kind| (readers.reads)(*kind)));
                assert!(readers.keys.iter().all(|name| key(name)));
            }
        }
    }

    fn is_table(entry: Entry) -> bool {
        matches!(entry, Entry::Table(_))
    }

    #[test]
    fn every_table_is_named_after_a_word_of_its_section() {
        for rules in &RULES {
            for table in schema::tables(rules.section) {
                let Some(choice) = owner(rules.section, table) else {
                    panic!("no choice of {} has the word {table}", rules.section);
                };
                if choice == data::DATASET {
                    assert!(datasets::names().contains(&table), "{table}");
                }
            }
        }
    }

    #[test]
    fn a_short_form_leads_to_tables_of_one_choice_and_is_no_key_itself() {
        for rules in &RULES {
            for name in rules.short_forms {
                assert_eq!(schema::at(&[rules.section, name]), None, "{name}");
                let tables = tables_of_short_form(&format!("{}.{name}", rules.section));
                let mut owners: Vec<_> = tables
                    .iter()
                    .map(|table| owner(rules.section, table))
                    .collect();
                owners.dedup();
                assert_eq!(owners.len(), 1, "{name}");
            }
        }
    }

    #[test]
    fn what_is_unread_is_left_out_and_the_choices_never_are() {
        let mut sections = Table::try_from(Config::default()).unwrap();
        let before = sections.clone();
        Choices::of(&before).drop_unread(&mut sections);
        let there = |key| value_at(&sections, &split(key)).is_some();
        assert!(there("model.lru.r_max") && there("data.digits.train_examples"));
        assert!(!there("model.mamba") && !there("compress.fraction") && !there("data.imdb"));
        assert!(choices().all(there));
    }
}

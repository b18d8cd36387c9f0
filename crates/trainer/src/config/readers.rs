//! Who reads which key, and the keys that nobody reads.
//!
//! A kind of layer, a data set, a policy and a learning rate schedule have keys of their own. One that is set without
//! anybody to read it was meant to do something, so it is refused: *every key that is set must be read under the choices
//! of its own layer and those below, or under those of a later layer*. A file for `mamba` may so be run with
//! `--set model.kind=lru`, and a file with a tolerance with `--set compress.policy=none`, while `model.r_max` beside
//! `model.kind=mamba` is an error wherever the two meet.

use toml::Table;

use super::layers::Layer;
use super::{ConfigError, UnreadKey};

const KIND: &str = "model.kind";
const DATASET: &str = "data.dataset";
const POLICY: &str = "compress.policy";
const SCHEDULE: &str = "training.schedule";

/// The keys that decide which others are read.
const CHOICES: [&str; 4] = [KIND, DATASET, POLICY, SCHEDULE];

const SELECTIVE: &[&str] = &["mamba", "mamba2"];
const CUTTING: &[&str] = &["tolerance", "fraction", "target", "pragmatic", "auto"];

/// Keys that are read when every one of these choices is one of its words. A key of several entries is read when any of
/// them holds, a key of none always.
struct Readers {
    when: &'static [(&'static str, &'static [&'static str])],
    keys: &'static [&'static str],
}

const READERS: &[Readers] = &[
    Readers {
        when: &[(DATASET, &["imdb", "selective-copy"])],
        keys: &["data.length"],
    },
    Readers {
        when: &[(DATASET, &["selective-copy"])],
        keys: &["data.copies", "data.vocabulary"],
    },
    Readers {
        when: &[(DATASET, &["digits", "selective-copy"])],
        keys: &["data.train_examples", "data.test_examples"],
    },
    Readers {
        when: &[(KIND, &["lru"])],
        keys: &[
            "model.r_min",
            "model.r_max",
            "model.max_phase",
            "model.dropout",
            "compress.realization",
        ],
    },
    Readers {
        when: &[(KIND, SELECTIVE)],
        keys: &[
            "model.expand",
            "model.conv_kernel",
            "compress.gramian",
            // Spectra that are only written down are taken on them as well.
            "compress.calibration_examples",
        ],
    },
    Readers {
        when: &[(KIND, &["mamba"])],
        keys: &["model.dt_rank"],
    },
    Readers {
        when: &[(KIND, &["mamba2"])],
        // The spectrum of heads that are to be balanced is another one.
        keys: &["model.head_dim", "compress.reduction"],
    },
    Readers {
        when: &[(SCHEDULE, &["warmup-cosine"])],
        keys: &["training.warmup_fraction"],
    },
    Readers {
        when: &[(POLICY, &["tolerance", "auto"])],
        keys: &["compress.tau"],
    },
    Readers {
        when: &[(POLICY, &["fraction", "pragmatic"])],
        keys: &["compress.fraction"],
    },
    Readers {
        when: &[(POLICY, &["pragmatic"])],
        keys: &["compress.max_drop"],
    },
    Readers {
        when: &[(POLICY, &["auto"])],
        keys: &["compress.min_correlation"],
    },
    Readers {
        when: &[(POLICY, &["target"])],
        keys: &[
            "compress.target_states",
            "compress.target_parameters",
            "compress.target_step_ms",
        ],
    },
    Readers {
        when: &[(POLICY, CUTTING)],
        keys: &[
            "compress.scope",
            "compress.start",
            "compress.end",
            "compress.checks",
            "compress.interval",
            "compress.min_drop",
            "compress.min_state",
            "compress.cooldown",
            "compress.order_multiple",
            "compress.selection",
            "compress.optimizer_state",
        ],
    },
    Readers {
        when: &[(POLICY, CUTTING), (KIND, &["lru"])],
        keys: &["compress.reduction", "compress.calibration_examples"],
    },
];

fn readers_of(key: &str) -> impl Iterator<Item = &'static Readers> {
    READERS
        .iter()
        .filter(move |readers| readers.keys.contains(&key))
}

/// The words that stand for the choices at some height of the layers.
#[derive(Debug, Clone, Default)]
pub(super) struct Choices([String; CHOICES.len()]);

impl Choices {
    /// Those of a configuration with every choice in it.
    pub(super) fn of(sections: &Table) -> Self {
        let mut choices = Self::default();
        choices.overrule(sections);
        choices
    }

    /// Takes over those that these sections make.
    fn overrule(&mut self, sections: &Table) {
        for (choice, word) in CHOICES.iter().zip(&mut self.0) {
            if let Some(chosen) = word_of(sections, choice) {
                *word = chosen.to_owned();
            }
        }
    }

    fn word(&self, choice: &str) -> &str {
        let place = CHOICES.iter().position(|known| *known == choice);
        &self.0[place.expect("readers are given by the choices of this list")]
    }

    /// Whether anybody reads `key`, `section.key`.
    fn read(&self, key: &str) -> bool {
        // An unknown data set is refused with the known ones, where it is loaded.
        let unknown = !datasets::names().contains(&self.word(DATASET));
        let holds = |choice: &str, words: &[&str]| {
            choice == DATASET && unknown || words.contains(&self.word(choice))
        };
        let mut readers = readers_of(key).peekable();
        readers.peek().is_none()
            || readers.any(|readers| {
                readers
                    .when
                    .iter()
                    .all(|(choice, words)| holds(choice, words))
            })
    }

    /// Takes out of the sections what nobody reads.
    pub(super) fn drop_unread(&self, sections: &mut Table) {
        for (section, keys) in sections {
            if let Some(keys) = keys.as_table_mut() {
                keys.retain(|key, _| self.read(&format!("{section}.{key}")));
            }
        }
    }
}

fn word_of<'a>(sections: &'a Table, choice: &str) -> Option<&'a str> {
    let (section, key) = choice.split_once('.')?;
    sections.get(section)?.get(key)?.as_str()
}

/// Refuses a key that nobody reads, by the rule above. Returns the choices of all layers together.
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
        let unread: Vec<(&str, &str)> = layer
            .origins()
            .filter(|(key, _)| !heights[height..].iter().any(|choices| choices.read(key)))
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

/// Who reads `key`, in words.
fn described(key: &str) -> String {
    let all = readers_of(key).map(|readers| {
        let when = readers.when.iter();
        let when = when.map(|(choice, words)| format!("`{choice}` = {}", words.join(" | ")));
        when.collect::<Vec<_>>().join(" and ")
    });
    all.collect::<Vec<_>>().join(", or ")
}

impl Choices {
    /// What is chosen of that on which it depends whether `key` is read, in words.
    fn described(&self, key: &str) -> String {
        let matters = |choice: &str| {
            readers_of(key).any(|readers| readers.when.iter().any(|(of, _)| *of == choice))
        };
        let chosen = CHOICES.into_iter().filter(|choice| matters(choice));
        let chosen = chosen.map(|choice| format!("`{choice}` is {}", self.word(choice)));
        chosen.collect::<Vec<_>>().join(" and ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The table is of words, so nothing but this finds one that is spelled wrong.
    #[test]
    fn every_key_and_every_word_of_the_table_is_one_of_the_configuration() {
        for readers in READERS {
            for (choice, words) in readers.when {
                for word in *words {
                    let known = match *choice {
                        DATASET => datasets::names().contains(word),
                        _ => Layer::from_assignments(&[format!("{choice}={word}")]).is_ok(),
                    };
                    assert!(known, "{choice} = {word}");
                }
            }
            for key in readers.keys {
                let error = Layer::from_assignments(&[format!("{key}=[]")]).unwrap_err();
                assert!(!error.to_string().contains("unknown"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_unread_is_left_out_and_the_choices_never_are() {
        let mut sections = Table::try_from(Config::default()).unwrap();
        let before = sections.clone();
        Choices::of(&before).drop_unread(&mut sections);
        assert!(sections["model"].get("r_max").is_some());
        assert!(sections["model"].get("expand").is_none());
        assert!(sections["compress"].get("fraction").is_none());
        for choice in CHOICES {
            assert!(word_of(&sections, choice).is_some(), "{choice}");
        }
    }
}

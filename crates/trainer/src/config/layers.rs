//! From files, environment variables and flags to one configuration.
//!
//! Each layer is checked key by key before the layers are merged, so an error names the file, variable or flag that
//! holds the mistake and a mistake is reported even where a later layer would have hidden it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::readers::{self, Choices, RULES, split, tables_of_short_form, value_at};
use super::schema::{self, Entry};
use super::{Config, ConfigError};

/// Environment variables of the form `COMPRESSM_SECTION__KEY` or `COMPRESSM_SECTION__TABLE__KEY` are configuration. Those
/// with this prefix but without the separator, such as `COMPRESSM_DATA_DIR`, mean something else and are left alone.
const ENV_PREFIX: &str = "COMPRESSM_";
const ENV_SEPARATOR: &str = "__";

/// One source of settings: a table of sections, every key of which is known and has the right type.
#[derive(Debug, Default)]
pub(super) struct Layer {
    sections: Table,
    /// Where each key, `section.key` or `section.table.key`, was given.
    origins: BTreeMap<String, String>,
    /// Whether keys that nobody reads are no mistake.
    lenient: bool,
}

impl Layer {
    /// The built-in defaults.
    pub(super) fn defaults() -> Result<Self, ConfigError> {
        let sections = Table::try_from(Config::default())?;
        let mut layer = Self {
            sections,
            ..Self::default()
        };
        // Its default is the backend's, of which layers above decide.
        layer.remove("compress", "order_multiple");
        Ok(layer)
    }

    /// The configuration saved with a run. Versions before this one saved all keys, so those that nobody reads are no
    /// mistake in it.
    pub(super) fn from_run(path: &Path) -> Result<Self, ConfigError> {
        let mut layer = Self::from_file(path)?;
        layer.lenient = true;
        Ok(layer)
    }

    /// A TOML file.
    pub(super) fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let table: Table = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            line: line_of(&text, error.span()),
            message: error.message().to_owned(),
        })?;

        let origin = path.display().to_string();
        let mut layer = Self::default();
        for (section, value) in table {
            layer.insert(&origin, &section, value)?;
        }
        Ok(layer)
    }

    /// Environment variables; those that are not ours are passed over.
    pub(super) fn from_env(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut layer = Self::default();
        for (name, text) in variables {
            let Some((name, key)) = env_key(&name) else {
                continue;
            };
            let origin = format!("environment variable {name}");
            let text = text.into_string().map_err(|_| ConfigError::Key {
                origin: origin.clone(),
                key: key.clone(),
                message: "the value is not valid UTF-8".to_owned(),
            })?;
            layer.insert(&origin, &key, parse_value(&key, &text))?;
        }
        Ok(layer)
    }

    /// Assignments `section.key=value` or `section.table.key=value`; of two for the same key the later one holds.
    pub(super) fn from_assignments(assignments: &[String]) -> Result<Self, ConfigError> {
        let mut layer = Self::default();
        for text in assignments {
            let shown = text.replace('\n', "\\n"); // a message is one line
            let not_an_assignment = || ConfigError::NotAnAssignment {
                text: shown.clone(),
            };
            let (key, value) = text.split_once('=').ok_or_else(not_an_assignment)?;
            let (key, value) = (key.trim(), value.trim());
            if key.is_empty() || value.is_empty() {
                return Err(not_an_assignment());
            }
            layer.insert(&format!("--set {shown}"), key, parse_value(key, value))?;
        }
        Ok(layer)
    }

    /// Adds a key, or a whole section or table, or says what is wrong with it.
    fn insert(&mut self, origin: &str, key: &str, value: Value) -> Result<(), ConfigError> {
        let wrong = |message: String| ConfigError::Key {
            origin: origin.to_owned(),
            key: key.to_owned(),
            message,
        };
        let path = split(key);
        match (schema::at(&path), value) {
            (Some(Entry::Table(_)), Value::Table(keys)) => keys
                .into_iter()
                .try_for_each(|(name, value)| self.insert(origin, &format!("{key}.{name}"), value)),
            (Some(Entry::Table(_)), value) => Err(wrong(format!(
                "this is a table of keys, as in `[{key}]`, and not a value of type {}",
                value.type_str()
            ))),
            (_, value) => {
                let mut alone = Table::new();
                put(&mut alone, &full_path(key), value.clone());
                // Every other key has a default, so what fails in a table of one key is this key.
                if let Err(error) = alone.try_into::<Config>() {
                    return Err(wrong(error.message().to_owned()));
                }
                put(&mut self.sections, &path, value);
                self.origins.insert(key.to_owned(), origin.to_owned());
                Ok(())
            }
        }
    }

    /// The keys of a section that it sets, if any.
    fn section(&mut self, name: &str) -> Option<&mut Table> {
        self.sections.get_mut(name).and_then(Value::as_table_mut)
    }

    /// All that it sets, by section.
    pub(super) fn sections(&self) -> &Table {
        &self.sections
    }

    /// Each key that it sets, and where it was given.
    pub(super) fn given(&self) -> impl Iterator<Item = (&str, &str)> {
        let origins = self.origins.iter();
        origins.map(|(key, origin)| (key.as_str(), origin.as_str()))
    }

    /// Those of the keys given that somebody must read.
    pub(super) fn needed(&self) -> impl Iterator<Item = (&str, &str)> {
        self.given().filter(|_| !self.lenient)
    }

    fn gives(&self, section: &str, names: &[&str]) -> bool {
        names
            .iter()
            .any(|name| value_at(&self.sections, &[section, name]).is_some())
    }

    fn remove(&mut self, section: &str, name: &str) -> Option<Value> {
        self.section(section)?.remove(name)
    }

    /// Puts what is given by a short form into the table of what is chosen.
    fn spell_out(&mut self, choices: &Choices) {
        for rules in &RULES {
            for name in rules.short_forms {
                let Some(value) = self.remove(rules.section, name) else {
                    continue;
                };
                // Without a table, a data set that is unknown is chosen.
                if let Some(key) = choices.spelled_out(&format!("{}.{name}", rules.section)) {
                    put(&mut self.sections, &split(&key), value);
                }
            }
        }
    }
}

/// Puts layers on top of each other, lowest first. What nobody reads of the result has its default.
pub(super) fn merge(mut layers: Vec<Layer>) -> Result<Config, ConfigError> {
    let choices = readers::check(&layers)?;
    for layer in &mut layers[1..] {
        choices.drop_unread(&mut layer.sections);
        layer.spell_out(&choices);
    }
    for rules in &RULES {
        for names in rules.alternatives {
            keep_highest(&mut layers, rules.section, names);
        }
    }
    let mut builder = ::config::Config::builder();
    for layer in &layers {
        builder = builder.add_source(::config::Config::try_from(&layer.sections)?);
    }
    Ok(builder.build()?.try_deserialize()?)
}

/// Takes these names out of all layers below the highest that gives any of them.
fn keep_highest(layers: &mut [Layer], section: &str, names: &[&str]) {
    let highest = layers
        .iter()
        .rposition(|layer| layer.gives(section, names))
        .unwrap_or(0);
    for layer in &mut layers[..highest] {
        for name in names {
            layer.remove(section, name);
        }
    }
}

/// Where a key is looked up: its own path, or of a short form that in the first table it can lead to.
fn full_path(key: &str) -> Vec<&str> {
    let mut path = split(key);
    if let Some(table) = tables_of_short_form(key).first() {
        path.insert(1, table);
    }
    path
}

/// Puts a value at a path of tables, made where they are missing.
fn put(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => {
            table.insert((*name).to_owned(), value);
        }
        [name, below @ ..] => {
            let inner = table
                .entry(*name)
                .or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut();
            put(
                inner.expect("a path leads through tables alone"),
                below,
                value,
            );
        }
    }
}

/// The name of a variable of ours and the key it stands for: `COMPRESSM_TRAINING__LR` is `training.lr`.
fn env_key(name: &OsString) -> Option<(&str, String)> {
    let name = name.to_str()?;
    let path = name.strip_prefix(ENV_PREFIX)?.to_lowercase();
    let path: Vec<&str> = path.split(ENV_SEPARATOR).collect();
    let key = schema::with_dashes(&path).join(".");
    (path.len() > 1).then_some((name, key))
}

/// Reads `text` as a TOML value; what is not one is a string, so that words need no quotes. Text stays text whatever it
/// looks like: an output folder may be called `2026` or `2026-05-01`.
fn parse_value(key: &str, text: &str) -> Value {
    let is_text = schema::at(&full_path(key)) == Some(Entry::Text);
    match text.parse::<Value>() {
        Ok(value) if value.is_str() || !is_text => value,
        _ => Value::String(text.to_owned()),
    }
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let start = span.map_or(0, |span| span.start);
    text.bytes().take(start).filter(|&b| b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_need_no_quotes_and_everything_else_is_toml() {
        let parse = |text| parse_value("training.lr", text);
        assert_eq!(parse("2e-3"), Value::Float(2e-3));
        assert_eq!(parse("50"), Value::Integer(50));
        assert_eq!(
            parse("warmup-cosine"),
            Value::String("warmup-cosine".into())
        );
        assert_eq!(parse("\"quoted\""), Value::String("quoted".into()));
        assert_eq!(parse("1\nb = 2"), Value::String("1\nb = 2".into()));
    }

    #[test]
    fn a_path_that_looks_like_a_number_or_a_date_stays_a_path() {
        for text in ["2026", "2026-05-01", "1.5", "true", "runs/1"] {
            let value = parse_value("run.output", text);
            assert_eq!(value, Value::String(text.to_owned()));
        }
    }

    #[test]
    fn only_variables_with_prefix_and_separator_are_keys() {
        let key = |name: &str| env_key(&OsString::from(name)).map(|(_, key)| key);
        assert_eq!(key("COMPRESSM_TRAINING__LR"), Some("training.lr".into()));
        assert_eq!(
            key("COMPRESSM_TRAINING__BATCH_SIZE"),
            Some("training.batch_size".into())
        );
        assert_eq!(
            key("COMPRESSM_DATA__SELECTIVE_COPY__LENGTH"),
            Some("data.selective-copy.length".into())
        );
        assert_eq!(key("COMPRESSM_DATA_DIR"), None);
        assert_eq!(key("COMPRESSM"), None);
        assert_eq!(key("OTHER_TRAINING__LR"), None);
    }
}

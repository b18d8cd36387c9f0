//! From files, environment variables and flags to one configuration.
//!
//! Each layer is checked key by key before the layers are merged, so an error names the file, variable or flag that
//! holds the mistake and a mistake is reported even where a later layer would have hidden it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::{Config, ConfigError, readers};

/// Environment variables of the form `COMPRESSM_SECTION__KEY` are configuration. Those with this prefix but without
/// the separator, such as `COMPRESSM_DATA_DIR`, mean something else and are left alone.
const ENV_PREFIX: &str = "COMPRESSM_";
const ENV_SEPARATOR: &str = "__";

/// Keys whose value is text whatever it looks like: an output folder may be called `2026` or `2026-05-01`.
const TEXT_KEYS: [&str; 3] = ["data.dataset", "data.dir", "run.output"];

/// Several keys of `compress` for one choice: a layer that gives any of them overrules all in the layers below.
const ALTERNATIVES: [&[&str]; 2] = [
    &["checks", "interval"],
    &["target_states", "target_parameters", "target_step_ms"],
];

/// One source of settings: a table of sections, every key of which is known and has the right type.
#[derive(Debug, Default)]
pub(super) struct Layer {
    sections: Table,
    /// Where each key, `section.key`, that somebody must read was given.
    origins: BTreeMap<String, String>,
}

impl Layer {
    /// The built-in defaults.
    pub(super) fn defaults() -> Result<Self, ConfigError> {
        let sections = Table::try_from(Config::default())?;
        let mut layer = Self {
            sections,
            origins: BTreeMap::new(),
        };
        // Its default is the backend's, of which layers above decide.
        layer.section("compress").remove("order_multiple");
        Ok(layer)
    }

    /// The configuration saved with a run. Versions before this one saved all keys, so those that nobody reads are no
    /// mistake in it.
    pub(super) fn from_run(path: &Path) -> Result<Self, ConfigError> {
        let sections = Self::from_file(path)?.sections;
        Ok(Self {
            sections,
            origins: BTreeMap::new(),
        })
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

    /// `section.key=value` assignments; of two for the same key the later one holds.
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

    /// Adds a key `section.key`, or a whole section, or says what is wrong with it.
    fn insert(&mut self, origin: &str, key: &str, value: Value) -> Result<(), ConfigError> {
        let check = |alone: Table| match alone.try_into::<Config>() {
            Ok(_) => Ok(()),
            Err(error) => Err(ConfigError::Key {
                origin: origin.to_owned(),
                key: key.to_owned(),
                message: error.message().to_owned(),
            }),
        };
        // Every other key has a default, so what fails in a table of one key is this key.
        match (key.split_once('.'), value) {
            (Some((section, name)), value) => {
                let alone = table_of(name, value.clone());
                check(table_of(section, alone.into()))?;
                self.section(section).insert(name.to_owned(), value);
                self.origins.insert(key.to_owned(), origin.to_owned());
                Ok(())
            }
            (None, Value::Table(keys)) => {
                check(table_of(key, Table::new().into()))?;
                keys.into_iter().try_for_each(|(name, value)| {
                    self.insert(origin, &format!("{key}.{name}"), value)
                })
            }
            // A section is a table, so this is never right; the check says whether the name or the value is wrong.
            (None, value) => check(table_of(key, value)),
        }
    }

    fn section(&mut self, name: &str) -> &mut Table {
        self.sections
            .entry(name)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .expect("a layer holds nothing but sections")
    }

    /// All that it sets, by section.
    pub(super) fn sections(&self) -> &Table {
        &self.sections
    }

    /// Each key, `section.key`, that somebody must read, and where it was given.
    pub(super) fn origins(&self) -> impl Iterator<Item = (&str, &str)> {
        let origins = self.origins.iter();
        origins.map(|(key, origin)| (key.as_str(), origin.as_str()))
    }

    fn gives(&self, keys: &[&str]) -> bool {
        let compress = self.sections.get("compress").and_then(Value::as_table);
        compress.is_some_and(|given| keys.iter().any(|key| given.contains_key(*key)))
    }
}

/// Puts layers on top of each other, lowest first. What nobody reads of the result has its default.
pub(super) fn merge(mut layers: Vec<Layer>) -> Result<Config, ConfigError> {
    let choices = readers::check(&layers)?;
    for layer in &mut layers[1..] {
        choices.drop_unread(&mut layer.sections);
    }
    for keys in ALTERNATIVES {
        if let Some(highest) = layers.iter().rposition(|layer| layer.gives(keys)) {
            for layer in &mut layers[..highest] {
                let compress = layer.section("compress");
                keys.iter().for_each(|key| {
                    compress.remove(*key);
                });
            }
        }
    }
    let mut builder = ::config::Config::builder();
    for layer in &layers {
        builder = builder.add_source(::config::Config::try_from(&layer.sections)?);
    }
    Ok(builder.build()?.try_deserialize()?)
}

fn table_of(key: &str, value: Value) -> Table {
    Table::from_iter([(key.to_owned(), value)])
}

/// The name of a variable of ours and the key it stands for: `COMPRESSM_TRAINING__LR` is `training.lr`.
fn env_key(name: &OsString) -> Option<(&str, String)> {
    let name = name.to_str()?;
    let (section, key) = name.strip_prefix(ENV_PREFIX)?.split_once(ENV_SEPARATOR)?;
    let key = format!("{section}.{key}").to_lowercase();
    Some((name, key))
}

/// Reads `text` as a TOML value; what is not one is a string, so that words need no quotes.
fn parse_value(key: &str, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    match text.parse::<Value>() {
        Ok(value) if value.is_str() || !TEXT_KEYS.contains(&key) => value,
        _ => as_text(),
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
        assert_eq!(key("COMPRESSM_DATA_DIR"), None);
        assert_eq!(key("COMPRESSM"), None);
        assert_eq!(key("OTHER_TRAINING__LR"), None);
    }
}

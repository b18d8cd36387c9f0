//! Ranges: what has the right type and still makes no sense.

use std::fmt::Display;

use super::ConfigError;

pub(super) fn at_least_one(
    key: &'static str,
    value: impl Display + PartialEq + From<u8>,
) -> Result<(), ConfigError> {
    require(value != 0.into(), key, value, "it must be at least 1")
}

pub(super) fn require(
    holds: bool,
    key: &'static str,
    value: impl Display,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::Range {
        key: key.to_owned(),
        value: value.to_string(),
        expected: expected.to_owned(),
    })
}

/// What the owner of a table says of a key in it.
pub(super) fn in_table(
    table: &str,
    key: &str,
    value: String,
    expected: impl Into<String>,
) -> ConfigError {
    ConfigError::Range {
        key: format!("{table}.{key}"),
        value,
        expected: expected.into(),
    }
}

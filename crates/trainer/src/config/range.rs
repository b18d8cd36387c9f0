//! Ranges: what has the right type and still makes no sense.

use std::fmt::Display;

use datasets::OptionFault;
use ssm_core::OutOfRange;

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

/// What the owner of a table says of the keys in it.
pub(super) fn option(table: &str, checked: Result<(), OptionFault>) -> Result<(), ConfigError> {
    checked.map_err(|fault| ConfigError::Range {
        key: format!("{table}.{}", fault.key),
        value: fault.value,
        expected: fault.expected,
    })
}

/// What an objective says of its settings.
pub(super) fn of_objective(word: &str, checked: Result<(), OutOfRange>) -> Result<(), ConfigError> {
    checked.map_err(|fault| ConfigError::Range {
        key: format!("training.{word}.{}", fault.key),
        value: fault.value,
        expected: fault.expected.to_owned(),
    })
}

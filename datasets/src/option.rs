//! What can be wrong with an option of a data set.

use std::fmt::Display;

/// An option that its data set cannot be had with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` = {value} cannot be used: {expected}")]
pub struct OptionFault {
    /// Name of the option.
    pub key: &'static str,
    /// The value given.
    pub value: String,
    /// What the value means, and which ones are accepted.
    pub expected: String,
}

/// A fault of the option `key` unless `holds`.
pub(crate) fn require(
    holds: bool,
    key: &'static str,
    value: impl Display,
    expected: impl FnOnce() -> String,
) -> Result<(), OptionFault> {
    if holds {
        return Ok(());
    }
    Err(OptionFault {
        key,
        value: value.to_string(),
        expected: expected(),
    })
}

/// Sizes of a generated set: at least one example of each part, and at most `limit`.
pub(crate) fn require_examples(train: usize, test: usize, limit: usize) -> Result<(), OptionFault> {
    for (key, seen) in [("train_examples", train), ("test_examples", test)] {
        require((1..=limit).contains(&seen), key, seen, || {
            format!("it must be at least 1 and at most {limit}")
        })?;
    }
    Ok(())
}

/// A seed that files of TOML can hold.
pub(crate) fn require_seed(seed: u64) -> Result<(), OptionFault> {
    require(i64::try_from(seed).is_ok(), "seed", seed, || {
        format!("TOML holds no larger integer than {}", i64::MAX)
    })
}

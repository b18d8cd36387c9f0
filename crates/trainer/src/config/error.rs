//! What can be wrong with a configuration.

use std::io;
use std::path::PathBuf;

use compress_schedule::ScheduleError;
use thiserror::Error;

/// Everything that keeps a configuration from being used; found before any data is read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{}, line {line}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line of the mistake, from 1.
        line: usize,
        /// What the parser expected.
        message: String,
    },
    /// A key is unknown, or its value has the wrong type.
    #[error("{origin}: `{key}`: {message}")]
    Key {
        /// The file, environment variable or flag that gave it.
        origin: String,
        /// The key, as `section.key` or `section.table.key`.
        key: String,
        /// What is wrong, and what is accepted.
        message: String,
    },
    /// A key is known and right, and does nothing.
    #[error(transparent)]
    Unread(Box<UnreadKey>),
    /// A key is given by its short form and beside it in its table.
    #[error(
        "{origin}: `{short_form}` stands for `{key}`, which is given as well; leave one of the two out"
    )]
    TwoSpellings {
        /// The file, environment variable or flag that gave the short form.
        origin: String,
        /// The short form, as `section.key`.
        short_form: String,
        /// What it stands for, as `section.table.key`.
        key: String,
    },
    /// A `--set` without a key or a value.
    #[error("`--set {text}` is not an assignment; write `--set section.key=value`")]
    NotAnAssignment {
        /// What was given.
        text: String,
    },
    /// A value has the right type but makes no sense.
    #[error("`{key}` = {value} cannot be used: {expected}")]
    Range {
        /// The key, as `section.key` or `section.table.key`.
        key: String,
        /// The value given.
        value: String,
        /// What the value means and which ones are accepted, or what it goes with.
        expected: String,
    },
    /// The sizes of the model are each possible, and together too much.
    #[error(
        "`model.{{{}}}` make a model of about {parameters:.1e} parameters, and the most that can be trained is \
         {limit:.1e}; lower them",
        keys.join(", ")
    )]
    ModelSize {
        /// The sizes it follows from.
        keys: Vec<&'static str>,
        /// Parameters of all blocks.
        parameters: f64,
        /// The most there may be.
        limit: f64,
    },
    /// The checks do not fit into the run.
    #[error("section `compress`: {0}")]
    Compress(#[from] ScheduleError),
    /// The layers could not be put together.
    #[error("cannot combine the configuration: {0}")]
    Merge(#[from] ::config::ConfigError),
    /// The configuration cannot be written as TOML, because a path is not valid UTF-8.
    #[error("cannot write the configuration as TOML: {0}")]
    Write(#[from] toml::ser::Error),
}

/// A key that nothing reads under the choices that were made.
#[derive(Debug, Error)]
#[error(
    "{origin}: `{key}` has no effect: it is read with {readers}, and {chosen}; leave it out{}",
    also(others)
)]
pub struct UnreadKey {
    /// The file, environment variable or flag that gave it.
    pub origin: String,
    /// The key, as `section.key` or `section.table.key`.
    pub key: String,
    /// The choices that read it.
    pub readers: String,
    /// The choices made.
    pub chosen: String,
    /// Other keys beside it of which the same is true.
    pub others: Vec<String>,
}

fn also(others: &[String]) -> String {
    match others {
        [] => String::new(),
        others => format!(", and likewise `{}`", others.join("`, `")),
    }
}

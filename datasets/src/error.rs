//! What can go wrong, what was seen, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

mod download;
mod fault;

use crate::option::OptionFault;
pub use download::{Attempt, DownloadProblem};
pub use fault::{FileFault, ReviewFault};

/// Everything this crate can fail with.
///
/// Messages name the file or the option, what was found there, and the next step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// No data set of this name is registered.
    #[error("unknown data set `{name}`; known are: {}", known.join(", "))]
    UnknownDataset {
        /// The name that was asked for.
        name: String,
        /// Every registered name.
        known: &'static [&'static str],
    },

    /// The validation share lies outside `[0, 1)`.
    #[error(
        "validation fraction {seen} is not in [0, 1); 0.1 keeps one example in ten for validation"
    )]
    ValidationFraction {
        /// The value that was given.
        seen: f64,
    },

    /// A fraction above 0 left one of the two parts without an example.
    #[error(
        "the {part} split would be empty: {available} examples at validation fraction {fraction}; \
         change the fraction or use more examples"
    )]
    EmptySplit {
        /// The part that would be empty.
        part: Part,
        /// Number of examples there were to divide.
        available: usize,
        /// Share asked for as validation.
        fraction: f64,
    },

    /// A data set was asked for with an option that it cannot have.
    #[error("data set `{dataset}`: {fault}")]
    Option {
        /// Name of the data set.
        dataset: &'static str,
        /// The option, and what is accepted.
        #[source]
        fault: OptionFault,
    },

    /// A shape asks for no sequence, or for more than a pair.
    #[error("an example cannot have {seen} sequences; use 1, or 2 for pairs")]
    Sequences {
        /// Sequences that were given.
        seen: usize,
    },

    /// A shape asks for labels at the steps of pairs.
    #[error("labels at the last steps are those of one sequence; pairs have one class each")]
    TargetOfPairs,

    /// Tokens were given as floating-point numbers.
    #[error("tokens are stored as `u8` or `u16`, not as `f32`")]
    TokensAsFloats,

    /// Values were given as integers of 16 bits.
    #[error("values are stored as `u8` or `f32`, not as `u16`")]
    ValuesAsWords,

    /// A value is infinite or not a number.
    #[error("example {index} has a value at step {step} that is not finite")]
    NotFinite {
        /// Position of the example.
        index: usize,
        /// Step within it, from 0.
        step: usize,
    },

    /// The vocabulary has no token, or more than can be stored.
    #[error("a vocabulary of {seen} tokens cannot be; use 1 to {limit}")]
    Vocabulary {
        /// Size that was given.
        seen: usize,
        /// Largest size.
        limit: usize,
    },

    /// A shape asks for another number of tokens at each step than one.
    #[error("examples of tokens have 1 channel, not {seen}")]
    TokenChannels {
        /// Channels that were given.
        seen: usize,
    },

    /// A shape asks for labels at no step, or at more steps than there are.
    #[error(
        "labels at the last {count} steps do not fit examples of {length} steps; use 1 to {length}"
    )]
    TargetSteps {
        /// Steps with a label.
        count: usize,
        /// Steps of an example.
        length: usize,
    },

    /// There are not as many labels as the examples need.
    #[error("{labels} labels are not {per_example} for each of {examples} examples")]
    LabelCount {
        /// Number of labels given.
        labels: usize,
        /// Number of examples.
        examples: usize,
        /// Labels that each of them has.
        per_example: usize,
    },

    /// There are not as many tokens or values as the examples need.
    #[error("{seen} tokens or values are not the {expected} that {examples} examples need")]
    StepCount {
        /// Number of tokens or values given.
        seen: usize,
        /// Number of examples.
        examples: usize,
        /// Those that they need together.
        expected: usize,
    },

    /// An example has no step.
    #[error("example {index} is empty; leave it out")]
    EmptyExample {
        /// Position of the example.
        index: usize,
    },

    /// An example has more steps than its shape allows.
    #[error(
        "example {index} has {seen} steps, more than the greatest length of {length}; cut it, or raise the length"
    )]
    ExampleTooLong {
        /// Position of the example.
        index: usize,
        /// Its steps.
        seen: usize,
        /// Most steps of an example.
        length: usize,
    },

    /// An example with labels at its last steps is shorter than the others.
    #[error(
        "example {index} has {seen} steps, but with labels at the last steps every example needs all {length}"
    )]
    ExampleTooShort {
        /// Position of the example.
        index: usize,
        /// Its steps.
        seen: usize,
        /// Steps of every example.
        length: usize,
    },

    /// A token is not in the vocabulary.
    #[error(
        "example {index} has token {token} at step {step}, but there are only {vocabulary} tokens"
    )]
    TokenOutOfRange {
        /// Position of the example.
        index: usize,
        /// Step within it, from 0.
        step: usize,
        /// The token there.
        token: usize,
        /// Size of the vocabulary.
        vocabulary: usize,
    },

    /// A label names a class that the shape does not have.
    #[error("example {index} has label {label}, but there are only {classes} classes")]
    LabelOutOfRange {
        /// Position of the example.
        index: usize,
        /// Its label.
        label: usize,
        /// Number of classes of the shape.
        classes: usize,
    },

    /// A data set made of files was asked for without saying where they are.
    #[error(
        "`{dataset}` is read from files, and no data directory was given; pass `--data-dir DIR` or set \
         COMPRESSM_DATA_DIR, after `cargo xtask data fetch {dataset}` if you do not have the files"
    )]
    DataDirUnset {
        /// Name of the data set.
        dataset: String,
    },

    /// None of the folders that may hold a data set has all of its files.
    #[error(
        "no `{dataset}` files: {missing} is not in any of {}; run `cargo xtask data fetch {dataset}`, \
         or point `--data-dir` at the folder that has them",
        join_paths(tried)
    )]
    FilesNotFound {
        /// Name of the data set.
        dataset: String,
        /// First file that is missing from the most promising folder.
        missing: String,
        /// The folders that were tried, in order.
        tried: Vec<PathBuf>,
    },

    /// A file is there but does not hold what it should.
    #[error("{}: {fault}; delete it and run `cargo xtask data fetch {dataset}`", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// Data set it belongs to.
        dataset: String,
        /// What is wrong with it.
        #[source]
        fault: FileFault,
    },

    /// A folder of reviews does not hold as many as were published.
    #[error(
        "{} holds {seen} reviews, not {expected}; remove that copy and run `cargo xtask data fetch imdb`",
        folder.display()
    )]
    ReviewCount {
        /// The folder.
        folder: PathBuf,
        /// Reviews in it.
        seen: usize,
        /// Reviews that were published.
        expected: usize,
    },

    /// A file in a folder of reviews is not a review as published.
    #[error("{}: {fault}; remove that copy and run `cargo xtask data fetch imdb`", path.display())]
    BadReview {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: ReviewFault,
    },

    /// No mirror delivered a file as published.
    #[error(
        "could not download {file}: {}; if this machine is offline, put the file into {} yourself, \
         or point `--data-dir` at a folder that has it",
        join_attempts(attempts),
        dir.display()
    )]
    Download {
        /// Name of the file.
        file: String,
        /// Folder it was to be placed in.
        dir: PathBuf,
        /// What each mirror answered, in the order tried.
        attempts: Vec<Attempt>,
    },

    /// The file system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create`, `write`.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// What the weights are fitted to.
    Train,
    /// Held out of the training examples, to choose settings by.
    Validation,
    /// As published; looked at last.
    Test,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

fn join_paths(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

fn join_attempts(attempts: &[Attempt]) -> String {
    let attempts: Vec<String> = attempts.iter().map(Attempt::to_string).collect();
    attempts.join("; ")
}

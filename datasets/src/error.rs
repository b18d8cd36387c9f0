//! What can go wrong, what was seen, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

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

    /// The generated set was asked for at a size it cannot have.
    #[error("digits cannot have {seen} {part} examples; use 1 to {limit}")]
    DigitsSize {
        /// The part of that size.
        part: Part,
        /// Number of examples asked for.
        seen: usize,
        /// Largest number allowed.
        limit: usize,
    },

    /// Tokens are stored as bytes, and the vocabulary has none or more than a byte can tell apart.
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

    /// There are not as many bytes as the examples need.
    #[error("{bytes} bytes are not the {expected} that {examples} examples need")]
    ExampleBytes {
        /// Number of bytes given.
        bytes: usize,
        /// Number of examples.
        examples: usize,
        /// Bytes that they need together.
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
        token: u8,
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

/// What is wrong with the content of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileFault {
    /// It could not be read to its end.
    #[error("cannot be read: {source}")]
    Unreadable {
        /// The system's answer.
        source: io::Error,
    },

    /// It ends too early.
    #[error("truncated: ends after {seen} of at least {expected} bytes (uncompressed)")]
    Truncated {
        /// Uncompressed bytes there were.
        seen: u64,
        /// Uncompressed bytes there should have been.
        expected: u64,
    },

    /// Its compressed stream is damaged: a bad block or a checksum that does not match.
    #[error("corrupt gzip stream: {source}")]
    CorruptGzip {
        /// The decoder's answer.
        source: io::Error,
    },

    /// It starts with something else than an IDX header for unsigned bytes of the right rank.
    #[error("not the expected IDX file: starts with {seen:02x?}, expected {expected:02x?}")]
    Magic {
        /// First four bytes.
        seen: [u8; 4],
        /// What they should be.
        expected: [u8; 4],
    },

    /// Its header gives examples of another size.
    #[error(
        "holds examples of {} bytes, expected {}",
        by_axis(seen),
        by_axis(expected)
    )]
    ExampleSize {
        /// Sizes of the axes after the first.
        seen: Vec<usize>,
        /// What they should be.
        expected: Vec<usize>,
    },

    /// Its header claims more than any file read here may hold.
    #[error(
        "header claims {} bytes, more than the limit of {limit} bytes",
        by_axis(dims)
    )]
    TooLarge {
        /// Sizes of the axes as claimed.
        dims: Vec<usize>,
        /// Most bytes accepted.
        limit: usize,
    },

    /// It holds no example.
    #[error("holds no examples")]
    Empty,

    /// It goes on after the data its header announces.
    #[error("has bytes after its last example, at uncompressed offset {offset}")]
    TrailingBytes {
        /// Where the surplus starts.
        offset: u64,
    },

    /// It holds labels for another number of examples than its partner has.
    #[error("holds {labels} labels for the {images} images of {images_file}")]
    CountMismatch {
        /// Labels in this file.
        labels: usize,
        /// Images in the other.
        images: usize,
        /// Name of the other.
        images_file: String,
    },

    /// It holds a label that is no class.
    #[error("label {label} of example {index} is not one of the {classes} classes")]
    Label {
        /// Position of the example.
        index: usize,
        /// Its label.
        label: u8,
        /// Number of classes.
        classes: usize,
    },
}

/// What one mirror answered.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {problem}")]
pub struct Attempt {
    /// The address asked.
    pub url: String,
    /// Why its answer was not good enough.
    #[source]
    pub problem: DownloadProblem,
}

/// Why a download was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadProblem {
    /// The server answered with an error.
    #[error("HTTP status {code}")]
    Status {
        /// Its status code.
        code: u16,
    },

    /// No complete answer arrived.
    #[error("{source}")]
    Connection {
        /// The cause.
        source: io::Error,
    },

    /// The answer has another length than the published file.
    #[error("delivered {seen} bytes, expected {expected}")]
    Size {
        /// Bytes received; reception stops one past the expected size.
        seen: u64,
        /// Size of the published file.
        expected: u64,
    },

    /// The answer has the right length and other content.
    #[error("sha256 is {seen}, expected {expected}")]
    Checksum {
        /// Of the bytes received, in hexadecimal.
        seen: String,
        /// Of the published file.
        expected: String,
    },
}

fn by_axis(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    dims.join(" x ")
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

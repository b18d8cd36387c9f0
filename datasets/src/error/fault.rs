//! What can be wrong with a file.

use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;

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

    /// It cannot be read as a gzipped tar archive to its end.
    #[error("damaged archive: {source}")]
    Archive {
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

/// Why a file in a folder of movie reviews is not a review as published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewFault {
    /// It could not be read.
    #[error("cannot be read: {source}")]
    Unreadable {
        /// The system's answer.
        source: io::Error,
    },

    /// It has another name than reviews have.
    #[error("not named `<id>_<rating>.txt`")]
    Name,

    /// Its rating belongs in another folder, or in none.
    #[error("rated {seen} stars of 10, but its folder is for {} to {}", expected.start(), expected.end())]
    Rating {
        /// Stars according to its name.
        seen: u32,
        /// Stars of the reviews in its folder.
        expected: RangeInclusive<u32>,
    },

    /// Another review in its folder has the same id.
    #[error("has id {id}, as {} has", other.display())]
    RepeatedId {
        /// The id.
        id: u32,
        /// The other review.
        other: PathBuf,
    },

    /// There is no text in it.
    #[error("is empty")]
    Empty,

    /// It holds the byte that stands for no text.
    #[error("has a zero byte at offset {offset}")]
    ZeroByte {
        /// Where, in bytes.
        offset: usize,
    },
}

fn by_axis(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    dims.join(" x ")
}

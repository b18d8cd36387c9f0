//! What can go wrong with a download.

use std::io;

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

//! Norms of a system, and so of the error between two: take them of [`minus`](crate::DiagonalSystem::minus).

pub(crate) mod h2;
pub(crate) mod h_infinity;
pub(crate) mod hankel;
pub(crate) mod sweep;

use thiserror::Error;

use crate::hankel::HankelError;

/// Why a system has no norm.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum NormError {
    /// It has no poles or Gramians in `f64`, or is not stable.
    #[error(transparent)]
    System(#[from] HankelError),
    /// A frequency response is beyond the range of `f64`.
    #[error("a frequency response exceeds the range of f64; scale the inputs or outputs first")]
    OutOfRange,
}

//! Why a layer stays as it is.

use hsv::{BalanceError, HankelError, SystemError, TruncationError};

/// Why a layer has no spectrum, or no smaller one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// The layer is no valid system, or the smaller system no layer.
    #[error(transparent)]
    Layer(#[from] ReductionError),
    /// The system has no Hankel singular values.
    #[error(transparent)]
    Spectrum(#[from] HankelError),
    /// The system has no reduction to this order.
    #[error(transparent)]
    Truncation(#[from] TruncationError),
    /// The Gramians of a head cannot be balanced.
    #[error(transparent)]
    Heads(#[from] BalanceError),
    /// The reduction does not know the real system.
    #[error("this reduction is of the complex system alone; rank the states by it")]
    OnlyComplex,
    /// The reduction keeps no other states than the largest.
    #[error("this reduction keeps the largest states alone")]
    OnlyLargest,
    /// The data give no scores.
    #[error("the scores of its states are not finite numbers")]
    ScoresNotFinite,
}

/// Why a layer could not become a system, or a system a layer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReductionError {
    /// The parameters do not form a valid system.
    #[error("the layer is not a valid system: {0}")]
    System(#[from] SystemError),
    /// A reduced eigenvalue lies where the layer's parameterization cannot follow.
    #[error(
        "eigenvalue {index} of the reduced system has modulus {modulus:e}, which the layer cannot represent in f32; keep a different order"
    )]
    NotRepresentable {
        /// Index of the eigenvalue.
        index: usize,
        /// Its modulus.
        modulus: f64,
    },
    /// An entry of the reduced B or C is beyond the range of `f32`.
    #[error("an entry of the reduced layer exceeds the range of f32; keep a different order")]
    OutOfRange,
}

//! Why a layer stays as it is.

use ssm_core::CompressionError;
use thiserror::Error;

/// Why a cut that was decided did not happen. The layer and its optimizer state are as they were.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CutError {
    /// There is no smaller layer.
    #[error(transparent)]
    Layer(#[from] CompressionError),
    /// The smaller layer is not what the error bound says it is.
    #[error(
        "the smaller layer's output is off by {error:.2e} on a calibration batch where {allowed:.2e} is the most that \
         the bound allows"
    )]
    BeyondBound {
        /// Root mean square of the difference of the outputs.
        error: f64,
        /// The most it may be.
        allowed: f64,
    },
    /// The smaller layer's output overflows, or is not a number.
    #[error("the smaller layer's output is not a finite number")]
    OutputNotFinite,
}

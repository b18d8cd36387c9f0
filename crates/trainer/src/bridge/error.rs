//! Why a layer stays as it is.

use hsv::{BalanceError, HankelError, TruncationError};
use ssm_core::ReductionError;
use thiserror::Error;

/// Why a layer has no spectrum, or a cut that was decided did not happen. The layer and its optimizer state are as they
/// were.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CutError {
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
    /// The data give no scores.
    #[error("the scores of its states are not finite numbers")]
    ScoresNotFinite,
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

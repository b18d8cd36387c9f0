//! Between continuous and discrete time.

mod dense;
mod diagonal;

use thiserror::Error;

use crate::linalg::matrix_functions::LogarithmError;
use crate::system::validity::SystemError;

/// How a system in continuous time becomes one in discrete time, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discretization {
    /// Zero-order hold: the input is constant over a step, `A_d = e^{AΔ}`, `B_d = ∫ e^{At} B dt` over a step. Exact for
    /// such inputs. C and D stay.
    ZeroOrderHold,
    /// Bilinear (Tustin): `z = (1 + sΔ/2) / (1 - sΔ/2)`, with `√Δ` in both B and C. Gramians and Hankel singular values
    /// stay exactly what they were; a feed-through appears.
    Bilinear,
}

/// Why a system has no counterpart in the other kind of time.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum DiscretizationError {
    /// The step is not a positive number.
    #[error(
        "the step size is {found}; it must be positive and finite, in the unit of time of the eigenvalues"
    )]
    StepSize {
        /// The step asked for.
        found: f64,
    },
    /// A discrete-time pole that no continuous-time system has after a zero-order hold.
    #[error(
        "{0}: no system in continuous time steps like this one under a zero-order hold; use the bilinear map"
    )]
    NoLogarithm(#[from] LogarithmError),
    /// The exponential of an unstable state matrix over a step is not representable.
    #[error(
        "the state grows beyond the range of f64 within a step of {step_size}; choose a smaller one"
    )]
    Overflow {
        /// The step asked for.
        step_size: f64,
    },
    /// A pole at which the bilinear map is infinite.
    #[error(
        "the state matrix has an eigenvalue that the bilinear map sends to infinity; choose another step size"
    )]
    Singular,
    /// The result is not a system, for one because a pole has been rounded onto the boundary of stability.
    #[error("the converted system is not valid: {0}")]
    System(#[from] SystemError),
}

fn check_step(step_size: f64) -> Result<(), DiscretizationError> {
    if step_size > 0.0 && step_size.is_finite() {
        Ok(())
    } else {
        Err(DiscretizationError::StepSize { found: step_size })
    }
}

//! Smaller systems: fewer states for nearly the same map from input to output.

mod balanced;
pub(crate) mod commuting;
pub(crate) mod diagonal_form;
pub(crate) mod modal;
mod poles;
pub(crate) mod real_diagonal_form;
pub(crate) mod selection;
pub(crate) mod singular_perturbation;
pub(crate) mod truncation;

use faer::c64;
use thiserror::Error;

/// Why a system was not truncated. The system is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Error)]
#[non_exhaustive]
pub enum TruncationError {
    /// No states were asked for.
    #[error("order 0 leaves no system; ask for at least 1 state")]
    OrderZero,
    /// More states were asked for than there are.
    #[error(
        "order {requested} exceeds the {states} states of the system; ask for at most {states}"
    )]
    OrderAboveStateDim {
        /// The order asked for.
        requested: usize,
        /// States of the system.
        states: usize,
    },
    /// More states were asked for than the Gramians can support.
    #[error(
        "order {requested} exceeds numerical rank {rank}: the directions beyond it are rounding; \
         ask for at most {rank}, or for all {states} states to leave the system as it is"
    )]
    OrderAboveRank {
        /// The order asked for.
        requested: usize,
        /// [`HankelDecomposition::numerical_rank`](crate::HankelDecomposition::numerical_rank).
        rank: usize,
        /// States of the system.
        states: usize,
    },
    /// A pole of the reduced system came out on or beyond the boundary of stability, or within rounding of it.
    #[error(
        "pole {index} of the reduced system is {eigenvalue}, with a margin of {margin:e}: stable is {region}, and it \
         lies within rounding of the boundary; choose another order, or keep the system as it is"
    )]
    Unstable {
        /// Position of the first such pole.
        index: usize,
        /// The pole.
        eigenvalue: c64,
        /// `1 - |λ|²` or `-2 Re λ`: not positive, or positive by no more than the pole itself is uncertain.
        margin: f64,
        /// The stable region, in words.
        region: &'static str,
    },
    /// The states that were to be at rest have none.
    #[error(
        "the states beyond order {order} have no steady state: their block of the state matrix is singular; \
         choose another order, or truncate instead"
    )]
    NoSteadyState {
        /// The order asked for.
        order: usize,
    },
    /// The eigenvalue decomposition of the truncated state matrix did not converge.
    #[error(
        "the eigenvalues of the truncated {order} x {order} state matrix did not converge; choose another order"
    )]
    NoConvergence {
        /// Size of the matrix.
        order: usize,
    },
    /// The eigenvectors of the truncated system are too close to dependent for a diagonal form.
    #[error(
        "the eigenvectors of the truncated system have condition number {condition:e}, above {limit:e}: \
         its diagonal form would lose that many digits; choose another order, or use the dense form"
    )]
    IllConditioned {
        /// 2-norm condition number, infinite for dependent eigenvectors.
        condition: f64,
        /// The largest one accepted.
        limit: f64,
    },
    /// The diagonal form does not reproduce the truncated system.
    #[error(
        "the diagonal form misses the truncated state matrix by {residual:e}, above {limit:e}; \
         choose another order, or use the dense form"
    )]
    Inaccurate {
        /// Largest entry of `left Λ right - diag(λ_r)`.
        residual: f64,
        /// What rounding explains.
        limit: f64,
    },
    /// An entry of the result is beyond the range of `f64`.
    #[error(
        "the {what} of the truncated system exceeds the range of f64; scale the states, inputs or outputs first"
    )]
    OutOfRange {
        /// Which part.
        what: &'static str,
    },
}

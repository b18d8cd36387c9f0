//! A truncated system: what is left of it, the projections that lead there, and what it costs.

use faer::{Mat, c64};

use crate::linalg::matrix::{first_not_finite, scale_matrix};
use crate::linalg::scalar::sealed::Entry;
use crate::reduction::TruncationError;
use crate::system::LinearSystem;
use crate::system::dense::DenseSystem;

/// A system cut down to some of its balanced states: a dense state matrix.
///
/// Full-order states are `x ≈ T z` and reduced ones `z = Wᴴ x`, with `Wᴴ T = I`. The result is in general *not*
/// itself balanced: in discrete time its Hankel singular values are near those kept, not equal to them.
///
/// Truncated to all of its states a system is left alone: A, B and C as they are, both projections the identity.
#[derive(Debug, Clone)]
pub struct Truncation<S: LinearSystem> {
    pub(crate) form: Form<S>,
    system: DenseSystem<S::Scalar, S::Domain>,
    right_projection: Mat<S::Scalar>,
    left_projection: Mat<S::Scalar>,
    poles: Vec<c64>,
    /// Of the truncated state matrix, length one each; of use only where something was cut.
    pub(crate) eigenvectors: Mat<c64>,
    h_infinity_bound: f64,
    discarded_share: f64,
}

/// What a truncation is made of, before units are put back.
#[derive(Debug, Clone)]
pub(crate) enum Form<S: LinearSystem> {
    /// Nothing was cut.
    Identity(S),
    Projected(Box<Projected<S>>),
}

/// The truncated system in the units of its decomposition: every entry is of moderate size.
#[derive(Debug, Clone)]
pub(crate) struct Projected<S: LinearSystem> {
    pub(crate) full: S,
    /// T', `[state, order]`, and W'ᴴ, `[order, state]`.
    pub(crate) right: Mat<S::Scalar>,
    pub(crate) left: Mat<S::Scalar>,
    pub(crate) state_matrix: Mat<S::Scalar>,
    pub(crate) input: Mat<S::Scalar>,
    pub(crate) output: Mat<S::Scalar>,
    pub(crate) state_exponents: Vec<i32>,
    pub(crate) gain_exponent: i32,
}

impl<S: LinearSystem> Truncation<S> {
    pub(crate) fn identity(system: &S) -> Result<Self, TruncationError> {
        let states = system.state_dim();
        let identity = Mat::identity(states, states);
        let no_convergence = |_| TruncationError::NoConvergence { order: states };
        Ok(Self {
            system: written_out(system)?,
            right_projection: identity.clone(),
            left_projection: identity,
            poles: system.poles().map_err(no_convergence)?,
            eigenvectors: Mat::identity(states, states),
            form: Form::Identity(system.clone()),
            h_infinity_bound: 0.0,
            discarded_share: 0.0,
        })
    }

    pub(crate) fn from_projected(
        projected: Projected<S>,
        (poles, eigenvectors): (Vec<c64>, Mat<c64>),
        h_infinity_bound: f64,
        discarded_share: f64,
    ) -> Result<Self, TruncationError> {
        // x_i = 2^k x'_i, and half of the gain each for input and output.
        let half_gain = projected.gain_exponent / 2;
        let states: Vec<i32> = projected
            .state_exponents
            .iter()
            .map(|k| k - half_gain)
            .collect();
        let (right, left) = (&projected.right, &projected.left);
        let right_projection = Mat::from_fn(right.nrows(), right.ncols(), |i, j| {
            right[(i, j)].scaled(states[i])
        });
        let left_projection = Mat::from_fn(left.nrows(), left.ncols(), |i, j| {
            left[(i, j)].scaled(-states[j])
        });
        let input = scale_matrix(&projected.input, half_gain);
        let output = scale_matrix(&projected.output, half_gain);
        let parts = [
            ("input matrix", &input),
            ("output matrix", &output),
            ("right projection", &right_projection),
            ("left projection", &left_projection),
        ];
        for (what, part) in parts {
            if first_not_finite(part).is_some() {
                return Err(TruncationError::OutOfRange { what });
            }
        }
        let feedthrough = projected.full.feedthrough().cloned();
        Ok(Self {
            system: DenseSystem::from_checked(
                projected.state_matrix.clone(),
                input,
                output,
                feedthrough,
            ),
            right_projection,
            left_projection,
            poles,
            eigenvectors,
            form: Form::Projected(Box::new(projected)),
            h_infinity_bound,
            discarded_share,
        })
    }

    /// Number of states kept.
    pub fn order(&self) -> usize {
        self.system.state_dim()
    }

    /// The reduced system: `A_r = Wᴴ A T`, `[order, order]`; `B_r = Wᴴ B`, `[order, input]`; `C_r = C T`,
    /// `[output, order]`; and the full system's feed-through.
    pub fn system(&self) -> &DenseSystem<S::Scalar, S::Domain> {
        &self.system
    }

    /// T, `[state, order]`: from reduced to full states.
    ///
    /// Rows of states without input or output are zero: they have no part in the transfer function.
    pub fn right_projection(&self) -> &Mat<S::Scalar> {
        &self.right_projection
    }

    /// Wᴴ, `[order, state]`: from full to reduced states. `Wᴴ T = I`.
    pub fn left_projection(&self) -> &Mat<S::Scalar> {
        &self.left_projection
    }

    /// Eigenvalues of the truncated state matrix, `[order]`, all of them stable.
    pub fn poles(&self) -> &[c64] {
        &self.poles
    }

    /// Bound on the error at any frequency: `‖G - G_r‖∞ <= 2 Σσ` over the distinct Hankel singular values that were
    /// cut.
    ///
    /// # Source
    /// Enns (1984) and Glover (1984), `E84` and `G84` in `docs/references.bib`, in continuous time; Antoulas (2005),
    /// section 7.2, for both.
    pub fn h_infinity_bound(&self) -> f64 {
        self.h_infinity_bound
    }

    /// Share of Σσ (not of Σσ²) that was cut, in `[0, 1)`.
    pub fn discarded_share(&self) -> f64 {
        self.discarded_share
    }
}

/// A system as a dense one. The real part of a mode has entries `√2` times as large as the mode's own.
pub(crate) fn written_out<S: LinearSystem>(
    system: &S,
) -> Result<DenseSystem<S::Scalar, S::Domain>, TruncationError> {
    let dense = system.to_dense();
    match first_not_finite(dense.input_matrix()) {
        None => Ok(dense),
        Some(_) => Err(TruncationError::OutOfRange {
            what: "input matrix",
        }),
    }
}

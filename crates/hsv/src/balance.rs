//! Balanced truncation, by the square-root method.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use thiserror::Error;

use crate::hankel::HankelDecomposition;
use crate::mode_scaling::ModeScaling;
use crate::order::sum_from_small_end;
use crate::power_of_two::{scale_complex, scale_matrix};
use crate::system::{DiscreteDiagonalSystem, first_not_finite, first_unstable};

/// A system cut down to its `order` strongest states, in balanced coordinates: a dense state matrix.
///
/// Full-order states are `x ≈ T z` and reduced ones `z = Wᴴ x`, with `Wᴴ T = I`. The result is in general *not*
/// itself balanced: in discrete time its Hankel singular values are near the first `order` of the full system's, not
/// equal to them.
///
/// Truncated to all of its states a system is left alone: Λ, B and C as they are, both projections the identity.
#[derive(Debug, Clone)]
pub struct Truncation {
    pub(crate) form: Form,
    state_matrix: Mat<c64>,
    input_matrix: Mat<c64>,
    output_matrix: Mat<c64>,
    right_projection: Mat<c64>,
    left_projection: Mat<c64>,
    h_infinity_bound: f64,
    discarded_share: f64,
}

/// What a truncation is made of, before units are put back.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// Nothing was cut.
    Identity(DiscreteDiagonalSystem),
    Balanced(Box<BalancedForm>),
}

/// Balanced coordinates of the scaled system: every entry is of moderate size.
#[derive(Debug, Clone)]
pub(crate) struct BalancedForm {
    /// Eigenvalues of the full system, `[state]`.
    pub(crate) full_lambda: Vec<c64>,
    /// T', `[state, order]`, and W'ᴴ, `[order, state]`.
    pub(crate) right: Mat<c64>,
    pub(crate) left: Mat<c64>,
    pub(crate) state_matrix: Mat<c64>,
    pub(crate) input: Mat<c64>,
    pub(crate) output: Mat<c64>,
    /// Eigenvalues of the state matrix, and its eigenvectors of length one, in columns.
    pub(crate) poles: Vec<c64>,
    pub(crate) eigenvectors: Mat<c64>,
    pub(crate) state_exponents: Vec<i32>,
    pub(crate) gain_exponent: i32,
}

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
        /// [`HankelDecomposition::numerical_rank`].
        rank: usize,
        /// States of the system.
        states: usize,
    },
    /// The system is not the one that the decomposition was taken from.
    #[error(
        "the Hankel decomposition belongs to another system; take it again from the system to be truncated"
    )]
    SystemMismatch,
    /// A pole of the truncated system came out on or outside the unit circle.
    #[error(
        "pole {index} of the truncated system has modulus {modulus:e} and 1 - |lambda|^2 = {margin:e}: \
         it lies within rounding of the unit circle; choose another order, or keep the system as it is"
    )]
    Unstable {
        /// Position of the first such pole.
        index: usize,
        /// Its modulus, rounded.
        modulus: f64,
        /// `1 - |λ|²` with its exact sign.
        margin: f64,
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

impl HankelDecomposition {
    /// Balanced truncation of the system this decomposition was taken from.
    ///
    /// Keeps the `order` states that are easiest to reach and to observe together.
    ///
    /// # Shapes
    /// - `system`: state `[state]`, input `[state, input]`, output `[output, state]`
    /// - returns `[order, order]`, `[order, input]`, `[output, order]`, and the projections `[state, order]` and
    ///   `[order, state]`
    ///
    /// # Precision
    /// `c64`, O(state² · order + order³). The transfer function is good to about `ε σ_1 / (σ_r - σ_{r+1})`.
    ///
    /// # Errors
    /// [`TruncationError::OrderAboveRank`] and its neighbors for an `order` that cannot be had;
    /// [`TruncationError::Unstable`] if rounding pushes a pole onto the unit circle. `order == system.state_dim()`
    /// is always possible: it returns the system unchanged.
    ///
    /// # Source
    /// Antoulas (2005), section 7.3: `A05` in `docs/references.bib`; first `M81`.
    pub fn balanced_truncation(
        &self,
        system: &DiscreteDiagonalSystem,
        order: usize,
    ) -> Result<Truncation, TruncationError> {
        self.check_order(system, order)?;
        if order == system.state_dim() {
            return Ok(Truncation::identity(system));
        }
        let form = self.balanced_form(system, order)?;
        let cut = sum_from_small_end(&self.singular_values()[order..]);
        let all = sum_from_small_end(self.singular_values());
        Truncation::from_balanced(form, 2.0 * cut, cut / all)
    }

    fn check_order(
        &self,
        system: &DiscreteDiagonalSystem,
        order: usize,
    ) -> Result<(), TruncationError> {
        let (states, rank) = (self.singular_values().len(), self.numerical_rank());
        if system.lambda() != self.lambda || ModeScaling::of(system) != self.scaling {
            Err(TruncationError::SystemMismatch)
        } else if order == 0 {
            Err(TruncationError::OrderZero)
        } else if order > states {
            Err(TruncationError::OrderAboveStateDim {
                requested: order,
                states,
            })
        } else if order > rank && order != states {
            Err(TruncationError::OrderAboveRank {
                requested: order,
                rank,
                states,
            })
        } else {
            Ok(())
        }
    }

    fn balanced_form(
        &self,
        system: &DiscreteDiagonalSystem,
        order: usize,
    ) -> Result<BalancedForm, TruncationError> {
        let lambda = system.lambda();
        // T = L_P V S^{-1/2}, W = L_Q U S^{-1/2}
        let (left_vectors, right_vectors) = self.svd.leading_vectors(order);
        let right = self.projection(&self.controllability_factor, right_vectors);
        let left = self.projection(&self.observability_factor, left_vectors);
        // Wᴴ T is the identity up to ε σ_1 / σ_r, which for a weak last state is far from ε. Solving with it makes
        // the projection T Wᴴ exact for the spaces at hand.
        let overlap = left.adjoint() * &right;
        let left = overlap.partial_piv_lu().solve(left.adjoint().to_owned());

        let moved = Mat::from_fn(lambda.len(), order, |i, j| lambda[i] * right[(i, j)]);
        let state_matrix = &left * moved;
        let (poles, eigenvectors) = eigen(&state_matrix)?;
        if let Some((index, margin)) = first_unstable(&poles) {
            return Err(TruncationError::Unstable {
                index,
                modulus: poles[index].norm(),
                margin,
            });
        }
        Ok(BalancedForm {
            full_lambda: lambda.to_vec(),
            input: &left * &self.scaling.input,
            output: &self.scaling.output * &right,
            right,
            left,
            state_matrix,
            poles,
            eigenvectors,
            state_exponents: self.scaling.state_exponents.clone(),
            gain_exponent: self.scaling.gain_exponent,
        })
    }

    /// `factor · vectors · S^{-1/2}`, `[state, order]`.
    fn projection(&self, factor: &Mat<c64>, mut vectors: Mat<c64>) -> Mat<c64> {
        for (column, sigma) in vectors.col_iter_mut().zip(&self.svd.values) {
            let root = sigma.sqrt();
            column.iter_mut().for_each(|z| *z /= root);
        }
        factor * vectors
    }
}

/// Eigenvalues, and eigenvectors of length one.
fn eigen(matrix: &Mat<c64>) -> Result<(Vec<c64>, Mat<c64>), TruncationError> {
    let order = matrix.nrows();
    let no_convergence = TruncationError::NoConvergence { order };
    if first_not_finite(matrix).is_some() {
        return Err(no_convergence);
    }
    let eigen = matrix.eigen().map_err(|_| no_convergence)?;
    let vectors = eigen.U();
    let lengths: Vec<f64> = (0..order).map(|j| vectors.col(j).norm_l2()).collect();
    let unit = Mat::from_fn(order, order, |i, j| vectors[(i, j)] / lengths[j]);
    if first_not_finite(&unit).is_some() {
        return Err(no_convergence);
    }
    Ok((eigen.S().column_vector().iter().copied().collect(), unit))
}

impl Truncation {
    fn identity(system: &DiscreteDiagonalSystem) -> Self {
        let states = system.state_dim();
        let diagonal = |i: usize, j: usize| {
            if i == j {
                system.lambda()[i]
            } else {
                c64::ZERO
            }
        };
        Self {
            state_matrix: Mat::from_fn(states, states, diagonal),
            input_matrix: system.input_matrix().clone(),
            output_matrix: system.output_matrix().clone(),
            right_projection: Mat::identity(states, states),
            left_projection: Mat::identity(states, states),
            form: Form::Identity(system.clone()),
            h_infinity_bound: 0.0,
            discarded_share: 0.0,
        }
    }

    fn from_balanced(
        form: BalancedForm,
        h_infinity_bound: f64,
        discarded_share: f64,
    ) -> Result<Self, TruncationError> {
        // x_i = 2^k x'_i, and half of the gain each for input and output.
        let half_gain = form.gain_exponent / 2;
        let states: Vec<i32> = form.state_exponents.iter().map(|k| k - half_gain).collect();
        let (right, left) = (&form.right, &form.left);
        let truncation = Self {
            state_matrix: form.state_matrix.clone(),
            input_matrix: scale_matrix(&form.input, half_gain),
            output_matrix: scale_matrix(&form.output, half_gain),
            right_projection: Mat::from_fn(right.nrows(), right.ncols(), |i, j| {
                scale_complex(right[(i, j)], states[i])
            }),
            left_projection: Mat::from_fn(left.nrows(), left.ncols(), |i, j| {
                scale_complex(left[(i, j)], -states[j])
            }),
            form: Form::Balanced(Box::new(form)),
            h_infinity_bound,
            discarded_share,
        };
        let parts = [
            ("input matrix", &truncation.input_matrix),
            ("output matrix", &truncation.output_matrix),
            ("right projection", &truncation.right_projection),
            ("left projection", &truncation.left_projection),
        ];
        for (what, part) in parts {
            if first_not_finite(part).is_some() {
                return Err(TruncationError::OutOfRange { what });
            }
        }
        Ok(truncation)
    }

    /// Number of states kept.
    pub fn order(&self) -> usize {
        self.state_matrix.nrows()
    }

    /// `A_r = Wᴴ Λ T`, `[order, order]`.
    pub fn state_matrix(&self) -> &Mat<c64> {
        &self.state_matrix
    }

    /// `B_r = Wᴴ B`, `[order, input]`.
    pub fn input_matrix(&self) -> &Mat<c64> {
        &self.input_matrix
    }

    /// `C_r = C T`, `[output, order]`.
    pub fn output_matrix(&self) -> &Mat<c64> {
        &self.output_matrix
    }

    /// T, `[state, order]`: from reduced to full states.
    ///
    /// Rows of states without input or output are zero: they have no part in the transfer function.
    pub fn right_projection(&self) -> &Mat<c64> {
        &self.right_projection
    }

    /// Wᴴ, `[order, state]`: from full to reduced states. `Wᴴ T = I`.
    pub fn left_projection(&self) -> &Mat<c64> {
        &self.left_projection
    }

    /// Eigenvalues of the truncated state matrix, `[order]`, all inside the unit circle.
    pub fn poles(&self) -> &[c64] {
        match &self.form {
            Form::Identity(system) => system.lambda(),
            Form::Balanced(form) => &form.poles,
        }
    }

    /// Bound on the error anywhere on the unit circle: `‖G - G_r‖∞ <= 2 (σ_{r+1} + .. + σ_n)`.
    ///
    /// # Source
    /// Glover (1984) in continuous time, `G84` in `docs/references.bib`; Antoulas (2005), section 7.2, for both.
    pub fn h_infinity_bound(&self) -> f64 {
        self.h_infinity_bound
    }

    /// Share of Σσ (not of Σσ²) that was cut, in `[0, 1)`.
    pub fn discarded_share(&self) -> f64 {
        self.discarded_share
    }

    /// Transfer function on the unit circle, `G_r(e^{iω}) = C_r (e^{iω} I - A_r)⁻¹ B_r`, `[output, input]`.
    ///
    /// By a dense solve: it does not need a diagonal form, nor says whether there is one. `omega` as in
    /// [`DiscreteDiagonalSystem::transfer`].
    pub fn transfer(&self, omega: f64) -> Mat<c64> {
        let form = match &self.form {
            Form::Identity(system) => return system.transfer(omega),
            Form::Balanced(form) => form,
        };
        let z = c64::new(omega.cos(), omega.sin());
        let order = self.order();
        let resolvent = Mat::from_fn(order, order, |i, j| {
            if i == j {
                z - form.state_matrix[(i, j)]
            } else {
                -form.state_matrix[(i, j)]
            }
        });
        let response = resolvent.partial_piv_lu().solve(&form.input);
        scale_matrix(&(&form.output * response), form.gain_exponent)
    }
}

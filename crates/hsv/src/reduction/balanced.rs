//! Balanced truncation, by the square-root method and its balancing-free form.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use subnormals::Subnormals;
use thiserror::Error;

use crate::hankel::HankelDecomposition;
use crate::linalg::scalar::sealed::Entry;
use crate::linalg::scalar::{Scalar, first_not_finite, scale_matrix};
use crate::reduction::selection::Selection;
use crate::spectrum::order::sum_from_small_end;
use crate::system::LinearSystem;
use crate::system::dense::DenseSystem;
use crate::system::domain::TimeDomain;

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

/// Coordinates of a reduced state space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    /// Those in which both Gramians of the untruncated system are the diagonal of Hankel singular values.
    Balanced,
    /// Orthonormal columns of T: as well conditioned as can be.
    Orthonormal,
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

impl<S: LinearSystem> HankelDecomposition<S> {
    /// Balanced truncation to the `order` states that are easiest to reach and to observe together.
    ///
    /// # Shapes
    /// - system: state `[state, state]`, input `[state, input]`, output `[output, state]`
    /// - returns `[order, order]`, `[order, input]`, `[output, order]`, and the projections `[state, order]` and
    ///   `[order, state]`
    ///
    /// # Precision
    /// O(state² · order + order³). The transfer function is good to about `ε σ_1 / (σ_r - σ_{r+1})`.
    ///
    /// # Errors
    /// [`TruncationError::OrderAboveRank`] and its neighbors for an `order` that cannot be had;
    /// [`TruncationError::Unstable`] if rounding pushes a pole onto the boundary. `order == system.state_dim()`
    /// is always possible: it returns the system unchanged, unless a real part written out exceeds the range of `f64`.
    ///
    /// # Source
    /// Antoulas (2005), section 7.3: `A05` in `docs/references.bib`; first `M81`.
    pub fn balanced_truncation(&self, order: usize) -> Result<Truncation<S>, TruncationError> {
        self.truncation(Selection::Largest, order, Coordinates::Balanced)
    }

    /// The same reduced system as [`balanced_truncation`](Self::balanced_truncation) in orthonormal coordinates.
    ///
    /// Where the last kept singular value is far below the first, balanced coordinates have projections as long as
    /// `√(σ_1 / σ_r)` and entries spread as widely. Here T has orthonormal columns (in the units of each state, see
    /// [`LinearSystem::hankel`]) and the kept spaces are the same.
    ///
    /// # Errors
    /// Those of [`balanced_truncation`](Self::balanced_truncation).
    ///
    /// # Source
    /// Varga (1991): `V91` in `docs/references.bib`.
    pub fn balancing_free_truncation(
        &self,
        order: usize,
    ) -> Result<Truncation<S>, TruncationError> {
        self.truncation(Selection::Largest, order, Coordinates::Orthonormal)
    }

    /// Truncation to `order` balanced states chosen otherwise than by size, for comparison with the right choice.
    ///
    /// The choice is among the states up to [`numerical_rank`](Self::numerical_rank). The bound holds for any choice:
    /// a state that is cut costs at most twice its Hankel singular value, whatever the others.
    ///
    /// # Errors
    /// Those of [`balanced_truncation`](Self::balanced_truncation).
    pub fn selected_truncation(
        &self,
        selection: Selection,
        order: usize,
    ) -> Result<Truncation<S>, TruncationError> {
        self.truncation(selection, order, Coordinates::Balanced)
    }

    fn truncation(
        &self,
        selection: Selection,
        order: usize,
        coordinates: Coordinates,
    ) -> Result<Truncation<S>, TruncationError> {
        let _mode = Subnormals::kept();
        self.check_order(order)?;
        if order == self.system.state_dim() {
            return Truncation::identity(&self.system);
        }
        let kept = selection.states(self.numerical_rank(), order);
        let projected = self.projected(&kept, coordinates)?;
        let spectrum = stable_eigen::<S::Scalar, S::Domain>(&projected.state_matrix)?;
        let (bound, share) = self.cost_of_keeping(&kept);
        Truncation::from_projected(projected, spectrum, bound, share)
    }

    pub(crate) fn check_order(&self, order: usize) -> Result<(), TruncationError> {
        let (states, rank) = (self.system.state_dim(), self.numerical_rank());
        if order == 0 {
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

    /// H∞ bound and discarded share when only the states at `kept`, in increasing order, stay.
    pub(crate) fn cost_of_keeping(&self, kept: &[usize]) -> (f64, f64) {
        let all = self.singular_values();
        let cut: Vec<f64> = (0..all.len())
            .filter(|i| kept.binary_search(i).is_err())
            .map(|i| all[i])
            .collect();
        let sum = sum_from_small_end(&cut);
        (2.0 * sum, sum / sum_from_small_end(all))
    }

    /// The system projected on the balanced states at `kept`, which is sorted and below the numerical rank.
    pub(crate) fn projected(
        &self,
        kept: &[usize],
        coordinates: Coordinates,
    ) -> Result<Projected<S>, TruncationError> {
        // T = L_P V S^{-1/2}, W = L_Q U S^{-1/2}
        let (left_vectors, right_vectors) = self.svd.vectors(kept);
        let right = self.directions(&self.controllability_factor, right_vectors, kept);
        let left = self.directions(&self.observability_factor, left_vectors, kept);
        let (right, left) = match coordinates {
            Coordinates::Balanced => (right, left),
            Coordinates::Orthonormal => (orthonormal(&right), orthonormal(&left)),
        };
        // Wᴴ T is the identity up to ε σ_1 / σ_r, which for a weak last state is far from ε; in orthonormal
        // coordinates it is no identity at all. Solving with it makes the projection T Wᴴ exact for the spaces at hand.
        let overlap = left.adjoint() * &right;
        let left = overlap.partial_piv_lu().solve(left.adjoint().to_owned());
        let state_matrix = &left * self.system.apply_state_matrix(&right);
        if first_not_finite(&state_matrix).is_some() {
            return Err(TruncationError::NoConvergence { order: kept.len() });
        }
        Ok(Projected {
            full: self.system.clone(),
            input: &left * &self.units.input,
            output: &self.units.output * &right,
            right,
            left,
            state_matrix,
            state_exponents: self.units.state_exponents.clone(),
            gain_exponent: self.units.gain_exponent,
        })
    }

    /// `factor · vectors · S^{-1/2}`, `[state, order]`, for the vectors of the values at `kept`.
    fn directions(
        &self,
        factor: &Mat<S::Scalar>,
        mut vectors: Mat<S::Scalar>,
        kept: &[usize],
    ) -> Mat<S::Scalar> {
        for (column, &position) in vectors.col_iter_mut().zip(kept) {
            let scale = 1.0 / self.svd.values()[position].sqrt();
            column.iter_mut().for_each(|z| *z = z.times(scale));
        }
        factor * vectors
    }
}

/// An orthonormal basis of the columns.
fn orthonormal<T: Scalar>(columns: &Mat<T>) -> Mat<T> {
    columns.qr().compute_thin_Q()
}

/// Eigenvalues of a state matrix, all of them stable, and eigenvectors of length one.
pub(crate) fn stable_eigen<T: Scalar, D: TimeDomain>(
    state_matrix: &Mat<T>,
) -> Result<(Vec<c64>, Mat<c64>), TruncationError> {
    let (poles, vectors) = eigen(state_matrix)?;
    // Eigenvalues are known to ε of the largest at best. One that is closer to the boundary may be on it, and how high
    // its resonance is nobody knows.
    let largest = poles.iter().map(|pole| pole.norm()).fold(0.0, f64::max);
    let rounding = f64::EPSILON / 2.0 * largest;
    let uncertain =
        |pole: &c64| !(D::margin(*pole) > 0.0 && D::boundary_distance(*pole) > rounding);
    match poles.iter().position(uncertain) {
        None => Ok((poles, vectors)),
        Some(index) => Err(TruncationError::Unstable {
            index,
            eigenvalue: poles[index],
            margin: D::margin(poles[index]),
            region: D::STABLE_REGION,
        }),
    }
}

/// Eigenvalues, and eigenvectors of length one.
pub(crate) fn eigen<T: Scalar>(matrix: &Mat<T>) -> Result<(Vec<c64>, Mat<c64>), TruncationError> {
    let order = matrix.nrows();
    let no_convergence = TruncationError::NoConvergence { order };
    let eigen = matrix.eigen().map_err(|_| no_convergence)?;
    let vectors = eigen.U();
    let lengths: Vec<f64> = (0..order).map(|j| vectors.col(j).norm_l2()).collect();
    let unit = Mat::from_fn(order, order, |i, j| vectors[(i, j)] / lengths[j]);
    if first_not_finite(&unit).is_some() {
        return Err(no_convergence);
    }
    let values = eigen.S().column_vector().iter().copied().collect();
    Ok((values, unit))
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

impl<S: LinearSystem> Truncation<S> {
    fn identity(system: &S) -> Result<Self, TruncationError> {
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

    fn from_projected(
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

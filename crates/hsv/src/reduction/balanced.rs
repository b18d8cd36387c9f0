//! Balanced truncation, by the square-root method and its balancing-free form.

use faer::Mat;
use faer::linalg::solvers::Solve;
use subnormals::Subnormals;

use crate::arithmetic::sum::sum_from_small_end;
use crate::hankel::HankelDecomposition;
use crate::linalg::matrix::first_not_finite;
use crate::linalg::scalar::Scalar;
use crate::linalg::scalar::sealed::Entry;
use crate::reduction::TruncationError;
use crate::reduction::poles::stable_eigen;
use crate::reduction::selection::Selection;
use crate::reduction::truncation::{Projected, Truncation};
use crate::system::LinearSystem;

/// Coordinates of a reduced state space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coordinates {
    /// Those in which both Gramians of the untruncated system are the diagonal of Hankel singular values.
    Balanced,
    /// Orthonormal columns of T: as well conditioned as can be.
    Orthonormal,
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

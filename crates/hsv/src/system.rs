//! Linear systems: what this crate asks of one, and the kinds there are.

pub(crate) mod dense;
pub(crate) mod diagonal;
pub(crate) mod discretization;
pub(crate) mod domain;
pub(crate) mod feedthrough;
pub(crate) mod real_part;
pub(crate) mod split;
pub(crate) mod units;
pub(crate) mod validity;

use std::fmt::Debug;

use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::hankel::accuracy::Accuracy;
use crate::hankel::rounding::FactorRounding;
use crate::hankel::{HankelDecomposition, HankelError};
use crate::linalg::scalar::Scalar;
use crate::system::dense::DenseSystem;
use crate::system::domain::TimeDomain;
use crate::system::units::Units;

/// A linear time-invariant system with matrices A, B, C and perhaps D: [`DiagonalSystem`](crate::DiagonalSystem),
/// [`DenseSystem`](crate::DenseSystem) or [`RealPartSystem`](crate::RealPartSystem).
///
/// Sealed. Everything that can be asked of every kind of system is here: dimensions, frequency response, Hankel
/// singular values.
pub trait LinearSystem: sealed::Reducible<Self::Scalar> + Clone + Debug + Send + Sync {
    /// Type of the entries of A, B, C and D.
    type Scalar: Scalar;
    /// [`Discrete`](crate::Discrete) or [`Continuous`](crate::Continuous).
    type Domain: TimeDomain;

    /// Number of states.
    fn state_dim(&self) -> usize;

    /// Number of inputs.
    fn inputs(&self) -> usize;

    /// Number of outputs.
    fn outputs(&self) -> usize;

    /// Feed-through matrix D, `[output, input]`; `None` is zero.
    ///
    /// It has no part in Gramians, and a reduction passes it on.
    fn feedthrough(&self) -> Option<&Mat<Self::Scalar>>;

    /// The same system with its matrices written out.
    fn to_dense(&self) -> DenseSystem<Self::Scalar, Self::Domain>;

    /// Eigenvalues of the state matrix, `[state]`, in no particular order.
    ///
    /// # Errors
    /// [`HankelError::NoSchurForm`] if those of a dense matrix do not converge.
    fn poles(&self) -> Result<Vec<c64>, HankelError>;

    /// Frequency responses, `[output, input]` each: `G(e^{iω}) = C (e^{iω} I - A)⁻¹ B + D` in discrete time, with ω the
    /// angle per step, `G(iω)` in continuous time.
    ///
    /// A layer `x_k = A x_{k-1} + B u_k`, whose output already sees the current input, has `e^{iω} G` without
    /// feed-through: the same gains. A value beyond the range of `f64` comes back infinite, for a dense system also one
    /// that is reached through such a value; only an ω that is itself not finite gives NaN.
    fn frequency_response(&self, omegas: &[f64]) -> Vec<Mat<c64>> {
        let _mode = Subnormals::kept();
        let response = self.response();
        omegas.iter().map(|&omega| response(omega)).collect()
    }

    /// [`frequency_response`](Self::frequency_response) at one frequency.
    fn transfer(&self, omega: f64) -> Mat<c64> {
        let _mode = Subnormals::kept();
        self.response()(omega)
    }

    /// Hankel singular values `σ_i = √eig_i(P Q)`, largest first, with all that a reduction needs.
    ///
    /// Computed as the singular values of `L_Qᴴ L_P`, where the factors of both Gramians come straight from (A, B)
    /// and (A, C): neither P, Q nor their product is ever formed.
    ///
    /// # Precision
    /// O(state³ + state² · (input + output)). Absolute error a few ε of the largest value for a diagonal system,
    /// however singular the Gramians are and however close to the boundary the poles; for a dense one as well as the
    /// Schur form of A determines them. Independent of the units of input and output, and of each state where the
    /// system is diagonal. Unit: output per input, so spectra of two layers compare only if both were scaled alike.
    ///
    /// # Errors
    /// [`HankelError::OutOfRange`] where the true values do not fit into `f64`; [`HankelError::Unstable`] and
    /// [`HankelError::NoSchurForm`] for dense systems, whose poles are not known before.
    ///
    /// # Source
    /// Antoulas (2005), section 7.3: `A05` in `docs/references.bib`; the factors after `GKO95` and `H82`.
    fn hankel(&self) -> Result<HankelDecomposition<Self>, HankelError> {
        self.hankel_with(Accuracy::Absolute)
    }

    /// [`hankel`](Self::hankel) with a choice of what its small values are accurate relative to.
    ///
    /// With [`Accuracy::Relative`] the factors are taken down to columns of 1e-70 of the longest, and their product,
    /// whose rows and columns fall off like the columns of the factors, is decomposed by one-sided Jacobi rotations.
    /// Everything that a reduction does with the result stays the same, but may keep more states.
    ///
    /// # Precision
    /// What each value is good to is in [`HankelDecomposition::relative_errors`]. With [`Accuracy::Relative`]:
    ///
    /// - Diagonal, one input and one output: every value to about `state · ε` of itself, over any number of decades.
    /// - Several inputs or outputs: to about `state · ε · √(σ_1 / σ)` at worst, since reflections of the generators
    ///   round every row of a factor to ε of its length. Seen: 14 digits of every value over 14 decades where poles
    ///   are apart, 11 digits where they come in clusters of 1e-6.
    /// - [`RealPartSystem`](crate::RealPartSystem): the same, with one input as well.
    /// - Strong modes that cancel each other: fewer digits. Units in the last place of B and C move such a value by as
    ///   much.
    /// - [`DenseSystem`]: no better than [`Accuracy::Absolute`], since the Schur form rounds A.
    ///
    /// With [`Accuracy::Absolute`] small values are often as good as far as the columns that were kept reach, and
    /// without a digit below that, from about 1e-17 of the largest on. Nothing is promised.
    ///
    /// O(state³) as well: 10 to 20 times the time of [`hankel`](Self::hankel) for 128 to 384 states (0.24 against 0.017
    /// seconds for 256 states and 8 inputs, on two cores).
    ///
    /// # Source
    /// Demmel et al. (1999), Drmač (1998), Drmač & Veselić (2008): `DGE99`, `D98` and `DV08` in `docs/references.bib`.
    ///
    /// # Errors
    /// Those of [`hankel`](Self::hankel), and [`HankelError::NoConvergence`].
    fn hankel_with(&self, accuracy: Accuracy) -> Result<HankelDecomposition<Self>, HankelError> {
        HankelDecomposition::of(self, accuracy)
    }
}

pub(crate) mod sealed {
    use super::{Accuracy, FactorRounding, HankelError, Mat, Units, c64};

    /// What a reduction asks of a system.
    pub trait Reducible<T> {
        /// The system's input and output with units taken out.
        fn units(&self) -> Units<T>;

        /// Factors of the controllability and the observability Gramian in these units, `[state, rank of each]`.
        fn gramian_factors(
            &self,
            units: &Units<T>,
            accuracy: Accuracy,
        ) -> Result<(Mat<T>, Mat<T>), HankelError>;

        /// What the rounding of each of these is small against.
        fn factor_rounding(&self) -> (FactorRounding, FactorRounding);

        /// The frequency response as a function, with the work that is the same for all frequencies done.
        fn response(&self) -> Box<dyn Fn(f64) -> Mat<c64> + Sync + '_>;

        /// `A x` for the columns of `x`. Units of states that A couples are equal, so this holds in any of them.
        fn apply_state_matrix(&self, x: &Mat<T>) -> Mat<T>;
    }
}

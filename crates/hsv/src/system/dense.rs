//! Systems with a full state matrix.

use std::marker::PhantomData;

use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::hankel::accuracy::Accuracy;
use crate::hankel::rounding::FactorRounding;
use crate::hankel::{HankelError, check_stable};
use crate::linalg::hessenberg::Hessenberg;
use crate::linalg::matrix::{complex, scale_matrix};
use crate::linalg::parallel::both;
use crate::linalg::scalar::Scalar;
use crate::linalg::schur::Schur;
use crate::system::domain::{Continuous, Discrete, TimeDomain};
use crate::system::feedthrough::{check_feedthrough, difference, plus};
use crate::system::units::Units;
use crate::system::validity::{SystemError, check_axis, check_dimensions, check_finite};
use crate::system::{LinearSystem, sealed};

/// A system with a dense state matrix, `x_{k+1} = A x_k + B u_k` or `x' = A x + B u`, `y = C x + D u`, real or complex.
///
/// Dimensions and finiteness are checked when it is made. Stability is not: a system that is not stable can be
/// converted, evaluated and split ([`split_stable`](Self::split_stable)); whatever needs a Gramian of it is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseSystem<T: Scalar, D> {
    state_matrix: Mat<T>,
    input_matrix: Mat<T>,
    output_matrix: Mat<T>,
    feedthrough: Option<Mat<T>>,
    domain: PhantomData<D>,
}

/// A dense system in discrete time, complex unless said otherwise.
pub type DiscreteSystem<T = c64> = DenseSystem<T, Discrete>;

/// A dense system in continuous time, complex unless said otherwise.
pub type ContinuousSystem<T = c64> = DenseSystem<T, Continuous>;

impl<T: Scalar, D: TimeDomain> DenseSystem<T, D> {
    /// Checks and takes over the three matrices of a system, without feed-through.
    ///
    /// # Shapes
    /// - `state_matrix`: `[state, state]`
    /// - `input_matrix`: `[state, input]`
    /// - `output_matrix`: `[output, state]`
    ///
    /// # Errors
    /// [`SystemError`] names the first dimension or entry that does not fit.
    pub fn new(
        state_matrix: Mat<T>,
        input_matrix: Mat<T>,
        output_matrix: Mat<T>,
    ) -> Result<Self, SystemError> {
        let states = state_matrix.nrows();
        check_axis("state", "columns", state_matrix.ncols(), states, "state")?;
        check_dimensions(states, &input_matrix, &output_matrix)?;
        check_finite("state matrix", &state_matrix)?;
        check_finite("input matrix", &input_matrix)?;
        check_finite("output matrix", &output_matrix)?;
        Ok(Self::from_checked(
            state_matrix,
            input_matrix,
            output_matrix,
            None,
        ))
    }

    /// Matrices that come from a checked system and are finite again.
    pub(crate) fn from_checked(
        state_matrix: Mat<T>,
        input_matrix: Mat<T>,
        output_matrix: Mat<T>,
        feedthrough: Option<Mat<T>>,
    ) -> Self {
        Self {
            state_matrix,
            input_matrix,
            output_matrix,
            feedthrough,
            domain: PhantomData,
        }
    }

    /// The same system with a feed-through matrix D, `[output, input]`.
    ///
    /// # Errors
    /// [`SystemError`] if it does not fit or is not finite.
    pub fn with_feedthrough(mut self, feedthrough: Mat<T>) -> Result<Self, SystemError> {
        check_feedthrough(&feedthrough, self.outputs(), self.inputs())?;
        self.feedthrough = Some(feedthrough);
        Ok(self)
    }

    /// [`with_feedthrough`](Self::with_feedthrough) where there is one.
    pub(crate) fn with_any_feedthrough(
        self,
        feedthrough: Option<&Mat<T>>,
    ) -> Result<Self, SystemError> {
        match feedthrough {
            Some(direct) => self.with_feedthrough(direct.clone()),
            None => Ok(self),
        }
    }

    /// State matrix A, `[state, state]`.
    pub fn state_matrix(&self) -> &Mat<T> {
        &self.state_matrix
    }

    /// Input matrix B, `[state, input]`.
    pub fn input_matrix(&self) -> &Mat<T> {
        &self.input_matrix
    }

    /// Output matrix C, `[output, state]`.
    pub fn output_matrix(&self) -> &Mat<T> {
        &self.output_matrix
    }

    /// The same system over the complex numbers.
    pub fn to_complex(&self) -> DenseSystem<c64, D> {
        DenseSystem::from_checked(
            complex(&self.state_matrix),
            complex(&self.input_matrix),
            complex(&self.output_matrix),
            self.feedthrough.as_ref().map(complex),
        )
    }

    /// `G - other`, with the states of both: what a norm of the error between two systems is taken of.
    ///
    /// # Errors
    /// [`SystemError::Dimension`] if inputs or outputs differ in number.
    pub fn minus(&self, other: &Self) -> Result<Self, SystemError> {
        check_axis("input", "columns", other.inputs(), self.inputs(), "input")?;
        check_axis("output", "rows", other.outputs(), self.outputs(), "output")?;
        let (n, all) = (self.state_dim(), self.state_dim() + other.state_dim());
        let zero = self.state_matrix[(0, 0)].times(0.0);
        let state = Mat::from_fn(all, all, |i, j| match (i < n, j < n) {
            (true, true) => self.state_matrix[(i, j)],
            (false, false) => other.state_matrix[(i - n, j - n)],
            _ => zero,
        });
        let input = Mat::from_fn(all, self.inputs(), |i, j| {
            if i < n {
                self.input_matrix[(i, j)]
            } else {
                other.input_matrix[(i - n, j)]
            }
        });
        let output = Mat::from_fn(self.outputs(), all, |i, j| {
            if j < n {
                self.output_matrix[(i, j)]
            } else {
                other.output_matrix[(i, j - n)].times(-1.0)
            }
        });
        let feedthrough = difference(self.feedthrough.as_ref(), other.feedthrough.as_ref());
        Ok(Self::from_checked(state, input, output, feedthrough))
    }

    /// Schur form of the state matrix, or why there is none.
    pub(crate) fn schur(&self) -> Result<Schur, HankelError> {
        let _mode = Subnormals::kept();
        let states = self.state_dim();
        Schur::of(&complex(&self.state_matrix)).map_err(|_| HankelError::NoSchurForm { states })
    }

    /// Schur form of the state matrix of a stable system.
    fn stable_schur(&self) -> Result<Schur, HankelError> {
        let schur = self.schur()?;
        check_stable::<D>(&schur.eigenvalues())?;
        Ok(schur)
    }
}

impl<T: Scalar, D: TimeDomain> LinearSystem for DenseSystem<T, D> {
    type Scalar = T;
    type Domain = D;

    fn state_dim(&self) -> usize {
        self.state_matrix.nrows()
    }

    fn inputs(&self) -> usize {
        self.input_matrix.ncols()
    }

    fn outputs(&self) -> usize {
        self.output_matrix.nrows()
    }

    fn feedthrough(&self) -> Option<&Mat<T>> {
        self.feedthrough.as_ref()
    }

    fn to_dense(&self) -> Self {
        self.clone()
    }

    fn poles(&self) -> Result<Vec<c64>, HankelError> {
        Ok(self.schur()?.eigenvalues())
    }
}

impl<T: Scalar, D: TimeDomain> sealed::Reducible<T> for DenseSystem<T, D> {
    fn units(&self) -> Units<T> {
        Units::common(&self.input_matrix, &self.output_matrix)
    }

    fn gramian_factors(
        &self,
        units: &Units<T>,
        _: Accuracy,
    ) -> Result<(Mat<T>, Mat<T>), HankelError> {
        let schur = self.stable_schur()?;
        let (input, output) = (complex(&units.input), complex(&units.output));
        let dual = schur.adjoint();
        let factor = |schur: &Schur, input: &Mat<c64>| T::factor(D::dense_factor(schur, input));
        Ok(both(
            || factor(&schur, &input),
            || factor(&dual, &output.adjoint().to_owned()),
        ))
    }

    fn factor_rounding(&self) -> (FactorRounding, FactorRounding) {
        (FactorRounding::Whole, FactorRounding::Whole)
    }

    fn response(&self) -> Box<dyn Fn(f64) -> Mat<c64> + Sync + '_> {
        let units = self.units();
        let form = Hessenberg::of(&complex(&self.state_matrix));
        let input = form.unitary.adjoint() * complex(&units.input);
        let output = complex(&units.output) * &form.unitary;
        let direct = self.feedthrough.as_ref().map(complex);
        Box::new(move |omega| {
            let driven = form.resolvent_times(D::boundary_point(omega), &input);
            let dynamic = scale_matrix(&(&output * driven), units.gain_exponent);
            let response = plus(direct.as_ref(), dynamic);
            // A step beyond the range of f64 ends in inf - inf or 0 · inf.
            Mat::from_fn(response.nrows(), response.ncols(), |i, j| {
                if response[(i, j)].is_nan() && omega.is_finite() {
                    c64::new(f64::INFINITY, 0.0)
                } else {
                    response[(i, j)]
                }
            })
        })
    }

    fn apply_state_matrix(&self, x: &Mat<T>) -> Mat<T> {
        &self.state_matrix * x
    }
}

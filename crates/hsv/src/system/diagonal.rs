//! Diagonal systems: what a state space layer is.

use std::marker::PhantomData;

use faer::{Mat, c64};

use crate::arithmetic::power_of_two::reciprocal_of_any;
use crate::gramian::diagonal_factor::gramian_factor;
use crate::hankel::HankelError;
use crate::hankel::accuracy::Accuracy;
use crate::hankel::rounding::FactorRounding;
use crate::linalg::matrix::scale_matrix;
use crate::linalg::parallel::both;
use crate::system::dense::DenseSystem;
use crate::system::domain::{Continuous, Discrete, TimeDomain};
use crate::system::feedthrough::{check_feedthrough, difference, plus};
use crate::system::units::Units;
use crate::system::validity::{
    SystemError, check_axis, check_dimensions, check_finite, first_unstable,
};
use crate::system::{LinearSystem, sealed};

/// A stable system with a diagonal state matrix: `x_{k+1} = diag(λ) x_k + B u_k` in discrete time,
/// `x' = diag(λ) x + B u` in continuous time, `y = C x + D u`.
///
/// Checked once, when it is made: dimensions agree, every number is finite, every eigenvalue is stable. Everything
/// else in this crate relies on that. A system with unstable modes is split first: [`split_modes`](crate::split_modes).
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalSystem<D> {
    lambda: Vec<c64>,
    input_matrix: Mat<c64>,
    output_matrix: Mat<c64>,
    feedthrough: Option<Mat<c64>>,
    domain: PhantomData<D>,
}

/// A diagonal system in discrete time, every |λ| < 1.
pub type DiscreteDiagonalSystem = DiagonalSystem<Discrete>;

/// A diagonal system in continuous time, every Re λ < 0.
pub type ContinuousDiagonalSystem = DiagonalSystem<Continuous>;

impl<D: TimeDomain> DiagonalSystem<D> {
    /// Checks and takes over the three parts of a system, without feed-through.
    ///
    /// # Shapes
    /// - `lambda`: eigenvalues `[state]`
    /// - `input_matrix`: `[state, input]`
    /// - `output_matrix`: `[output, state]`
    ///
    /// # Errors
    /// [`SystemError`] names the first dimension, entry or eigenvalue that does not fit. Whether λ is stable is decided
    /// exactly, without rounding. In continuous time the parts of an eigenvalue must lie within 1e-140 and 1e140.
    ///
    /// ```
    /// use hsv::{DiscreteDiagonalSystem, Mat, SystemError, c64};
    ///
    /// let ones = Mat::from_fn(1, 1, |_, _| c64::new(1.0, 0.0));
    /// let error = DiscreteDiagonalSystem::new(vec![c64::new(0.0, 1.0)], ones.clone(), ones).unwrap_err();
    /// assert!(matches!(error, SystemError::Unstable { index: 0, margin: 0.0, .. }));
    /// ```
    pub fn new(
        lambda: Vec<c64>,
        input_matrix: Mat<c64>,
        output_matrix: Mat<c64>,
    ) -> Result<Self, SystemError> {
        check_dimensions(lambda.len(), &input_matrix, &output_matrix)?;
        check_finite("lambda", &Mat::from_fn(lambda.len(), 1, |i, _| lambda[i]))?;
        check_finite("input matrix", &input_matrix)?;
        check_finite("output matrix", &output_matrix)?;
        check_stable::<D>(&lambda)?;
        Ok(Self {
            lambda,
            input_matrix,
            output_matrix,
            feedthrough: None,
            domain: PhantomData,
        })
    }

    /// The same system with a feed-through matrix D, `[output, input]`.
    ///
    /// # Errors
    /// [`SystemError`] if it does not fit or is not finite.
    pub fn with_feedthrough(mut self, feedthrough: Mat<c64>) -> Result<Self, SystemError> {
        check_feedthrough(&feedthrough, self.outputs(), self.inputs())?;
        self.feedthrough = Some(feedthrough);
        Ok(self)
    }

    /// [`with_feedthrough`](Self::with_feedthrough) where there is one.
    pub(crate) fn with_any_feedthrough(
        self,
        feedthrough: Option<&Mat<c64>>,
    ) -> Result<Self, SystemError> {
        match feedthrough {
            Some(direct) => self.with_feedthrough(direct.clone()),
            None => Ok(self),
        }
    }

    /// Eigenvalues λ, `[state]`, the diagonal of the state matrix.
    pub fn lambda(&self) -> &[c64] {
        &self.lambda
    }

    /// Input matrix B, `[state, input]`.
    pub fn input_matrix(&self) -> &Mat<c64> {
        &self.input_matrix
    }

    /// Output matrix C, `[output, state]`.
    pub fn output_matrix(&self) -> &Mat<c64> {
        &self.output_matrix
    }

    /// `G - other`, with the states of both: what a norm of the error between two systems is taken of.
    ///
    /// # Errors
    /// [`SystemError::Dimension`] if inputs or outputs differ in number.
    pub fn minus(&self, other: &Self) -> Result<Self, SystemError> {
        let (states, all) = (self.state_dim(), self.state_dim() + other.state_dim());
        check_axis("input", "columns", other.inputs(), self.inputs(), "input")?;
        check_axis("output", "rows", other.outputs(), self.outputs(), "output")?;
        let lambda = self.lambda.iter().chain(&other.lambda).copied().collect();
        let input = Mat::from_fn(all, self.inputs(), |i, j| {
            if i < states {
                self.input_matrix[(i, j)]
            } else {
                other.input_matrix[(i - states, j)]
            }
        });
        let output = Mat::from_fn(self.outputs(), all, |i, j| {
            if j < states {
                self.output_matrix[(i, j)]
            } else {
                -other.output_matrix[(i, j - states)]
            }
        });
        Ok(Self {
            lambda,
            input_matrix: input,
            output_matrix: output,
            feedthrough: difference(self.feedthrough.as_ref(), other.feedthrough.as_ref()),
            domain: PhantomData,
        })
    }

    /// The frequency response without the feed-through, and the exponent of its gain, which is still to be put back.
    pub(crate) fn response_in_units(&self) -> (impl Fn(f64) -> Mat<c64> + Sync + '_, i32) {
        let units = sealed::Reducible::units(self);
        let gain_exponent = units.gain_exponent;
        let response = move |omega| {
            let z = D::boundary_point(omega);
            let modes: Vec<c64> = self
                .lambda
                .iter()
                .map(|&lambda| reciprocal_of_any(D::distance(z, lambda)))
                .collect();
            let driven = Mat::from_fn(modes.len(), units.input.ncols(), |i, j| {
                modes[i] * units.input[(i, j)]
            });
            &units.output * driven
        };
        (response, gain_exponent)
    }
}

impl<D: TimeDomain> LinearSystem for DiagonalSystem<D> {
    type Scalar = c64;
    type Domain = D;

    fn state_dim(&self) -> usize {
        self.lambda.len()
    }

    fn inputs(&self) -> usize {
        self.input_matrix.ncols()
    }

    fn outputs(&self) -> usize {
        self.output_matrix.nrows()
    }

    fn feedthrough(&self) -> Option<&Mat<c64>> {
        self.feedthrough.as_ref()
    }

    fn to_dense(&self) -> DenseSystem<c64, D> {
        let states = self.state_dim();
        let state_matrix = Mat::from_fn(states, states, |i, j| {
            if i == j { self.lambda[i] } else { c64::ZERO }
        });
        DenseSystem::from_checked(
            state_matrix,
            self.input_matrix.clone(),
            self.output_matrix.clone(),
            self.feedthrough.clone(),
        )
    }

    fn poles(&self) -> Result<Vec<c64>, HankelError> {
        Ok(self.lambda.clone())
    }
}

impl<D: TimeDomain> sealed::Reducible<c64> for DiagonalSystem<D> {
    fn units(&self) -> Units<c64> {
        Units::per_mode(&self.input_matrix, &self.output_matrix)
    }

    fn gramian_factors(
        &self,
        units: &Units<c64>,
        accuracy: Accuracy,
    ) -> Result<(Mat<c64>, Mat<c64>), HankelError> {
        let dual: Vec<c64> = self.lambda.iter().map(c64::conj).collect();
        let shortest = accuracy.shortest_column(self.lambda.len());
        Ok(both(
            || gramian_factor::<D, _>(&self.lambda, units.input.as_ref(), shortest),
            || gramian_factor::<D, _>(&dual, units.output.adjoint(), shortest),
        ))
    }

    fn factor_rounding(&self) -> (FactorRounding, FactorRounding) {
        (
            FactorRounding::of_elimination(self.inputs()),
            FactorRounding::of_elimination(self.outputs()),
        )
    }

    fn response(&self) -> Box<dyn Fn(f64) -> Mat<c64> + Sync + '_> {
        let (dynamic, gain_exponent) = self.response_in_units();
        Box::new(move |omega| {
            let dynamic = scale_matrix(&dynamic(omega), gain_exponent);
            plus(self.feedthrough.as_ref(), dynamic)
        })
    }

    fn apply_state_matrix(&self, x: &Mat<c64>) -> Mat<c64> {
        Mat::from_fn(x.nrows(), x.ncols(), |i, j| self.lambda[i] * x[(i, j)])
    }
}

fn check_stable<D: TimeDomain>(lambda: &[c64]) -> Result<(), SystemError> {
    if let Some((index, margin)) = first_unstable::<D>(lambda) {
        return Err(SystemError::Unstable {
            index,
            eigenvalue: lambda[index],
            margin,
            region: D::STABLE_REGION,
        });
    }
    match lambda
        .iter()
        .position(|&lambda| !D::is_representable(lambda))
    {
        Some(index) => Err(SystemError::OutOfRange {
            index,
            eigenvalue: lambda[index],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arithmetic::unit_disk::one_minus_modulus_squared;

    fn filled(rows: usize, columns: usize, value: f64) -> Mat<c64> {
        Mat::from_fn(rows, columns, |_, _| c64::new(value, 0.0))
    }

    #[test]
    fn numbers_that_are_not_finite_are_named_by_position() {
        for poison in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let lambda = vec![c64::ZERO, c64::new(0.5, poison)];
            let error = DiscreteDiagonalSystem::new(lambda, filled(2, 1, 1.0), filled(1, 2, 1.0))
                .unwrap_err();
            assert_eq!(
                error,
                SystemError::NotFinite {
                    what: "lambda",
                    row: 1,
                    column: 0
                }
            );

            let mut input = filled(2, 3, 1.0);
            input[(1, 2)] = c64::new(0.0, poison);
            let error = DiscreteDiagonalSystem::new(vec![c64::ZERO; 2], input, filled(1, 2, 1.0))
                .unwrap_err();
            assert_eq!(
                error,
                SystemError::NotFinite {
                    what: "input matrix",
                    row: 1,
                    column: 2
                }
            );

            let mut output = filled(3, 2, 1.0);
            output[(2, 0)] = c64::new(poison, 0.0);
            let error = DiscreteDiagonalSystem::new(vec![c64::ZERO; 2], filled(2, 1, 1.0), output)
                .unwrap_err();
            assert_eq!(
                error,
                SystemError::NotFinite {
                    what: "output matrix",
                    row: 2,
                    column: 0
                }
            );
        }
    }

    #[test]
    fn dimensions_that_disagree_are_named() {
        let empty = DiscreteDiagonalSystem::new(vec![], filled(0, 1, 1.0), filled(1, 0, 1.0));
        assert_eq!(empty.unwrap_err(), SystemError::Empty { what: "states" });
        let no_inputs =
            DiscreteDiagonalSystem::new(vec![c64::ZERO], filled(1, 0, 1.0), filled(1, 1, 1.0));
        assert_eq!(
            no_inputs.unwrap_err(),
            SystemError::Empty { what: "inputs" }
        );
        let no_outputs =
            DiscreteDiagonalSystem::new(vec![c64::ZERO], filled(1, 1, 1.0), filled(0, 1, 1.0));
        assert_eq!(
            no_outputs.unwrap_err(),
            SystemError::Empty { what: "outputs" }
        );
        let wide =
            DiscreteDiagonalSystem::new(vec![c64::ZERO], filled(2, 1, 1.0), filled(1, 1, 1.0));
        let expected = SystemError::Dimension {
            what: "input",
            axis: "rows",
            found: 2,
            expected: 1,
            of: "state",
        };
        assert_eq!(wide.unwrap_err(), expected);
        let long =
            DiscreteDiagonalSystem::new(vec![c64::ZERO], filled(1, 1, 1.0), filled(1, 3, 1.0));
        let expected = SystemError::Dimension {
            what: "output",
            axis: "columns",
            found: 3,
            expected: 1,
            of: "state",
        };
        assert_eq!(long.unwrap_err(), expected);
    }

    #[test]
    fn the_first_unstable_eigenvalue_is_named() {
        for unstable in [
            c64::new(1.0, 0.0),
            c64::new(0.6, 0.8),
            c64::new(-3.0, 0.0),
            c64::new(0.0, 1e300),
        ] {
            let lambda = vec![c64::new(0.99, 0.0), unstable];
            let error = DiscreteDiagonalSystem::new(lambda, filled(2, 1, 1.0), filled(1, 2, 1.0))
                .unwrap_err();
            assert!(
                matches!(error, SystemError::Unstable { index: 1, margin, .. } if margin <= 0.0),
                "{error}"
            );
        }
    }

    #[test]
    fn a_frequency_on_top_of_a_pole_gives_a_number() {
        // cos² + sin² of this angle rounds to below one, so the rounded point is an eligible eigenvalue.
        let omega = (1..1000).map(f64::from).find(|omega: &f64| {
            one_minus_modulus_squared(c64::new(omega.cos(), omega.sin())) > 0.0
        });
        let omega = omega.unwrap();
        let lambda = vec![c64::new(omega.cos(), omega.sin())];
        let system =
            DiscreteDiagonalSystem::new(lambda, filled(1, 1, 1.0), filled(1, 1, 1.0)).unwrap();
        let gain = system.transfer(omega)[(0, 0)].norm();
        assert!(gain.is_finite() && gain > 1e15, "{gain:e}");
    }
}

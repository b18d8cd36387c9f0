//! Linear systems: what there is to reduce.

use faer::{Mat, c64};
use thiserror::Error;

use crate::mode_scaling::ModeScaling;
use crate::power_of_two;
use crate::unit_disk::{one_minus_modulus_squared, reciprocal};

/// A stable diagonal system in discrete time: `x_k = diag(λ) x_{k-1} + B u_k`, `y_k = C x_k`.
///
/// Checked once, when it is made: dimensions agree, every number is finite, every eigenvalue lies inside the unit
/// circle. Everything else in this crate relies on that.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscreteDiagonalSystem {
    lambda: Vec<c64>,
    input_matrix: Mat<c64>,
    output_matrix: Mat<c64>,
}

/// Why numbers do not make a stable system.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum SystemError {
    /// A dimension is zero.
    #[error("the system has no {what}; state, input and output dimension must each be at least 1")]
    Empty {
        /// `"states"`, `"inputs"` or `"outputs"`.
        what: &'static str,
    },
    /// A matrix does not have one row (input) or column (output) per eigenvalue.
    #[error(
        "the {what} matrix has {found} {axis}, but there are {states} eigenvalues; pass one of each per state"
    )]
    StateDimension {
        /// `"input"` or `"output"`.
        what: &'static str,
        /// `"rows"` or `"columns"`.
        axis: &'static str,
        /// Size of that axis.
        found: usize,
        /// Number of eigenvalues.
        states: usize,
    },
    /// An eigenvalue or a matrix entry is NaN or infinite.
    #[error(
        "{what} is not finite at row {row}, column {column}; find the layer that diverged before reducing it"
    )]
    NotFinite {
        /// `"lambda"` (a column), `"input matrix"` or `"output matrix"`.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// An eigenvalue lies on or outside the unit circle, so that the system has no Gramians.
    #[error(
        "eigenvalue {index} has modulus {modulus:e} and 1 - |lambda|^2 = {margin:e}; \
         a discrete-time system is stable only with every |lambda| < 1"
    )]
    Unstable {
        /// Position of the first such eigenvalue.
        index: usize,
        /// Its modulus, rounded.
        modulus: f64,
        /// `1 - |λ|²` with its exact sign: zero or negative.
        margin: f64,
    },
}

impl DiscreteDiagonalSystem {
    /// Checks and takes over the three parts of a system.
    ///
    /// # Shapes
    /// - `lambda`: eigenvalues `[state]`
    /// - `input_matrix`: `[state, input]`
    /// - `output_matrix`: `[output, state]`
    ///
    /// # Errors
    /// [`SystemError`] names the first dimension, entry or eigenvalue that does not fit. Whether |λ| < 1 is decided
    /// exactly, without rounding.
    ///
    /// ```
    /// use hsv::{DiscreteDiagonalSystem, Mat, SystemError, c64};
    ///
    /// let ones = Mat::from_fn(1, 1, |_, _| c64::new(1.0, 0.0));
    /// let error = DiscreteDiagonalSystem::new(vec![c64::new(0.0, 1.0)], ones.clone(), ones).unwrap_err();
    /// assert_eq!(error, SystemError::Unstable { index: 0, modulus: 1.0, margin: 0.0 });
    /// ```
    pub fn new(
        lambda: Vec<c64>,
        input_matrix: Mat<c64>,
        output_matrix: Mat<c64>,
    ) -> Result<Self, SystemError> {
        check_dimensions(lambda.len(), &input_matrix, &output_matrix)?;
        let column = Mat::from_fn(lambda.len(), 1, |i, _| lambda[i]);
        check_finite("lambda", &column)?;
        check_finite("input matrix", &input_matrix)?;
        check_finite("output matrix", &output_matrix)?;
        check_stable(&lambda)?;
        Ok(Self {
            lambda,
            input_matrix,
            output_matrix,
        })
    }

    /// Number of states.
    pub fn state_dim(&self) -> usize {
        self.lambda.len()
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.input_matrix.ncols()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.output_matrix.nrows()
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

    /// Transfer function on the unit circle, `G(e^{iω}) = C (e^{iω} I - Λ)⁻¹ B`, `[output, input]`.
    ///
    /// `omega` is the angle per step in radians. A layer whose output already sees the current input has
    /// `e^{iω} G`: the same gains. A value beyond the range of `f64` comes back infinite; only an `omega` that is
    /// itself not finite gives NaN.
    pub fn transfer(&self, omega: f64) -> Mat<c64> {
        let scaling = ModeScaling::of(self);
        let z = c64::new(omega.cos(), omega.sin());
        let responses: Vec<c64> = self
            .lambda
            .iter()
            .map(|&lambda| mode_response(z, lambda))
            .collect();
        let driven = Mat::from_fn(self.state_dim(), self.inputs(), |i, j| {
            responses[i] * scaling.input[(i, j)]
        });
        power_of_two::scale_matrix(&(&scaling.output * driven), scaling.gain_exponent)
    }
}

/// `1 / (z - λ)` for a `z` that stands for a point on the unit circle.
fn mode_response(z: c64, lambda: c64) -> c64 {
    let distance = z - lambda;
    if distance == c64::ZERO {
        // A rounded z can hit an eigenvalue inside the circle; the point that was meant is 1 - |λ| away.
        return reciprocal(z * (one_minus_modulus_squared(lambda) / (1.0 + lambda.norm())));
    }
    reciprocal(distance)
}

fn check_dimensions(
    states: usize,
    input_matrix: &Mat<c64>,
    output_matrix: &Mat<c64>,
) -> Result<(), SystemError> {
    let empty = |what| Err(SystemError::Empty { what });
    if states == 0 {
        return empty("states");
    }
    if input_matrix.nrows() != states {
        let found = input_matrix.nrows();
        return Err(SystemError::StateDimension {
            what: "input",
            axis: "rows",
            found,
            states,
        });
    }
    if output_matrix.ncols() != states {
        let found = output_matrix.ncols();
        return Err(SystemError::StateDimension {
            what: "output",
            axis: "columns",
            found,
            states,
        });
    }
    if input_matrix.ncols() == 0 {
        return empty("inputs");
    }
    if output_matrix.nrows() == 0 {
        return empty("outputs");
    }
    Ok(())
}

fn check_finite(what: &'static str, matrix: &Mat<c64>) -> Result<(), SystemError> {
    match first_not_finite(matrix) {
        Some((row, column)) => Err(SystemError::NotFinite { what, row, column }),
        None => Ok(()),
    }
}

/// Position of the first entry, column by column, that is NaN or infinite.
pub(crate) fn first_not_finite(matrix: &Mat<c64>) -> Option<(usize, usize)> {
    let entries =
        (0..matrix.ncols()).flat_map(|column| (0..matrix.nrows()).map(move |row| (row, column)));
    entries
        .into_iter()
        .find(|&position| !matrix[position].is_finite())
}

fn check_stable(lambda: &[c64]) -> Result<(), SystemError> {
    match first_unstable(lambda) {
        Some((index, margin)) => Err(SystemError::Unstable {
            index,
            modulus: lambda[index].norm(),
            margin,
        }),
        None => Ok(()),
    }
}

/// First eigenvalue that is not inside the unit circle, with its `1 - |λ|²`.
pub(crate) fn first_unstable(lambda: &[c64]) -> Option<(usize, f64)> {
    let margins = lambda
        .iter()
        .map(|&lambda| one_minus_modulus_squared(lambda));
    margins
        .enumerate()
        .find(|&(_, margin)| margin <= 0.0 || margin.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let expected = SystemError::StateDimension {
            what: "input",
            axis: "rows",
            found: 2,
            states: 1,
        };
        assert_eq!(wide.unwrap_err(), expected);
        let long =
            DiscreteDiagonalSystem::new(vec![c64::ZERO], filled(1, 1, 1.0), filled(1, 3, 1.0));
        let expected = SystemError::StateDimension {
            what: "output",
            axis: "columns",
            found: 3,
            states: 1,
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

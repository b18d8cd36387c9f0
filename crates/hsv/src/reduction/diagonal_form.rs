//! Back to a diagonal state matrix, the form that a layer can hold.

use faer::linalg::solvers::{PartialPivLu, Solve};
use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::arithmetic::power_of_two::scale_complex;
use crate::linalg::matrix::{complex, first_not_finite, scale_matrix};
use crate::linalg::scalar::Scalar;
use crate::reduction::TruncationError;
use crate::reduction::poles::eigen;
use crate::reduction::truncation::{Form, Projected, Truncation};
use crate::system::LinearSystem;
use crate::system::dense::DenseSystem;
use crate::system::diagonal::DiagonalSystem;
use crate::system::domain::{Discrete, TimeDomain};
use crate::system::units::Units;
use crate::system::validity::SystemError;

/// Largest condition number of the eigenvectors that a diagonal form is made with.
///
/// The diagonal form repeats the dense one to about condition · ε. At 1e8 that is 2e-8, less than the rounding of
/// the `f32` in which layers hold their parameters (6e-8): below this limit a layer cannot tell the two apart.
pub const EIGENVECTOR_CONDITION_LIMIT: f64 = 1e8;

/// A system in diagonal form, and the projections that lead to it from the one it was made of.
///
/// # Scale of the modes
/// Eigenvectors are free up to a factor each: `b_i s` and `c_i / s` are the same mode. Here they have length one in the
/// coordinates of the system that is brought to diagonal form. Of a balanced truncation these are balanced coordinates:
/// both Gramians are the Hankel singular values, so that input and output share the gain evenly, and the lengths of the
/// rows of B and of the columns of C depend on the transfer function alone, not on the units of the states. A gain of
/// `β` lengthens both by `√β`.
/// A truncation to all states is passed on unchanged, in the scale it came in.
///
/// # Source
/// The scale with which the authors of `CompreSSM26` (`docs/references.bib`) go on training. Others are compared with it
/// in `docs/compression.md`.
#[derive(Debug, Clone)]
pub struct DiagonalForm<D = Discrete> {
    /// The diagonal system: `diag(left A right)`, `left B`, `C right`.
    pub system: DiagonalSystem<D>,
    /// From its states to those of the system it was made of, `T V`, `[state, order]`.
    pub right: Mat<c64>,
    /// The way back, `V⁻¹ Wᴴ`, `[order, state]`; `left right = I`.
    pub left: Mat<c64>,
    /// 2-norm condition number of the eigenvectors V of the dense state matrix, columns of length one.
    pub eigenvector_condition: f64,
}

impl<D: TimeDomain> Truncation<DiagonalSystem<D>> {
    /// Diagonal form of the truncated system, eigenvectors of length one as described at [`DiagonalForm`].
    ///
    /// # Precision
    /// Transfer function as of the dense form, to about condition · ε. Poles are the two-sided Rayleigh quotients of
    /// the full system's eigenvalues, of second order in the error of the eigenvectors.
    ///
    /// # Errors
    /// [`TruncationError::IllConditioned`] above [`EIGENVECTOR_CONDITION_LIMIT`]; [`TruncationError::Unstable`] if a
    /// pole is not stable; [`TruncationError::Inaccurate`] if the result does not check.
    pub fn diagonalize(&self) -> Result<DiagonalForm<D>, TruncationError> {
        let _mode = Subnormals::kept();
        match &self.form {
            Form::Identity(system) => Ok(DiagonalForm {
                system: system.clone(),
                right: Mat::identity(self.order(), self.order()),
                left: Mat::identity(self.order(), self.order()),
                eigenvector_condition: 1.0,
            }),
            Form::Projected(projected) => {
                let full_lambda = projected.full.lambda();
                diagonal_form(projected, full_lambda, &self.eigenvectors)
            }
        }
    }
}

impl<T: Scalar, D: TimeDomain> DenseSystem<T, D> {
    /// Diagonal form of a stable dense system, eigenvectors of length one as described at [`DiagonalForm`].
    ///
    /// # Precision
    /// Transfer function to about condition · ε of the size of A, B and C.
    ///
    /// # Errors
    /// [`TruncationError::IllConditioned`] above [`EIGENVECTOR_CONDITION_LIMIT`], as for a Jordan block;
    /// [`TruncationError::Unstable`] if a pole is not stable; [`TruncationError::Inaccurate`] if the result does not
    /// check.
    pub fn diagonalize(&self) -> Result<DiagonalForm<D>, TruncationError> {
        let _mode = Subnormals::kept();
        let units = Units::common(self.input_matrix(), self.output_matrix());
        let state_matrix = complex(self.state_matrix());
        let (lambda, vectors) = eigen(self.state_matrix())?;
        let modal =
            ModalCoordinates::new(&vectors, &complex(&units.input), &complex(&units.output))?;
        let inverse = modal.solve(&Mat::identity(lambda.len(), lambda.len()));
        let limit = residual_limit(modal.condition, lambda.len(), state_matrix.norm_l2(), 0.0);
        check_residual(&inverse, &(&state_matrix * &vectors), &lambda, limit)?;
        // The states share one unit; in theirs, eigenvectors have length one as well.
        let unit = units.state_exponents[0];
        modal.in_units::<D>(
            lambda,
            vectors,
            inverse,
            &units.state_exponents,
            [unit, units.gain_exponent - unit],
            self.feedthrough().map(complex),
        )
    }
}

/// The diagonal form of a projected system whose full state matrix is `diag(full_lambda)` in the coordinates of the
/// projections.
pub(crate) fn diagonal_form<D: TimeDomain>(
    projected: &Projected<DiagonalSystem<D>>,
    full_lambda: &[c64],
    eigenvectors: &Mat<c64>,
) -> Result<DiagonalForm<D>, TruncationError> {
    let modal = ModalCoordinates::new(eigenvectors, &projected.input, &projected.output)?;
    let (left, right) = (
        modal.solve(&projected.left),
        &projected.right * eigenvectors,
    );
    let lambda = rayleigh_quotients(full_lambda, &left, &right);
    let moved = Mat::from_fn(right.nrows(), right.ncols(), |i, j| {
        full_lambda[i] * right[(i, j)]
    });
    let limit = residual_limit(
        modal.condition,
        lambda.len(),
        projected.state_matrix.norm_l2(),
        projected.right.norm_l2() * projected.left.norm_l2(),
    );
    check_residual(&left, &moved, &lambda, limit)?;
    // Half of the gain to each side, as in the balanced coordinates of the system in its own units.
    let half_gain = projected.gain_exponent / 2;
    modal.in_units::<D>(
        lambda,
        right,
        left,
        &projected.state_exponents,
        [half_gain, half_gain],
        projected.full.feedthrough().cloned(),
    )
}

/// Input and output of a dense system in the coordinates of its eigenvectors.
struct ModalCoordinates {
    inverse: PartialPivLu<c64>,
    condition: f64,
    input: Mat<c64>,
    output: Mat<c64>,
}

impl ModalCoordinates {
    fn new(
        eigenvectors: &Mat<c64>,
        input: &Mat<c64>,
        output: &Mat<c64>,
    ) -> Result<Self, TruncationError> {
        let condition = condition(eigenvectors)?;
        let inverse = eigenvectors.partial_piv_lu();
        Ok(Self {
            input: inverse.solve(input),
            output: output * eigenvectors,
            inverse,
            condition,
        })
    }

    /// `V⁻¹ x`
    fn solve(&self, x: &Mat<c64>) -> Mat<c64> {
        self.inverse.solve(x)
    }

    /// Puts the units back: `2^input_exponent` to the input of every mode and `2^output_exponent` to its output.
    fn in_units<D: TimeDomain>(
        &self,
        lambda: Vec<c64>,
        right: Mat<c64>,
        left: Mat<c64>,
        state_exponents: &[i32],
        [input_exponent, output_exponent]: [i32; 2],
        feedthrough: Option<Mat<c64>>,
    ) -> Result<DiagonalForm<D>, TruncationError> {
        let right = Mat::from_fn(right.nrows(), right.ncols(), |i, j| {
            scale_complex(right[(i, j)], state_exponents[i] - input_exponent)
        });
        let left = Mat::from_fn(left.nrows(), left.ncols(), |i, j| {
            scale_complex(left[(i, j)], input_exponent - state_exponents[j])
        });
        for (what, part) in [("right projection", &right), ("left projection", &left)] {
            if first_not_finite(part).is_some() {
                return Err(TruncationError::OutOfRange { what });
            }
        }
        let input = scale_matrix(&self.input, input_exponent);
        let output = scale_matrix(&self.output, output_exponent);
        let system = DiagonalSystem::new(lambda, input, output)
            .and_then(|system| system.with_any_feedthrough(feedthrough.as_ref()))
            .map_err(as_truncation_error)?;
        Ok(DiagonalForm {
            system,
            right,
            left,
            eigenvector_condition: self.condition,
        })
    }
}

/// 2-norm condition number, or why it is not acceptable.
fn condition(eigenvectors: &Mat<c64>) -> Result<f64, TruncationError> {
    let order = eigenvectors.nrows();
    let values = eigenvectors
        .singular_values()
        .map_err(|_| TruncationError::NoConvergence { order })?;
    let condition = values[0] / values[order - 1]; // a zero gives infinity
    if condition <= EIGENVECTOR_CONDITION_LIMIT {
        Ok(condition)
    } else {
        Err(TruncationError::IllConditioned {
            condition,
            limit: EIGENVECTOR_CONDITION_LIMIT,
        })
    }
}

/// `(l_i Λ r_i) / (l_i r_i)` for every pair of a left and a right vector.
///
/// Written as the full eigenvalue that dominates the pair plus weighted differences from it: where a mode passes
/// through the truncation nearly unchanged its pole keeps its last digits, and with them its distance to the circle.
fn rayleigh_quotients(full_lambda: &[c64], left: &Mat<c64>, right: &Mat<c64>) -> Vec<c64> {
    let quotient = |mode: usize| {
        let weights: Vec<c64> = (0..full_lambda.len())
            .map(|k| left[(mode, k)] * right[(k, mode)])
            .collect();
        let heaviest =
            (0..weights.len()).max_by(|&a, &b| weights[a].norm().total_cmp(&weights[b].norm()));
        let reference = full_lambda[heaviest.expect("a system has at least one state")];
        let differences = weights
            .iter()
            .zip(full_lambda)
            .map(|(weight, lambda)| weight * (lambda - reference));
        reference + differences.sum::<c64>() / weights.iter().sum::<c64>()
    };
    (0..left.nrows()).map(quotient).collect()
}

/// How far `V⁻¹ A V` may be from diagonal: a Schur decomposition is exact for a matrix within a few order · ε · ‖A‖,
/// a projection for factors within a few ε of ‖T‖ ‖W‖, and the eigenvectors pass either on times their condition number.
fn residual_limit(condition: f64, order: usize, state_norm: f64, projection_lengths: f64) -> f64 {
    32.0 * f64::EPSILON * condition * (order as f64 * state_norm + projection_lengths)
}

/// Checks that `left · moved`, with `moved = A · right`, is the diagonal it should be.
fn check_residual(
    left: &Mat<c64>,
    moved: &Mat<c64>,
    lambda: &[c64],
    limit: f64,
) -> Result<(), TruncationError> {
    let product = left * moved;
    let order = lambda.len();
    let mut residual = 0.0f64;
    for j in 0..order {
        for i in 0..order {
            let expected = if i == j { lambda[i] } else { c64::ZERO };
            // A comparison, not `max`, which would pass over NaN.
            let entry = (product[(i, j)] - expected).norm();
            residual = if entry <= residual { residual } else { entry };
        }
    }
    if residual <= limit {
        Ok(())
    } else {
        Err(TruncationError::Inaccurate { residual, limit })
    }
}

pub(crate) fn as_truncation_error(error: SystemError) -> TruncationError {
    match error {
        SystemError::Unstable {
            index,
            eigenvalue,
            margin,
            region,
        } => TruncationError::Unstable {
            index,
            eigenvalue,
            margin,
            region,
        },
        SystemError::NotFinite { what, .. } => TruncationError::OutOfRange { what },
        SystemError::OutOfRange { .. } => TruncationError::OutOfRange { what: "poles" },
        SystemError::Empty { .. } | SystemError::Dimension { .. } => {
            unreachable!("order, inputs and outputs come from a valid system")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_too_close_to_dependent_are_refused() {
        let pair = |angle: f64| {
            Mat::from_fn(2, 2, |i, j| match (i, j) {
                (0, 0) => c64::ONE,
                (1, 0) => c64::ZERO,
                (0, _) => c64::new(angle.cos(), 0.0),
                _ => c64::new(angle.sin(), 0.0),
            })
        };
        // Two unit vectors at a small angle have condition 2 / angle.
        let accepted = condition(&pair(1e-6)).unwrap();
        assert!((accepted - 2e6).abs() <= 2.0, "{accepted:e}");
        for angle in [1e-9, 0.0] {
            let refused = condition(&pair(angle)).unwrap_err();
            let limit = EIGENVECTOR_CONDITION_LIMIT;
            assert!(
                matches!(refused, TruncationError::IllConditioned { condition, limit: l } if condition > limit && l == limit),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_pole_that_passes_through_keeps_its_last_digit() {
        let slow = c64::from_polar(1.0 - 1e-9, 1.0);
        let full = [c64::new(0.3, 0.1), slow];
        let left = Mat::from_fn(1, 2, |_, k| c64::new(if k == 1 { 0.1 } else { 0.0 }, 0.3));
        let right = Mat::from_fn(2, 1, |k, _| c64::new(if k == 1 { 3.0 } else { 0.0 }, 0.0));
        assert_eq!(rayleigh_quotients(&full, &left, &right), [slow]);
    }
}

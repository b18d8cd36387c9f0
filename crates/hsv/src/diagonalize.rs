//! Back to a diagonal state matrix, the form that a layer can hold.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};

use crate::balance::{BalancedForm, Form, Truncation, TruncationError};
use crate::power_of_two::{scale_complex, scale_matrix};
use crate::system::{DiscreteDiagonalSystem, SystemError, first_not_finite};
use crate::unit_disk::one_minus_modulus_squared;

/// Largest condition number of the eigenvectors that a diagonal form is made with.
///
/// The diagonal form repeats the dense one to about condition · ε. At 1e8 that is 2e-8, less than the rounding of
/// the `f32` in which layers hold their parameters (6e-8): below this limit a layer cannot tell the two apart.
pub const EIGENVECTOR_CONDITION_LIMIT: f64 = 1e8;

/// A truncated system in diagonal form, and the projections that lead to it from the full one.
///
/// # Scale of the modes
/// Eigenvectors are free up to a factor each: `b_i s` and `c_i / s` are the same mode. Here every row of B has
/// length `√(1 - |λ_i|²)`: a layer that normalizes its input by `γ = √(1 - |λ|²)` then finds rows of length one, the
/// magnitude it is initialized with. A row that is zero has nothing to scale; its right vector has length one.
/// A truncation to all states is passed on unchanged, in the scale it came in.
#[derive(Debug, Clone)]
pub struct DiagonalTruncation {
    /// The reduced system: `diag(left Λ right)`, `left B`, `C right`.
    pub system: DiscreteDiagonalSystem,
    /// From reduced to full states, `T V`, `[state, order]`.
    pub right: Mat<c64>,
    /// From full to reduced states, `V⁻¹ Wᴴ`, `[order, state]`; `left right = I`.
    pub left: Mat<c64>,
    /// 2-norm condition number of the eigenvectors V of the balanced state matrix, columns of length one.
    pub eigenvector_condition: f64,
}

impl Truncation {
    /// Diagonal form of the truncated system, with the mode scale described at [`DiagonalTruncation`].
    ///
    /// # Precision
    /// Transfer function as of the dense form, to about condition · ε. Poles are the two-sided Rayleigh quotients of
    /// the full system's eigenvalues, of second order in the error of the eigenvectors.
    ///
    /// # Errors
    /// [`TruncationError::IllConditioned`] above [`EIGENVECTOR_CONDITION_LIMIT`]; [`TruncationError::Unstable`] if a
    /// pole is not inside the unit circle; [`TruncationError::Inaccurate`] if the result does not check.
    pub fn diagonalize(&self) -> Result<DiagonalTruncation, TruncationError> {
        match &self.form {
            Form::Identity(system) => Ok(DiagonalTruncation {
                system: system.clone(),
                right: Mat::identity(self.order(), self.order()),
                left: Mat::identity(self.order(), self.order()),
                eigenvector_condition: 1.0,
            }),
            Form::Balanced(form) => diagonal_form(form),
        }
    }
}

fn diagonal_form(form: &BalancedForm) -> Result<DiagonalTruncation, TruncationError> {
    let eigenvector_condition = condition(&form.eigenvectors)?;
    let inverse = form.eigenvectors.partial_piv_lu();
    let (left, right) = (inverse.solve(&form.left), &form.right * &form.eigenvectors);
    let (input, output) = (
        inverse.solve(&form.input),
        &form.output * &form.eigenvectors,
    );

    let lambda = rayleigh_quotients(&form.full_lambda, &left, &right);
    check_residual(form, &lambda, &left, &right, eigenvector_condition)?;

    let (order, states) = (lambda.len(), form.full_lambda.len());
    let exponents = &form.state_exponents;
    let right = Mat::from_fn(states, order, |i, j| {
        scale_complex(right[(i, j)], exponents[i])
    });
    let factors: Vec<f64> = (0..order)
        .map(|j| mode_factor(lambda[j], &input, &right, j))
        .collect();
    let input = Mat::from_fn(order, input.ncols(), |i, j| input[(i, j)] * factors[i]);
    let output = Mat::from_fn(output.nrows(), order, |i, j| output[(i, j)] / factors[j]);
    let right = Mat::from_fn(states, order, |i, j| right[(i, j)] / factors[j]);
    let left = Mat::from_fn(order, states, |i, j| {
        scale_complex(left[(i, j)] * factors[i], -exponents[j])
    });
    for (what, part) in [("right projection", &right), ("left projection", &left)] {
        if first_not_finite(part).is_some() {
            return Err(TruncationError::OutOfRange { what });
        }
    }
    let output = scale_matrix(&output, form.gain_exponent);
    let system = DiscreteDiagonalSystem::new(lambda, input, output).map_err(as_truncation_error)?;
    Ok(DiagonalTruncation {
        system,
        right,
        left,
        eigenvector_condition,
    })
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

/// Checks that `left Λ right` is the diagonal it should be.
fn check_residual(
    form: &BalancedForm,
    lambda: &[c64],
    left: &Mat<c64>,
    right: &Mat<c64>,
    condition: f64,
) -> Result<(), TruncationError> {
    let moved = Mat::from_fn(right.nrows(), right.ncols(), |i, j| {
        form.full_lambda[i] * right[(i, j)]
    });
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
    // A Schur decomposition is exact for a matrix within a few order · ε · ‖A_r‖, and so is the projection of Λ for
    // factors within a few ε of ‖T‖ ‖W‖; the eigenvectors pass either on times their condition number.
    let lengths = form.right.norm_l2() * form.left.norm_l2();
    let limit =
        32.0 * f64::EPSILON * condition * (order as f64 * form.state_matrix.norm_l2() + lengths);
    if residual <= limit {
        Ok(())
    } else {
        Err(TruncationError::Inaccurate { residual, limit })
    }
}

/// What row `mode` of the input matrix is multiplied by.
fn mode_factor(lambda: c64, input: &Mat<c64>, right: &Mat<c64>, mode: usize) -> f64 {
    let wanted = one_minus_modulus_squared(lambda).max(0.0).sqrt();
    let factor = wanted / input.row(mode).norm_l2();
    if factor.is_finite() && factor > 0.0 {
        factor
    } else {
        right.col(mode).norm_l2()
    }
}

fn as_truncation_error(error: SystemError) -> TruncationError {
    match error {
        SystemError::Unstable {
            index,
            modulus,
            margin,
        } => TruncationError::Unstable {
            index,
            modulus,
            margin,
        },
        SystemError::NotFinite { what, .. } => TruncationError::OutOfRange { what },
        SystemError::Empty { .. } | SystemError::StateDimension { .. } => {
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

//! Principal logarithm of a matrix.

use faer::{Mat, c64};
use thiserror::Error;

use super::one_norm;
use crate::arithmetic::unit_disk::one_minus_modulus_squared;
use crate::linalg::matrix::{first_not_finite, scale_matrix};
use crate::linalg::schur::{Schur, SchurError};
use crate::linalg::triangular::{add_multiple, quotient, solve_leading};

/// Why a matrix has no principal logarithm.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum LogarithmError {
    /// An eigenvalue is zero, or so near to the negative real axis that rounding decides the sign of its angle.
    #[error(
        "no principal logarithm: the eigenvalue {eigenvalue} is zero or on the negative real axis"
    )]
    NoPrincipalValue {
        /// That eigenvalue.
        eigenvalue: c64,
    },
    /// The Schur form was not found.
    #[error("the eigenvalues did not converge for {states} states")]
    NoConvergence {
        /// Size of the matrix.
        states: usize,
    },
    /// An entry of the matrix, of a root on the way or of the result is no finite `f64`.
    #[error("the matrix, a root of it or its logarithm is beyond the range of f64")]
    OutOfRange,
}

/// Largest 1-norm for which the Padé approximant of `log(I + X)` of degree 3, 4, .. 7 is exact to ε.
const LOGARITHM_RADII: [f64; 5] = [
    1.620628479501567e-2,
    5.387353263138117e-2,
    1.1352802267628681e-1,
    1.8662860613541288e-1,
    2.642960831111435e-1,
];

/// Principal logarithm of a square matrix, `[state, state]`: the one whose eigenvalues have imaginary parts inside
/// `(-π, π)`.
///
/// # Precision
/// O(state³ log ‖A - I‖). A small multiple of state · ε times the condition of the logarithm, which grows next to
/// zero and to the negative real axis. The logarithms of the eigenvalues keep the digits of `1 - |λ|²`.
///
/// # Errors
/// [`LogarithmError`]; an eigenvalue with a negative real part counts as real if its imaginary part is below
/// state · ε of the norm.
///
/// # Source
/// Inverse scaling and squaring on the Schur form: Higham, *Functions of Matrices* (2008), algorithm 11.9, with the
/// diagonal of the roots minus one after Al-Mohy (2012), *Numerical Algorithms* 59, where subtracting would cancel.
pub(crate) fn logarithm(matrix: &Mat<c64>) -> Result<Mat<c64>, LogarithmError> {
    if first_not_finite(matrix).is_some() {
        return Err(LogarithmError::OutOfRange);
    }
    let schur = Schur::of(matrix).map_err(|error| {
        let SchurError::NoConvergence { states, .. } = error;
        LogarithmError::NoConvergence { states }
    })?;
    let eigenvalues = schur.eigenvalues();
    let states = eigenvalues.len();
    let rounding = states as f64 * f64::EPSILON * one_norm(&schur.triangular);
    let refused = |z: &&c64| **z == c64::ZERO || z.re < 0.0 && z.im.abs() <= rounding;
    if let Some(&eigenvalue) = eigenvalues.iter().find(refused) {
        return Err(LogarithmError::NoPrincipalValue { eigenvalue });
    }

    let (root, roots, degree) = root_near_identity(&schur.triangular)?;
    let mut x = root;
    for (i, &lambda) in eigenvalues.iter().enumerate() {
        x[(i, i)] = root_minus_one(lambda, roots);
    }
    let mut log = scale_matrix(&logarithm_near_identity(&x, degree), roots as i32);
    for (i, &lambda) in eigenvalues.iter().enumerate() {
        log[(i, i)] = scalar_logarithm(lambda);
    }
    let log = &schur.unitary * log * schur.unitary.adjoint();
    match first_not_finite(&log) {
        None => Ok(log),
        Some(_) => Err(LogarithmError::OutOfRange),
    }
}

/// `ln z` with a real part that keeps its digits next to the unit circle.
pub(crate) fn scalar_logarithm(z: c64) -> c64 {
    let margin = one_minus_modulus_squared(z);
    if margin.abs() < 0.5 {
        c64::new(0.5 * (-margin).ln_1p(), z.arg())
    } else {
        c64::new(z.norm().ln(), z.arg())
    }
}

/// Takes square roots of an upper triangular matrix until an approximant of degree 7 or less will do. Returns the
/// root, how often a root was taken, and that degree.
fn root_near_identity(triangular: &Mat<c64>) -> Result<(Mat<c64>, u32, usize), LogarithmError> {
    // 1e300 above the diagonal is 1e-1 after a thousand halvings.
    const ROOTS: u32 = 1200;
    let degree_for = |norm: f64| LOGARITHM_RADII.iter().position(|&radius| norm <= radius);
    let mut root = triangular.clone();
    let mut close = 0;
    for roots in 0..ROOTS {
        let identity: Mat<c64> = Mat::identity(root.nrows(), root.ncols());
        let distance = one_norm(&(&root - identity));
        if !distance.is_finite() {
            return Err(LogarithmError::OutOfRange);
        }
        if let (Some(now), Some(next)) = (degree_for(distance), degree_for(distance / 2.0)) {
            close += 1;
            // Another root costs as much as one degree or two, and halves the distance.
            if now <= next + 1 || close == 2 {
                return Ok((root, roots, now + 3));
            }
        }
        root = square_root(&root);
    }
    Err(LogarithmError::OutOfRange)
}

/// Principal square root of an upper triangular matrix.
///
/// # Source
/// Björck, Hammarling (1983), *Linear Algebra and its Applications* 52/53.
fn square_root(triangular: &Mat<c64>) -> Mat<c64> {
    let mut root = Mat::<c64>::zeros(triangular.nrows(), triangular.ncols());
    for j in 0..triangular.ncols() {
        let mut column = triangular.col_as_slice(j)[..=j].to_vec();
        column[j] = column[j].sqrt();
        let corner = column[j];
        for k in (0..j).rev() {
            let (above, rest) = column.split_at_mut(k);
            rest[0] = quotient(rest[0], root[(k, k)] + corner);
            add_multiple(above, -rest[0], &root.col_as_slice(k)[..k]);
        }
        root.col_as_slice_mut(j)[..=j].copy_from_slice(&column);
    }
    root
}

/// `z^(1/2^roots) - 1` without the cancellation: `z - 1 = (z^(1/2) + 1) (z^(1/4) + 1) .. (root - 1)`.
fn root_minus_one(z: c64, roots: u32) -> c64 {
    if roots == 0 {
        return z - 1.0;
    }
    // In the left half plane z^(1/2) + 1 could cancel itself; the product starts one root later.
    let (mut root, factors) = if z.re < 0.0 {
        (z.sqrt(), roots - 1)
    } else {
        (z, roots)
    };
    let difference = root - 1.0;
    let mut product = c64::ONE;
    for _ in 0..factors {
        root = root.sqrt();
        product *= root + 1.0;
    }
    quotient(difference, product)
}

/// Padé approximant of `log(I + X)` for an upper triangular X, as partial fractions: the Gauss-Legendre quadrature
/// of `∫ (I + s X)⁻¹ X ds` over `[0, 1]`.
fn logarithm_near_identity(x: &Mat<c64>, degree: usize) -> Mat<c64> {
    let mut sum = Mat::<c64>::zeros(x.nrows(), x.ncols());
    for (node, weight) in gauss_legendre(degree) {
        for j in 0..x.ncols() {
            let mut column = x.col_as_slice(j)[..=j].to_vec();
            let diagonal = |i: usize| c64::ONE + x[(i, i)] * node;
            solve_leading(x, c64::new(node, 0.0), diagonal, &mut column);
            add_multiple(
                &mut sum.col_as_slice_mut(j)[..=j],
                c64::new(weight, 0.0),
                &column,
            );
        }
    }
    sum
}

/// Nodes and weights of Gauss-Legendre quadrature on `[0, 1]`: roots of the Legendre polynomial, by Newton's method.
fn gauss_legendre(degree: usize) -> Vec<(f64, f64)> {
    let node = |k: usize| {
        let mut x = (std::f64::consts::PI * (k as f64 + 0.75) / (degree as f64 + 0.5)).cos();
        let mut slope = 1.0;
        // Quadratic convergence from three digits; the last steps only repeat.
        for _ in 0..6 {
            let (mut before, mut value) = (1.0, x);
            for n in 2..=degree {
                let n = n as f64;
                (before, value) = (
                    value,
                    ((2.0 * n - 1.0) * x * value - (n - 1.0) * before) / n,
                );
            }
            slope = degree as f64 * (x * value - before) / (x * x - 1.0);
            x -= value / slope;
        }
        (0.5 * (x + 1.0), 1.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..degree).map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quadrature_is_exact_for_polynomials_of_twice_its_degree() {
        for degree in 3..=7 {
            let rule = gauss_legendre(degree);
            for power in 0..2 * degree {
                let sum: f64 = rule
                    .iter()
                    .map(|(node, weight)| weight * node.powi(power as i32))
                    .sum();
                let exact = 1.0 / (power as f64 + 1.0);
                assert!(
                    (sum - exact).abs() <= 8.0 * f64::EPSILON,
                    "{degree} {power}: {sum}"
                );
            }
        }
    }
}

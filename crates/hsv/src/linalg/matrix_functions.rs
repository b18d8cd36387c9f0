//! Exponential and logarithm of a dense matrix: between continuous and discrete time.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use thiserror::Error;

use crate::arithmetic::power_of_two::exponent;
use crate::arithmetic::unit_disk::one_minus_modulus_squared;
use crate::linalg::scalar::{first_not_finite, scale_matrix};
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

/// Coefficients of the `[13/13]` Padé approximant of the exponential, constant first.
const PADE_13: [f64; 14] = [
    64764752532480000.0,
    32382376266240000.0,
    7771770303897600.0,
    1187353796428800.0,
    129060195264000.0,
    10559470521600.0,
    670442572800.0,
    33522128640.0,
    1323241920.0,
    40840800.0,
    960960.0,
    16380.0,
    182.0,
    1.0,
];

/// Up to this 1-norm the approximant is the exponential of a matrix within ε of the given one.
const PADE_13_RADIUS: f64 = 5.371920351148152;

/// Exponential of a square matrix, `[state, state]`; `None` if the matrix or the result is not finite.
///
/// # Precision
/// O(state³ log ‖A‖). A small multiple of state · ε times the condition of the exponential, which for a normal matrix
/// is its norm.
///
/// # Source
/// Higham (2005), *SIAM Journal on Matrix Analysis and Applications* 26: scaling and squaring. The approximant of
/// degree 13 is used for small norms too, where a lower degree would be cheaper and no better.
pub(crate) fn exponential(matrix: &Mat<c64>) -> Option<Mat<c64>> {
    let norm = one_norm(matrix);
    if !norm.is_finite() {
        return None;
    }
    // The power of two that is needed or twice that.
    let halvings = exponent(norm / PADE_13_RADIUS).map_or(0, |k| (k + 1).max(0));
    let a = scale_matrix(matrix, -halvings);
    let a2 = &a * &a;
    let a4 = &a2 * &a2;
    let a6 = &a4 * &a2;
    let [b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13] = PADE_13;
    let even = |high: [f64; 3], low: [f64; 4]| {
        let high = combination(&[(high[0], &a6), (high[1], &a4), (high[2], &a2)]);
        let mut sum = &a6 * high + combination(&[(low[0], &a6), (low[1], &a4), (low[2], &a2)]);
        (0..sum.nrows()).for_each(|i| sum[(i, i)] += low[3]);
        sum
    };
    let odd_part = &a * even([b13, b11, b9], [b7, b5, b3, b1]);
    let even_part = even([b12, b10, b8], [b6, b4, b2, b0]);
    // (V - U)⁻¹ (V + U) as I + 2 (V - U)⁻¹ U: a small step stays exact in its small part.
    let twice = combination(&[(2.0, &odd_part)]);
    let mut power: Mat<c64> = (&even_part - &odd_part).partial_piv_lu().solve(twice);
    (0..power.nrows()).for_each(|i| power[(i, i)] += 1.0);
    for _ in 0..halvings {
        power = &power * &power;
        if first_not_finite(&power).is_some() {
            return None;
        }
    }
    first_not_finite(&power).is_none().then_some(power)
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

/// Largest sum of moduli in a column; NaN if an entry is.
fn one_norm(matrix: &Mat<c64>) -> f64 {
    let sums = (0..matrix.ncols()).map(|j| matrix.col_as_slice(j).iter().map(|z| z.norm()).sum());
    // A comparison, not `max`, which would pass over NaN.
    sums.fold(
        0.0,
        |largest, sum: f64| if sum <= largest { largest } else { sum },
    )
}

fn combination(terms: &[(f64, &Mat<c64>)]) -> Mat<c64> {
    let (rows, columns) = (terms[0].1.nrows(), terms[0].1.ncols());
    Mat::from_fn(rows, columns, |i, j| {
        terms
            .iter()
            .map(|(factor, term)| term[(i, j)] * *factor)
            .sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_matrix, with_eigenvalues};

    fn diagonal(entries: &[c64]) -> Mat<c64> {
        Mat::from_fn(entries.len(), entries.len(), |i, j| {
            if i == j { entries[i] } else { c64::ZERO }
        })
    }

    fn identity(states: usize) -> Mat<c64> {
        Mat::identity(states, states)
    }

    /// Ones above the diagonal.
    fn shift(states: usize) -> Mat<c64> {
        Mat::from_fn(states, states, |i, j| {
            if j == i + 1 { c64::ONE } else { c64::ZERO }
        })
    }

    /// `Σ coefficient(k) Xᵏ` from `k = 0`, with `coefficient` the ratio to the one before.
    fn series(x: &Mat<c64>, terms: usize, coefficient: impl Fn(usize) -> f64) -> Mat<c64> {
        let (mut power, mut sum) = (identity(x.nrows()), Mat::zeros(x.nrows(), x.nrows()));
        for k in 0..terms {
            sum = &sum + combination(&[(coefficient(k), &power)]);
            power = &power * x;
        }
        sum
    }

    fn factorial(k: usize) -> f64 {
        (1..=k).map(|k| k as f64).product()
    }

    fn assert_close(found: &Mat<c64>, exact: &Mat<c64>, tolerance: f64, what: &str) {
        let error = (found - exact).norm_l2();
        assert!(error <= tolerance, "{what}: {error:e} > {tolerance:e}");
    }

    /// By how much the exponential magnifies a change of A: the integral of `‖e^{(1-s)A}‖ ‖e^{sA}‖` over `[0, 1]`, by
    /// the largest of nine values.
    fn exponential_gain(a: &Mat<c64>) -> f64 {
        let at = |s: f64| exponential(&combination(&[(s, a)])).unwrap().norm_l2();
        (0..=8)
            .map(|k| at(k as f64 / 8.0) * at(1.0 - k as f64 / 8.0))
            .fold(0.0, f64::max)
    }

    /// By how much the logarithm does: the integral of `‖(I + s (A - I))⁻¹‖²` over `[0, 1]`.
    fn logarithm_gain(a: &Mat<c64>) -> f64 {
        let at = |s: f64| {
            let one = identity(a.nrows());
            let inverse: Mat<c64> = combination(&[(s, a), (1.0 - s, &one)])
                .partial_piv_lu()
                .solve(&one);
            inverse.norm_l2().powi(2)
        };
        (0..400).map(|k| at((k as f64 + 0.5) / 400.0) / 400.0).sum()
    }

    /// Eigenvalues with imaginary parts up to 3, in both half planes, and from no to strong coupling between them.
    fn matrices() -> Vec<Mat<c64>> {
        let lambda = |states: usize| -> Vec<c64> {
            (0..states)
                .map(|k| {
                    c64::new(
                        ((5 * k + 2) % 7) as f64 / 3.0 - 1.5,
                        ((3 * k + 1) % 11) as f64 * 0.6 - 3.0,
                    )
                })
                .collect()
        };
        let cases = [(1, 0.0), (2, 0.5), (5, 0.0), (8, 0.3), (12, 1.0), (30, 0.2)];
        let case = |&(states, coupling): &(usize, f64)| {
            with_eigenvalues(states as u64, &lambda(states), coupling)
        };
        cases.iter().map(case).collect()
    }

    #[test]
    fn the_exponential_is_its_power_series() {
        for states in [1, 3, 10] {
            let a = random_matrix(states as u64, states, states);
            let a = combination(&[(1.0 / a.norm_l2(), &a)]);
            let exact = series(&a, 25, |k| 1.0 / factorial(k));
            let tolerance = 8.0 * states as f64 * f64::EPSILON * exact.norm_l2();
            assert_close(&exponential(&a).unwrap(), &exact, tolerance, "series");
        }
        let exact = series(&shift(7), 7, |k| 1.0 / factorial(k));
        assert_close(
            &exponential(&shift(7)).unwrap(),
            &exact,
            8.0 * 7.0 * f64::EPSILON,
            "nilpotent",
        );
    }

    #[test]
    fn the_exponential_of_a_diagonal_matrix_is_entry_by_entry() {
        let lambda = [
            c64::new(-20.0, 3.0),
            c64::new(0.5, -100.0),
            c64::ZERO,
            c64::new(-0.1, 1e-9),
        ];
        let found = exponential(&diagonal(&lambda)).unwrap();
        let exact = diagonal(&lambda.map(|z| z.exp()));
        // The condition is the norm, and squaring repeats each rounding as often.
        assert_close(
            &found,
            &exact,
            4.0 * 100.0 * f64::EPSILON * exact.norm_l2(),
            "diagonal",
        );
    }

    #[test]
    fn two_steps_are_the_square_of_one() {
        for a in matrices() {
            let one = exponential(&a).unwrap();
            let two = exponential(&combination(&[(2.0, &a)])).unwrap();
            let gain = 2.0 * a.norm_l2() * exponential_gain(&combination(&[(2.0, &a)]));
            let tolerance = 8.0 * a.nrows() as f64 * f64::EPSILON * (gain + one.norm_l2().powi(2));
            assert_close(&(&one * &one), &two, tolerance, "square");
        }
    }

    #[test]
    fn exponential_and_logarithm_undo_each_other() {
        for a in matrices() {
            let states = a.nrows() as f64;
            let power = exponential(&a).unwrap();
            let log = logarithm(&power).unwrap();
            // The exponential is off by ε · its condition, and the logarithm magnifies that and rounds by as much.
            let rounding = 8.0 * states * f64::EPSILON;
            let off = rounding * (a.norm_l2() * exponential_gain(&a) + power.norm_l2());
            let tolerance = off * logarithm_gain(&power) + rounding * a.norm_l2();
            assert_close(&log, &a, tolerance, &format!("log exp {states}"));
            let back = exponential(&log).unwrap();
            let off = rounding * (log.norm_l2() + power.norm_l2() * logarithm_gain(&power));
            let tolerance = off * exponential_gain(&a) + rounding * power.norm_l2();
            assert_close(&back, &power, tolerance, &format!("exp log {states}"));
        }
    }

    #[test]
    fn the_logarithm_is_its_power_series() {
        let mercator = |k: usize| match k {
            0 => 0.0,
            _ => {
                if k % 2 == 1 {
                    1.0 / k as f64
                } else {
                    -1.0 / k as f64
                }
            }
        };
        for size in [1e-8, 1e-3, 0.05, 0.2, 0.4] {
            let x = random_matrix(3, 6, 6);
            let x = combination(&[(size / x.norm_l2(), &x)]);
            let a = identity(6) + &x;
            // The series of what I + X rounded to.
            let exact = series(&(&a - identity(6)), 60, mercator);
            // ‖(I + s X)⁻¹‖ ≤ 1 / (1 - size), and the Schur form moves A by a few 6 ε.
            let tolerance = 8.0 * 6.0 * f64::EPSILON * a.norm_l2() / (1.0f64 - size).powi(2);
            assert_close(
                &logarithm(&a).unwrap(),
                &exact,
                tolerance,
                &format!("{size}"),
            );
        }
        // Triangular already: nothing but the roots and the quadrature rounds.
        let exact = series(&shift(7), 7, mercator);
        let found = logarithm(&(identity(7) + shift(7))).unwrap();
        assert_close(&found, &exact, 64.0 * 7.0 * f64::EPSILON, "nilpotent");
    }

    #[test]
    fn the_logarithm_of_a_slow_pole_keeps_its_digits() {
        let h = 2f64.powi(-40);
        let found = logarithm(&diagonal(&[c64::new(0.0, 1.0 - h), c64::new(1e-200, 0.0)])).unwrap();
        let exact = (-h).ln_1p();
        assert!((found[(0, 0)].re - exact).abs() <= 4.0 * f64::EPSILON * exact.abs());
        assert_eq!(found[(0, 0)].im, std::f64::consts::FRAC_PI_2);
        assert_eq!(found[(1, 1)].re, 1e-200f64.ln());
    }

    #[test]
    fn a_coupling_of_any_size_is_scaled_exactly() {
        // log [1 c; 0 1] = [0 c; 0 0], through hundreds of roots for a large c.
        for c in [1e-300, 1e-10, 1.0, 1e10, 1e200] {
            let mut a = identity(2);
            a[(0, 1)] = c64::new(c, 0.0);
            let found = logarithm(&a).unwrap();
            assert!(
                (found[(0, 1)].re - c).abs() <= 8.0 * f64::EPSILON * c,
                "{c:e}: {}",
                found[(0, 1)]
            );
        }
    }

    #[test]
    fn eigenvalues_without_a_principal_logarithm_are_named() {
        for eigenvalue in [c64::ZERO, c64::new(-1.0, 0.0), c64::new(-0.5, 1e-17)] {
            let error = logarithm(&diagonal(&[c64::new(0.5, 0.0), eigenvalue])).unwrap_err();
            assert_eq!(error, LogarithmError::NoPrincipalValue { eigenvalue });
        }
        // Dense, so that rounding moves the eigenvalue off the axis.
        let a = with_eigenvalues(
            5,
            &[c64::new(0.5, 0.5), c64::new(-0.7, 0.0), c64::new(0.1, 0.0)],
            0.3,
        );
        let error = logarithm(&a).unwrap_err();
        assert!(
            matches!(error, LogarithmError::NoPrincipalValue { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_finite_is_refused() {
        for poison in [f64::NAN, f64::INFINITY] {
            let mut a = identity(3);
            a[(1, 2)] = c64::new(poison, 0.0);
            assert!(exponential(&a).is_none());
            assert_eq!(logarithm(&a), Err(LogarithmError::OutOfRange));
        }
        assert!(exponential(&diagonal(&[c64::new(800.0, 0.0)])).is_none());
        let gone = exponential(&diagonal(&[c64::new(-1e6, 5.0)])).unwrap();
        assert_eq!(gone[(0, 0)].norm(), 0.0);
        assert_eq!(exponential(&Mat::zeros(4, 4)).unwrap(), identity(4));
    }

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

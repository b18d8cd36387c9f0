//! Exponential and logarithm of a dense matrix: between continuous and discrete time.

mod exponential;
mod logarithm;

use faer::{Mat, c64};

pub(crate) use exponential::exponential;
pub(crate) use logarithm::{LogarithmError, logarithm, scalar_logarithm};

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
    use faer::linalg::solvers::Solve;

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
}

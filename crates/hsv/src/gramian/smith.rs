//! Lyapunov and Stein equations by the squared Smith iteration: matrix products alone, no eigenvalues.
//!
//! The solution of `X = A X Aᴴ + Q` is the series `Σ Aᵏ Q (Aᴴ)ᵏ`. Each step doubles the number of its terms,
//! `X ← X + A X Aᴴ`, `A ← A²`, and so takes as many steps as `1 / (1 - spectral radius)` has binary digits.

use faer::linalg::solvers::Solve;
use faer::{Mat, c64};
use subnormals::Subnormals;

use crate::gramian::lyapunov::{
    LyapunovError, LyapunovSolution, check, finish_lyapunov, finish_stein, hermitian,
    unit_hermitian,
};
use crate::linalg::matrix::{matrix_exponent, scale_matrix};

/// Enough for a spectral radius of `1 - ε/2`, the largest below one: `2^60` of them make `e^-100`.
const DOUBLINGS: u32 = 60;

/// Solves the discrete-time Lyapunov or Stein equation `X = A X Aᴴ + Q` by doubling.
///
/// The slow twin of [`solve_stein`](crate::solve_stein), which shares nothing with it: same shapes, same solution.
///
/// # Precision
/// O(state³) per doubling. Squaring rounds: digits are lost in proportion to `1 / (1 - spectral radius)` and to the
/// norms that powers of A reach before they decay.
///
/// # Errors
/// [`LyapunovError`]; [`LyapunovError::NotContracting`] if the powers of A do not decay.
///
/// # Source
/// Smith (1968), *SIAM Journal on Applied Mathematics* 16, the squared iteration.
pub fn solve_stein_by_doubling(
    a: &Mat<c64>,
    q: &Mat<c64>,
) -> Result<LyapunovSolution, LyapunovError> {
    let _mode = Subnormals::kept();
    check(a, q)?;
    let (q, unit) = unit_hermitian(q);
    let solution = doubled(a, &q)?;
    finish_stein(a, &q, &solution, unit)
}

/// Solves the continuous-time Lyapunov equation `A X + X Aᴴ + Q = 0` by doubling, after a Cayley transform.
///
/// `X = A_p X A_pᴴ + 2p (pI - A)⁻¹ Q (pI - A)⁻ᴴ` with `A_p = (pI - A)⁻¹ (pI + A)` has the same solution for every
/// `p > 0`. Here `p = √(‖A‖ / ‖A⁻¹‖)`, Frobenius norms: for a normal matrix the geometric mean of its slowest and
/// fastest rate up to `√state`, which treats both ends of a real spectrum alike.
///
/// The slow twin of [`solve_lyapunov`](crate::solve_lyapunov): same shapes, same solution.
///
/// # Precision
/// As [`solve_stein_by_doubling`] for `A_p`, and the condition of `pI - A`.
///
/// # Errors
/// [`LyapunovError`]; [`LyapunovError::NotContracting`] if the powers of `A_p` do not decay.
///
/// # Source
/// Smith (1968), *SIAM Journal on Applied Mathematics* 16.
pub fn solve_lyapunov_by_doubling(
    a: &Mat<c64>,
    q: &Mat<c64>,
) -> Result<LyapunovSolution, LyapunovError> {
    let _mode = Subnormals::kept();
    check(a, q)?;
    let rate = matrix_exponent(a).unwrap_or(0);
    let a = scale_matrix(a, -rate);
    let (q, unit) = unit_hermitian(q);
    let states = a.nrows();
    let identity = Mat::<c64>::identity(states, states);

    let inverse: Mat<c64> = a.partial_piv_lu().solve(&identity);
    let shift = (a.norm_l2() / inverse.norm_l2()).sqrt();
    if !(shift.is_finite() && shift > 0.0) {
        // A singular matrix: a pole at zero does not move.
        return Err(LyapunovError::NotContracting {
            doublings: 0,
            norm: 1.0,
        });
    }
    let shifted = |sign: f64| {
        Mat::from_fn(states, states, |i, j| {
            identity[(i, j)] * shift + a[(i, j)] * sign
        })
    };
    let solver = shifted(-1.0).partial_piv_lu();
    let transformed = solver.solve(shifted(1.0));
    let half: Mat<c64> = solver.solve(&q);
    let right: Mat<c64> = solver.solve(half.adjoint().to_owned()); // Q is Hermitian, and so is this
    let right = Mat::from_fn(states, states, |i, j| right[(i, j)] * (2.0 * shift));
    let solution = doubled(&transformed, &hermitian(&right))?;
    finish_lyapunov(&a, &q, &solution, unit, -rate)
}

/// `Σ Aᵏ Q (Aᴴ)ᵏ`, exactly Hermitian.
fn doubled(a: &Mat<c64>, q: &Mat<c64>) -> Result<Mat<c64>, LyapunovError> {
    let (mut power, mut sum) = (a.clone(), q.clone());
    let mut norm = power.norm_l2();
    for doublings in 0..DOUBLINGS {
        if !norm.is_finite() {
            return Err(LyapunovError::NotContracting {
                doublings,
                norm: f64::INFINITY,
            });
        }
        let terms = hermitian(&(&power * &sum * power.adjoint()));
        sum = &sum + &terms;
        // What is still missing is at most a third of the terms just added once the norm is below a half.
        let done = terms.norm_l2() <= f64::EPSILON / 4.0 * sum.norm_l2();
        if norm <= 0.5 && done {
            return Ok(sum);
        }
        power = &power * &power;
        norm = power.norm_l2();
    }
    Err(LyapunovError::NotContracting {
        doublings: DOUBLINGS,
        norm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagonal(entries: &[c64]) -> Mat<c64> {
        Mat::from_fn(entries.len(), entries.len(), |i, j| {
            if i == j { entries[i] } else { c64::ZERO }
        })
    }

    #[test]
    fn a_nilpotent_matrix_has_a_finite_sum() {
        // A shift: the solution counts how many states feed each.
        let shift = Mat::from_fn(6, 6, |i, j| if i == j + 1 { c64::ONE } else { c64::ZERO });
        let solved = solve_stein_by_doubling(&shift, &Mat::identity(6, 6)).unwrap();
        let exact: Vec<c64> = (1..=6).map(|k| c64::new(k as f64, 0.0)).collect();
        assert_eq!(solved.solution, diagonal(&exact));
        assert_eq!(solved.residual, 0.0);
    }

    #[test]
    fn the_continuous_solution_of_a_diagonal_matrix_is_the_closed_form() {
        // Rates eight decades apart.
        let a = diagonal(&[
            c64::new(-1e-4, 2.0),
            c64::new(-1.0, 0.0),
            c64::new(-1e4, 0.0),
        ]);
        let solved = solve_lyapunov_by_doubling(&a, &Mat::identity(3, 3)).unwrap();
        for i in 0..3 {
            let exact = -0.5 / a[(i, i)].re;
            let error = (solved.solution[(i, i)].re - exact).abs();
            // 1 - |(p + λ) / (p - λ)| is as small as 1e-4, and rounding of ε in it counts that much more.
            assert!(
                error <= 1e4 * 16.0 * f64::EPSILON * exact,
                "{i}: {error:e} of {exact:e}"
            );
        }
    }

    #[test]
    fn powers_that_do_not_decay_are_an_error() {
        let identity = Mat::identity(2, 2);
        for radius in [1.0, 1.0 + 1e-12, 3.0, 1e200] {
            let a = diagonal(&[c64::new(0.5, 0.0), c64::new(0.0, radius)]);
            let error = solve_stein_by_doubling(&a, &identity).unwrap_err();
            assert!(
                matches!(error, LyapunovError::NotContracting { norm, .. } if norm >= 1.0),
                "{error}"
            );
        }
        for growth in [0.0, 1e-6, 2.0] {
            let a = diagonal(&[c64::new(-0.5, 0.0), c64::new(growth, 0.0)]);
            let error = solve_lyapunov_by_doubling(&a, &identity).unwrap_err();
            assert!(
                matches!(error, LyapunovError::NotContracting { .. }),
                "{error}"
            );
        }
    }
}

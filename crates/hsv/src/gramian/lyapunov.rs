//! Lyapunov and Stein equations with a dense coefficient, through its Schur form.
//!
//! The second route to the same solutions, without eigenvalues, is in `smith.rs`; each checks the other. Where only
//! a factor of the solution is wanted neither is right: forming the solution loses what `dense_factor.rs` keeps.

use faer::{Mat, c64};
use subnormals::Subnormals;
use thiserror::Error;

use crate::arithmetic::power_of_two::scale_complex;
use crate::arithmetic::unit_disk::{one_minus_modulus_squared, one_minus_product};
use crate::linalg::matrix::{first_not_finite, matrix_exponent, scale_matrix};
use crate::linalg::schur::{Schur, SchurError};
use crate::linalg::triangular::{add_multiple, multiply_leading, solve_leading};

/// The solution of a Lyapunov or Stein equation, and how well it solves it.
#[derive(Debug, Clone, PartialEq)]
pub struct LyapunovSolution {
    /// The solution X, `[state, state]`: Hermitian to the last bit, and positive semi-definite up to rounding if Q is.
    pub solution: Mat<c64>,
    /// What the equation leaves over, in Frobenius norms relative to its terms: `‖X - A X Aᴴ - Q‖` over
    /// `‖X‖ (1 + ‖A‖²) + ‖Q‖`, or `‖A X + X Aᴴ + Q‖` over `2 ‖A‖ ‖X‖ + ‖Q‖`. A backward stable solution has a small
    /// multiple of ε here; its error is larger by the condition of the equation.
    pub residual: f64,
}

/// Why an equation was not solved.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum LyapunovError {
    /// A matrix is not square, or the two differ in size.
    #[error(
        "{what} is {rows} by {columns}, and A has {states} rows; A must be square, not empty, and Q as large"
    )]
    Dimension {
        /// `"A"` or `"Q"`.
        what: &'static str,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// Rows of A.
        states: usize,
    },
    /// An entry is NaN or infinite.
    #[error("{what} is not finite at row {row}, column {column}; nothing can be solved with it")]
    NotFinite {
        /// `"A"` or `"Q"`.
        what: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// Q differs from its adjoint by more than rounding.
    #[error(
        "Q is not Hermitian: row {row}, column {column} differs from its mirror image by {difference:e}, \
         more than the rounding {limit:e}; pass (Q + Q^H) / 2 if that is what is meant"
    )]
    NotHermitian {
        /// Row of the first such entry.
        row: usize,
        /// Its column.
        column: usize,
        /// `|Q_ij - conj(Q_ji)|`.
        difference: f64,
        /// 16 · state · ε of the largest entry.
        limit: f64,
    },
    /// A has an eigenvalue on or outside the boundary of stability: the solution is not unique or no Gramian.
    #[error("A has the eigenvalue {eigenvalue}; it must lie {region}")]
    Unstable {
        /// The first such eigenvalue as computed.
        eigenvalue: c64,
        /// `"inside the unit circle"` or `"in the open left half plane"`.
        region: &'static str,
    },
    /// The eigenvalues of A were not found.
    #[error(
        "the eigenvalues of A did not converge for {states} states; check the scale of its entries"
    )]
    NoConvergence {
        /// Rows of A.
        states: usize,
    },
    /// The doubling iteration did not come to rest.
    #[error(
        "after {doublings} doublings the power of A still has norm {norm:e}; the iteration needs every eigenvalue of A \
         inside the region of stability by more than rounding"
    )]
    NotContracting {
        /// Doublings done.
        doublings: u32,
        /// Frobenius norm of the last power, infinite if it overflowed.
        norm: f64,
    },
    /// The solution exists but is no `f64`.
    #[error("the solution is beyond the range of f64; scale Q down")]
    OutOfRange,
}

const DISK: &str = "inside the unit circle";
const HALF_PLANE: &str = "in the open left half plane";

/// Solves the discrete-time Lyapunov or Stein equation `X = A X Aᴴ + Q`, by Kitagawa's method on the Schur form.
///
/// With `Q = B Bᴴ` the solution is the controllability Gramian of `x_k = A x_{k-1} + B u_k`.
///
/// # Shapes
/// - `a`: `[state, state]`, spectral radius below one
/// - `q`: `[state, state]`, Hermitian up to rounding; the mean with its adjoint is used
///
/// # Precision
/// O(state³). Residual of a small multiple of ε; distances of eigenvalues from the unit circle keep their digits as
/// far as the Schur form has them.
///
/// # Errors
/// [`LyapunovError`]; [`LyapunovError::Unstable`] names the first eigenvalue with |λ| ≥ 1.
///
/// # Source
/// Kitagawa (1977), *International Journal of Control* 25, in the complex form, where every block is one number.
///
/// ```
/// use hsv::{Mat, c64, solve_stein};
///
/// let a = Mat::from_fn(2, 2, |i, j| c64::new(if j > i { 1.0 } else if j == i { 0.5 } else { 0.0 }, 0.0));
/// let solved = solve_stein(&a, &Mat::identity(2, 2))?;
/// let x = solved.solution;
/// let again = &a * &x * a.adjoint() + Mat::<c64>::identity(2, 2);
/// assert!((again - x).norm_max() < 1e-14);
/// # Ok::<(), hsv::LyapunovError>(())
/// ```
pub fn solve_stein(a: &Mat<c64>, q: &Mat<c64>) -> Result<LyapunovSolution, LyapunovError> {
    let _mode = Subnormals::kept();
    check(a, q)?;
    let schur = Schur::of(a).map_err(no_convergence)?;
    let stable = |z: c64| one_minus_modulus_squared(z) > 0.0;
    if let Some(eigenvalue) = schur.eigenvalues().into_iter().find(|&z| !stable(z)) {
        return Err(LyapunovError::Unstable {
            eigenvalue,
            region: DISK,
        });
    }
    let (q, unit) = unit_hermitian(q);
    let solution = in_schur_basis(&schur, &q, stein_column);
    finish_stein(a, &q, &solution, unit)
}

/// Solves the continuous-time Lyapunov equation `A X + X Aᴴ + Q = 0`, by the method of Bartels and Stewart.
///
/// With `Q = B Bᴴ` the solution is the controllability Gramian of `ẋ = A x + B u`.
///
/// # Shapes
/// - `a`: `[state, state]`, every eigenvalue with a negative real part
/// - `q`: `[state, state]`, Hermitian up to rounding; the mean with its adjoint is used
///
/// # Precision
/// O(state³). Residual of a small multiple of ε.
///
/// # Errors
/// [`LyapunovError`]; [`LyapunovError::Unstable`] names the first eigenvalue with Re λ ≥ 0.
///
/// # Source
/// Bartels, Stewart (1972), *Communications of the ACM* 15, in the complex form.
pub fn solve_lyapunov(a: &Mat<c64>, q: &Mat<c64>) -> Result<LyapunovSolution, LyapunovError> {
    let _mode = Subnormals::kept();
    check(a, q)?;
    // Time in units in which A has size one; X grows by as much as A shrinks.
    let rate = matrix_exponent(a).unwrap_or(0);
    let a = scale_matrix(a, -rate);
    let schur = Schur::of(&a).map_err(no_convergence)?;
    let stable = |z: c64| z.re < 0.0;
    if let Some(eigenvalue) = schur.eigenvalues().into_iter().find(|&z| !stable(z)) {
        return Err(LyapunovError::Unstable {
            eigenvalue: scale_complex(eigenvalue, rate),
            region: HALF_PLANE,
        });
    }
    let (q, unit) = unit_hermitian(q);
    let solution = in_schur_basis(&schur, &q, lyapunov_column);
    finish_lyapunov(&a, &q, &solution, unit, -rate)
}

/// Solves with T instead of A and turns the solution back.
///
/// Columns from the last to the first: with `T = [T₁ t; 0 λ]` and `Y = [Y₁ r; rᴴ ρ]` the last row and column of the
/// equation give ρ and r, and Y₁ solves the equation of T₁ with `w tᴴ + t wᴴ` added to its right side. `column`
/// turns the last column of the right side into that of Y, and returns w.
fn in_schur_basis(
    schur: &Schur,
    q: &Mat<c64>,
    column: impl Fn(&Mat<c64>, &mut [c64]) -> Vec<c64>,
) -> Mat<c64> {
    let (u, t) = (&schur.unitary, &schur.triangular);
    let mut right = u.adjoint() * q * u;
    for last in (0..t.nrows()).rev() {
        let w = column(t, &mut right.col_as_slice_mut(last)[..=last]);
        // Only the upper triangle is kept up to date.
        let t_column = t.col_as_slice(last);
        for j in 0..last {
            let target = &mut right.col_as_slice_mut(j)[..=j];
            add_multiple(target, t_column[j].conj(), &w[..=j]);
            add_multiple(target, w[j].conj(), &t_column[..=j]);
        }
    }
    hermitian(&(u * hermitian_from_upper(&right) * u.adjoint()))
}

/// `(1 - |λ|²) ρ = f`, `(I - λ̄ T₁) r = f₁ + λ̄ ρ t`; `w = T₁ r + (ρ/2) t`.
fn stein_column(t: &Mat<c64>, column: &mut [c64]) -> Vec<c64> {
    let last = column.len() - 1;
    let lambda = t[(last, last)];
    let t_column = &t.col_as_slice(last)[..last];
    let (above, corner) = column.split_at_mut(last);
    let rho = corner[0].re / one_minus_modulus_squared(lambda);
    corner[0] = c64::new(rho, 0.0);
    add_multiple(above, lambda.conj() * rho, t_column);
    let diagonal = |i: usize| one_minus_product(t[(i, i)], lambda);
    solve_leading(t, -lambda.conj(), diagonal, above);
    let mut w = multiply_leading(t, above);
    add_multiple(&mut w, c64::new(0.5 * rho, 0.0), t_column);
    w
}

/// `2 Re(λ) ρ = -f`, `(T₁ + λ̄ I) r = -(f₁ + ρ t)`; `w = r`.
fn lyapunov_column(t: &Mat<c64>, column: &mut [c64]) -> Vec<c64> {
    let last = column.len() - 1;
    let lambda = t[(last, last)];
    let t_column = &t.col_as_slice(last)[..last];
    let (above, corner) = column.split_at_mut(last);
    let rho = corner[0].re / (-2.0 * lambda.re);
    corner[0] = c64::new(rho, 0.0);
    add_multiple(above, c64::new(rho, 0.0), t_column);
    above.iter_mut().for_each(|x| *x = -*x);
    let diagonal = |i: usize| t[(i, i)] + lambda.conj();
    solve_leading(t, c64::ONE, diagonal, above);
    above.to_vec()
}

fn hermitian_from_upper(upper: &Mat<c64>) -> Mat<c64> {
    Mat::from_fn(upper.nrows(), upper.ncols(), |i, j| {
        if i <= j {
            upper[(i, j)]
        } else {
            upper[(j, i)].conj()
        }
    })
}

/// Mean of a matrix and its adjoint, Hermitian to the last bit.
pub(crate) fn hermitian(matrix: &Mat<c64>) -> Mat<c64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| {
        (matrix[(i, j)] + matrix[(j, i)].conj()) * 0.5
    })
}

/// Q with its largest entry of size one, exactly Hermitian, and the exponent taken out.
pub(crate) fn unit_hermitian(q: &Mat<c64>) -> (Mat<c64>, i32) {
    let unit = matrix_exponent(q).unwrap_or(0);
    (hermitian(&scale_matrix(q, -unit)), unit)
}

/// Residual of a Stein equation in units where Q has size one, and the solution in its own unit.
pub(crate) fn finish_stein(
    a: &Mat<c64>,
    q: &Mat<c64>,
    solution: &Mat<c64>,
    unit: i32,
) -> Result<LyapunovSolution, LyapunovError> {
    let error = (solution - a * solution * a.adjoint() - q).norm_l2();
    let (a_size, size) = (a.norm_l2(), solution.norm_l2());
    finish(
        error,
        size * (1.0 + a_size * a_size) + q.norm_l2(),
        solution,
        unit,
    )
}

/// Residual of a Lyapunov equation in units where A and Q have size one, and the solution in its own unit.
pub(crate) fn finish_lyapunov(
    a: &Mat<c64>,
    q: &Mat<c64>,
    solution: &Mat<c64>,
    unit: i32,
    time: i32,
) -> Result<LyapunovSolution, LyapunovError> {
    let half = a * solution;
    let error = (&half + half.adjoint() + q).norm_l2();
    let terms = 2.0 * a.norm_l2() * solution.norm_l2() + q.norm_l2();
    finish(error, terms, solution, unit + time)
}

fn finish(
    error: f64,
    terms: f64,
    solution: &Mat<c64>,
    unit: i32,
) -> Result<LyapunovSolution, LyapunovError> {
    let solution = scale_matrix(solution, unit);
    // With Q = 0 there are no terms, and nothing is left over.
    let residual = if error == 0.0 { 0.0 } else { error / terms };
    if !residual.is_finite() || first_not_finite(&solution).is_some() {
        return Err(LyapunovError::OutOfRange);
    }
    Ok(LyapunovSolution { solution, residual })
}

pub(crate) fn check(a: &Mat<c64>, q: &Mat<c64>) -> Result<(), LyapunovError> {
    let states = a.nrows();
    for (what, matrix) in [("A", a), ("Q", q)] {
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        if rows != states || columns != states || states == 0 {
            return Err(LyapunovError::Dimension {
                what,
                rows,
                columns,
                states,
            });
        }
        if let Some((row, column)) = first_not_finite(matrix) {
            return Err(LyapunovError::NotFinite { what, row, column });
        }
    }
    // The rounding of a product B Bᴴ, whose entries are at most as large as its diagonal.
    let limit = 16.0 * states as f64 * f64::EPSILON * q.norm_max();
    for column in 0..states {
        for row in 0..=column {
            let difference = (q[(row, column)] - q[(column, row)].conj()).norm();
            if difference > limit {
                return Err(LyapunovError::NotHermitian {
                    row,
                    column,
                    difference,
                    limit,
                });
            }
        }
    }
    Ok(())
}

fn no_convergence(error: SchurError) -> LyapunovError {
    let SchurError::NoConvergence { states, .. } = error;
    LyapunovError::NoConvergence { states }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_matrix, with_eigenvalues};

    fn scattered(states: usize, radius: f64) -> Vec<c64> {
        (0..states)
            .map(|k| {
                c64::from_polar(
                    radius * ((k + 1) as f64 / states as f64).sqrt(),
                    2.4 * k as f64,
                )
            })
            .collect()
    }

    fn square(seed: u64, states: usize) -> Mat<c64> {
        let factor = random_matrix(seed, states, states);
        hermitian(&(&factor * factor.adjoint()))
    }

    #[test]
    fn residuals_are_of_rounding_size() {
        for states in [1, 2, 3, 7, 20, 50] {
            for (radius, coupling) in [(0.9, 0.0), (1.0 - 1e-6, 0.0), (0.9, 0.3), (0.5, 1.0)] {
                let a = with_eigenvalues(states as u64, &scattered(states, radius), coupling);
                let q = square(1, states);
                let stein = solve_stein(&a, &q).unwrap();
                let moved = &a - Mat::<c64>::identity(states, states);
                let lyapunov = solve_lyapunov(&moved, &q).unwrap();
                for solved in [stein, lyapunov] {
                    // Two changes of basis and a substitution, each like a product of that size.
                    let tolerance = 8.0 * states as f64 * f64::EPSILON;
                    let residual = solved.residual;
                    assert!(
                        residual <= tolerance,
                        "{states} {radius} {coupling}: {residual:e}"
                    );
                    assert_eq!(solved.solution, solved.solution.adjoint().to_owned());
                }
            }
        }
    }

    #[test]
    fn one_state_has_the_closed_form() {
        let number = |re, im| Mat::from_fn(1, 1, |_, _| c64::new(re, im));
        let stein = solve_stein(&number(0.0, 0.5), &number(3.0, 0.0)).unwrap();
        assert_eq!(stein.solution, number(4.0, 0.0));
        let lyapunov = solve_lyapunov(&number(-0.5, 7.0), &number(3.0, 0.0)).unwrap();
        assert_eq!(lyapunov.solution, number(3.0, 0.0));
    }

    #[test]
    fn a_pole_next_to_the_boundary_keeps_its_digits() {
        // 1 - |λ|² = 2h - h² with an exact h; a triangular matrix is its own Schur form.
        let h = 2f64.powi(-40);
        let a = Mat::from_fn(2, 2, |i, j| {
            c64::new([[1.0 - h, 0.0], [0.0, 0.5]][i][j], 0.0)
        });
        let solved = solve_stein(&a, &Mat::identity(2, 2)).unwrap();
        let exact = 1.0 / (h * (2.0 - h));
        assert!((solved.solution[(0, 0)].re - exact).abs() <= 2.0 * f64::EPSILON * exact);
    }

    #[test]
    fn units_change_exponents_only() {
        let (a, q) = (with_eigenvalues(2, &scattered(6, 0.9), 0.2), square(3, 6));
        let moved = &a - Mat::<c64>::identity(6, 6);
        let (stein, lyapunov) = (
            solve_stein(&a, &q).unwrap(),
            solve_lyapunov(&moved, &q).unwrap(),
        );
        for unit in [-500, 500] {
            let scaled = solve_stein(&a, &scale_matrix(&q, 2 * unit)).unwrap();
            assert_eq!(scaled.solution, scale_matrix(&stein.solution, 2 * unit));
            assert_eq!(scaled.residual, stein.residual);
            let scaled =
                solve_lyapunov(&scale_matrix(&moved, unit), &scale_matrix(&q, unit)).unwrap();
            assert_eq!(scaled.solution, lyapunov.solution);
        }
        let huge = solve_lyapunov(&scale_matrix(&moved, -500), &scale_matrix(&q, 1000));
        assert_eq!(huge, Err(LyapunovError::OutOfRange));
    }

    #[test]
    fn a_zero_right_side_has_a_zero_solution() {
        let a = with_eigenvalues(2, &scattered(5, 0.9), 0.2);
        let zero = Mat::zeros(5, 5);
        let solved = solve_stein(&a, &zero).unwrap();
        assert_eq!(
            solved,
            LyapunovSolution {
                solution: zero,
                residual: 0.0
            }
        );
    }

    #[test]
    fn the_first_unstable_eigenvalue_is_named() {
        let diagonal = |entries: [c64; 2]| {
            Mat::from_fn(2, 2, |i, j| if i == j { entries[i] } else { c64::ZERO })
        };
        let identity = Mat::identity(2, 2);
        for eigenvalue in [c64::new(0.0, 1.0), c64::new(-3.0, 0.5), c64::new(0.6, 0.8)] {
            let error = solve_stein(&diagonal([c64::new(0.5, 0.0), eigenvalue]), &identity);
            assert_eq!(
                error,
                Err(LyapunovError::Unstable {
                    eigenvalue,
                    region: DISK
                })
            );
        }
        for eigenvalue in [c64::ZERO, c64::new(0.0, 1.0), c64::new(2.0, 0.5)] {
            let error = solve_lyapunov(&diagonal([c64::new(-0.5, 0.0), eigenvalue]), &identity);
            let region = HALF_PLANE;
            assert_eq!(error, Err(LyapunovError::Unstable { eigenvalue, region }));
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (a, q) = (Mat::<c64>::zeros(3, 3), Mat::<c64>::identity(3, 3));
        let error = solve_stein(&Mat::zeros(3, 2), &q).unwrap_err();
        assert!(
            matches!(
                error,
                LyapunovError::Dimension {
                    what: "A",
                    columns: 2,
                    ..
                }
            ),
            "{error}"
        );
        let error = solve_stein(&a, &Mat::identity(2, 2)).unwrap_err();
        assert!(
            matches!(
                error,
                LyapunovError::Dimension {
                    what: "Q",
                    rows: 2,
                    ..
                }
            ),
            "{error}"
        );
        let error = solve_stein(&Mat::zeros(0, 0), &Mat::zeros(0, 0)).unwrap_err();
        assert!(
            matches!(error, LyapunovError::Dimension { states: 0, .. }),
            "{error}"
        );
        for poison in [f64::NAN, f64::INFINITY] {
            let mut bad = q.clone();
            bad[(2, 1)] = c64::new(0.0, poison);
            for (what, error) in [
                ("A", solve_lyapunov(&bad, &q)),
                ("Q", solve_lyapunov(&a, &bad)),
            ] {
                let expected = LyapunovError::NotFinite {
                    what,
                    row: 2,
                    column: 1,
                };
                assert_eq!(error, Err(expected));
            }
        }
        let mut skew = q.clone();
        skew[(0, 2)] = c64::new(1e-10, 0.0);
        let error = solve_stein(&a, &skew).unwrap_err();
        assert!(
            matches!(
                error,
                LyapunovError::NotHermitian {
                    row: 0,
                    column: 2,
                    ..
                }
            ),
            "{error}"
        );
    }
}

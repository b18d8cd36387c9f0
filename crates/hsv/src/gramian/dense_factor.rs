//! A factor of a Gramian with a dense state matrix, straight from the state and the input matrix.
//!
//! Hammarling's method. In the basis of the Schur form the Gramian is `Y = R Rᴴ` with R upper triangular; its last
//! row and column follow from the last row of the equation, and what is left is the equation of the leading block
//! with a new input matrix B of as many columns. With
//!
//! ```text
//! T = [T₁ t; 0 λ]    B = [B₁; b]    R = [R₁ r; 0 ρ]
//! ```
//!
//! the unknowns of one step are, in continuous time, `T Y + Y Tᴴ + B Bᴴ = 0`:
//!
//! ```text
//! ρ = ‖b‖ / √(-2 Re λ)    u = b / ρ    (T₁ + λ̄ I) r = -(B₁ uᴴ + ρ t)    B₁ ← B₁ - r u
//! ```
//!
//! where `u uᴴ = -2 Re λ` turns the rest of the equation, `T₁ r rᴴ + r rᴴ T₁ᴴ + ρ (t rᴴ + r tᴴ) + B₁ B₁ᴴ`, into the
//! square of the new B₁. In discrete time, `Y = T Y Tᴴ + B Bᴴ`:
//!
//! ```text
//! ρ = ‖b‖ / √(1 - |λ|²)    u = b / ρ    (I - λ̄ T₁) r = B₁ uᴴ + λ̄ ρ t    v = T₁ r + ρ t
//! ```
//!
//! and the rest is `[B₁ v] [B₁ v]ᴴ - r rᴴ`. As `w = [uᴴ; λ̄]` has length one and `[B₁ v] w = r`, a reflection that
//! takes w to its last component takes `[B₁ v]` to `[new B₁, r]` up to a phase: `B₁ ← B₁ - (r + φ v) u / (1 + |λ|)`
//! with `φ = λ̄ / |λ|`. A row b of zeros has ρ = 0 and r = 0 and leaves B₁ as it is.
//!
//! The Gramian itself is never formed: in a factor of a formed one every direction below √ε of the largest is noise.

use faer::{Mat, c64};

use crate::arithmetic::power_of_two::{scale, scale_complex, vector_exponent};
use crate::arithmetic::unit_disk::{one_minus_modulus_squared, one_minus_product};
use crate::linalg::matrix::{matrix_exponent, scale_matrix};
use crate::linalg::schur::Schur;
use crate::linalg::triangular::{add_multiple, length, multiply_leading, phase, solve_leading};

/// Factor L, `[state, state]`, of the controllability Gramian of `x_k = A x_{k-1} + B u_k`: `P = A P Aᴴ + B Bᴴ`,
/// `P = L Lᴴ`.
///
/// - `schur`: of A, `[state, state]`, every eigenvalue inside the unit circle
/// - `input`: B, `[state, input]`
///
/// L is the unitary factor of A times an upper triangular R; columns of a singular Gramian are zero or small. For the
/// observability Gramian pass the Schur form of `Aᴴ` and `Cᴴ`. Entries beyond the range of `f64` come back infinite.
///
/// # Precision
/// O(state³ + state² · input). The exact factor of a system within a small multiple of state · ε of the given one.
///
/// # Source
/// Hammarling (1982), *IMA Journal of Numerical Analysis* 2, and (1991), *Systems & Control Letters* 17, for
/// discrete time; the reflection is applied in closed form.
pub(crate) fn discrete_gramian_factor(schur: &Schur, input: &Mat<c64>) -> Mat<c64> {
    eliminate(schur, input, discrete_step)
}

/// Factor L, `[state, state]`, of the controllability Gramian of `ẋ = A x + B u`: `A P + P Aᴴ + B Bᴴ = 0`,
/// `P = L Lᴴ`.
///
/// As [`discrete_gramian_factor`], with every eigenvalue in the open left half plane.
pub(crate) fn continuous_gramian_factor(schur: &Schur, input: &Mat<c64>) -> Mat<c64> {
    eliminate(schur, input, continuous_step)
}

/// What one step finds.
struct Step {
    /// ρ.
    corner: f64,
    /// r.
    above: Vec<c64>,
    /// By what B₁ changes: `B₁ + change · b / ‖b‖`.
    change: Vec<c64>,
}

/// Goes through the rows from the last to the first. `step` is given T, `‖b‖` and `B₁ bᴴ / ‖b‖`.
fn eliminate(
    schur: &Schur,
    input: &Mat<c64>,
    step: impl Fn(&Mat<c64>, f64, Vec<c64>) -> Step,
) -> Mat<c64> {
    let (u, t) = (&schur.unitary, &schur.triangular);
    let states = t.nrows();
    let unit = matrix_exponent(input).unwrap_or(0);
    let mut input = in_schur_basis(u, &scale_matrix(input, -unit));
    let mut factor = Mat::zeros(states, states);
    for last in (0..states).rev() {
        let row: Vec<c64> = (0..input.ncols()).map(|j| input[(last, j)]).collect();
        // The row in its own unit: squares of a row that rounding left at 1e-170 would be zero.
        let Some(row_unit) = vector_exponent(row.iter().copied()) else {
            continue;
        };
        let row: Vec<c64> = row.iter().map(|&z| scale_complex(z, -row_unit)).collect();
        let size = length(&row);
        let direction: Vec<c64> = row.iter().map(|z| z / size).collect();

        let mut along = vec![c64::ZERO; last];
        for (j, z) in direction.iter().enumerate() {
            add_multiple(&mut along, z.conj(), &input.col_as_slice(j)[..last]);
        }
        let Step {
            corner,
            above,
            change,
        } = step(t, scale(size, row_unit), along);
        let column = factor.col_as_slice_mut(last);
        column[..last].copy_from_slice(&above);
        column[last] = c64::new(corner, 0.0);
        for (j, &z) in direction.iter().enumerate() {
            add_multiple(&mut input.col_as_slice_mut(j)[..last], z, &change);
        }
    }
    scale_matrix(&(u * factor), unit)
}

/// `Uᴴ B`, with no more columns than rows.
fn in_schur_basis(unitary: &Mat<c64>, input: &Mat<c64>) -> Mat<c64> {
    let input = unitary.adjoint() * input;
    if input.ncols() > input.nrows() {
        // More inputs than states: B Bᴴ = Rᴴ R with Bᴴ = Q R, and Rᴴ is square.
        return input.adjoint().qr().thin_R().adjoint().to_owned();
    }
    input
}

fn discrete_step(t: &Mat<c64>, size: f64, along: Vec<c64>) -> Step {
    let last = along.len();
    let lambda = t[(last, last)];
    let t_column = &t.col_as_slice(last)[..last];
    let root = one_minus_modulus_squared(lambda).sqrt(); // ‖u‖
    let rho = size / root;

    let mut above = along;
    above.iter_mut().for_each(|z| *z *= root);
    add_multiple(&mut above, lambda.conj() * rho, t_column);
    let diagonal = |i: usize| one_minus_product(t[(i, i)], lambda);
    solve_leading(t, -lambda.conj(), diagonal, &mut above);

    let mut change = multiply_leading(t, &above);
    add_multiple(&mut change, c64::new(rho, 0.0), t_column);
    let modulus = lambda.norm();
    let phase = phase(lambda.conj());
    let weight = -root / (1.0 + modulus);
    for (v, r) in change.iter_mut().zip(&above) {
        *v = (r + phase * *v) * weight;
    }
    Step {
        corner: rho,
        above,
        change,
    }
}

fn continuous_step(t: &Mat<c64>, size: f64, along: Vec<c64>) -> Step {
    let last = along.len();
    let lambda = t[(last, last)];
    let t_column = &t.col_as_slice(last)[..last];
    let root = (-2.0 * lambda.re).sqrt(); // ‖u‖
    let rho = size / root;

    let mut above = along;
    above.iter_mut().for_each(|z| *z *= -root);
    add_multiple(&mut above, c64::new(-rho, 0.0), t_column);
    solve_leading(t, c64::ONE, |i| t[(i, i)] + lambda.conj(), &mut above);
    let change = above.iter().map(|r| r * -root).collect();
    Step {
        corner: rho,
        above,
        change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gramian::diagonal_factor::gramian_factor;
    use crate::gramian::lyapunov::{hermitian, solve_lyapunov, solve_stein};
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

    fn diagonal(entries: &[c64]) -> Mat<c64> {
        Mat::from_fn(entries.len(), entries.len(), |i, j| {
            if i == j { entries[i] } else { c64::ZERO }
        })
    }

    fn square(factor: &Mat<c64>) -> Mat<c64> {
        hermitian(&(factor * factor.adjoint()))
    }

    /// Largest gain of the inverse equation on Hermitian matrices: its value at the identity, as it is positive.
    fn sensitivity(of_identity: &Mat<c64>) -> f64 {
        of_identity.norm_l2()
    }

    #[test]
    fn the_discrete_factor_squares_to_the_solution_of_the_stein_equation() {
        for (states, inputs) in [(1, 1), (2, 1), (3, 7), (8, 2), (20, 20), (40, 3)] {
            for (radius, coupling) in [(0.9, 0.0), (0.9, 0.3), (0.5, 1.0), (1.0 - 1e-6, 0.0)] {
                let a = with_eigenvalues(states as u64, &scattered(states, radius), coupling);
                let b = random_matrix(1, states, inputs);
                let factor = discrete_gramian_factor(&Schur::of(&a).unwrap(), &b);
                let (gramian, q) = (square(&factor), square(&b));
                let terms = gramian.norm_l2() * (1.0 + a.norm_l2().powi(2)) + q.norm_l2();
                let residual = (&gramian - &a * &gramian * a.adjoint() - &q).norm_l2();
                // A change of basis and a substitution, each like a product of that size.
                let limit = 8.0 * (states + inputs) as f64 * f64::EPSILON * terms;
                assert!(
                    residual <= limit,
                    "{states} {radius} {coupling}: {residual:e} > {limit:e}"
                );

                let solution = solve_stein(&a, &q).unwrap().solution;
                let identity = solve_stein(&a, &Mat::identity(states, states))
                    .unwrap()
                    .solution;
                let error = (gramian - solution).norm_l2();
                // Both residuals, carried through the inverse of the equation.
                let limit = 2.0 * limit * sensitivity(&identity);
                assert!(
                    error <= limit,
                    "{states} {radius} {coupling}: {error:e} > {limit:e}"
                );
            }
        }
    }

    #[test]
    fn the_continuous_factor_squares_to_the_solution_of_the_lyapunov_equation() {
        for (states, inputs) in [(1, 1), (2, 1), (3, 7), (8, 2), (20, 20), (40, 3)] {
            for (slowest, coupling) in [(1e-6, 0.0), (0.1, 0.3), (0.5, 1.0)] {
                let lambda: Vec<c64> = (0..states)
                    .map(|k| c64::new(-slowest - 0.1 * k as f64, (3 * k % 7) as f64 - 3.0))
                    .collect();
                let a = with_eigenvalues(states as u64, &lambda, coupling);
                let b = random_matrix(1, states, inputs);
                let factor = continuous_gramian_factor(&Schur::of(&a).unwrap(), &b);
                let (gramian, q) = (square(&factor), square(&b));
                let terms = 2.0 * gramian.norm_l2() * a.norm_l2() + q.norm_l2();
                let half = &a * &gramian;
                let residual = (&half + half.adjoint() + &q).norm_l2();
                let limit = 8.0 * (states + inputs) as f64 * f64::EPSILON * terms;
                assert!(
                    residual <= limit,
                    "{states} {slowest} {coupling}: {residual:e} > {limit:e}"
                );

                let solution = solve_lyapunov(&a, &q).unwrap().solution;
                let identity = solve_lyapunov(&a, &Mat::identity(states, states))
                    .unwrap()
                    .solution;
                let error = (gramian - solution).norm_l2();
                let limit = 2.0 * limit * sensitivity(&identity);
                assert!(
                    error <= limit,
                    "{states} {slowest} {coupling}: {error:e} > {limit:e}"
                );
            }
        }
    }

    #[test]
    fn a_diagonal_matrix_has_the_closed_form_row_by_row() {
        // Next to the circle and well inside it.
        let lambda: Vec<c64> = scattered(9, 0.9)
            .into_iter()
            .enumerate()
            .map(|(k, z)| {
                if k % 3 == 0 {
                    z / z.norm() * (1.0 - 1e-10)
                } else {
                    z
                }
            })
            .collect();
        for inputs in [1, 3, 12] {
            let full = random_matrix(4, 9, inputs);
            let b = Mat::from_fn(9, inputs, |i, j| {
                full[(i, j)] * 10f64.powi(4 - 2 * i as i32)
            });
            let schur = Schur::of(&diagonal(&lambda)).unwrap();
            let gramian = square(&discrete_gramian_factor(&schur, &b));
            let q = square(&b);
            for i in 0..9 {
                for j in 0..9 {
                    let exact = q[(i, j)] / one_minus_product(lambda[i], lambda[j]);
                    let lengths = (gramian[(i, i)].re * gramian[(j, j)].re).sqrt();
                    // Rows change by ε of their length in each of nine steps.
                    let limit = 4.0 * (9 + inputs) as f64 * f64::EPSILON * lengths;
                    let error = (gramian[(i, j)] - exact).norm();
                    assert!(error <= limit, "({i}, {j}): {error:e} > {limit:e}");
                }
            }
        }
    }

    #[test]
    fn small_directions_survive_the_change_of_basis() {
        let (states, lambda) = (16, scattered(16, 0.2));
        let a = with_eigenvalues(9, &lambda, 0.0);
        let basis = crate::testing::random_unitary(9, states);
        let b = random_matrix(5, states, 1);
        let dense = discrete_gramian_factor(&Schur::of(&a).unwrap(), &(&basis * &b));
        let found = dense.singular_values().unwrap();
        let exact = gramian_factor::<crate::Discrete, _>(&lambda, b.as_ref(), f64::EPSILON / 256.0)
            .singular_values()
            .unwrap();
        // A unitary change of basis keeps singular values; its rounding moves A and B by a few state · ε, and the
        // factor by 1 / (1 - radius²) times that.
        let limit = 8.0 * states as f64 * f64::EPSILON * exact[0] / (1.0 - 0.04);
        for (found, exact) in found.iter().zip(&exact) {
            assert!((found - exact).abs() <= limit, "{found:e} is not {exact:e}");
        }
        // Below √ε of the largest a formed Gramian has nothing but noise.
        let small = |sigma: &f64| *sigma < 1e-8 * exact[0] && *sigma > 10.0 * limit;
        assert!(exact.iter().any(small), "{exact:?} {limit:e}");
    }

    #[test]
    fn a_state_that_no_input_reaches_has_a_zero_row() {
        let a = Mat::from_fn(3, 3, |i, j| match (i, j) {
            (0, 0) => c64::new(-0.5, 0.0),
            (0, 1) => c64::new(0.3, 0.2),
            (1, 1) => c64::new(-0.2, 0.3),
            (2, 2) => c64::new(-0.7, 0.0),
            _ => c64::ZERO,
        });
        let mut b = random_matrix(1, 3, 2);
        for row in [1, 2] {
            (b[(row, 0)], b[(row, 1)]) = (c64::ZERO, c64::ZERO);
        }
        let schur = Schur::of(&a).unwrap();
        for factor in [
            discrete_gramian_factor(&schur, &b),
            continuous_gramian_factor(&schur, &b),
        ] {
            assert!(factor[(0, 0)].norm() > 0.0);
            for row in 1..3 {
                assert!((0..3).all(|j| factor[(row, j)] == c64::ZERO));
            }
        }
    }

    #[test]
    fn a_zero_input_has_a_zero_factor() {
        let schur = Schur::of(&with_eigenvalues(1, &scattered(4, 0.9), 0.1)).unwrap();
        for inputs in [0, 2, 6] {
            let factor = discrete_gramian_factor(&schur, &Mat::zeros(4, inputs));
            assert_eq!(factor, Mat::<c64>::zeros(4, 4));
        }
    }

    #[test]
    fn copies_of_one_mode_have_the_rank_of_the_input() {
        let schur = Schur::of(&diagonal(&[c64::new(0.3, 0.4); 6])).unwrap();
        let factor = discrete_gramian_factor(&schur, &random_matrix(8, 6, 2));
        let values = factor.singular_values().unwrap();
        assert!(values[1] > 0.1 * values[0] && values[2] <= 6.0 * f64::EPSILON * values[0]);
    }

    #[test]
    fn units_of_the_input_change_exponents_only() {
        let a = with_eigenvalues(3, &scattered(6, 0.9), 0.2);
        let b = random_matrix(2, 6, 2);
        let discrete = Schur::of(&a).unwrap();
        let continuous = Schur::of(&(&a - Mat::<c64>::identity(6, 6))).unwrap();
        for unit in [-900, -400, 400, 900] {
            let scaled = scale_matrix(&b, unit);
            assert_eq!(
                discrete_gramian_factor(&discrete, &scaled),
                scale_matrix(&discrete_gramian_factor(&discrete, &b), unit)
            );
            assert_eq!(
                continuous_gramian_factor(&continuous, &scaled),
                scale_matrix(&continuous_gramian_factor(&continuous, &b), unit)
            );
        }
    }

    #[test]
    fn a_row_of_the_input_far_below_the_others_keeps_its_digits() {
        let schur = Schur::of(&diagonal(&scattered(3, 0.9))).unwrap();
        let full = random_matrix(6, 3, 2);
        let b = Mat::from_fn(3, 2, |i, j| full[(i, j)] * [1.0, 1e-80, 1e-200][i]);
        let (factor, plain) = (
            discrete_gramian_factor(&schur, &b),
            discrete_gramian_factor(&schur, &full),
        );
        let (length, expected) = (factor[(2, 2)].norm(), plain[(2, 2)].norm() * 1e-200);
        assert!((length - expected).abs() <= 8.0 * f64::EPSILON * expected);
    }
}

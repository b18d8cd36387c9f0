//! Equations with triangular coefficients, and the column loops under every dense algorithm here.

use faer::{Mat, c64};
use pulp::Arch;

use crate::arithmetic::power_of_two::{scale_complex, vector_exponent};
use crate::arithmetic::unit_disk::reciprocal;

/// `a / b` without overflow on the way, for any finite `b`; division by zero gives infinities or NaN.
pub(crate) fn quotient(a: c64, b: c64) -> c64 {
    match vector_exponent([b]) {
        Some(k) => scale_complex(a * reciprocal(scale_complex(b, -k)), -k),
        None => a / b,
    }
}

/// `z / |z|`, of modulus one for subnormal numbers too; one at zero.
pub(crate) fn phase(z: c64) -> c64 {
    match vector_exponent([z]) {
        Some(k) => {
            let z = scale_complex(z, -k);
            z / z.norm()
        }
        None => c64::ONE,
    }
}

/// Frobenius norm of a vector; squares of entries under 1e-154 are lost, so scale first.
pub(crate) fn length(x: &[c64]) -> f64 {
    x.iter().map(|z| z.norm_sqr()).sum::<f64>().sqrt()
}

/// `y += factor · x`.
pub(crate) fn add_multiple(y: &mut [c64], factor: c64, x: &[c64]) {
    Arch::new().dispatch(|| {
        for (y, x) in y.iter_mut().zip(x) {
            *y += factor * x;
        }
    });
}

/// `xᴴ y`.
pub(crate) fn inner_product(x: &[c64], y: &[c64]) -> c64 {
    Arch::new().dispatch(|| x.iter().zip(y).map(|(x, y)| x.conj() * y).sum())
}

/// Columns `p` and `q` of a matrix, both to be written.
pub(crate) fn two_columns(matrix: &mut Mat<c64>, p: usize, q: usize) -> (&mut [c64], &mut [c64]) {
    let (p, q) = matrix.two_cols_mut(p, q);
    let contiguous = "columns of an owned matrix are contiguous";
    (
        p.try_as_col_major_mut().expect(contiguous).as_slice_mut(),
        q.try_as_col_major_mut().expect(contiguous).as_slice_mut(),
    )
}

/// `T x` for the leading block of an upper triangular T, as large as `x`, `[block]`.
pub(crate) fn multiply_leading(triangular: &Mat<c64>, x: &[c64]) -> Vec<c64> {
    let mut product = vec![c64::ZERO; x.len()];
    for (j, &factor) in x.iter().enumerate() {
        add_multiple(
            &mut product[..=j],
            factor,
            &triangular.col_as_slice(j)[..=j],
        );
    }
    product
}

/// Solves `(D + factor · N) x = x₀` in place, where N is the strictly upper part of the leading block of
/// `triangular`, as large as `x`, and D is diagonal.
///
/// The diagonal is given apart because it is where digits are lost: `1 - λ μ̄` next to the unit circle.
pub(crate) fn solve_leading(
    triangular: &Mat<c64>,
    factor: c64,
    diagonal: impl Fn(usize) -> c64,
    x: &mut [c64],
) {
    for j in (0..x.len()).rev() {
        let (above, rest) = x.split_at_mut(j);
        rest[0] = quotient(rest[0], diagonal(j));
        add_multiple(above, -(factor * rest[0]), &triangular.col_as_slice(j)[..j]);
    }
}

/// Solves `T₁ X - X T₂ = C` for upper triangular T₁ `[m, m]` and T₂ `[n, n]`; C and X are `[m, n]`.
///
/// With `A = diag(T₁, T₂)` and C above the diagonal, `[I X; 0 I]` takes the block matrix to block diagonal form.
/// `None` if the two share an eigenvalue, or if the solution is beyond the range of `f64`.
///
/// # Source
/// Bartels, Stewart (1972), for coefficients that are triangular already.
pub(crate) fn sylvester_triangular(
    first: &Mat<c64>,
    second: &Mat<c64>,
    right: &Mat<c64>,
) -> Option<Mat<c64>> {
    let mut solution = right.clone();
    for k in 0..second.ncols() {
        for j in 0..k {
            let (known, column) = two_columns(&mut solution, j, k);
            add_multiple(column, second[(j, k)], known);
        }
        let column = solution.col_as_slice_mut(k);
        let shift = second[(k, k)];
        solve_leading(first, c64::ONE, |i| first[(i, i)] - shift, column);
        if column.iter().any(|x| !x.is_finite()) {
            return None;
        }
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_matrix;

    fn upper(seed: u64, states: usize, shift: f64) -> Mat<c64> {
        let full = random_matrix(seed, states, states);
        Mat::from_fn(states, states, |i, j| match i.cmp(&j) {
            std::cmp::Ordering::Less => full[(i, j)],
            std::cmp::Ordering::Equal => full[(i, j)] * 0.5 + shift,
            std::cmp::Ordering::Greater => c64::ZERO,
        })
    }

    #[test]
    fn the_sylvester_solution_leaves_no_residual() {
        for (m, n) in [(1, 1), (1, 5), (6, 1), (4, 7), (12, 12)] {
            // Diagonals half a unit around 2 and -2: at least 2 apart.
            let (first, second) = (upper(1, m, 2.0), upper(2, n, -2.0));
            let right = random_matrix(3, m, n);
            let solution = sylvester_triangular(&first, &second, &right).unwrap();
            let residual = &first * &solution - &solution * &second - right;
            // Each substitution rounds like one product with the coefficients.
            let sizes = (first.norm_l2() + second.norm_l2()) * solution.norm_l2();
            let tolerance = 4.0 * (m + n) as f64 * f64::EPSILON * sizes;
            let error = residual.norm_l2();
            assert!(error <= tolerance, "{m} {n}: {error:e} > {tolerance:e}");
        }
    }

    #[test]
    fn a_shared_eigenvalue_has_no_sylvester_solution() {
        let (first, second) = (upper(1, 3, 2.0), upper(1, 3, 2.0));
        assert!(sylvester_triangular(&first, &second, &random_matrix(2, 3, 3)).is_none());
    }

    #[test]
    fn phases_have_modulus_one_at_any_size() {
        for size in [f64::from_bits(1), 1e-310, 1e-200, 1.0, 1e300] {
            let z = phase(c64::new(size, -size));
            assert!(
                (z.norm() - 1.0).abs() <= 2.0 * f64::EPSILON && z.re == -z.im,
                "{size:e}: {z}"
            );
        }
        assert_eq!(phase(c64::ZERO), c64::ONE);
    }

    #[test]
    fn quotients_survive_extreme_units() {
        for unit in [1e-300, 1e-160, 1.0, 1e160, 1e300] {
            let b = c64::new(3.0 * unit, 4.0 * unit);
            let exact = c64::new(3.0, -4.0) / 25.0;
            let ratio = quotient(c64::new(unit, 0.0), b);
            assert!(
                (ratio - exact).norm() <= 4.0 * f64::EPSILON * exact.norm(),
                "{unit:e}"
            );
        }
        assert!(!quotient(c64::ONE, c64::ZERO).is_finite());
    }
}

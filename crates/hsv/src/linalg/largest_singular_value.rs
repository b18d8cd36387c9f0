//! The largest singular value alone, by Golub–Kahan–Lanczos bidiagonalization.

use faer::{Mat, MatRef};

use crate::linalg::scalar::Scalar;

/// The search ends when so many steps have raised the value by less than this share of it: some times the rounding of a
/// product.
const CONVERGED: f64 = 1e-13;
const STEPS_BETWEEN_LOOKS: usize = 8;

/// Largest singular value of a matrix, 0 for an empty one. `None` if an entry is not finite.
///
/// Two products with a vector a step, and full reorthogonalization. The value grows with the Krylov space, mostly within
/// some ten steps, and is exact but for rounding when that is the whole space.
///
/// # Source
/// Golub, Kahan (1965): `GK65` in `docs/references.bib`.
pub(crate) fn largest_singular_value<T: Scalar>(matrix: &Mat<T>) -> Option<f64> {
    let steps = matrix.nrows().min(matrix.ncols());
    let (mut left, mut right) = (Basis::new(matrix.nrows()), Basis::new(matrix.ncols()));
    let (mut diagonal, mut below) = (Vec::new(), Vec::new());
    let mut largest = 0.0;
    let mut candidate = matrix * generic::<T>(matrix.ncols());
    while diagonal.len() < steps {
        let length = left.extend(candidate)?;
        if length == 0.0 {
            break;
        }
        if !diagonal.is_empty() {
            below.push(length);
        }
        let length = right.extend(matrix.adjoint() * left.last())?;
        diagonal.push(length);
        if length == 0.0 {
            break;
        }
        if diagonal.len().is_multiple_of(STEPS_BETWEEN_LOOKS) {
            let found = norm_of_bidiagonal(&diagonal, &below)?;
            if found - largest <= CONVERGED * found {
                return Some(found);
            }
            largest = found;
        }
        candidate = matrix * right.last();
    }
    norm_of_bidiagonal(&diagonal, &below)
}

/// A vector with no zero and no structure that a matrix might share: multiples of the golden ratio, shifted.
fn generic<T: Scalar>(len: usize) -> Mat<T> {
    let golden = (1.0 + 5.0_f64.sqrt()) / 2.0;
    Mat::from_fn(len, 1, |i, _| T::real(0.5 + (i as f64 * golden).fract()))
}

fn norm_of_bidiagonal(diagonal: &[f64], below: &[f64]) -> Option<f64> {
    let matrix = Mat::from_fn(diagonal.len(), diagonal.len(), |i, j| match i {
        _ if i == j => diagonal[i],
        _ if i == j + 1 => below[j],
        _ => 0.0,
    });
    let values = matrix.singular_values().ok()?;
    Some(values.first().copied().unwrap_or(0.0))
}

/// Orthonormal columns that grow one by one.
struct Basis<T: Scalar> {
    columns: Mat<T>,
}

impl<T: Scalar> Basis<T> {
    fn new(rows: usize) -> Self {
        Self {
            columns: Mat::zeros(rows, 0),
        }
    }

    /// Appends the direction in which a vector leaves the span, and returns how far it does: 0, and nothing is appended,
    /// where that is rounding only. `None` if it is not finite.
    fn extend(&mut self, mut vector: Mat<T>) -> Option<f64> {
        let whole = vector.norm_l2();
        if !whole.is_finite() {
            return None;
        }
        // Twice is enough: the second pass removes what rounding left of the first.
        for _ in 0..2 {
            let shares = self.columns.adjoint() * &vector;
            vector -= &self.columns * shares;
        }
        let length = vector.norm_l2();
        if length <= 8.0 * f64::EPSILON * whole {
            return Some(0.0);
        }
        let (rows, len) = (vector.nrows(), self.columns.ncols());
        self.columns
            .resize_with(rows, len + 1, |i, _| vector[(i, 0)].times(1.0 / length));
        Some(length)
    }

    fn last(&self) -> MatRef<'_, T> {
        self.columns.subcols(self.columns.ncols() - 1, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::c64;
    use proptest::prelude::*;

    fn check(matrix: &Mat<c64>) {
        let want = matrix.singular_values().unwrap();
        let want = want.first().copied().unwrap_or(0.0);
        let got = largest_singular_value(matrix).unwrap();
        assert!((got - want).abs() <= 1e-12 * want, "{got:e} for {want:e}");
    }

    proptest! {
        #[test]
        fn it_is_the_first_of_all_singular_values(
            rows in 0_usize..40,
            columns in 0_usize..40,
            decay in 0.3_f64..1.0,
            seed in 0.0_f64..1.0,
        ) {
            check(&Mat::from_fn(rows, columns, |i, j| {
                let angle = seed + 1.7 * i as f64 + 2.9 * (i * j) as f64 + 0.3 * j as f64;
                c64::new(angle.sin(), (2.0 * angle).cos()) * decay.powi((i + j) as i32)
            }));
        }
    }

    #[test]
    fn it_is_not_fooled_by_blocks_ties_and_missing_ranks() {
        // The longest column belongs to the smaller value.
        let blocks = [[3.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, 2.0, 2.0]];
        check(&Mat::from_fn(3, 3, |i, j| c64::new(blocks[i][j], 0.0)));
        check(&Mat::<c64>::identity(30, 30));
        check(&Mat::<c64>::zeros(4, 5));
        check(&Mat::from_fn(20, 20, |i, j| {
            c64::new(((i + 1) * (j + 1)) as f64, 0.0)
        }));
    }

    #[test]
    fn close_leading_values_are_told_apart() {
        let near = |i: usize| 1.0 - 1e-9 * i as f64;
        let diagonal = |i: usize, j: usize| c64::new(if i == j { near(i) } else { 0.0 }, 0.0);
        let got = largest_singular_value(&Mat::from_fn(200, 200, diagonal)).unwrap();
        // A lower bound that is good to the width of the cluster at worst.
        assert!((1.0 - 2e-7..=1.0 + 1e-12).contains(&got), "{got}");
    }

    #[test]
    fn a_value_that_is_not_finite_is_refused() {
        let matrix = Mat::from_fn(3, 3, |i, j| if i == j { f64::NAN } else { 1.0 });
        assert_eq!(largest_singular_value(&matrix), None);
    }
}

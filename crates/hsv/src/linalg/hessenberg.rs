//! Hessenberg form: the first step to a Schur form, and what makes a resolvent cheap at many frequencies.

use faer::{Mat, c64};

use crate::arithmetic::power_of_two::{scale_complex, vector_exponent};
use crate::linalg::triangular::{add_multiple, inner_product, length, phase, quotient};

/// `A = U H Uᴴ`, with U unitary and H zero below its first subdiagonal, both `[state, state]`.
pub(crate) struct Hessenberg {
    pub(crate) unitary: Mat<c64>,
    matrix: Mat<c64>,
}

impl Hessenberg {
    /// Hessenberg form of a square matrix, exact for one within a few state · ε · ‖A‖ of it.
    pub(crate) fn of(matrix: &Mat<c64>) -> Self {
        let states = matrix.nrows();
        let (mut form, mut unitary) = (matrix.clone(), Mat::identity(states, states));
        reduce_to_hessenberg(&mut form, &mut unitary);
        Self {
            unitary,
            matrix: form,
        }
    }

    /// `(z I - H)⁻¹ right`. O(state² · column). Not finite where the solution, or a step to it, is beyond the range of
    /// `f64`.
    ///
    /// Elimination with a choice between two rows at each step, stable for a Hessenberg matrix. Where z is an eigenvalue
    /// to within rounding, the solution is that of a matrix within ε of the given one.
    ///
    /// # Source
    /// Laub (1981), *IEEE Transactions on Automatic Control* 26: frequency responses from a Hessenberg form.
    pub(crate) fn resolvent_times(&self, z: c64, right: &Mat<c64>) -> Mat<c64> {
        let states = self.matrix.nrows();
        // Rows, so that an elimination runs along contiguous numbers.
        let mut rows: Vec<Vec<c64>> = (0..states)
            .map(|i| {
                let first = i.saturating_sub(1);
                (0..states)
                    .map(|j| match (j < first, i == j) {
                        (true, _) => c64::ZERO,
                        (_, true) => z - self.matrix[(i, j)],
                        _ => -self.matrix[(i, j)],
                    })
                    .collect()
            })
            .collect();
        let mut solution: Vec<Vec<c64>> = (0..states)
            .map(|i| (0..right.ncols()).map(|j| right[(i, j)]).collect())
            .collect();
        // What the next pivot is a sum of: z and a diagonal entry first.
        let diagonal = |k: usize| z.norm().max(self.matrix[(k, k)].norm());
        let mut terms = diagonal(0);
        for k in 0..states {
            let swapped = k + 1 < states && rows[k + 1][k].norm() > rows[k][k].norm();
            if swapped {
                rows.swap(k, k + 1);
                solution.swap(k, k + 1);
            } else {
                rows[k][k] = above_rounding(rows[k][k], terms);
            }
            if k + 1 == states {
                break;
            }
            terms = if swapped {
                rows[k + 1][k + 1].norm()
            } else {
                diagonal(k + 1)
            };
            if rows[k + 1][k] == c64::ZERO {
                continue;
            }
            let factor = -quotient(rows[k + 1][k], rows[k][k]);
            terms = terms.max(factor.norm() * rows[k][k + 1].norm());
            let (above, below) = rows.split_at_mut(k + 1);
            add_multiple(&mut below[0][k + 1..], factor, &above[k][k + 1..]);
            let (above, below) = solution.split_at_mut(k + 1);
            add_multiple(&mut below[0], factor, &above[k]);
        }
        for k in (0..states).rev() {
            let (unknown, known) = solution.split_at_mut(k + 1);
            for (j, row) in known.iter().enumerate() {
                add_multiple(&mut unknown[k], -rows[k][k + 1 + j], row);
            }
            unknown[k]
                .iter_mut()
                .for_each(|x| *x = quotient(*x, rows[k][k]));
        }
        Mat::from_fn(states, right.ncols(), |i, j| solution[i][j])
    }
}

/// A pivot that is no smaller than the rounding of the largest term it is a sum of.
///
/// A rounded z can come closer to an eigenvalue than the point that was meant, and hit it.
fn above_rounding(pivot: c64, terms: f64) -> c64 {
    let rounding = f64::EPSILON / 4.0 * terms;
    if pivot.norm() < rounding {
        phase(pivot) * rounding
    } else {
        pivot
    }
}

/// Householder reflections from both sides, collected in `unitary`, until `matrix` is zero below its first
/// subdiagonal.
pub(crate) fn reduce_to_hessenberg(matrix: &mut Mat<c64>, unitary: &mut Mat<c64>) {
    let states = matrix.nrows();
    for k in 0..states.saturating_sub(2) {
        let column = &mut matrix.col_as_slice_mut(k)[k + 1..];
        let tail = vector_exponent(column[1..].iter().copied());
        let Some(unit) = tail.and(vector_exponent(column.iter().copied())) else {
            continue; // already in form
        };
        let mut vector: Vec<c64> = column.iter().map(|&z| scale_complex(z, -unit)).collect();
        let (size, modulus) = (length(&vector), vector[0].norm());
        let phase = phase(column[0]);
        vector[0] += phase * size; // same sign: no cancellation
        let factor = 1.0 / (size * (size + modulus));
        column.fill(c64::ZERO);
        column[0] = scale_complex(-(phase * size), unit);

        for j in k + 1..states {
            let column = &mut matrix.col_as_slice_mut(j)[k + 1..];
            let along = inner_product(&vector, column) * factor;
            add_multiple(column, -along, &vector);
        }
        for target in [&mut *matrix, &mut *unitary] {
            let mut along = vec![c64::ZERO; states];
            for (j, &v) in vector.iter().enumerate() {
                add_multiple(&mut along, v * factor, target.col_as_slice(k + 1 + j));
            }
            for (j, &v) in vector.iter().enumerate() {
                add_multiple(target.col_as_slice_mut(k + 1 + j), -v.conj(), &along);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use faer::linalg::solvers::Solve;

    use super::*;
    use crate::testing::random_matrix;

    #[test]
    fn the_resolvent_is_that_of_the_full_matrix() {
        for states in [1, 2, 3, 9, 20] {
            let (a, b) = (
                random_matrix(1, states, states),
                random_matrix(2, states, 3),
            );
            let form = Hessenberg::of(&a);
            for z in [
                c64::new(0.0, 9.0),
                c64::new(0.3, -0.2),
                c64::new(-40.0, 0.0),
            ] {
                let shifted = Mat::from_fn(states, states, |i, j| {
                    if i == j { z - a[(i, j)] } else { -a[(i, j)] }
                });
                let expected = shifted.partial_piv_lu().solve(&b);
                let found = &form.unitary * form.resolvent_times(z, &(form.unitary.adjoint() * &b));
                // Both lose the condition of the shifted matrix, some hundreds for these.
                let tolerance = 1e4 * states as f64 * f64::EPSILON * expected.norm_max();
                assert!((found - expected).norm_max() <= tolerance, "{states} {z}");
            }
        }
    }

    #[test]
    fn an_eigenvalue_that_is_hit_is_missed_by_a_rounding() {
        let a = Mat::from_fn(2, 2, |i, j| c64::new(if i <= j { 0.5 } else { 0.0 }, 0.0));
        let ones = Mat::from_fn(2, 1, |_, _| c64::ONE);
        let found = Hessenberg::of(&a).resolvent_times(c64::new(0.5, 0.0), &ones);
        // (z - λ)⁻¹ is 1 / (ε / 8), and the other state is driven by half of that.
        let size = 8.0 / f64::EPSILON;
        assert_eq!(found[(1, 0)], c64::new(size, 0.0));
        assert!((found[(0, 0)] - 0.5 * size * size).norm() <= 1e-15 * size * size);
    }

    #[test]
    fn a_zero_below_the_diagonal_is_passed_over() {
        let a = Mat::from_fn(3, 3, |i, j| {
            c64::new(if i == j { i as f64 } else { 0.0 }, 0.0)
        });
        let ones = Mat::from_fn(3, 1, |_, _| c64::ONE);
        let found = Hessenberg::of(&a).resolvent_times(c64::new(0.0, 2.0), &ones);
        for i in 0..3 {
            let expected = 1.0 / c64::new(-(i as f64), 2.0);
            assert!((found[(i, 0)] - expected).norm() <= 4.0 * f64::EPSILON);
        }
    }
}

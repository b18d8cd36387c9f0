//! Singular values of a graded matrix, the small ones with as many digits as the large ones.
//!
//! Reduction to bidiagonal form mixes rows of every size and leaves an error of ε times the largest value. Here the
//! matrix has rows and columns that fall off by many powers of ten, `G = D_1 Z D_2` with Z of moderate condition, and
//! every step keeps that grading: rows sorted by size and columns pivoted, `G Π = Q_1 R_1`; once more from the other
//! side, `R_1ᴴ = Q_2 R_2`, which leaves the lower triangular `X = R_2ᴴ` nearly diagonal; and rotations of pairs of
//! its columns, `X W = U S`, each of which turns a small column by what it has along a large one and the large one by
//! next to nothing. Then `G = (Q_1 U) S (Π Q_2 W)ᴴ`.

use faer::Mat;
use pulp::{Arch, Simd, WithSimd};

use crate::arithmetic::power_of_two::scale;
use crate::hankel::HankelError;
use crate::linalg::matrix::{first_not_finite, matrix_exponent};
use crate::linalg::scalar::Scalar;
use crate::linalg::singular_vectors::ThinSvd;

/// Values below this share of the largest entry are dropped: their squares would leave the range of `f64`.
const SMALLEST: f64 = 1e-140;

/// Some six are usual; convergence is quadratic.
const MAX_SWEEPS: usize = 40;

impl<T: Scalar> ThinSvd<T> {
    /// The decomposition of `product`, `[rows, columns]`, by one-sided Jacobi rotations; without the values that come
    /// out zero.
    ///
    /// # Precision
    /// O(rows · columns² + columns³). For `product = D_1 Z D_2` every value is good to rows · ε times the condition of
    /// Z (of its leading blocks, with both diagonals sorted), whatever the diagonals; an entry of a singular vector is
    /// as small as the grading makes it, with an error that is as small.
    ///
    /// # Errors
    /// [`HankelError::NoConvergence`].
    ///
    /// # Source
    /// Demmel et al. (1999), Drmač (1998), Drmač & Veselić (2008): `DGE99`, `D98` and `DV08` in
    /// `docs/references.bib`. Row sorting after Cox and Higham (1998).
    pub(crate) fn graded(product: &Mat<T>) -> Result<Self, HankelError> {
        let (rows, columns) = (product.nrows(), product.ncols());
        let no_convergence = HankelError::NoConvergence { rows, columns };
        if first_not_finite(product).is_some() {
            return Err(no_convergence);
        }
        let Some(unit) = matrix_exponent(product) else {
            return Ok(Self::without_rank(rows, columns));
        };
        let by_size = rows_by_size(product);
        let sorted = Mat::from_fn(rows, columns, |i, j| product[(by_size[i], j)].scaled(-unit));

        let first = sorted.col_piv_qr();
        let triangle = first.thin_R();
        let rank = (0..triangle.nrows())
            .take_while(|&i| triangle[(i, i)].modulus() > SMALLEST)
            .count();
        let second = triangle.subrows(0, rank).adjoint().qr();
        let x = second.thin_R().adjoint().to_owned();

        let rotated = orthogonal_columns(&x).ok_or(no_convergence)?;
        let Rotated {
            values,
            columns: us,
        } = rotated;
        let u = Mat::from_fn(rank, values.len(), |i, j| us[(i, j)].times(1.0 / values[j]));
        // W from X W = U S instead of from all rotations: substitution keeps the grading as well, at half the cost.
        let mut w = us;
        x.solve_lower_triangular_in_place(&mut w);

        let (pivots, _) = first.P().arrays();
        let left = first.compute_thin_Q().subcols(0, rank) * u;
        let right = second.compute_thin_Q() * w;
        Ok(Self {
            left_vectors: with_rows_at(&left, &by_size),
            values: values.iter().map(|&value| scale(value, unit)).collect(),
            right_vectors: with_rows_at(&right, pivots),
        })
    }
}

/// Row numbers, the row with the largest entry first.
fn rows_by_size<T: Scalar>(matrix: &Mat<T>) -> Vec<usize> {
    let size = |i: usize| {
        let moduli = (0..matrix.ncols()).map(|j| matrix[(i, j)].modulus());
        moduli.fold(0.0, f64::max)
    };
    let sizes: Vec<f64> = (0..matrix.nrows()).map(size).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|&a, &b| sizes[b].total_cmp(&sizes[a]));
    order
}

/// Row `i` of the matrix becomes row `positions[i]`.
fn with_rows_at<T: Scalar>(matrix: &Mat<T>, positions: &[usize]) -> Mat<T> {
    let mut moved = Mat::zeros(matrix.nrows(), matrix.ncols());
    for (i, &position) in positions.iter().enumerate() {
        moved.row_mut(position).copy_from(matrix.row(i));
    }
    moved
}

/// `X W = U S`, largest value first, without the columns that are zero.
struct Rotated<T> {
    columns: Mat<T>,
    values: Vec<f64>,
}

/// `None` if the rotations do not come to an end.
fn orthogonal_columns<T: Scalar>(x: &Mat<T>) -> Option<Rotated<T>> {
    let mut columns = Columns::of(x);
    if !Arch::new().dispatch(Rotations(&mut columns)) {
        return None;
    }
    let mut order: Vec<usize> = (0..x.ncols()).collect();
    let squares = &columns.squares;
    order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
    order.retain(|&j| squares[j] > 0.0);
    Some(Rotated {
        values: order.iter().map(|&j| squares[j].sqrt()).collect(),
        columns: Mat::from_fn(x.nrows(), order.len(), |i, j| columns.get(i, order[j])),
    })
}

/// Entries are handled in groups as wide as a vector register.
const LANES: usize = 8;

/// Columns of a matrix, the real parts of one and then, where there are any, its imaginary parts, both filled up with
/// zeros to whole groups.
struct Columns {
    /// Length of a part.
    padded: usize,
    complex: bool,
    parts: Vec<Vec<f64>>,
    /// Squared length of each column.
    squares: Vec<f64>,
    /// A column over another counts as orthogonal up to this cosine.
    tolerance: f64,
}

impl Columns {
    fn of<T: Scalar>(matrix: &Mat<T>) -> Self {
        let padded = matrix.nrows().next_multiple_of(LANES);
        let parts: Vec<Vec<f64>> = (0..matrix.ncols())
            .map(|j| {
                let mut column = vec![0.0; if T::IS_REAL { padded } else { 2 * padded }];
                for (i, z) in matrix.col(j).iter().enumerate() {
                    column[i] = z.complex().re;
                    if !T::IS_REAL {
                        column[padded + i] = z.complex().im;
                    }
                }
                column
            })
            .collect();
        Self {
            padded,
            complex: !T::IS_REAL,
            squares: parts.iter().map(|column| dot(column, column)).collect(),
            parts,
            // What rounding leaves of an inner product of that length.
            tolerance: matrix.nrows() as f64 * f64::EPSILON,
        }
    }

    fn get<T: Scalar>(&self, i: usize, j: usize) -> T {
        let column = &self.parts[j];
        let im = if self.complex {
            column[self.padded + i]
        } else {
            0.0
        };
        T::of_complex(faer::c64::new(column[i], im))
    }

    /// Rotates every pair of columns that is not orthogonal; `false` if all were.
    ///
    /// Each turn starts with the longest column that is left, so that large columns settle first (de Rijk).
    #[inline(always)]
    fn sweep(&mut self) -> bool {
        let count = self.parts.len();
        let mut rotated = false;
        for p in 0..count {
            let longest = (p..count).max_by(|&a, &b| self.squares[a].total_cmp(&self.squares[b]));
            if let Some(longest) = longest {
                self.parts.swap(p, longest);
                self.squares.swap(p, longest);
            }
            for q in p + 1..count {
                rotated |= self.rotate(p, q);
            }
        }
        rotated
    }

    /// Makes columns `p < q` orthogonal; `false` if they were.
    #[inline(always)]
    fn rotate(&mut self, p: usize, q: usize) -> bool {
        let (before, from_q) = self.parts.split_at_mut(q);
        let (p_column, q_column) = (&mut before[p][..], &mut from_q[0][..]);
        let re = dot(p_column, q_column);
        let im = if self.complex {
            let (p_re, p_im) = p_column.split_at(self.padded);
            let (q_re, q_im) = q_column.split_at(self.padded);
            dot(p_re, q_im) - dot(p_im, q_re)
        } else {
            0.0
        };
        let (p_square, q_square) = (self.squares[p], self.squares[q]);
        // Roots first: the product of two squares may underflow.
        let along = re.hypot(im);
        let negligible = along <= self.tolerance * (p_square.sqrt() * q_square.sqrt());
        if negligible {
            return false;
        }
        let cotangent = (q_square - p_square) / (2.0 * along); // of twice the angle
        let tangent = if cotangent.abs() > 1e100 {
            0.5 / cotangent // the square would overflow
        } else {
            1f64.copysign(cotangent) / (cotangent.abs() + (1.0 + cotangent * cotangent).sqrt())
        };
        let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
        let rotation = Rotation {
            cosine,
            sine: cosine * tangent,
            phase: (re / along, im / along),
        };
        (self.squares[p], self.squares[q]) = if self.complex {
            rotation.apply_complex(p_column, q_column)
        } else {
            rotation.apply_real(p_column, q_column)
        };
        true
    }
}

/// `p ← c p - s φ̄ q`, `q ← s p + c φ̄ q`, with φ the phase of `pᴴ q`.
struct Rotation {
    cosine: f64,
    sine: f64,
    phase: (f64, f64),
}

impl Rotation {
    /// Returns the squared lengths of the new columns: carried along instead, that of the shorter one would be lost.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "the lanes of several arrays go together"
    )]
    fn apply_complex(&self, p: &mut [f64], q: &mut [f64]) -> (f64, f64) {
        let (cosine, sine, (re, im)) = (self.cosine, self.sine, self.phase);
        let half = p.len() / 2;
        let (p_re, p_im) = p.split_at_mut(half);
        let (q_re, q_im) = q.split_at_mut(half);
        let (mut p_square, mut q_square) = ([0.0; LANES], [0.0; LANES]);
        let p_groups = groups_mut(p_re).zip(groups_mut(p_im));
        let q_groups = groups_mut(q_re).zip(groups_mut(q_im));
        for ((p_re, p_im), (q_re, q_im)) in p_groups.zip(q_groups) {
            for l in 0..LANES {
                let turned_re = re.mul_add(q_re[l], im * q_im[l]);
                let turned_im = re.mul_add(q_im[l], -im * q_re[l]);
                q_re[l] = sine.mul_add(p_re[l], cosine * turned_re);
                q_im[l] = sine.mul_add(p_im[l], cosine * turned_im);
                p_re[l] = cosine.mul_add(p_re[l], -sine * turned_re);
                p_im[l] = cosine.mul_add(p_im[l], -sine * turned_im);
                q_square[l] = q_re[l].mul_add(q_re[l], q_im[l].mul_add(q_im[l], q_square[l]));
                p_square[l] = p_re[l].mul_add(p_re[l], p_im[l].mul_add(p_im[l], p_square[l]));
            }
        }
        (p_square.iter().sum(), q_square.iter().sum())
    }

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "the lanes of several arrays go together"
    )]
    fn apply_real(&self, p: &mut [f64], q: &mut [f64]) -> (f64, f64) {
        let (cosine, sine, (sign, _)) = (self.cosine, self.sine, self.phase);
        let (mut p_square, mut q_square) = ([0.0; LANES], [0.0; LANES]);
        for (p, q) in groups_mut(p).zip(groups_mut(q)) {
            for l in 0..LANES {
                let turned = sign * q[l];
                q[l] = sine * p[l] + cosine * turned;
                p[l] = cosine * p[l] - sine * turned;
                q_square[l] += q[l] * q[l];
                p_square[l] += p[l] * p[l];
            }
        }
        (p_square.iter().sum(), q_square.iter().sum())
    }
}

#[inline(always)]
fn groups_mut(column: &mut [f64]) -> impl Iterator<Item = &mut [f64; LANES]> {
    column.as_chunks_mut::<LANES>().0.iter_mut()
}

/// Sum of products, in as many sums as there are lanes.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "the lanes of several arrays go together"
)]
fn dot(x: &[f64], y: &[f64]) -> f64 {
    let (x, y) = (x.as_chunks::<LANES>().0, y.as_chunks::<LANES>().0);
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for l in 0..LANES {
            sums[l] = x[l].mul_add(y[l], sums[l]);
        }
    }
    sums.iter().sum()
}

struct Rotations<'a>(&'a mut Columns);

impl WithSimd for Rotations<'_> {
    type Output = bool;

    /// Whether all columns are orthogonal in the end.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        (0..MAX_SWEEPS).any(|_| !self.0.sweep())
    }
}

#[cfg(test)]
mod tests {
    use faer::c64;

    use super::*;
    use crate::testing::random_matrix;

    /// `D_1 Z D_2` with the identity in Z made dominant, and diagonals over `decades` each.
    fn graded_matrix(rows: usize, columns: usize, decades: f64) -> Mat<c64> {
        let noise = random_matrix(5, rows, columns);
        let size = |i: usize, count: usize| 10f64.powf(-decades * i as f64 / count as f64);
        Mat::from_fn(rows, columns, |i, j| {
            let entry = noise[(i, j)] * 0.3 + if i == j { c64::ONE } else { c64::ZERO };
            entry * (size(i, rows) * size(j, columns))
        })
    }

    /// The product gives the matrix back, each entry to its own size in the grading, and vectors have length one.
    fn check<T: Scalar>(matrix: &Mat<T>) {
        let svd = ThinSvd::graded(matrix).unwrap();
        let (rows, columns, rank) = (matrix.nrows(), matrix.ncols(), svd.values.len());
        assert_eq!(rank, rows.min(columns));
        assert!(svd.values.windows(2).all(|pair| pair[0] >= pair[1]));
        let scaled = Mat::from_fn(rows, rank, |i, k| {
            svd.left_vectors[(i, k)].times(svd.values[k])
        });
        let product = &scaled * svd.right_vectors.adjoint();
        for i in 0..rows {
            for j in 0..columns {
                let terms = (0..rank)
                    .map(|k| scaled[(i, k)].modulus() * svd.right_vectors[(j, k)].modulus());
                // Two factorizations, the rotations and this product.
                let limit = 8.0 * (rows + columns) as f64 * f64::EPSILON * terms.sum::<f64>();
                let error = (product[(i, j)] - matrix[(i, j)]).modulus();
                assert!(error <= limit, "({i}, {j}): {error:e} > {limit:e}");
            }
        }
        for vectors in [&svd.left_vectors, &svd.right_vectors] {
            let overlap = vectors.adjoint() * vectors - Mat::<T>::identity(rank, rank);
            let limit = 8.0 * (rows + columns) as f64 * f64::EPSILON;
            assert!(overlap.norm_max() <= limit, "{:e}", overlap.norm_max());
        }
    }

    #[test]
    fn the_product_gives_a_graded_matrix_back_entry_by_entry() {
        for (rows, columns) in [(1, 1), (1, 4), (5, 2), (3, 9), (20, 20), (40, 33)] {
            for decades in [0.0, 8.0, 30.0] {
                let matrix = graded_matrix(rows, columns, decades);
                check(&matrix);
                check(&Mat::from_fn(rows, columns, |i, j| matrix[(i, j)].re));
            }
        }
    }

    #[test]
    fn rows_and_columns_may_come_in_any_order() {
        let matrix = graded_matrix(20, 17, 20.0);
        let shuffled = Mat::from_fn(20, 17, |i, j| matrix[(7 * i % 20, 5 * j % 17)]);
        check(&shuffled);
        let (values, expected) = (
            ThinSvd::graded(&shuffled).unwrap().values,
            ThinSvd::graded(&matrix).unwrap().values,
        );
        for (value, expected) in values.iter().zip(&expected) {
            assert!((value - expected).abs() <= 40.0 * f64::EPSILON * expected);
        }
    }

    #[test]
    fn units_change_exponents_only_and_tiny_values_survive() {
        let matrix = graded_matrix(12, 12, 60.0); // values over 110 decades
        let plain = ThinSvd::graded(&matrix).unwrap();
        assert!(plain.values[11] < 1e-100 && plain.values[11] > 1e-120);
        for unit in [-500, 900] {
            let scaled =
                ThinSvd::graded(&crate::linalg::matrix::scale_matrix(&matrix, unit)).unwrap();
            for (value, expected) in scaled.values.iter().zip(&plain.values) {
                assert_eq!(*value, scale(*expected, unit));
            }
        }
    }

    #[test]
    fn a_matrix_without_rank_has_no_values() {
        for (rows, columns) in [(0, 0), (0, 3), (3, 0), (3, 4)] {
            let svd = ThinSvd::graded(&Mat::<c64>::zeros(rows, columns)).unwrap();
            assert!(svd.values.is_empty());
            assert_eq!(
                (svd.left_vectors.nrows(), svd.right_vectors.nrows()),
                (rows, columns)
            );
        }
        let parallel = Mat::from_fn(4, 3, |i, j| if i == 3 { 0.0 } else { (j + 1) as f64 });
        let values = ThinSvd::graded(&parallel).unwrap().values;
        assert!((values[0] - 42f64.sqrt()).abs() <= 1e-14);
        assert!(values[1..].iter().all(|&sigma| sigma <= 1e-15));
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for bad in [f64::NAN, f64::INFINITY] {
            let matrix = Mat::from_fn(3, 3, |i, j| if i == 2 && j == 1 { bad } else { 1.0 });
            assert!(ThinSvd::graded(&matrix).is_err());
        }
    }
}

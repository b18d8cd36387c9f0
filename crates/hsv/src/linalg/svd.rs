//! Singular values of a matrix, all at once, and those of its singular vectors that are asked for.
//!
//! A truncation needs a quarter of the vectors or fewer, and the order is known only once the values are. So the
//! values come first, and what was done to the matrix is kept to be done to the vectors.

use faer::{Mat, MatRef, c64};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::linalg::bidiagonal::Bidiagonal;
use crate::linalg::parallel::{both, in_ieee_mode, threads};

/// `U S Vᴴ`, largest value first; without values for a matrix without rows or columns.
#[derive(Debug, Clone)]
pub struct Svd {
    pub(crate) values: Vec<f64>,
    /// Whether it is the adjoint that was decomposed, because it is the one with more rows.
    adjoint: bool,
    form: Bidiagonal,
    /// What took the bidiagonal form to the diagonal one, in order: about one rotation a side for each entry of a
    /// square matrix, twice the memory of the matrix.
    sweeps: Vec<Sweep>,
    /// Position of each value in that diagonal form, and the sign it had there.
    positions: Vec<usize>,
    signs: Vec<f64>,
}

/// The iteration did not converge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoConvergence;

impl Svd {
    /// # Precision
    /// Values to a few ε of the largest, vectors orthogonal to a few ε.
    ///
    /// # Source
    /// Demmel, Kahan (1990): `DK90` in `docs/references.bib`.
    pub(crate) fn of(matrix: MatRef<'_, c64>) -> Result<Self, NoConvergence> {
        let adjoint = matrix.ncols() > matrix.nrows();
        let form = if adjoint {
            Bidiagonal::of(matrix.adjoint().to_owned().as_ref())
        } else {
            Bidiagonal::of(matrix)
        };
        let mut iteration = Iteration {
            diagonal: form.diagonal.clone(),
            above: form.above.clone(),
            sweeps: Vec::new(),
        };
        iteration.run()?;
        let diagonal = &iteration.diagonal;
        let mut positions: Vec<usize> = (0..diagonal.len()).collect();
        positions.sort_by(|&a, &b| diagonal[b].abs().total_cmp(&diagonal[a].abs()));
        Ok(Self {
            values: positions.iter().map(|&i| diagonal[i].abs()).collect(),
            signs: positions
                .iter()
                .map(|&i| 1f64.copysign(diagonal[i]))
                .collect(),
            adjoint,
            form,
            sweeps: iteration.sweeps,
            positions,
        })
    }

    /// The columns of U and of V at the given positions.
    pub(crate) fn vectors(&self, kept: &[usize]) -> (Mat<c64>, Mat<c64>) {
        let (left, right) = both(
            || self.inner_vectors(kept, |sweep| &sweep.left, |_| 1.0),
            || self.inner_vectors(kept, |sweep| &sweep.right, |j| self.signs[j]),
        );
        let (left, right) = (
            self.form.left_vectors(&left),
            self.form.right_vectors(&right),
        );
        if self.adjoint {
            (right, left)
        } else {
            (left, right)
        }
    }

    /// Singular vectors of the bidiagonal form: the rotations, last one first, of columns of the identity.
    fn inner_vectors(
        &self,
        kept: &[usize],
        rotations: impl Fn(&Sweep) -> &Vec<Rotation> + Sync,
        sign: impl Fn(usize) -> f64 + Sync,
    ) -> Mat<f64> {
        let strip = |first: usize| {
            let mut rows = vec![[0.0; STRIP]; self.values.len()];
            for (column, &j) in kept[first..].iter().take(STRIP).enumerate() {
                rows[self.positions[j]][column] = sign(j);
            }
            let sweeps = self
                .sweeps
                .iter()
                .map(|sweep| (sweep.first, rotations(sweep).as_slice()));
            Arch::new().dispatch(Undo {
                sweeps,
                rows: &mut rows,
            });
            rows
        };
        let firsts: Vec<usize> = (0..kept.len()).step_by(STRIP).collect();
        let strips: Vec<Vec<[f64; STRIP]>> = if threads() == 1 {
            firsts.into_iter().map(strip).collect()
        } else {
            firsts
                .into_par_iter()
                .map(|first| in_ieee_mode(|| strip(first))())
                .collect()
        };
        Mat::from_fn(self.values.len(), kept.len(), |i, j| {
            strips[j / STRIP][i][j % STRIP]
        })
    }
}

/// Vectors that rotations are applied to at once: few enough for the cache.
const STRIP: usize = 16;

/// The rotation `[c s; -s c]` of two neighboring rows.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    cosine: f64,
    sine: f64,
}

impl Rotation {
    /// The one that takes `(f, g)` to `(r, 0)`, and r.
    #[inline(always)]
    fn of(f: f64, g: f64) -> (Self, f64) {
        let squared = f.mul_add(f, g * g);
        let length = if (1e-280..1e280).contains(&squared) {
            squared.sqrt()
        } else {
            f.hypot(g)
        };
        if length == 0.0 {
            return (
                Self {
                    cosine: 1.0,
                    sine: 0.0,
                },
                0.0,
            );
        }
        (
            Self {
                cosine: f / length,
                sine: g / length,
            },
            length,
        )
    }
}

/// One pass of rotations down the bidiagonal form: of rows `first + i` and the next, on either side.
#[derive(Debug, Clone)]
struct Sweep {
    first: usize,
    left: Vec<Rotation>,
    right: Vec<Rotation>,
}

struct Undo<'a, I> {
    sweeps: I,
    rows: &'a mut [[f64; STRIP]],
}

impl<'a, I> WithSimd for Undo<'a, I>
where
    I: DoubleEndedIterator<Item = (usize, &'a [Rotation])>,
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (first, rotations) in self.sweeps.rev() {
            let rows = &mut self.rows[first..=first + rotations.len()];
            let mut below = rows[rotations.len()];
            for (i, rotation) in rotations.iter().enumerate().rev() {
                let Rotation { cosine, sine } = *rotation;
                let (row, mut done) = (rows[i], [0.0; STRIP]);
                for l in 0..STRIP {
                    done[l] = sine.mul_add(row[l], cosine * below[l]);
                    below[l] = cosine.mul_add(row[l], -sine * below[l]);
                }
                rows[i + 1] = done;
            }
            rows[0] = below;
        }
    }
}

/// Implicit QR iteration on an upper bidiagonal matrix.
struct Iteration {
    diagonal: Vec<f64>,
    above: Vec<f64>,
    sweeps: Vec<Sweep>,
}

impl Iteration {
    fn run(&mut self) -> Result<(), NoConvergence> {
        let count = self.diagonal.len();
        let norm = self
            .diagonal
            .iter()
            .chain(&self.above)
            .fold(0.0, |norm: f64, z| norm.max(z.abs()));
        if !norm.is_finite() {
            return Err(NoConvergence);
        }
        // Dropping all of these moves no value by more than ε of the largest.
        let negligible = f64::EPSILON * norm / count.max(1) as f64;
        let mut last = count.saturating_sub(1);
        // Two or three sweeps take one value out; thirty are the customary limit.
        for _ in 0..30 * count {
            while last > 0 && self.splits(last - 1, negligible) {
                last -= 1;
            }
            if last == 0 {
                return Ok(());
            }
            let mut first = last - 1;
            while first > 0 && !self.splits(first - 1, negligible) {
                first -= 1;
            }
            let sweep = self.sweep(first, last);
            self.sweeps.push(sweep);
        }
        if last == 0 {
            Ok(())
        } else {
            Err(NoConvergence)
        }
    }

    /// Whether the entry above the diagonal is negligible beside its neighbors; if so it is dropped.
    fn splits(&mut self, i: usize, negligible: f64) -> bool {
        let beside = self.diagonal[i].abs() + self.diagonal[i + 1].abs();
        let drop = self.above[i].abs() <= negligible.max(f64::EPSILON / 4.0 * beside);
        if drop {
            self.above[i] = 0.0;
        }
        drop
    }

    fn sweep(&mut self, first: usize, last: usize) -> Sweep {
        let (d, e) = (&mut self.diagonal, &mut self.above);
        let shift = smallest_singular_value(d[last - 1], e[last - 1], d[last]);
        let ratio = shift / d[first].abs();
        let length = last - first;
        let mut sweep = Sweep {
            first,
            left: Vec::with_capacity(length),
            right: Vec::with_capacity(length),
        };
        // A shift that rounding would swallow; also where a zero on the diagonal is to be moved out. False for NaN.
        let shifted = ratio * ratio >= f64::EPSILON && ratio.is_finite();
        if shifted {
            let mut f = (d[first].abs() - shift) * (1f64.copysign(d[first]) + shift / d[first]);
            let mut g = e[first];
            for i in first..last {
                let (right, r) = Rotation::of(f, g);
                if i > first {
                    e[i - 1] = r;
                }
                f = right.cosine.mul_add(d[i], right.sine * e[i]);
                e[i] = right.cosine.mul_add(e[i], -right.sine * d[i]);
                g = right.sine * d[i + 1];
                d[i + 1] *= right.cosine;
                let (left, r) = Rotation::of(f, g);
                d[i] = r;
                f = left.cosine.mul_add(e[i], left.sine * d[i + 1]);
                d[i + 1] = left.cosine.mul_add(d[i + 1], -left.sine * e[i]);
                if i + 1 < last {
                    g = left.sine * e[i + 1];
                    e[i + 1] *= left.cosine;
                }
                sweep.right.push(right);
                sweep.left.push(left);
            }
            e[last - 1] = f;
        } else {
            let (mut right, mut left) = (Rotation::of(1.0, 0.0).0, Rotation::of(1.0, 0.0).0);
            for i in first..last {
                let r;
                (right, r) = Rotation::of(d[i] * right.cosine, e[i]);
                if i > first {
                    e[i - 1] = left.sine * r;
                }
                (left, d[i]) = Rotation::of(left.cosine * r, d[i + 1] * right.sine);
                sweep.right.push(right);
                sweep.left.push(left);
            }
            let h = d[last] * right.cosine;
            d[last] = h * left.cosine;
            e[last - 1] = h * left.sine;
        }
        sweep
    }
}

/// Of `[f g; 0 h]`.
fn smallest_singular_value(f: f64, g: f64, h: f64) -> f64 {
    let (f, g, h) = (f.abs(), g.abs(), h.abs());
    let (small, large) = (f.min(h), f.max(h));
    if small == 0.0 {
        return 0.0;
    }
    let (sum, difference) = (1.0 + small / large, (large - small) / large);
    let slope = g / large;
    let squared = slope * slope;
    2.0 * small
        / ((sum.mul_add(sum, squared)).sqrt() + (difference.mul_add(difference, squared)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(matrix: &Mat<c64>) {
        let svd = Svd::of(matrix.as_ref()).unwrap();
        let rank = svd.values.len();
        let (left, right) = svd.vectors(&(0..rank).collect::<Vec<_>>());
        let scaled = Mat::from_fn(left.nrows(), rank, |i, j| left[(i, j)] * svd.values[j]);
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        // Each of the reflections and of the sweeps rounds by a few ε.
        let tolerance = 8.0 * (rows + columns) as f64 * f64::EPSILON;
        let error = (scaled * right.adjoint() - matrix).norm_max();
        let norm = matrix.norm_l2();
        assert!(error <= tolerance * norm, "{rows} x {columns}: {error:e}");
        for vectors in [&left, &right] {
            let identity = Mat::<c64>::identity(rank, rank);
            let error = (vectors.adjoint() * vectors - identity).norm_max();
            assert!(error <= tolerance, "{rows} x {columns}: {error:e}");
        }
        assert!(svd.values.is_sorted_by(|a, b| a >= b) && svd.values.iter().all(|&s| s >= 0.0));
        let expected = matrix.singular_values().unwrap();
        for (value, expected) in svd.values.iter().zip(expected) {
            assert!(
                (value - expected).abs() <= tolerance * norm,
                "{value:e} {expected:e}"
            );
        }
        let some: Vec<usize> = (0..rank).step_by(3).collect();
        let (few, _) = svd.vectors(&some);
        for (column, &j) in some.iter().enumerate() {
            assert!((few.col(column) - left.col(j)).norm_max() <= tolerance);
        }
    }

    #[test]
    fn the_decomposition_gives_the_matrix_back() {
        for (rows, columns) in [(1, 1), (3, 1), (1, 4), (2, 2), (17, 17), (30, 70), (90, 60)] {
            check(&Mat::from_fn(rows, columns, |i, j| {
                c64::new(
                    (1.0 + 3.0 * i as f64 + 7.0 * (i * j) as f64).sin(),
                    (2.0 + 5.0 * i as f64 - 3.0 * j as f64).cos(),
                )
            }));
        }
    }

    #[test]
    fn matrices_without_full_rank_and_with_any_grading_converge() {
        check(&Mat::zeros(6, 4));
        check(&Mat::from_fn(20, 20, |i, j| {
            c64::new((i + 1) as f64 * (j + 2) as f64, 0.0)
        }));
        check(&Mat::identity(12, 12));
        for base in [0.1f64, 10.0] {
            check(&Mat::from_fn(24, 24, |i, j| {
                c64::new((i * j) as f64, 1.0) * (base.powi(i as i32) * base.powi(j as i32 / 2))
            }));
        }
        check(&Mat::from_fn(15, 15, |i, j| {
            if j == i + 1 { c64::ONE } else { c64::ZERO }
        }));
    }
}

//! Reduction of a matrix to upper bidiagonal form by reflections from both sides.
//!
//! Each reflection depends on the product of what is left of the matrix with the one before, so nearly all of the
//! work is memory traffic. Here a step passes over the matrix once: the changes of the step before, and the products
//! with both of its own reflections.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::solve_unit_upper_triangular_in_place;
use faer::{Accum, Mat, MatRef, c64, get_global_parallelism};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::linalg::parallel::{in_ieee_mode, threads};

/// `U diag(p) B diag(q)ᴴ Vᴴ` of a matrix with at least as many rows as columns, B real and upper bidiagonal, U and V
/// products of reflections `I - u uᴴ`.
#[derive(Debug, Clone)]
pub(crate) struct Bidiagonal {
    pub(crate) diagonal: Vec<f64>,
    /// Above the diagonal, one fewer.
    pub(crate) above: Vec<f64>,
    left: Mat<c64>,
    left_phases: Vec<c64>,
    right: Mat<c64>,
    right_phases: Vec<c64>,
}

impl Bidiagonal {
    /// # Source
    /// Howell, Demmel, Fulton, Hammarling, Marmol (2008): `HDFHM08` in `docs/references.bib`.
    pub(crate) fn of(matrix: MatRef<'_, c64>) -> Self {
        if threads() == 1 {
            Reduction::new(matrix).run()
        } else {
            // Inside the pool, where handing out the parts of a step is cheap.
            rayon::join(in_ieee_mode(|| Reduction::new(matrix).run()), || ()).0
        }
    }

    /// `U diag(p) X` for the first rows of X real.
    pub(crate) fn left_vectors(&self, inner: &Mat<f64>) -> Mat<c64> {
        expand(&self.left, &self.left_phases, inner)
    }

    /// `V diag(q) X`.
    pub(crate) fn right_vectors(&self, inner: &Mat<f64>) -> Mat<c64> {
        expand(&self.right, &self.right_phases, inner)
    }
}

/// The product of all reflections, in columns, with `phases · inner`.
fn expand(reflections: &Mat<c64>, phases: &[c64], inner: &Mat<f64>) -> Mat<c64> {
    const BLOCK: usize = 32;
    let (rows, count) = (reflections.nrows(), reflections.ncols());
    let mut result = Mat::<c64>::zeros(rows, inner.ncols());
    for (to, from) in result.col_iter_mut().zip(inner.col_iter()) {
        for ((to, from), phase) in to.iter_mut().zip(from.iter()).zip(phases) {
            *to = phase * from;
        }
    }
    let par = get_global_parallelism();
    for first in (0..count).step_by(BLOCK).rev() {
        // H_1 .. H_b = I - V T Vᴴ, and T⁻¹ is the upper triangle of Vᴴ V with half of the squared lengths, which
        // are one, on the diagonal: `JLQZ06` in `docs/references.bib`. A reflection that is none has length zero.
        let block = BLOCK.min(count - first);
        let vectors = reflections.submatrix(first, first, rows - first, block);
        let mut result = result.subrows_mut(first, rows - first);
        let mut triangle = Mat::<c64>::zeros(block, block);
        let mut along = Mat::<c64>::zeros(block, inner.ncols());
        matmul(
            &mut triangle,
            Accum::Replace,
            vectors.adjoint(),
            vectors,
            c64::ONE,
            par,
        );
        matmul(
            &mut along,
            Accum::Replace,
            vectors.adjoint(),
            result.as_ref(),
            c64::ONE,
            par,
        );
        solve_unit_upper_triangular_in_place(triangle.as_ref(), along.as_mut(), par);
        matmul(result.as_mut(), Accum::Add, vectors, &along, -c64::ONE, par);
    }
    result
}

/// Steps on fewer entries than this are left to one thread.
const PARALLEL_ENTRIES: usize = 128 * 128;

/// Entries that a pass handles at once.
const LANES: usize = 8;
type Lane = [f64; LANES];

/// Real and imaginary parts of a column, filled up with zeros to whole lanes.
#[derive(Debug, Clone)]
struct Planes {
    re: Vec<Lane>,
    im: Vec<Lane>,
}

impl Planes {
    fn zeros(lanes: usize) -> Self {
        Self {
            re: vec![[0.0; LANES]; lanes],
            im: vec![[0.0; LANES]; lanes],
        }
    }

    fn lanes(&self) -> usize {
        self.re.len()
    }

    fn get(&self, i: usize) -> c64 {
        let (lane, entry) = (i / LANES, i % LANES);
        c64::new(self.re[lane][entry], self.im[lane][entry])
    }

    fn set(&mut self, i: usize, z: c64) {
        let (lane, entry) = (i / LANES, i % LANES);
        self.re[lane][entry] = z.re;
        self.im[lane][entry] = z.im;
    }
}

struct Reduction {
    rows: usize,
    /// `u y + z w` is still to be subtracted from them.
    columns: Vec<Planes>,
    u: Planes,
    y: Vec<c64>,
    z: Planes,
    w: Vec<c64>,
}

impl Reduction {
    fn new(matrix: MatRef<'_, c64>) -> Self {
        let lanes = matrix.nrows().div_ceil(LANES);
        let columns = matrix.col_iter().map(|column| {
            let mut planes = Planes::zeros(lanes);
            for (i, &z) in column.iter().enumerate() {
                planes.set(i, z);
            }
            planes
        });
        Self {
            rows: matrix.nrows(),
            columns: columns.collect(),
            u: Planes::zeros(lanes),
            y: vec![c64::ZERO; matrix.ncols()],
            z: Planes::zeros(lanes),
            w: vec![c64::ZERO; matrix.ncols()],
        }
    }

    fn run(mut self) -> Bidiagonal {
        let (rows, count) = (self.rows, self.columns.len());
        let (mut diagonal, mut above) = (Vec::new(), Vec::new());
        let mut left = Mat::zeros(rows, count);
        // Reflections from the right begin at the second row.
        let mut right = Mat::zeros(count, count);
        for k in 0..count {
            let mut u = self.column(k);
            diagonal.push(reflection(&mut u).image);
            left.col_as_slice_mut(k)[k..].copy_from_slice(&u);
            if k + 1 == count {
                break;
            }
            let (image, v) = self.step(k, &u);
            above.push(image.conj());
            right.col_as_slice_mut(k + 1)[k + 1..].copy_from_slice(&v);
        }
        let (diagonal, above, left_phases, right_phases) = without_phases(&diagonal, &above);
        Bidiagonal {
            diagonal,
            above,
            left,
            left_phases,
            right,
            right_phases,
        }
    }

    /// Column `k` from row k on, as it is now.
    fn column(&self, k: usize) -> Vec<c64> {
        let (column, y, w) = (&self.columns[k], self.y[k], self.w[k]);
        (k..self.rows)
            .map(|i| column.get(i) - self.u.get(i) * y - self.z.get(i) * w)
            .collect()
    }

    /// With u the reflection of column k: finds the v of row k, and leaves `u uᴴ A + z vᴴ` to be subtracted. Returns
    /// the row's first entry after that, conjugated, and v.
    fn step(&mut self, k: usize, reflected: &[c64]) -> (c64, Vec<c64>) {
        let mut u = Planes::zeros(self.u.lanes());
        for (i, &z) in reflected.iter().enumerate() {
            u.set(k + i, z);
        }
        let (along, row, sum) = self.pass(k, &u);

        // z = A v - u (uᴴ A v). The pass has multiplied with the conjugated row, which is v but for a factor and the
        // first entry.
        let mut v: Vec<c64> = row.iter().map(c64::conj).collect();
        let Reflection { image, factor } = reflection(&mut v);
        let inner: c64 = along.iter().zip(&v).map(|(t, v)| t * v).sum();
        let next = &self.columns[k + 1];
        let mut z = Planes::zeros(u.lanes());
        for i in k + 1..self.rows {
            let product = (sum.get(i) - next.get(i) * image) * factor;
            z.set(i, product - u.get(i) * inner);
        }
        self.u = u;
        self.y[k + 1..].copy_from_slice(&along);
        self.z = z;
        for (w, v) in self.w[k + 1..].iter_mut().zip(&v) {
            *w = v.conj();
        }
        (image, v)
    }

    /// Passes over the columns beyond k. Returns `uᴴ A`, row k of `A - u uᴴ A`, and A times its conjugate.
    fn pass(&mut self, k: usize, u: &Planes) -> (Vec<c64>, Vec<c64>, Planes) {
        let remaining = self.columns.len() - k - 1;
        let mut along = vec![c64::ZERO; remaining];
        let mut row = vec![c64::ZERO; remaining];
        let small = remaining * (self.rows - k) < PARALLEL_ENTRIES;
        let width = remaining.div_ceil(if small { 1 } else { threads() });
        let mut tasks: Vec<Pass<'_>> = self.columns[k + 1..]
            .chunks_mut(width)
            .zip(self.y[k + 1..].chunks(width))
            .zip(self.w[k + 1..].chunks(width))
            .zip(along.chunks_mut(width).zip(row.chunks_mut(width)))
            .map(|(((columns, y), w), (along, row))| Pass {
                k,
                columns,
                before: (&self.u, y, &self.z, w),
                u,
                along,
                row,
                sum: Planes::zeros(u.lanes()),
            })
            .collect();
        let arch = Arch::new();
        if small {
            tasks.iter_mut().for_each(|task| arch.dispatch(task));
        } else {
            tasks
                .par_iter_mut()
                .for_each(|task| in_ieee_mode(|| arch.dispatch(task))());
        }
        let mut sums = tasks.into_iter().map(|task| task.sum);
        let mut sum = sums.next().expect("a step has at least one column");
        for other in sums {
            let parts = [(&mut sum.re, &other.re), (&mut sum.im, &other.im)];
            for (sum, other) in parts {
                let entries = sum.as_flattened_mut().iter_mut();
                entries.zip(other.as_flattened()).for_each(|(x, y)| *x += y);
            }
        }
        (along, row, sum)
    }
}

/// One step's pass over some of the columns.
struct Pass<'a> {
    k: usize,
    columns: &'a mut [Planes],
    /// u, y, z and w of the step before.
    before: (&'a Planes, &'a [c64], &'a Planes, &'a [c64]),
    u: &'a Planes,
    along: &'a mut [c64],
    row: &'a mut [c64],
    sum: Planes,
}

impl WithSimd for &mut Pass<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Rows above k in the first lane come along: there u is zero, and nobody asks for the others again.
        let first = self.k / LANES;
        let u_k = self.u.get(self.k);
        let (u, y, z, w) = self.before;
        for (j, column) in self.columns.iter_mut().enumerate() {
            let along = subtract_and_multiply(first, column, (u, y[j], z, w[j]), self.u);
            let entry = column.get(self.k) - u_k * along;
            self.along[j] = along;
            self.row[j] = entry;
            add_multiple(first, &mut self.sum, column, entry.conj());
        }
    }
}

/// `a -= u y + z w`; returns `vᴴ a`.
#[inline(always)]
fn subtract_and_multiply(
    first: usize,
    a: &mut Planes,
    (u, y, z, w): (&Planes, c64, &Planes, c64),
    v: &Planes,
) -> c64 {
    let lanes = a.lanes();
    let (mut re, mut im) = ([0.0; LANES], [0.0; LANES]);
    let (a_re, a_im) = (&mut a.re[first..lanes], &mut a.im[first..lanes]);
    let (u_re, u_im) = (&u.re[first..lanes], &u.im[first..lanes]);
    let (z_re, z_im) = (&z.re[first..lanes], &z.im[first..lanes]);
    let (v_re, v_im) = (&v.re[first..lanes], &v.im[first..lanes]);
    for i in 0..a_re.len() {
        let (mut x_re, mut x_im) = (a_re[i], a_im[i]);
        for l in 0..LANES {
            x_re[l] = u_re[i][l].mul_add(-y.re, x_re[l]);
            x_re[l] = u_im[i][l].mul_add(y.im, x_re[l]);
            x_re[l] = z_re[i][l].mul_add(-w.re, x_re[l]);
            x_re[l] = z_im[i][l].mul_add(w.im, x_re[l]);
            x_im[l] = u_re[i][l].mul_add(-y.im, x_im[l]);
            x_im[l] = u_im[i][l].mul_add(-y.re, x_im[l]);
            x_im[l] = z_re[i][l].mul_add(-w.im, x_im[l]);
            x_im[l] = z_im[i][l].mul_add(-w.re, x_im[l]);
        }
        a_re[i] = x_re;
        a_im[i] = x_im;
        for l in 0..LANES {
            re[l] = v_re[i][l].mul_add(x_re[l], re[l]);
            re[l] = v_im[i][l].mul_add(x_im[l], re[l]);
            im[l] = v_re[i][l].mul_add(x_im[l], im[l]);
            im[l] = v_im[i][l].mul_add(-x_re[l], im[l]);
        }
    }
    c64::new(re.iter().sum(), im.iter().sum())
}

/// `sum += a s`
#[inline(always)]
fn add_multiple(first: usize, sum: &mut Planes, a: &Planes, s: c64) {
    let lanes = a.lanes();
    let (a_re, a_im) = (&a.re[first..lanes], &a.im[first..lanes]);
    let (sum_re, sum_im) = (&mut sum.re[first..lanes], &mut sum.im[first..lanes]);
    for i in 0..a_re.len() {
        // Copies: with stores in between the compiler would not go by vectors.
        let (mut re, mut im) = (sum_re[i], sum_im[i]);
        for l in 0..LANES {
            re[l] = a_re[i][l].mul_add(s.re, re[l]);
            re[l] = a_im[i][l].mul_add(-s.im, re[l]);
            im[l] = a_re[i][l].mul_add(s.im, im[l]);
            im[l] = a_im[i][l].mul_add(s.re, im[l]);
        }
        sum_re[i] = re;
        sum_im[i] = im;
    }
}

/// What `I - u uᴴ` makes of the first entry of the vector that u came from; it makes zeros of the others. u is the
/// vector with the image subtracted from its first entry, times the factor.
struct Reflection {
    image: c64,
    factor: f64,
}

/// Replaces a vector by the u of its reflection.
fn reflection(vector: &mut [c64]) -> Reflection {
    let squared: f64 = vector.iter().map(|z| z.norm_sqr()).sum();
    if squared < SQUARES_UNDERFLOW {
        vector.fill(c64::ZERO);
        return Reflection {
            image: c64::ZERO,
            factor: 0.0,
        };
    }
    let (length, modulus) = (squared.sqrt(), vector[0].norm());
    let phase = if modulus == 0.0 {
        c64::ONE
    } else {
        vector[0] / modulus
    };
    let image = -(phase * length);
    vector[0] -= image; // of the opposite sign: no cancellation
    let factor = 1.0 / (length * (length + modulus)).sqrt();
    for z in vector {
        *z *= factor;
    }
    Reflection { image, factor }
}

/// Vectors shorter than the root of this count as zero: nothing beside matrices of order one.
const SQUARES_UNDERFLOW: f64 = 1e-280;

/// Moduli of a bidiagonal matrix, and the unimodular factors of its rows and columns.
fn without_phases(diagonal: &[c64], above: &[c64]) -> (Vec<f64>, Vec<f64>, Vec<c64>, Vec<c64>) {
    let phase = |z: c64| {
        let modulus = z.norm();
        if modulus == 0.0 {
            c64::ONE
        } else {
            z / modulus
        }
    };
    let (mut left, mut right) = (Vec::new(), vec![c64::ONE]);
    for (k, &d) in diagonal.iter().enumerate() {
        left.push(phase(d) * right[k]);
        if let Some(&e) = above.get(k) {
            right.push(left[k] * phase(e).conj());
        }
    }
    let moduli = |entries: &[c64]| entries.iter().map(|z| z.norm()).collect();
    (moduli(diagonal), moduli(above), left, right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bidiagonal_form_gives_the_matrix_back() {
        for (rows, columns) in [(1, 1), (5, 1), (2, 2), (9, 9), (40, 33), (160, 150)] {
            let matrix = Mat::from_fn(rows, columns, |i, j| {
                c64::new(
                    (1.0 + 3.0 * i as f64 + 7.0 * (i * j) as f64).sin(),
                    (2.0 + 5.0 * i as f64 - 3.0 * j as f64).cos(),
                )
            });
            let form = Bidiagonal::of(matrix.as_ref());
            let identity = Mat::<f64>::identity(columns, columns);
            let (left, right) = (form.left_vectors(&identity), form.right_vectors(&identity));
            let middle = Mat::from_fn(columns, columns, |i, j| match j.wrapping_sub(i) {
                0 => c64::new(form.diagonal[i], 0.0),
                1 => c64::new(form.above[i], 0.0),
                _ => c64::ZERO,
            });
            // Each of the reflections rounds by a few ε.
            let tolerance = 4.0 * (rows + columns) as f64 * f64::EPSILON;
            let error = (&left * &middle * right.adjoint() - &matrix).norm_l2();
            assert!(
                error <= tolerance * matrix.norm_l2(),
                "{rows} x {columns}: {error:e}"
            );
            for vectors in [left, right] {
                let identity = Mat::<c64>::identity(columns, columns);
                let error = (vectors.adjoint() * &vectors - identity).norm_max();
                assert!(error <= tolerance, "{rows} x {columns}: {error:e}");
            }
        }
    }
}

//! Complex Schur decomposition: a dense matrix as a triangular one in a unitary basis.

use faer::{Mat, c64};
use pulp::Arch;
use thiserror::Error;

use crate::arithmetic::power_of_two::{scale_complex, vector_exponent};
use crate::linalg::hessenberg::reduce_to_hessenberg;
use crate::linalg::matrix::{matrix_exponent, scale_matrix};
use crate::linalg::triangular::{phase, quotient, two_columns};

/// Sweeps allowed per eigenvalue, as in LAPACK; two or three are usual.
const SWEEPS_PER_EIGENVALUE: usize = 30;

/// `A = U T Uᴴ`, with U unitary and T upper triangular, both `[state, state]`; the diagonal of T holds the
/// eigenvalues.
#[derive(Debug, Clone)]
pub struct Schur {
    /// The basis U.
    pub(crate) unitary: Mat<c64>,
    /// T, zero below the diagonal.
    pub(crate) triangular: Mat<c64>,
}

/// Why a matrix has no Schur form.
#[derive(Debug, Clone, PartialEq, Error)]
pub(crate) enum SchurError {
    /// The QR iteration ran out of sweeps; entries that are not finite end here too.
    #[error("the QR iteration found {found} of {states} eigenvalues in {sweeps} sweeps")]
    NoConvergence {
        found: usize,
        states: usize,
        sweeps: usize,
    },
}

impl Schur {
    /// Schur decomposition of a square matrix, by reduction to Hessenberg form and QR sweeps with single shifts.
    ///
    /// # Precision
    /// Exact for a matrix within a small multiple of state · ε · ‖A‖ of the given one. A matrix that is upper
    /// triangular already is returned as it is. Entries of any size whose norm is finite.
    ///
    /// # Errors
    /// [`SchurError::NoConvergence`].
    ///
    /// # Source
    /// Golub, Van Loan, *Matrix Computations* (2013), section 7.5; shifts and deflation as in LAPACK's `zlahqr`, with
    /// the test of Ahues and Tisseur (LAPACK Working Note 122).
    pub(crate) fn of(matrix: &Mat<c64>) -> Result<Self, SchurError> {
        let states = matrix.nrows();
        let unit = matrix_exponent(matrix).unwrap_or(0);
        let mut triangular = scale_matrix(matrix, -unit);
        let mut unitary = Mat::identity(states, states);
        reduce_to_hessenberg(&mut triangular, &mut unitary);
        triangularize(&mut triangular, &mut unitary)?;
        Ok(Self {
            unitary,
            triangular: scale_matrix(&triangular, unit),
        })
    }

    /// The eigenvalues in the order of the triangular factor, `[state]`.
    pub(crate) fn eigenvalues(&self) -> Vec<c64> {
        (0..self.triangular.nrows())
            .map(|i| self.triangular[(i, i)])
            .collect()
    }

    /// Schur form of `Aᴴ`: the same basis backwards, at no cost.
    pub(crate) fn adjoint(&self) -> Self {
        let last = self.triangular.nrows() - 1;
        let (u, t) = (&self.unitary, &self.triangular);
        Self {
            unitary: Mat::from_fn(last + 1, last + 1, |i, j| u[(i, last - j)]),
            triangular: Mat::from_fn(last + 1, last + 1, |i, j| t[(last - j, last - i)].conj()),
        }
    }

    /// Moves the selected eigenvalues to the top, in the order in which they stand, and returns how many there are.
    ///
    /// The eigenvalues themselves do not change by a bit; the factors stay a decomposition to a few ε per swap.
    ///
    /// # Source
    /// Bai, Demmel (1993), in the complex case of LAPACK's `ztrexc`: one rotation per swap of neighbors.
    pub(crate) fn reorder(&mut self, select: impl Fn(c64) -> bool) -> usize {
        let mut selected = 0;
        for position in 0..self.triangular.nrows() {
            if select(self.triangular[(position, position)]) {
                for k in (selected..position).rev() {
                    self.swap(k);
                }
                selected += 1;
            }
        }
        selected
    }

    /// Exchanges the eigenvalues at `k` and `k + 1`.
    fn swap(&mut self, k: usize) {
        let t = &mut self.triangular;
        let (first, second) = (t[(k, k)], t[(k + 1, k + 1)]);
        // The first basis vector turns to the eigenvector of `second`, (t_k,k+1, second - first).
        let (rotation, _) = Rotation::new(t[(k, k + 1)], second - first);
        for j in k + 2..t.ncols() {
            rotation.apply_to_rows(t.col_as_slice_mut(j), k);
        }
        let (left, right) = two_columns(t, k, k + 1);
        rotation.apply_to_columns(&mut left[..k], &mut right[..k]);
        // Written, not computed: the rotation leaves the entry above the diagonal as it is.
        t[(k, k)] = second;
        t[(k + 1, k + 1)] = first;
        let (left, right) = two_columns(&mut self.unitary, k, k + 1);
        rotation.apply_to_columns(left, right);
    }
}

/// The unitary `[c s; -s̄ c]`.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    cosine: f64,
    sine: c64,
}

impl Rotation {
    /// The rotation that takes `(f, g)` to `(r, 0)`, and r.
    fn new(f: c64, g: c64) -> (Self, c64) {
        let Some(unit) = vector_exponent([f, g]) else {
            return (
                Self {
                    cosine: 1.0,
                    sine: c64::ZERO,
                },
                c64::ZERO,
            );
        };
        // Of f as it is: scaled, it could be subnormal next to g, and its phase no unit number.
        let phase = phase(f);
        let g = scale_complex(g, -unit);
        let f_modulus = scale_complex(f, -unit).norm();
        let modulus = f_modulus.hypot(g.norm());
        let rotation = Self {
            cosine: f_modulus / modulus,
            sine: phase * g.conj() / modulus,
        };
        (rotation, scale_complex(phase * modulus, unit))
    }

    /// Rows `k` and `k + 1` of one column, multiplied from the left.
    #[inline(always)]
    fn apply_to_rows(self, column: &mut [c64], k: usize) {
        let (x, y) = (column[k], column[k + 1]);
        column[k] = x * self.cosine + self.sine * y;
        column[k + 1] = y * self.cosine - self.sine.conj() * x;
    }

    /// Two columns, multiplied by the adjoint from the right.
    fn apply_to_columns(self, left: &mut [c64], right: &mut [c64]) {
        let (c, s) = (self.cosine, self.sine);
        Arch::new().dispatch(|| {
            for (x, y) in left.iter_mut().zip(right) {
                let (a, b) = (*x, *y);
                *x = a * c + s.conj() * b;
                *y = b * c - s * a;
            }
        });
    }
}

/// QR sweeps on a Hessenberg matrix with entries of size one, from the bottom up, until it is triangular.
fn triangularize(t: &mut Mat<c64>, unitary: &mut Mat<c64>) -> Result<(), SchurError> {
    let states = t.nrows();
    let sweeps = SWEEPS_PER_EIGENVALUE * states.max(10);
    let mut left = sweeps;
    let mut rotations = Vec::with_capacity(states);
    let mut end = states.saturating_sub(1);
    let mut since_deflation = 0;
    while end > 0 {
        let start = window_start(t, end);
        if start > 0 {
            t[(start, start - 1)] = c64::ZERO;
        }
        if start == end {
            end -= 1;
            since_deflation = 0;
            continue;
        }
        if left == 0 {
            return Err(SchurError::NoConvergence {
                found: states - 1 - end,
                states,
                sweeps,
            });
        }
        left -= 1;
        since_deflation += 1;
        // Some matrices repeat themselves under the usual shift, a cyclic permutation for one.
        let shift = match since_deflation % 20 {
            10 => t[(start, start)] + 0.75 * t[(start + 1, start)].norm(),
            0 => t[(end, end)] + 0.75 * t[(end, end - 1)].norm(),
            _ => wilkinson_shift(t, end),
        };
        sweep(t, unitary, start..end, shift, &mut rotations);
    }
    Ok(())
}

/// First row of the block that ends at `end` and has no negligible subdiagonal entry.
fn window_start(t: &Mat<c64>, end: usize) -> usize {
    let tiny = f64::MIN_POSITIVE / f64::EPSILON;
    let negligible = |k: usize| {
        let (below, above) = (t[(k, k - 1)].l1_norm(), t[(k - 1, k)].l1_norm());
        if below <= tiny {
            return true;
        }
        let (upper, lower) = (t[(k - 1, k - 1)], t[(k, k)]);
        let mut neighbors = upper.l1_norm() + lower.l1_norm();
        if neighbors == 0.0 {
            neighbors += if k >= 2 {
                t[(k - 1, k - 2)].norm()
            } else {
                0.0
            };
            neighbors += if k + 1 < t.nrows() {
                t[(k + 1, k)].norm()
            } else {
                0.0
            };
        }
        if below > f64::EPSILON * neighbors {
            return false;
        }
        // Ahues and Tisseur: what matters is below · above against the gap between the eigenvalues of the block.
        let gap = (upper - lower).l1_norm();
        let (larger, smaller) = (lower.l1_norm().max(gap), lower.l1_norm().min(gap));
        let sum = larger + below.max(above);
        below.min(above) * (below.max(above) / sum)
            <= tiny.max(f64::EPSILON * (smaller * (larger / sum)))
    };
    (1..=end).rev().find(|&k| negligible(k)).unwrap_or(0)
}

/// The eigenvalue of the last two rows and columns of the window that is nearer to the last entry.
fn wilkinson_shift(t: &Mat<c64>, end: usize) -> c64 {
    let corner = t[(end, end)];
    let coupling = t[(end - 1, end)].sqrt() * t[(end, end - 1)].sqrt();
    if coupling == c64::ZERO {
        return corner;
    }
    let half = (t[(end - 1, end - 1)] - corner) * 0.5;
    // In units of the larger one: plain products of entries of 1e-200 would be zero, and so would the divisor.
    let size = coupling.l1_norm().max(half.l1_norm());
    let (x, y) = (half / size, coupling / size);
    let mut root = (x * x + y * y).sqrt();
    if x.re * root.re + x.im * root.im < 0.0 {
        root = -root;
    }
    corner - coupling * quotient(y, x + root)
}

/// One sweep with a shift over the window `range.start..=range.end`.
///
/// A column is touched once, from top to bottom, when the bulge reaches it: row by row across the matrix every entry
/// would come from another cache line.
fn sweep(
    t: &mut Mat<c64>,
    unitary: &mut Mat<c64>,
    range: std::ops::Range<usize>,
    shift: c64,
    rotations: &mut Vec<Rotation>,
) {
    let (start, end) = (range.start, range.end);
    rotations.clear();
    let (mut f, mut g) = (t[(start, start)] - shift, t[(start + 1, start)]);
    for k in range {
        let (rotation, head) = Rotation::new(f, g);
        if k > start {
            t[(k, k - 1)] = head;
            t[(k + 1, k - 1)] = c64::ZERO;
        }
        // Column k has seen all rotations but this one, column k + 1 none.
        rotation.apply_to_rows(t.col_as_slice_mut(k), k);
        rotations.push(rotation);
        apply_down(rotations, &mut t.col_as_slice_mut(k + 1)[start..]);
        let rows = (k + 2).min(end) + 1;
        let (left, right) = two_columns(t, k, k + 1);
        rotation.apply_to_columns(&mut left[..rows], &mut right[..rows]);
        let (left, right) = two_columns(unitary, k, k + 1);
        rotation.apply_to_columns(left, right);
        if k + 1 < end {
            (f, g) = (t[(k + 1, k)], t[(k + 2, k)]);
        }
    }
    for j in end + 1..t.ncols() {
        apply_down(rotations, &mut t.col_as_slice_mut(j)[start..]);
    }
}

/// A sequence of rotations, each one row below the last, on one column.
fn apply_down(rotations: &[Rotation], column: &mut [c64]) {
    let mut x = column[0];
    for (k, rotation) in rotations.iter().enumerate() {
        let y = column[k + 1];
        column[k] = x * rotation.cosine + rotation.sine * y;
        x = y * rotation.cosine - rotation.sine.conj() * x;
    }
    column[rotations.len()] = x;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random_matrix, random_unitary, with_eigenvalues};

    /// `A = U T Uᴴ`, `Uᴴ U = I`, T triangular.
    fn assert_decomposes(schur: &Schur, matrix: &Mat<c64>, what: &str) {
        let states = matrix.nrows();
        for j in 0..states {
            assert!(
                (j + 1..states).all(|i| schur.triangular[(i, j)] == c64::ZERO),
                "{what}"
            );
        }
        // Reflections and rotations, a few per state, each exact to a few ε.
        let tolerance = 8.0 * states as f64 * f64::EPSILON;
        let identity: Mat<c64> = Mat::identity(states, states);
        let skew = (schur.unitary.adjoint() * &schur.unitary - identity).norm_l2();
        assert!(
            skew <= tolerance,
            "{what}: Uᴴ U is off by {skew:e} > {tolerance:e}"
        );
        let unit = matrix_exponent(matrix).unwrap_or(0);
        let (scaled, triangular) = (
            scale_matrix(matrix, -unit),
            scale_matrix(&schur.triangular, -unit),
        );
        let error = (&schur.unitary * triangular * schur.unitary.adjoint() - &scaled).norm_l2();
        let tolerance = tolerance * scaled.norm_l2();
        assert!(error <= tolerance, "{what}: {error:e} > {tolerance:e}");
    }

    /// Ones on the subdiagonal and in the last corner: QR with a zero shift leaves it as it is.
    fn cyclic(states: usize) -> Mat<c64> {
        Mat::from_fn(states, states, |i, j| {
            if i == (j + 1) % states {
                c64::ONE
            } else {
                c64::ZERO
            }
        })
    }

    fn jordan(states: usize, lambda: c64) -> Mat<c64> {
        Mat::from_fn(states, states, |i, j| match j.wrapping_sub(i) {
            0 => lambda,
            1 => c64::ONE,
            _ => c64::ZERO,
        })
    }

    #[test]
    fn the_factors_multiply_to_the_matrix() {
        for states in [0, 1, 2, 3, 5, 8, 17, 40] {
            let random = random_matrix(states as u64, states, states);
            let hermitian = &random + random.adjoint();
            let basis = random_unitary(7, states);
            let defective = &basis * jordan(states, c64::new(0.5, 0.5)) * basis.adjoint();
            // From 1 down to 1e-120 by row and column.
            let graded = Mat::from_fn(states, states, |i, j| {
                random[(i, j)] * 10f64.powi(-(3 * (i + j) as i32))
            });
            // Exponents anywhere, down to subnormal numbers.
            let wild = Mat::from_fn(states, states, |i, j| {
                scale_complex(random[(i, j)], (random[(i, j)].im * 1e5) as i32 % 1060 - 40)
            });
            let cases = [
                ("random", random.clone()),
                ("Hermitian", hermitian),
                ("unitary", basis.clone()),
                ("defective", defective),
                ("graded", graded),
                ("wild", wild),
                ("cyclic", cyclic(states)),
                (
                    "transposed Jordan block",
                    jordan(states, c64::ONE).transpose().to_owned(),
                ),
                ("zero", Mat::zeros(states, states)),
            ];
            for (name, matrix) in cases {
                let schur = Schur::of(&matrix).unwrap_or_else(|e| panic!("{name} {states}: {e}"));
                assert_decomposes(&schur, &matrix, &format!("{name} {states}"));
            }
        }
    }

    #[test]
    fn units_from_1e_minus_300_to_1e300_change_nothing() {
        let matrix = random_matrix(3, 12, 12);
        let plain = Schur::of(&matrix).unwrap();
        for unit in [-1000, -500, 500, 1000] {
            let scaled = Schur::of(&scale_matrix(&matrix, unit)).unwrap();
            assert_eq!(scaled.unitary, plain.unitary);
            assert_eq!(scaled.triangular, scale_matrix(&plain.triangular, unit));
        }
    }

    #[test]
    fn a_triangular_matrix_stays_as_it_is() {
        let matrix = jordan(9, c64::new(0.1, -0.7));
        let schur = Schur::of(&matrix).unwrap();
        assert_eq!(schur.triangular, matrix);
        assert_eq!(schur.unitary, Mat::<c64>::identity(9, 9));
    }

    #[test]
    fn known_eigenvalues_are_found() {
        let lambda: Vec<c64> = (0..20)
            .map(|k| c64::from_polar(0.04 * (k + 5) as f64, 2.4 * k as f64))
            .collect();
        let matrix = with_eigenvalues(11, &lambda, 0.0);
        let found = Schur::of(&matrix).unwrap().eigenvalues();
        for expected in &lambda {
            let nearest = found
                .iter()
                .map(|z| (z - expected).norm())
                .fold(f64::INFINITY, f64::min);
            // A normal matrix: its eigenvalues move as far as the matrix does.
            assert!(
                nearest <= 8.0 * 20.0 * f64::EPSILON,
                "{expected}: {nearest:e}"
            );
        }
    }

    #[test]
    fn selected_eigenvalues_move_to_the_top_unchanged() {
        let matrix = random_matrix(5, 24, 24);
        let plain = Schur::of(&matrix).unwrap();
        let select = |z: c64| z.re > 0.0;
        let mut ordered = plain.clone();
        let count = ordered.reorder(select);
        let (top, rest): (Vec<c64>, Vec<c64>) =
            plain.eigenvalues().into_iter().partition(|&z| select(z));
        assert_eq!(count, top.len());
        assert!(count > 0 && count < 24);
        assert_eq!(ordered.eigenvalues()[..count], top);
        for z in rest {
            assert!(ordered.eigenvalues()[count..].contains(&z));
        }
        // At most 12 · 12 swaps, of a few ε each.
        assert_decomposes(&ordered, &matrix, "reordered");
    }

    #[test]
    fn equal_eigenvalues_can_be_reordered() {
        let mut schur = Schur::of(&jordan(4, c64::ONE)).unwrap();
        assert_eq!(schur.reorder(|_| true), 4);
        assert_eq!(schur.reorder(|_| false), 0);
        let mut identity = Schur::of(&Mat::identity(3, 3)).unwrap();
        assert_eq!(identity.reorder(|z| z == c64::ONE), 3);
    }

    #[test]
    fn nan_is_an_error_and_no_endless_loop() {
        let mut matrix = random_matrix(2, 6, 6);
        matrix[(3, 2)] = c64::new(f64::NAN, 0.0);
        assert!(matches!(
            Schur::of(&matrix),
            Err(SchurError::NoConvergence { states: 6, .. })
        ));
    }
}

//! The recurrence and its adjoint over one panel and one chunk, in place.

#![allow(
    clippy::needless_range_loop,
    reason = "vectors of a panel are named by plane and number, here as in their addresses"
)]

use pulp::Simd;

use crate::cpu::Real;

/// x_k = λ x_{k-1} + x_k over rows of real, then imaginary parts; `state` is x before the first row and becomes the last.
#[inline(always)]
pub(super) fn scan<S: Simd, T: Real>(simd: S, lambda: &[T], state: &mut [T], states: &mut [T]) {
    let vectors = lambda.len() / 2 / T::lanes::<S>();
    let mut first = 0;
    while first < vectors {
        // As many vectors at once as registers allow: one after the other, each step waits for the step before.
        first += match vectors - first {
            4.. if S::REGISTER_COUNT >= 32 => {
                scan_vectors::<S, T, 4>(simd, first, lambda, state, states)
            }
            2.. => scan_vectors::<S, T, 2>(simd, first, lambda, state, states),
            _ => scan_vectors::<S, T, 1>(simd, first, lambda, state, states),
        };
    }
}

/// Vectors `first..first + V` of the panel. Returns `V`.
#[inline(always)]
fn scan_vectors<S: Simd, T: Real, const V: usize>(
    simd: S,
    first: usize,
    lambda: &[T],
    state: &mut [T],
    states: &mut [T],
) -> usize {
    let width = lambda.len();
    let part = Part::<V>::new::<S, T>(first, width);
    let lambda = part.load::<S, T>(simd, lambda);
    let mut x = part.load::<S, T>(simd, state);
    for row in states.chunks_exact_mut(width) {
        let b = part.load::<S, T>(simd, row);
        for v in 0..V {
            let (re, im) = (x[0][v], x[1][v]);
            let part_re = T::mul_add(simd, lambda[0][v], re, b[0][v]);
            let part_im = T::mul_add(simd, lambda[0][v], im, b[1][v]);
            x[0][v] = T::negate_mul_add(simd, lambda[1][v], im, part_re);
            x[1][v] = T::mul_add(simd, lambda[1][v], re, part_im);
        }
        part.store::<S, T>(row, x);
    }
    part.store::<S, T>(state, x);
    V
}

/// s_k = conj(λ) s_{k+1} + s_k, last row first; `adjoint` is s behind the last row and becomes the first. Adds
/// Σ s_k conj(x_{k-1}) to `lambda_gradient`; `before` is x before the first row of `states`.
#[inline(always)]
pub(super) fn adjoint_scan<S: Simd, T: Real>(
    simd: S,
    lambda: &[T],
    [before, states]: [&[T]; 2],
    adjoint: &mut [T],
    adjoints: &mut [T],
    lambda_gradient: &mut [T],
) {
    let vectors = lambda.len() / 2 / T::lanes::<S>();
    let mut first = 0;
    while first < vectors {
        let arguments = (lambda, before, states);
        first += match vectors - first {
            4.. if S::REGISTER_COUNT >= 32 => adjoint_vectors::<S, T, 4>(
                simd,
                first,
                arguments,
                adjoint,
                adjoints,
                lambda_gradient,
            ),
            2.. => adjoint_vectors::<S, T, 2>(
                simd,
                first,
                arguments,
                adjoint,
                adjoints,
                lambda_gradient,
            ),
            _ => adjoint_vectors::<S, T, 1>(
                simd,
                first,
                arguments,
                adjoint,
                adjoints,
                lambda_gradient,
            ),
        };
    }
}

/// Vectors `first..first + V` of the panel. Returns `V`.
#[inline(always)]
fn adjoint_vectors<S: Simd, T: Real, const V: usize>(
    simd: S,
    first: usize,
    (lambda, before, states): (&[T], &[T], &[T]),
    adjoint: &mut [T],
    adjoints: &mut [T],
    lambda_gradient: &mut [T],
) -> usize {
    let width = lambda.len();
    let part = Part::<V>::new::<S, T>(first, width);
    let lambda = part.load::<S, T>(simd, lambda);
    let mut s = part.load::<S, T>(simd, adjoint);
    let mut sums = part.load::<S, T>(simd, lambda_gradient);
    let steps = adjoints.len() / width;
    for (k, row) in adjoints.chunks_exact_mut(width).enumerate().rev() {
        debug_assert!(k < steps);
        let past = match k {
            0 => before,
            _ => &states[(k - 1) * width..],
        };
        let (drive, past) = (part.load::<S, T>(simd, row), part.load::<S, T>(simd, past));
        for v in 0..V {
            let (re, im) = (s[0][v], s[1][v]);
            let part_re = T::mul_add(simd, lambda[0][v], re, drive[0][v]);
            let part_im = T::mul_add(simd, lambda[0][v], im, drive[1][v]);
            let re_next = T::mul_add(simd, lambda[1][v], im, part_re);
            let im_next = T::negate_mul_add(simd, lambda[1][v], re, part_im);
            s[0][v] = re_next;
            s[1][v] = im_next;
            let sum_re = T::mul_add(simd, re_next, past[0][v], sums[0][v]);
            let sum_im = T::mul_add(simd, im_next, past[0][v], sums[1][v]);
            sums[0][v] = T::mul_add(simd, im_next, past[1][v], sum_re);
            sums[1][v] = T::negate_mul_add(simd, re_next, past[1][v], sum_im);
        }
        part.store::<S, T>(row, s);
    }
    part.store::<S, T>(adjoint, s);
    part.store::<S, T>(lambda_gradient, sums);
    V
}

/// `V` neighboring vectors of both planes of a row.
#[derive(Clone, Copy)]
struct Part<const V: usize> {
    real: usize,
    imaginary: usize,
    end: usize,
}

impl<const V: usize> Part<V> {
    #[inline(always)]
    fn new<S: Simd, T: Real>(first: usize, width: usize) -> Self {
        let real = first * T::lanes::<S>();
        let imaginary = width / 2 + real;
        Self {
            real,
            imaginary,
            end: imaginary + V * T::lanes::<S>(),
        }
    }

    #[inline(always)]
    fn load<S: Simd, T: Real>(self, simd: S, row: &[T]) -> [[T::Lanes<S>; V]; 2] {
        assert!(row.len() >= self.end, "a row holds both planes");
        let mut out = [[T::splat(simd, T::ZERO); V]; 2];
        for (plane, start) in [self.real, self.imaginary].into_iter().enumerate() {
            for v in 0..V {
                // SAFETY: the assertion keeps both planes inside the row; the real one lies before the imaginary one.
                let at = unsafe { row.as_ptr().add(start).cast::<T::Lanes<S>>().add(v) };
                // SAFETY: as above; elements are plain numbers.
                out[plane][v] = unsafe { at.read_unaligned() };
            }
        }
        out
    }

    #[inline(always)]
    fn store<S: Simd, T: Real>(self, row: &mut [T], values: [[T::Lanes<S>; V]; 2]) {
        assert!(row.len() >= self.end, "a row holds both planes");
        for (plane, start) in [self.real, self.imaginary].into_iter().enumerate() {
            for v in 0..V {
                // SAFETY: as in `load`.
                unsafe {
                    let at = row.as_mut_ptr().add(start).cast::<T::Lanes<S>>().add(v);
                    at.write_unaligned(values[plane][v]);
                }
            }
        }
    }
}

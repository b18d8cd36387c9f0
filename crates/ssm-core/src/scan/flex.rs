//! Native CPU kernel: batch rows in parallel, every row one step after the other. Bound by memory, so lanes across states
//! are all it takes.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{Decay, Field, ScanParts};
use crate::cpu::{Real, accumulate, dims, tensor, vectorized};

/// Elements between the factors of one step and the next, and of one batch row and the next.
fn decay_strides(decay: &Decay<FlexTensor>, length: usize, width: usize) -> [usize; 2] {
    match decay {
        Decay::Constant(_) => [0, 0],
        Decay::PerStep(_) => [width, length * width],
    }
}

pub(super) fn forward<T: Real>(scan: &ScanParts<FlexTensor>) -> FlexTensor {
    let [batch, length, width] = dims(&scan.sequence);
    let [step, row] = decay_strides(&scan.decay, length, width);
    let decay = scan.decay.tensor().storage::<T>();
    let initial = scan.initial_state.storage::<T>();
    let mut states = scan.sequence.storage::<T>().to_vec();
    states
        .par_chunks_mut(length * width)
        .enumerate()
        .for_each(|(index, states)| {
            let initial = &initial[index * width..][..width];
            let decay = &decay[index * row..];
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for k in 0..length {
                        let (past, present) = states.split_at_mut(k * width);
                        let past = if k == 0 {
                            initial
                        } else {
                            &past[(k - 1) * width..]
                        };
                        let a = &decay[k * step..][..width];
                        multiply_add(scan.field, a, past, &mut present[..width]);
                    }
                },
            );
        });
    tensor(states, [batch, length, width])
}

/// `out += a ∘ h`.
#[inline(always)]
fn multiply_add<T: Real>(field: Field, a: &[T], h: &[T], out: &mut [T]) {
    match field {
        Field::Real => {
            for ((out, a), h) in out.iter_mut().zip(a).zip(h) {
                *out += *a * *h;
            }
        }
        Field::Complex => {
            let n = out.len() / 2;
            let ((a_re, a_im), (h_re, h_im)) = (a.split_at(n), h.split_at(n));
            let (re, im) = out.split_at_mut(n);
            let (a_im, h_re, h_im, im) = (&a_im[..n], &h_re[..n], &h_im[..n], &mut im[..n]);
            for i in 0..n {
                re[i] += a_re[i] * h_re[i] - a_im[i] * h_im[i];
                im[i] += a_re[i] * h_im[i] + a_im[i] * h_re[i];
            }
        }
    }
}

/// `out += conj(a) ∘ s`.
#[inline(always)]
fn conjugate_multiply_add<T: Real>(field: Field, a: &[T], s: &[T], out: &mut [T]) {
    match field {
        Field::Real => multiply_add(field, a, s, out),
        Field::Complex => {
            let n = out.len() / 2;
            let ((a_re, a_im), (s_re, s_im)) = (a.split_at(n), s.split_at(n));
            let (re, im) = out.split_at_mut(n);
            let (a_im, s_re, s_im, im) = (&a_im[..n], &s_re[..n], &s_im[..n], &mut im[..n]);
            for i in 0..n {
                re[i] += a_re[i] * s_re[i] + a_im[i] * s_im[i];
                im[i] += a_re[i] * s_im[i] - a_im[i] * s_re[i];
            }
        }
    }
}

/// Gradients of factors, input and initial state.
pub(super) fn backward<T: Real>(
    scan: &ScanParts<FlexTensor>,
    output_gradient: &FlexTensor,
) -> [FlexTensor; 3] {
    let [batch, length, width] = dims(&scan.sequence);
    let [step, row] = decay_strides(&scan.decay, length, width);
    let decay = scan.decay.tensor().storage::<T>();
    let initial = scan.initial_state.storage::<T>();
    let states = scan.sequence.storage::<T>();
    let mut adjoints = output_gradient.storage::<T>().to_vec();
    let mut initial_gradient = vec![T::ZERO; batch * width];
    // Per batch row, one row or one per step.
    let decay_rows = if step == 0 { 1 } else { length };
    let mut decay_gradient = vec![T::ZERO; batch * decay_rows * width];
    adjoints
        .par_chunks_mut(length * width)
        .zip(initial_gradient.par_chunks_mut(width))
        .zip(decay_gradient.par_chunks_mut(decay_rows * width))
        .enumerate()
        .for_each(|(index, ((adjoints, initial_gradient), decay_gradient))| {
            let initial = &initial[index * width..][..width];
            let decay = &decay[index * row..];
            let states = &states[index * length * width..][..length * width];
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for k in (0..length).rev() {
                        let (present, next) = adjoints.split_at_mut((k + 1) * width);
                        let present = &mut present[k * width..];
                        if k + 1 < length {
                            let a = &decay[(k + 1) * step..][..width];
                            conjugate_multiply_add(scan.field, a, &next[..width], present);
                        }
                        let past = match k {
                            0 => initial,
                            _ => &states[(k - 1) * width..][..width],
                        };
                        let sums = &mut decay_gradient[k * step..][..width];
                        conjugate_multiply_add(scan.field, past, present, sums);
                    }
                    let first = &adjoints[..width];
                    conjugate_multiply_add(scan.field, &decay[..width], first, initial_gradient);
                },
            );
        });
    let decay = match scan.decay {
        Decay::PerStep(_) => tensor(decay_gradient, [batch, length, width]),
        Decay::Constant(_) => {
            let mut total = vec![T::ZERO; width];
            for part in decay_gradient.chunks_exact(width) {
                accumulate(&mut total, part);
            }
            tensor(total, [width])
        }
    };
    [
        decay,
        tensor(adjoints, [batch, length, width]),
        tensor(initial_gradient, [batch, width]),
    ]
}

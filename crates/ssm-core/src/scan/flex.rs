//! Native CPU kernel: batch rows in parallel, every row one step after the other. Bound by memory, so lanes across states
//! are all it takes.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{Decay, Field, LinearScan, LinearScanGradients};
use crate::cpu::{Real, accumulate, dims, tensor, vectorized};

pub(crate) fn forward(scan: &LinearScan<FlexTensor>) -> FlexTensor {
    match scan.input.dtype() {
        DType::F64 => forward_typed::<f64>(scan),
        _ => forward_typed::<f32>(scan),
    }
}

pub(crate) fn backward(
    scan: &LinearScan<FlexTensor>,
    states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> LinearScanGradients<FlexTensor> {
    match scan.input.dtype() {
        DType::F64 => backward_typed::<f64>(scan, states, output_gradient),
        _ => backward_typed::<f32>(scan, states, output_gradient),
    }
}

/// Elements between the factors of one step and the next, and of one batch row and the next.
fn decay_strides(decay: &Decay<FlexTensor>, length: usize, width: usize) -> [usize; 2] {
    match decay {
        Decay::Constant(_) => [0, 0],
        Decay::PerStep(_) => [width, length * width],
    }
}

fn forward_typed<T: Real>(scan: &LinearScan<FlexTensor>) -> FlexTensor {
    let [batch, length, width] = dims(&scan.input);
    let [step, row] = decay_strides(&scan.decay, length, width);
    let (decay, input, initial) = (
        scan.decay.tensor().to_contiguous(),
        scan.input.to_contiguous(),
        scan.initial_state.to_contiguous(),
    );
    let (decay, initial) = (decay.storage::<T>(), initial.storage::<T>());
    let mut states = input.storage::<T>().to_vec();
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

fn backward_typed<T: Real>(
    scan: &LinearScan<FlexTensor>,
    states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> LinearScanGradients<FlexTensor> {
    let [batch, length, width] = dims(&scan.input);
    let [step, row] = decay_strides(&scan.decay, length, width);
    let (decay, initial, states, gradient) = (
        scan.decay.tensor().to_contiguous(),
        scan.initial_state.to_contiguous(),
        states.to_contiguous(),
        output_gradient.to_contiguous(),
    );
    let (decay, initial, states) = (
        decay.storage::<T>(),
        initial.storage::<T>(),
        states.storage::<T>(),
    );
    let mut adjoints = gradient.storage::<T>().to_vec();
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
    LinearScanGradients {
        decay,
        input: tensor(adjoints, [batch, length, width]),
        initial_state: tensor(initial_gradient, [batch, width]),
    }
}

//! Native CPU kernel: one pass per statistic, sums in `f64`, one pass to normalize.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::Normalized;
use crate::cpu::{REDUCTION_PIECES, Real, contiguous, dims, tensor};

pub(crate) fn forward(input: &FlexTensor, epsilon: f64) -> Normalized<FlexTensor> {
    match input.dtype() {
        DType::F64 => forward_typed::<f64>(input, epsilon),
        _ => forward_typed::<f32>(input, epsilon),
    }
}

pub(crate) fn backward(
    normalized: &FlexTensor,
    variance: &FlexTensor,
    epsilon: f64,
    output_gradient: &FlexTensor,
) -> FlexTensor {
    match normalized.dtype() {
        DType::F64 => backward_typed::<f64>(normalized, variance, epsilon, output_gradient),
        _ => backward_typed::<f32>(normalized, variance, epsilon, output_gradient),
    }
}

/// Elements of one of the pieces that rows of `hidden` elements are cut into.
fn piece_len(elements: usize, hidden: usize) -> usize {
    (elements / hidden).div_ceil(REDUCTION_PIECES).max(1) * hidden
}

/// Mean over rows of what `add` adds to the sums for one row, per channel.
fn mean_over_rows<T: Real>(
    data: &[T],
    hidden: usize,
    add: impl Fn(usize, &[T], &mut [f64]) + Sync,
) -> Vec<f64> {
    let piece = piece_len(data.len(), hidden);
    let sums: Vec<Vec<f64>> = data
        .par_chunks(piece)
        .enumerate()
        .map(|(index, rows)| {
            let mut sums = vec![0.0; hidden];
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (k, row) in rows.chunks_exact(hidden).enumerate() {
                        add(index * piece + k * hidden, row, &mut sums);
                    }
                },
            );
            sums
        })
        .collect();
    let rows = (data.len() / hidden) as f64;
    (0..hidden)
        .map(|j| sums.iter().map(|s| s[j]).sum::<f64>() / rows)
        .collect()
}

fn forward_typed<T: Real>(input: &FlexTensor, epsilon: f64) -> Normalized<FlexTensor> {
    let [batch, length, hidden] = dims(input);
    let input = contiguous(input);
    let x = input.storage::<T>();
    let mean = mean_over_rows(
        x,
        hidden,
        #[inline(always)]
        |_, row, sums| {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x.into_f64();
            }
        },
    );
    let variance = mean_over_rows(
        x,
        hidden,
        #[inline(always)]
        |_, row, sums| {
            for ((sum, x), mean) in sums.iter_mut().zip(row).zip(&mean) {
                let centered = x.into_f64() - mean;
                *sum += centered * centered;
            }
        },
    );
    let convert = |v: &[f64]| v.iter().map(|v| T::from_f64(*v)).collect::<Vec<T>>();
    let center = convert(&mean);
    let scale: Vec<T> = variance
        .iter()
        .map(|v| T::from_f64(1.0 / (v + epsilon).sqrt()))
        .collect();
    let mut output = vec![T::ZERO; x.len()];
    let piece = piece_len(x.len(), hidden);
    output
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .for_each(|(output, x)| {
            for (output, x) in output.chunks_exact_mut(hidden).zip(x.chunks_exact(hidden)) {
                for j in 0..hidden {
                    output[j] = (x[j] - center[j]) * scale[j];
                }
            }
        });
    Normalized {
        output: tensor(output, [batch, length, hidden]),
        mean: tensor(center, [hidden]),
        variance: tensor(convert(&variance), [hidden]),
    }
}

/// With n rows and x̂ the normalized input: ∂x = (g - mean(g) - x̂ mean(g x̂)) / sqrt(variance + epsilon).
fn backward_typed<T: Real>(
    normalized: &FlexTensor,
    variance: &FlexTensor,
    epsilon: f64,
    output_gradient: &FlexTensor,
) -> FlexTensor {
    let [batch, length, hidden] = dims(normalized);
    let (normalized, gradient) = (contiguous(normalized), contiguous(output_gradient));
    let (x, g) = (normalized.storage::<T>(), gradient.storage::<T>());
    let mean_gradient = mean_over_rows(
        g,
        hidden,
        #[inline(always)]
        |_, row, sums| {
            for (sum, g) in sums.iter_mut().zip(row) {
                *sum += g.into_f64();
            }
        },
    );
    let mean_product = mean_over_rows(
        g,
        hidden,
        #[inline(always)]
        |start, row, sums| {
            for ((sum, g), x) in sums.iter_mut().zip(row).zip(&x[start..]) {
                *sum += g.into_f64() * x.into_f64();
            }
        },
    );
    let variance = contiguous(variance);
    let scale: Vec<T> = variance
        .storage::<T>()
        .iter()
        .map(|v| T::from_f64(1.0 / (v.into_f64() + epsilon).sqrt()))
        .collect();
    let offset: Vec<T> = mean_gradient.into_iter().map(T::from_f64).collect();
    let slope: Vec<T> = mean_product.into_iter().map(T::from_f64).collect();
    let mut dx = vec![T::ZERO; x.len()];
    let piece = piece_len(x.len(), hidden);
    dx.par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .for_each(|((dx, x), g)| {
            let rows = dx
                .chunks_exact_mut(hidden)
                .zip(x.chunks_exact(hidden))
                .zip(g.chunks_exact(hidden));
            for ((dx, x), g) in rows {
                for j in 0..hidden {
                    dx[j] = (g[j] - offset[j] - x[j] * slope[j]) * scale[j];
                }
            }
        });
    tensor(dx, [batch, length, hidden])
}

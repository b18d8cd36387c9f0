//! Native CPU kernel: one pass for both statistics, sums in `f64`, one pass to normalize.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::cpu::{Real, dims, piece_len, tensor, tile_len, vectorized};

pub(super) fn normalize<T: Real>(
    input: &FlexTensor,
    mean: &FlexTensor,
    variance: &FlexTensor,
    epsilon: f64,
) -> FlexTensor {
    let [batch, length, hidden] = dims(input);
    let [mean, variance] = [mean, variance].map(|t| widened(t.storage::<T>()));
    let output = scaled(input.storage::<T>(), hidden, epsilon, &mean, &variance);
    tensor(output, [batch, length, hidden])
}

/// One value per channel, repeated over a tile.
fn tiled<T: Real>(values: impl Iterator<Item = f64>, hidden: usize) -> Vec<T> {
    let values: Vec<T> = values.map(T::from_f64).collect();
    values.repeat(tile_len(hidden) / hidden)
}

/// In `f64`, a subnormal `f32` as zero.
fn widened<T: Real>(values: &[T]) -> Vec<f64> {
    let _mode = T::subnormals();
    values.iter().map(|value| value.into_f64()).collect()
}

/// Means over rows, per channel, of the two quantities that `pair` makes of the element of `x` and of `y` at the same
/// place and of its channel's entry of `center`.
fn means_over_rows<T: Real>(
    [x, y]: [&[T]; 2],
    center: &[T],
    pair: impl Fn(f64, f64, f64) -> [f64; 2] + Sync,
) -> [Vec<f64>; 2] {
    let hidden = center.len();
    let (piece, tile) = (piece_len(x.len(), hidden), tile_len(hidden));
    let center: Vec<f64> = tiled(widened(center).into_iter(), hidden);
    let sums: Vec<[Vec<f64>; 2]> = x
        .par_chunks(piece)
        .zip(y.par_chunks(piece))
        .map(|(x, y)| {
            let [mut first, mut second] = [(); 2].map(|()| vec![0.0; tile]);
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for (x, y) in x.chunks(tile).zip(y.chunks(tile)) {
                        let sums = first.iter_mut().zip(&mut second).zip(&center);
                        for (((first, second), center), (x, y)) in sums.zip(x.iter().zip(y)) {
                            let [a, b] = pair(x.into_f64(), y.into_f64(), *center);
                            *first += a;
                            *second += b;
                        }
                    }
                },
            );
            [first, second]
        })
        .collect();
    let rows = (x.len() / hidden) as f64;
    [0, 1].map(|which| {
        let mean = |j| {
            let channel = sums
                .iter()
                .flat_map(|sums| sums[which].iter().skip(j).step_by(hidden));
            channel.sum::<f64>() / rows
        };
        (0..hidden).map(mean).collect()
    })
}

/// Output, mean and variance.
pub(super) fn forward<T: Real>(input: &FlexTensor, epsilon: f64) -> [FlexTensor; 3] {
    let [batch, length, hidden] = dims(input);
    let x = input.storage::<T>();
    // Mean and variance in one pass, as moments about the first row. It is one of the rows, so that the square of its
    // distance to the mean is at most the variance times their number: that factor is all that the difference of the
    // moments can lose of the digits of `f64`.
    let center = &x[..hidden];
    let [offset, square] = means_over_rows(
        [x, x],
        center,
        #[inline(always)]
        |x, _, center| {
            let centered = x - center;
            [centered, centered * centered]
        },
    );
    let mean: Vec<f64> = widened(center)
        .iter()
        .zip(&offset)
        .map(|(center, offset)| center + offset)
        .collect();
    let variance: Vec<f64> = square
        .iter()
        .zip(&offset)
        .map(|(square, offset)| square - offset * offset)
        .collect();
    let output = scaled(x, hidden, epsilon, &mean, &variance);
    let convert = |v: &[f64]| v.iter().map(|v| T::from_f64(*v)).collect::<Vec<T>>();
    [
        tensor(output, [batch, length, hidden]),
        tensor(convert(&mean), [hidden]),
        tensor(convert(&variance), [hidden]),
    ]
}

/// (x - mean) / sqrt(variance + epsilon) per channel.
fn scaled<T: Real>(x: &[T], hidden: usize, epsilon: f64, mean: &[f64], variance: &[f64]) -> Vec<T> {
    let center: Vec<T> = tiled(mean.iter().copied(), hidden);
    let scale: Vec<T> = tiled(variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()), hidden);
    let mut output = Box::<[T]>::new_uninit_slice(x.len());
    let (piece, tile) = (piece_len(x.len(), hidden), tile_len(hidden));
    output
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .for_each(|(output, x)| {
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for (output, x) in output.chunks_mut(tile).zip(x.chunks(tile)) {
                        let channels = center.iter().zip(&scale);
                        for ((output, x), (center, scale)) in output.iter_mut().zip(x).zip(channels)
                        {
                            output.write((*x - *center) * *scale);
                        }
                    }
                },
            )
        });
    // SAFETY: every element of x has its own in the output.
    unsafe { output.assume_init() }.into_vec()
}

/// With n rows and x̂ the normalized input: ∂x = (g - mean(g) - x̂ mean(g x̂)) / sqrt(variance + epsilon).
pub(super) fn backward<T: Real>(
    normalized: &FlexTensor,
    variance: &FlexTensor,
    epsilon: f64,
    output_gradient: &FlexTensor,
) -> FlexTensor {
    let [batch, length, hidden] = dims(normalized);
    let (x, g) = (normalized.storage::<T>(), output_gradient.storage::<T>());
    let [mean_gradient, mean_product] = means_over_rows(
        [g, x],
        &vec![T::ZERO; hidden],
        #[inline(always)]
        |g, x, _| [g, g * x],
    );
    let deviation = widened(variance.storage::<T>())
        .into_iter()
        .map(|v| (v + epsilon).sqrt());
    let scale: Vec<T> = tiled(deviation.map(f64::recip), hidden);
    let offset: Vec<T> = tiled(mean_gradient.into_iter(), hidden);
    let slope: Vec<T> = tiled(mean_product.into_iter(), hidden);
    let mut dx = Box::<[T]>::new_uninit_slice(x.len());
    let (piece, tile) = (piece_len(x.len(), hidden), tile_len(hidden));
    dx.par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .for_each(|((dx, x), g)| {
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    let tiles = dx.chunks_mut(tile).zip(x.chunks(tile)).zip(g.chunks(tile));
                    for ((dx, x), g) in tiles {
                        let channels = scale.iter().zip(&offset).zip(&slope);
                        let elements = dx.iter_mut().zip(x).zip(g).zip(channels);
                        for (((dx, x), g), ((scale, offset), slope)) in elements {
                            dx.write((*g - *offset - *x * *slope) * *scale);
                        }
                    }
                },
            )
        });
    // SAFETY: every element of x has its own in the gradient.
    let dx = unsafe { dx.assume_init() }.into_vec();
    tensor(dx, [batch, length, hidden])
}

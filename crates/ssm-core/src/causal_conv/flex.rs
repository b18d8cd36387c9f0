//! Native CPU kernel: batch rows and runs of steps in parallel, vectors along the channels. Bound by memory.

use std::{mem::MaybeUninit, ops::Range};

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::cpu::{Real, accumulate, add_assign, dims, dispatch, tensor, zeroed};

/// Steps of a piece of work: enough that the few steps before it, which it computes again, do not count.
const STEPS: usize = 256;

/// Filters with the taps outermost, `[taps, channels]`, and biases.
struct Filters<T> {
    channels: usize,
    taps: Vec<T>,
    bias: Vec<T>,
}

impl<T: Real> Filters<T> {
    fn of(weight: &FlexTensor, bias: &FlexTensor) -> Self {
        let [channels, taps] = dims(weight);
        let weight = weight.storage::<T>();
        let tap = |k: usize| (0..channels).map(move |c| weight[c * taps + k]);
        Self {
            channels,
            taps: (0..taps).flat_map(tap).collect(),
            bias: bias.storage::<T>().to_vec(),
        }
    }

    fn count(&self) -> usize {
        self.taps.len() / self.channels
    }

    /// With the lag of each: how many steps before the current one it looks at.
    fn by_lag(&self) -> impl Iterator<Item = (usize, &[T])> {
        let taps = self.taps.chunks_exact(self.channels);
        taps.enumerate().map(|(k, tap)| (self.count() - 1 - k, tap))
    }
}

/// `sum += a ∘ b`.
#[inline(always)]
fn multiply_add<S: Simd, T: Real>(sum: &mut [T], a: &[T], b: &[T]) {
    for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
        *sum = a.fused::<S>(*b, *sum);
    }
}

/// Adds to the biases in `out` what else enters the activation at step `t` of `row`, `[length, channels]`.
#[inline(always)]
fn filter<S: Simd, T: Real>(filters: &Filters<T>, row: &[T], t: usize, out: &mut [T]) {
    for (lag, tap) in filters.by_lag() {
        if let Some(seen) = t.checked_sub(lag) {
            let channels = filters.channels;
            multiply_add::<S, T>(out, tap, &row[seen * channels..][..channels]);
        }
    }
}

struct Forward<'a, T> {
    filters: &'a Filters<T>,
    row: &'a [T],
    first: usize,
    output: &'a mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let steps = self.output.chunks_exact_mut(self.filters.channels);
        for (t, out) in (self.first..).zip(steps) {
            let out = out.write_copy_of_slice(&self.filters.bias);
            filter::<S, T>(self.filters, self.row, t, out);
            for value in out {
                *value = *value * value.sigmoid::<S>();
            }
        }
    }
}

pub(super) fn forward<T: Real>([input, weight, bias]: [&FlexTensor; 3]) -> FlexTensor {
    let [batch, length, channels] = dims(input);
    let filters = &Filters::<T>::of(weight, bias);
    let per_row = length * channels;
    let mut output = Box::<[T]>::new_uninit_slice(batch * per_row);
    output
        .par_chunks_mut(per_row)
        .zip(input.storage::<T>().par_chunks(per_row))
        .for_each(|(output, row)| {
            let pieces = output.par_chunks_mut(STEPS * channels).enumerate();
            pieces.for_each(|(piece, output)| {
                dispatch::<T, _>(Forward {
                    filters,
                    row,
                    first: piece * STEPS,
                    output,
                });
            });
        });
    // SAFETY: every piece writes its part, and the pieces are all there is.
    let output = unsafe { output.assume_init() }.into_vec();
    tensor(output, [batch, length, channels])
}

struct Backward<'a, T> {
    filters: &'a Filters<T>,
    row: &'a [T],
    /// Gradient of the output, `[length, channels]`.
    gradient: &'a [T],
    steps: Range<usize>,
    of_input: &'a mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for Backward<'_, T> {
    /// Gradients of the filters and the biases.
    type Output = (Vec<T>, Vec<T>);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        let Self {
            filters,
            row,
            gradient,
            steps,
            of_input,
        } = self;
        let channels = filters.channels;
        let of_input = zeroed(of_input);
        let length = row.len() / channels;
        let mut of_taps = vec![T::ZERO; filters.taps.len()];
        let mut of_bias = vec![T::ZERO; channels];
        let mut z = vec![T::ZERO; channels];
        // A step is also seen by the `count - 1` steps after it, which may belong to the next piece.
        let end = (steps.end + filters.count() - 1).min(length);
        for t in steps.start..end {
            z.copy_from_slice(&filters.bias);
            filter::<S, T>(filters, row, t, &mut z);
            let gradient = &gradient[t * channels..][..channels];
            for (z, g) in z.iter_mut().zip(gradient) {
                let open = z.sigmoid::<S>();
                *z = *g * open * z.fused::<S>(T::ONE - open, T::ONE);
            }
            let own = steps.contains(&t);
            if own {
                add_assign(&mut of_bias, &z);
            }
            for ((lag, tap), of_tap) in filters.by_lag().zip(of_taps.chunks_exact_mut(channels)) {
                let Some(seen) = t.checked_sub(lag) else {
                    continue;
                };
                if own {
                    multiply_add::<S, T>(of_tap, &z, &row[seen * channels..][..channels]);
                }
                if steps.contains(&seen) {
                    let at = (seen - steps.start) * channels;
                    multiply_add::<S, T>(&mut of_input[at..at + channels], tap, &z);
                }
            }
        }
        (of_taps, of_bias)
    }
}

/// Gradients of input, weight and bias.
pub(super) fn backward<T: Real>(
    [input, weight, bias]: [&FlexTensor; 3],
    output_gradient: &FlexTensor,
) -> [FlexTensor; 3] {
    let [batch, length, channels] = dims(input);
    let filters = &Filters::<T>::of(weight, bias);
    let per_row = length * channels;
    let mut of_input = Box::<[T]>::new_uninit_slice(batch * per_row);
    let shares: Vec<Vec<(Vec<T>, Vec<T>)>> = of_input
        .par_chunks_mut(per_row)
        .zip(input.storage::<T>().par_chunks(per_row))
        .zip(output_gradient.storage::<T>().par_chunks(per_row))
        .map(|((of_input, row), gradient)| {
            let pieces = of_input.par_chunks_mut(STEPS * channels).enumerate();
            pieces
                .map(|(piece, of_input)| {
                    let first = piece * STEPS;
                    dispatch::<T, _>(Backward {
                        filters,
                        row,
                        gradient,
                        steps: first..first + of_input.len() / channels,
                        of_input,
                    })
                })
                .collect()
        })
        .collect();
    // SAFETY: every piece writes its part, and the pieces are all there is.
    let of_input = unsafe { of_input.assume_init() }.into_vec();
    let mut of_taps = vec![T::ZERO; filters.taps.len()];
    let mut of_bias = vec![T::ZERO; channels];
    for (taps, bias) in shares.iter().flatten() {
        accumulate(&mut of_taps, taps);
        accumulate(&mut of_bias, bias);
    }
    let taps = filters.count();
    let of_weight = (0..channels * taps).map(|i| of_taps[i % taps * channels + i / taps]);
    [
        tensor(of_input, [batch, length, channels]),
        tensor(of_weight.collect(), [channels, taps]),
        tensor(of_bias, [channels]),
    ]
}

//! Native CPU kernel: batch rows in parallel.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::cpu::{Real, add_assign, dims, tensor, vectorized};

pub(super) fn forward<T: Real>(input: &FlexTensor) -> FlexTensor {
    let [batch, length, hidden] = dims(input);
    let scale = T::from_f64(1.0 / length as f64);
    // Whole rows of channels, long enough that a loop over them vectorizes well even where `hidden` is small; many short
    // sums also round less than one long one.
    let tile = 256_usize.div_ceil(hidden) * hidden;
    let mut means = vec![T::ZERO; batch * hidden];
    means
        .par_chunks_mut(hidden)
        .zip(input.storage::<T>().par_chunks(length * hidden))
        .for_each(|(mean, row)| {
            let mut sums = vec![T::ZERO; tile];
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for part in row.chunks(tile) {
                        add_assign(&mut sums, part);
                    }
                    for part in sums.chunks_exact(hidden) {
                        add_assign(mean, part);
                    }
                    for mean in mean.iter_mut() {
                        *mean = *mean * scale;
                    }
                },
            );
        });
    tensor(means, [batch, hidden])
}

pub(super) fn backward<T: Real>(gradient: &FlexTensor, length: usize) -> FlexTensor {
    let [batch, hidden] = dims(gradient);
    let scale = T::from_f64(1.0 / length as f64);
    let mut shares = Box::<[T]>::new_uninit_slice(batch * length * hidden);
    shares
        .par_chunks_mut(length * hidden)
        .zip(gradient.storage::<T>().par_chunks(hidden))
        .for_each(|(shares, gradient)| {
            let mut share = gradient.to_vec();
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for share in &mut share {
                        *share = *share * scale;
                    }
                },
            );
            for step in shares.chunks_exact_mut(hidden) {
                step.write_copy_of_slice(&share);
            }
        });
    // SAFETY: every step of every row is written.
    let shares = unsafe { shares.assume_init() }.into_vec();
    tensor(shares, [batch, length, hidden])
}

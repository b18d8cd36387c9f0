//! Native CPU kernel: blocks of rows in parallel.

use std::mem::MaybeUninit;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::native::{Affine, AffineGradient};
use crate::cpu::{Products, REDUCTION_PIECES, Real, dims, dispatch, tensor};

/// Rows of a block: enough that the blocked routine packs the weight rarely.
const BLOCK_ROWS: usize = 20 * TILE_ROWS;

/// A multiple of the rows of every tile.
const TILE_ROWS: usize = 12;

/// Pieces that the gradient of a weight with blocked products is summed in, at most: few, since every piece has a gradient
/// of its own. Fixed, so that a run repeats bit for bit.
const BLOCKED_PIECES: usize = 8;

pub(super) fn forward<T: Real>(
    input: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
) -> FlexTensor {
    let ([rows, inputs], [outputs, _]) = (dims(input), dims::<2>(weight));
    let bias = bias.map(FlexTensor::storage::<T>);
    let map = Affine::new(weight.storage::<T>(), [outputs, inputs], bias);
    let mut output = Box::<[T]>::new_uninit_slice(rows * outputs);
    output
        .par_chunks_mut(BLOCK_ROWS * outputs)
        .zip(input.storage::<T>().par_chunks(BLOCK_ROWS * inputs))
        .for_each(|(output, input)| {
            dispatch::<T, _>(ForwardBlock {
                map: &map,
                input,
                output,
            });
        });
    // SAFETY: every block writes its part, and the blocks are all there is.
    let output = unsafe { output.assume_init() }.into_vec();
    tensor(output, [rows, outputs])
}

struct ForwardBlock<'a, T> {
    map: &'a Affine<T>,
    input: &'a [T],
    output: &'a mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for ForwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.map.apply(simd, self.input, self.output);
    }
}

/// Gradients of input, weight and bias.
pub(super) fn backward<T: Real>(
    input: &FlexTensor,
    weight: &FlexTensor,
    output_gradient: &FlexTensor,
    [of_input, of_bias]: [bool; 2],
) -> [Option<FlexTensor>; 3] {
    let ([rows, inputs], [outputs, _]) = (dims(input), dims::<2>(weight));
    let map = Affine::new(weight.storage::<T>(), [outputs, inputs], None);
    let pieces = match map.products() {
        Products::Tiled => REDUCTION_PIECES,
        Products::Blocked => BLOCKED_PIECES,
    };
    let piece = rows.div_ceil(pieces).next_multiple_of(TILE_ROWS);

    // Without rows, where nobody asked for it.
    let mut input_gradient = Box::<[T]>::new_uninit_slice(if of_input { rows * inputs } else { 0 });
    let mut input_gradients = input_gradient.chunks_mut(piece * inputs);
    let pieces: Vec<Piece<'_, T>> = input
        .storage::<T>()
        .chunks(piece * inputs)
        .zip(output_gradient.storage::<T>().chunks(piece * outputs))
        .map(|(input, gradient)| Piece {
            map: &map,
            input,
            gradient,
            input_gradient: input_gradients.next(),
        })
        .collect();
    let sums: Vec<AffineGradient<T>> = pieces
        .into_par_iter()
        .map(|piece| dispatch::<T, _>(piece))
        .collect();
    let [weight, bias] = AffineGradient::total([outputs, inputs], sums).into_parts();
    // SAFETY: every piece writes its part, and the pieces are all there is.
    let input_gradient = unsafe { input_gradient.assume_init() }.into_vec();
    [
        of_input.then(|| tensor(input_gradient, [rows, inputs])),
        Some(tensor(weight, [outputs, inputs])),
        of_bias.then(|| tensor(bias, [outputs])),
    ]
}

/// Some rows on their way back.
struct Piece<'a, T> {
    map: &'a Affine<T>,
    input: &'a [T],
    gradient: &'a [T],
    input_gradient: Option<&'a mut [MaybeUninit<T>]>,
}

impl<T: Real> WithSimd for Piece<'_, T> {
    type Output = AffineGradient<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> AffineGradient<T> {
        let shape = self.map.shape();
        let [outputs, inputs] = shape;
        let mut sums = AffineGradient::new(shape);
        let blocks = self
            .input
            .chunks(BLOCK_ROWS * inputs)
            .zip(self.gradient.chunks(BLOCK_ROWS * outputs));
        for (input, gradient) in blocks {
            sums.accumulate(simd, self.map.products(), gradient, input);
        }
        if let Some(input_gradient) = self.input_gradient {
            self.map.pull_back(simd, self.gradient, input_gradient);
        }
        sums
    }
}

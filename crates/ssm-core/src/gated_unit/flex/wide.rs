//! Layers whose products are general matrix products, which take most of the time: everything else is arranged around them.
//!
//! The forward pass keeps what both products gave, without the biases. A product writes right where its result stays, and
//! what is done to each element is done while the block is in the second cache.

use std::mem::MaybeUninit;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Unit, factor, gelu, gelu_and_slope, gradients};
use crate::{
    affine::native::AffineGradient,
    cpu::{
        Destination, MatrixRef, Products, Real, dims, dispatch, product, product_into, tensor,
        transposed,
    },
};

/// Rows of a block: enough that packing the weights, once per block, is a few percent of a product. Half as many are 2 %
/// slower at 512 channels, though the four buffers of the backward pass then fit a second cache of 1 MiB.
const ROWS: usize = 256;

/// Pieces that the gradients of the weights are summed in, at most. Fixed, so that a run repeats bit for bit; few, since
/// every piece has gradients of its own, 2 MiB at 512 channels.
const PIECES: usize = 8;

/// The output and both branches.
pub(super) fn forward<T: Real>(
    unit: &Unit<'_, T>,
    input: &FlexTensor,
    skip: &FlexTensor,
) -> (FlexTensor, [FlexTensor; 2]) {
    let (hidden, shape): (_, [usize; 3]) = (unit.hidden(), dims(input));
    let (x, skip) = (input.storage::<T>(), skip.storage::<T>());
    let weights = [unit.weights.value_weight, unit.weights.gate_weight]
        .map(|weight| transposed(weight, hidden));
    let (len, block) = (x.len(), ROWS * hidden);
    let [mut output, mut value, mut gate] = [(); 3].map(|()| Box::<[T]>::new_uninit_slice(len));
    output
        .par_chunks_mut(block)
        .zip(value.par_chunks_mut(block))
        .zip(gate.par_chunks_mut(block))
        .zip(x.par_chunks(block))
        .zip(skip.par_chunks(block))
        .enumerate()
        .for_each_init(
            || Vec::with_capacity(block),
            |activation, (index, ((((output, value), gate), input), skip))| {
                dispatch::<T, _>(ForwardBlock {
                    unit,
                    weights: &weights,
                    start: index * block,
                    input,
                    skip,
                    output,
                    branches: [value, gate],
                    activation,
                });
            },
        );
    // SAFETY: every block writes its part of all three, and the blocks are all there is.
    let [output, value, gate] =
        [output, value, gate].map(|tensor| unsafe { tensor.assume_init() }.into_vec());
    let branches = [value, gate].map(|branch| tensor(branch, shape));
    (tensor(output, shape), branches)
}

/// A block of rows on its way forward.
struct ForwardBlock<'a, T> {
    unit: &'a Unit<'a, T>,
    /// W₁ᵀ and W₂ᵀ.
    weights: &'a [Vec<T>; 2],
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    skip: &'a [T],
    output: &'a mut [MaybeUninit<T>],
    /// Where W₁ a and W₂ a stay.
    branches: [&'a mut [MaybeUninit<T>]; 2],
    /// a = drop(gelu(input)), whatever is in it before.
    activation: &'a mut Vec<T>,
}

impl<T: Real> WithSimd for ForwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (unit, start, hidden) = (self.unit, self.start, self.unit.hidden());
        let mask = unit.mask(0);
        self.activation.resize(self.input.len(), T::ZERO);
        let activations = self.activation.iter_mut().zip(self.input);
        for (k, (activation, x)) in activations.enumerate() {
            *activation = gelu::<S, T>(*x) * factor(mask, start, k);
        }
        let rows = MatrixRef::new(self.activation, self.input.len() / hidden, hidden);
        let [value_weight, gate_weight] = self.weights.each_ref();
        let [value, gate] = self.branches;
        let value = product_into(value, rows, MatrixRef::new(value_weight, hidden, hidden));
        let gate = product_into(gate, rows, MatrixRef::new(gate_weight, hidden, hidden));

        let mask = unit.mask(1);
        let branches = value
            .chunks_exact(hidden)
            .zip(gate.chunks_exact(hidden))
            .zip(self.skip.chunks_exact(hidden));
        let rows = self.output.chunks_exact_mut(hidden).zip(branches);
        for (row, (output, ((value, gate), skip))) in rows.enumerate() {
            let biases = unit.weights.value_bias.iter().zip(unit.weights.gate_bias);
            let branches = value.iter().zip(gate).zip(biases);
            let outputs = output.iter_mut().zip(skip).zip(branches);
            for (k, ((output, skip), ((value, gate), biases))) in outputs.enumerate() {
                let gated = (*value + *biases.0) * (*gate + *biases.1).sigmoid::<S>();
                let factor = factor(mask, start + row * hidden, k);
                output.write(gated.fused::<S>(factor, *skip));
            }
        }
    }
}

pub(super) fn backward<T: Real>(
    unit: &Unit<'_, T>,
    input: &FlexTensor,
    branches: &[FlexTensor; 2],
    output_gradient: &FlexTensor,
) -> [FlexTensor; 5] {
    let (hidden, shape): (_, [usize; 3]) = (unit.hidden(), dims(input));
    let (x, g) = (input.storage::<T>(), output_gradient.storage::<T>());
    let branches = branches.each_ref().map(FlexTensor::storage::<T>);
    let (len, block) = (x.len(), ROWS * hidden);
    let piece = len.div_ceil(block).div_ceil(PIECES).max(1) * block;
    let mut dx = Box::<[T]>::new_uninit_slice(len);
    let (values, gates): (Vec<_>, Vec<_>) = dx
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .enumerate()
        .map(|(index, ((dx, x), g))| {
            let [mut value, mut gate] = [(); 2].map(|()| AffineGradient::new([hidden; 2]));
            let mut scratch = Scratch::default();
            let blocks = dx
                .chunks_mut(block)
                .zip(x.chunks(block))
                .zip(g.chunks(block));
            for (k, ((input_gradient, input), output_gradient)) in blocks.enumerate() {
                let start = index * piece + k * block;
                dispatch::<T, _>(BackwardBlock {
                    unit,
                    start,
                    input,
                    branches: branches.map(|branch| &branch[start..][..input.len()]),
                    output_gradient,
                    input_gradient,
                    sums: [&mut value, &mut gate],
                    scratch: &mut scratch,
                });
            }
            (value, gate)
        })
        .unzip();
    // SAFETY: every block writes its part, and the blocks are all there is.
    let dx = unsafe { dx.assume_init() }.into_vec();
    gradients(dx, shape, [values, gates])
}

/// Buffers for one block of rows, `[rows, hidden]` each.
struct Scratch<T> {
    /// a = drop(gelu(input)).
    activation: Vec<T>,
    /// ∂a/∂input.
    slope: Vec<T>,
    /// Gradient of W₁ a + b₁.
    value: Vec<T>,
    /// Gradient of W₂ a + b₂.
    gate: Vec<T>,
}

impl<T> Default for Scratch<T> {
    fn default() -> Self {
        Self {
            activation: Vec::new(),
            slope: Vec::new(),
            value: Vec::new(),
            gate: Vec::new(),
        }
    }
}

/// A block of rows on its way back.
struct BackwardBlock<'a, T> {
    unit: &'a Unit<'a, T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    /// What the forward pass kept.
    branches: [&'a [T]; 2],
    output_gradient: &'a [T],
    input_gradient: &'a mut [MaybeUninit<T>],
    /// Of value and gate.
    sums: [&'a mut AffineGradient<T>; 2],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for BackwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (unit, start, hidden) = (self.unit, self.start, self.unit.hidden());
        let Scratch {
            activation,
            slope,
            value,
            gate,
        } = self.scratch;
        for buffer in [&mut *activation, &mut *slope, &mut *value, &mut *gate] {
            buffer.resize(self.input.len(), T::ZERO);
        }
        let mask = unit.mask(0);
        let activations = activation.iter_mut().zip(&mut *slope);
        for (k, ((activation, slope), x)) in activations.zip(self.input).enumerate() {
            let factor = factor(mask, start, k);
            let (value, derivative) = gelu_and_slope::<S, T>(*x);
            *activation = value * factor;
            *slope = derivative * factor;
        }

        let mask = unit.mask(1);
        let kept = self.branches[0]
            .chunks_exact(hidden)
            .zip(self.branches[1].chunks_exact(hidden))
            .zip(self.output_gradient.chunks_exact(hidden));
        let gradients = value
            .chunks_exact_mut(hidden)
            .zip(gate.chunks_exact_mut(hidden));
        for (row, ((of_value, of_gate), ((value, gate), g))) in gradients.zip(kept).enumerate() {
            let biases = unit.weights.value_bias.iter().zip(unit.weights.gate_bias);
            let kept = value.iter().zip(gate).zip(g).zip(biases);
            let gradients = of_value.iter_mut().zip(of_gate).zip(kept);
            for (k, ((of_value, of_gate), (((value, gate), g), biases))) in gradients.enumerate() {
                let s = (*gate + *biases.1).sigmoid::<S>();
                let factor = factor(mask, start + row * hidden, k);
                *of_value = *g * factor * s;
                *of_gate = *of_value * (*value + *biases.0) * (T::ONE - s);
            }
        }

        let [value_sum, gate_sum] = self.sums;
        value_sum.accumulate(simd, Products::Blocked, value, activation);
        gate_sum.accumulate(simd, Products::Blocked, gate, activation);
        let [value, gate] = [value, gate].map(|x| MatrixRef::new(x, x.len() / hidden, hidden));
        let [value_weight, gate_weight] = [unit.weights.value_weight, unit.weights.gate_weight]
            .map(|weight| MatrixRef::new(weight, hidden, hidden));
        let dx = product_into(self.input_gradient, value, value_weight);
        product(dx, Destination::Accumulate, gate, gate_weight);
        for (dx, slope) in dx.iter_mut().zip(&*slope) {
            *dx = *dx * *slope;
        }
    }
}

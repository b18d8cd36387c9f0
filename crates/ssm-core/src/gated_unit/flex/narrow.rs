//! Layers whose products are register tiles: blocks of rows in the first cache, nothing kept between the passes.

use std::mem::MaybeUninit;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{GatedUnit, GatedUnitForward, GatedUnitGradients, Unit, factor, gelu, gelu_and_slope};
use crate::{
    affine::native::{Affine, AffineGradient},
    cpu::{Destination, Products, REDUCTION_PIECES, Real, dims, tensor},
    dropout::Mask,
};

/// Elements of a block, about: its five buffers and what they are made from and into stay in a first cache of 32 KiB.
const ELEMENTS: usize = 960;

/// The unit as its blocks read it.
struct Maps<T> {
    hidden: usize,
    value: Affine<T>,
    gate: Affine<T>,
    masks: Option<[Mask; 2]>,
}

impl<T: Real> Maps<T> {
    fn new(unit: &Unit<'_, T>) -> Self {
        let weights = &unit.weights;
        Self {
            hidden: unit.hidden(),
            value: Affine::new(weights.value_weight, weights.value_bias),
            gate: Affine::new(weights.gate_weight, weights.gate_bias),
            masks: unit.masks,
        }
    }

    /// Elements of one block of whole rows; tiles are 3, 6 or 12 rows high.
    fn block(&self) -> usize {
        (ELEMENTS / self.hidden).next_multiple_of(12) * self.hidden
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        self.masks.map(|masks| masks[index])
    }
}

/// Buffers for one block of rows, `[rows, hidden]` each.
struct Scratch<T> {
    /// a = drop(gelu(input)).
    activation: Vec<T>,
    /// ∂a/∂input.
    slope: Vec<T>,
    /// W₁ a + b₁; in the backward pass then its gradient.
    value: Vec<T>,
    /// W₂ a + b₂; in the backward pass then its gradient.
    gate: Vec<T>,
    /// Gradient of the activation.
    gradient: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(maps: &Maps<T>) -> Self {
        let [activation, slope, value, gate, gradient] =
            [(); 5].map(|()| vec![T::ZERO; maps.block()]);
        Self {
            activation,
            slope,
            value,
            gate,
            gradient,
        }
    }

    /// The same for a block of this many elements, the last one being shorter.
    fn resize(&mut self, len: usize) {
        for buffer in [
            &mut self.activation,
            &mut self.slope,
            &mut self.value,
            &mut self.gate,
            &mut self.gradient,
        ] {
            buffer.resize(len, T::ZERO);
        }
    }
}

pub(super) fn forward<T: Real>(
    unit: &Unit<'_, T>,
    input: &FlexTensor,
    skip: &FlexTensor,
) -> GatedUnitForward<FlexTensor> {
    let maps = Maps::new(unit);
    let shape: [usize; 3] = dims(input);
    let (x, skip) = (input.storage::<T>(), skip.storage::<T>());
    let block = maps.block();
    let mut output = Box::<[T]>::new_uninit_slice(x.len());
    output
        .par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(skip.par_chunks(block))
        .enumerate()
        .for_each_init(
            || Scratch::new(&maps),
            |scratch, (index, ((output, input), skip))| {
                scratch.resize(input.len());
                pulp::Arch::new().dispatch(ForwardBlock {
                    maps: &maps,
                    start: index * block,
                    input,
                    skip,
                    output,
                    scratch,
                });
            },
        );
    // SAFETY: every block writes its part, and the blocks are all there is.
    let output = unsafe { output.assume_init() }.into_vec();
    GatedUnitForward {
        output: tensor(output, shape),
        branches: None,
    }
}

/// A block of rows on its way forward.
struct ForwardBlock<'a, T> {
    maps: &'a Maps<T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    skip: &'a [T],
    output: &'a mut [MaybeUninit<T>],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for ForwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (maps, scratch, start) = (self.maps, self.scratch, self.start);
        let mask = maps.mask(0);
        let activations = scratch.activation.iter_mut().zip(self.input);
        for (k, (activation, x)) in activations.enumerate() {
            *activation = gelu::<S, T>(*x) * factor(mask, start, k);
        }
        let activation = &scratch.activation;
        maps.value.apply(simd, activation, &mut scratch.value);
        maps.gate.apply(simd, activation, &mut scratch.gate);
        let mask = maps.mask(1);
        let branches = scratch.value.iter().zip(&scratch.gate);
        let outputs = self.output.iter_mut().zip(self.skip).zip(branches);
        for (k, ((output, skip), (value, gate))) in outputs.enumerate() {
            let gated = *value * gate.sigmoid::<S>();
            output.write(gated.fused::<S>(factor(mask, start, k), *skip));
        }
    }
}

pub(super) fn backward<T: Real>(
    unit: &Unit<'_, T>,
    input: &FlexTensor,
    output_gradient: &FlexTensor,
) -> GatedUnitGradients<FlexTensor> {
    let maps = Maps::new(unit);
    let [batch, length, hidden] = dims(input);
    let (x, g) = (input.storage::<T>(), output_gradient.storage::<T>());
    let block = maps.block();
    let piece = x.len().div_ceil(block).div_ceil(REDUCTION_PIECES).max(1) * block;

    let mut dx = Box::<[T]>::new_uninit_slice(x.len());
    let pieces: Vec<[AffineGradient<T>; 2]> = dx
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .enumerate()
        .map(|(index, ((dx, x), g))| {
            let mut sums = [(); 2].map(|()| AffineGradient::zeros([hidden, hidden]));
            let mut scratch = Scratch::new(&maps);
            let blocks = dx
                .chunks_mut(block)
                .zip(x.chunks(block))
                .zip(g.chunks(block));
            for (k, ((input_gradient, input), output_gradient)) in blocks.enumerate() {
                scratch.resize(input.len());
                let start = index * piece + k * block;
                pulp::Arch::new().dispatch(BackwardBlock {
                    maps: &maps,
                    start,
                    input,
                    output_gradient,
                    input_gradient,
                    sums: &mut sums,
                    scratch: &mut scratch,
                });
            }
            sums
        })
        .collect();
    // SAFETY: every block writes its part, and the blocks are all there is.
    let dx = unsafe { dx.assume_init() }.into_vec();

    let [mut value, mut gate] = [(); 2].map(|()| AffineGradient::zeros([hidden, hidden]));
    for [value_part, gate_part] in &pieces {
        value.add(value_part);
        gate.add(gate_part);
    }
    let [[value_weight, value_bias], [gate_weight, gate_bias]] =
        [value, gate].map(AffineGradient::into_parts);
    GatedUnitGradients {
        input: tensor(dx, [batch, length, hidden]),
        weights: GatedUnit {
            value_weight: tensor(value_weight, [hidden, hidden]),
            value_bias: tensor(value_bias, [hidden]),
            gate_weight: tensor(gate_weight, [hidden, hidden]),
            gate_bias: tensor(gate_bias, [hidden]),
        },
    }
}

/// A block of rows on its way back.
struct BackwardBlock<'a, T> {
    maps: &'a Maps<T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    output_gradient: &'a [T],
    input_gradient: &'a mut [MaybeUninit<T>],
    /// Of value and gate.
    sums: &'a mut [AffineGradient<T>; 2],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for BackwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (maps, scratch) = (self.maps, self.scratch);
        let (mask, start) = (maps.mask(0), self.start);
        let activations = scratch.activation.iter_mut().zip(&mut scratch.slope);
        for (k, ((activation, slope), x)) in activations.zip(self.input).enumerate() {
            let factor = factor(mask, start, k);
            let (value, derivative) = gelu_and_slope::<S, T>(*x);
            *activation = value * factor;
            *slope = derivative * factor;
        }
        let activation = &scratch.activation;
        maps.value.apply(simd, activation, &mut scratch.value);
        maps.gate.apply(simd, activation, &mut scratch.gate);

        let mask = maps.mask(1);
        let pairs = scratch.value.iter_mut().zip(&mut scratch.gate);
        for (k, ((value, gate), g)) in pairs.zip(self.output_gradient).enumerate() {
            let s = gate.sigmoid::<S>();
            let of_value = *g * factor(mask, start, k) * s;
            *gate = of_value * *value * (T::ONE - s);
            *value = of_value;
        }

        let [value_sum, gate_sum] = self.sums;
        let (products, activation) = (Products::Tiled, &scratch.activation);
        value_sum.accumulate(simd, products, &scratch.value, activation);
        gate_sum.accumulate(simd, products, &scratch.gate, activation);
        let gradient = &mut scratch.gradient;
        maps.value
            .pull_back(simd, &scratch.value, Destination::Overwrite, gradient);
        maps.gate
            .pull_back(simd, &scratch.gate, Destination::Accumulate, gradient);
        let gradients = self.input_gradient.iter_mut().zip(&*gradient);
        for ((dx, gradient), slope) in gradients.zip(&scratch.slope) {
            dx.write(*gradient * *slope);
        }
    }
}

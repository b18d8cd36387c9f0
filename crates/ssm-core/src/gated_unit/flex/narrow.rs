//! Layers whose products are register tiles: blocks of rows in the first cache, nothing kept between the passes.

use std::mem::MaybeUninit;

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Unit, factor, gelu, gelu_and_slope, gradients};
use crate::{
    affine::native::{Affine, AffineGradient},
    cpu::{Products, REDUCTION_PIECES, Real, dims, dispatch, tensor},
};

/// Elements of a block, about: its five buffers and what they are made from and into stay in a first cache of 32 KiB.
const ELEMENTS: usize = 960;

/// The unit with its maps as blocks apply them.
struct Maps<'a, T> {
    unit: &'a Unit<'a, T>,
    value: Affine<T>,
    gate: Affine<T>,
}

impl<'a, T: Real> Maps<'a, T> {
    fn new(unit: &'a Unit<'a, T>) -> Self {
        let (weights, shape) = (&unit.weights, [unit.hidden(); 2]);
        Self {
            unit,
            value: Affine::new(weights.value_weight, shape, Some(weights.value_bias)),
            gate: Affine::new(weights.gate_weight, shape, Some(weights.gate_bias)),
        }
    }

    /// Elements of one block of whole rows; tiles are 3, 6 or 12 rows high.
    fn block(&self) -> usize {
        let hidden = self.unit.hidden();
        (ELEMENTS / hidden).next_multiple_of(12) * hidden
    }
}

/// Buffers for one block of rows, `[rows, hidden]` each, of which a shorter block uses the first part.
struct Scratch<T> {
    /// a = drop(gelu(input)).
    activation: Vec<T>,
    /// ∂a/∂input.
    slope: Vec<T>,
    /// W₁ a + b₁; in the backward pass then its gradient.
    value: Box<[MaybeUninit<T>]>,
    /// W₂ a + b₂; in the backward pass then its gradient.
    gate: Box<[MaybeUninit<T>]>,
    /// Gradient of the activation.
    gradient: Box<[MaybeUninit<T>]>,
}

impl<T: Real> Scratch<T> {
    fn new(maps: &Maps<'_, T>) -> Self {
        let block = maps.block();
        let [activation, slope] = [(); 2].map(|()| vec![T::ZERO; block]);
        let [value, gate, gradient] = [(); 3].map(|()| Box::new_uninit_slice(block));
        Self {
            activation,
            slope,
            value,
            gate,
            gradient,
        }
    }
}

pub(super) fn forward<T: Real>(
    unit: &Unit<'_, T>,
    input: &FlexTensor,
    skip: &FlexTensor,
) -> FlexTensor {
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
                dispatch::<T, _>(ForwardBlock {
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
    tensor(output, shape)
}

/// A block of rows on its way forward.
struct ForwardBlock<'a, T> {
    maps: &'a Maps<'a, T>,
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
        let len = self.input.len();
        let mask = maps.unit.mask(0);
        let activation = &mut scratch.activation[..len];
        let activations = activation.iter_mut().zip(self.input);
        for (k, (activation, x)) in activations.enumerate() {
            *activation = gelu::<S, T>(*x) * factor(mask, start, k);
        }
        let value = &mut scratch.value[..len];
        let value = maps.value.apply(simd, activation, value);
        let gate = maps.gate.apply(simd, activation, &mut scratch.gate[..len]);
        let mask = maps.unit.mask(1);
        let branches = value.iter().zip(gate);
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
) -> [FlexTensor; 5] {
    let maps = Maps::new(unit);
    let [batch, length, hidden] = dims(input);
    let (x, g) = (input.storage::<T>(), output_gradient.storage::<T>());
    let block = maps.block();
    let piece = x.len().div_ceil(block).div_ceil(REDUCTION_PIECES).max(1) * block;

    let mut dx = Box::<[T]>::new_uninit_slice(x.len());
    let (values, gates): (Vec<_>, Vec<_>) = dx
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .enumerate()
        .map(|(index, ((dx, x), g))| {
            let [mut value, mut gate] = [(); 2].map(|()| AffineGradient::new([hidden; 2]));
            let mut scratch = Scratch::new(&maps);
            let blocks = dx
                .chunks_mut(block)
                .zip(x.chunks(block))
                .zip(g.chunks(block));
            for (k, ((input_gradient, input), output_gradient)) in blocks.enumerate() {
                let start = index * piece + k * block;
                dispatch::<T, _>(BackwardBlock {
                    maps: &maps,
                    start,
                    input,
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

    gradients(dx, [batch, length, hidden], [values, gates])
}

/// A block of rows on its way back.
struct BackwardBlock<'a, T> {
    maps: &'a Maps<'a, T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
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
        let (maps, scratch) = (self.maps, self.scratch);
        let len = self.input.len();
        let activation = &mut scratch.activation[..len];
        let slope = &mut scratch.slope[..len];
        let (mask, start) = (maps.unit.mask(0), self.start);
        let activations = activation.iter_mut().zip(&mut *slope);
        for (k, ((activation, slope), x)) in activations.zip(self.input).enumerate() {
            let factor = factor(mask, start, k);
            let (value, derivative) = gelu_and_slope::<S, T>(*x);
            *activation = value * factor;
            *slope = derivative * factor;
        }
        let value = &mut scratch.value[..len];
        let value = maps.value.apply(simd, activation, value);
        let gate = maps.gate.apply(simd, activation, &mut scratch.gate[..len]);

        let mask = maps.unit.mask(1);
        let pairs = value.iter_mut().zip(&mut *gate);
        for (k, ((value, gate), g)) in pairs.zip(self.output_gradient).enumerate() {
            let s = gate.sigmoid::<S>();
            let of_value = *g * factor(mask, start, k) * s;
            *gate = of_value * *value * (T::ONE - s);
            *value = of_value;
        }

        let [value_sum, gate_sum] = self.sums;
        value_sum.accumulate(simd, Products::Tiled, value, activation);
        gate_sum.accumulate(simd, Products::Tiled, gate, activation);
        let gradient = &mut scratch.gradient[..len];
        let gradient = maps.value.pull_back(simd, value, gradient);
        maps.gate.add_pulled_back(simd, gate, gradient);
        let gradients = self.input_gradient.iter_mut().zip(gradient);
        for ((dx, gradient), slope) in gradients.zip(slope) {
            dx.write(*gradient * *slope);
        }
    }
}

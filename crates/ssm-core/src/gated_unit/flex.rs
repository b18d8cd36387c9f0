//! Native CPU kernel: blocks of rows that stay in the cache, activations recomputed in the backward pass.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{GELU_CUBIC, GELU_SLOPE, GatedUnit, GatedUnitGradients};
use crate::{
    affine::native::{Affine, AffineGradient},
    cpu::{Destination, Products, REDUCTION_PIECES, Real, dims, tensor},
    dropout::{Dropout, Mask},
};

/// Elements of a block of tiled products, about: its five buffers and what they are made from and into stay in a first
/// cache of 32 KiB.
const TILED_ELEMENTS: usize = 960;

/// Rows of a block of blocked products: enough that packing the weights, once per block, is a few percent.
const BLOCKED_ROWS: usize = 256;

pub(crate) fn forward(
    input: &FlexTensor,
    skip: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
) -> FlexTensor {
    match input.dtype() {
        DType::F64 => forward_typed::<f64>(input, skip, weights, dropout),
        _ => forward_typed::<f32>(input, skip, weights, dropout),
    }
}

pub(crate) fn backward(
    input: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
    output_gradient: &FlexTensor,
) -> GatedUnitGradients<FlexTensor> {
    match input.dtype() {
        DType::F64 => backward_typed::<f64>(input, weights, dropout, output_gradient),
        _ => backward_typed::<f32>(input, weights, dropout, output_gradient),
    }
}

struct Unit<T> {
    hidden: usize,
    value: Affine<T>,
    gate: Affine<T>,
    masks: Option<[Mask; 2]>,
}

impl<T: Real> Unit<T> {
    fn new(hidden: usize, weights: &GatedUnit<FlexTensor>, dropout: Option<Dropout>) -> Self {
        let affine = |weight: &FlexTensor, bias: &FlexTensor| {
            let (weight, bias) = (weight.to_contiguous(), bias.to_contiguous());
            Affine::new(weight.storage::<T>(), bias.storage::<T>())
        };
        Self {
            hidden,
            value: affine(&weights.value_weight, &weights.value_bias),
            gate: affine(&weights.gate_weight, &weights.gate_bias),
            masks: dropout.map(|d| [d.stream(0).mask(), d.stream(1).mask()]),
        }
    }

    /// Elements of one block of whole rows.
    fn block(&self) -> usize {
        let rows = match self.value.products() {
            Products::Tiled => (TILED_ELEMENTS / self.hidden).next_multiple_of(12),
            Products::Blocked => BLOCKED_ROWS,
        };
        rows * self.hidden
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
    /// Gradient of the gated product, then of the activation.
    gradient: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(unit: &Unit<T>) -> Self {
        let [activation, slope, value, gate, gradient] =
            [(); 5].map(|()| vec![T::ZERO; unit.block()]);
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

/// tanh-form GELU as x σ(2z), z = √(2/π) (x + 0.044715 x³): the same function with one exponential. Returns its value and
/// its derivative.
#[inline(always)]
fn gelu_and_slope<T: Real>(x: T) -> (T, T) {
    let slope = T::from_f64(2.0 * GELU_SLOPE);
    let square = x * x;
    let s = (slope * x * (T::ONE + T::from_f64(GELU_CUBIC) * square)).sigmoid();
    let dz = slope * (T::ONE + T::from_f64(3.0 * GELU_CUBIC) * square);
    (x * s, s + x * s * (T::ONE - s) * dz)
}

/// The value alone.
#[inline(always)]
pub(crate) fn gelu<T: Real>(x: T) -> T {
    gelu_and_slope(x).0
}

/// Multiplies elements, of which the first has position `start`, by their dropout factors.
#[inline(always)]
fn drop_elements<T: Real>(mask: Option<Mask>, start: usize, elements: &mut [T]) {
    if let Some(mask) = mask {
        // Wrapping, as the position of a mask does.
        let start = start as u32;
        for (k, element) in elements.iter_mut().enumerate() {
            *element = *element * T::from_f32(mask.factor(start.wrapping_add(k as u32)));
        }
    }
}

fn forward_typed<T: Real>(
    input: &FlexTensor,
    skip: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
) -> FlexTensor {
    let [batch, length, hidden] = dims(input);
    let unit = Unit::<T>::new(hidden, weights, dropout);
    let (input, skip) = (input.to_contiguous(), skip.to_contiguous());
    let (x, skip) = (input.storage::<T>(), skip.storage::<T>());
    let block = unit.block();
    let mut output = vec![T::ZERO; x.len()];
    output
        .par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(skip.par_chunks(block))
        .enumerate()
        .for_each_init(
            || Scratch::new(&unit),
            |scratch, (index, ((output, input), skip))| {
                scratch.resize(input.len());
                pulp::Arch::new().dispatch(ForwardBlock {
                    unit: &unit,
                    start: index * block,
                    input,
                    skip,
                    output,
                    scratch,
                });
            },
        );
    tensor(output, [batch, length, hidden])
}

/// A block of rows on its way forward.
struct ForwardBlock<'a, T> {
    unit: &'a Unit<T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    skip: &'a [T],
    output: &'a mut [T],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for ForwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (unit, scratch) = (self.unit, self.scratch);
        for (activation, x) in scratch.activation.iter_mut().zip(self.input) {
            *activation = gelu(*x);
        }
        drop_elements(unit.mask(0), self.start, &mut scratch.activation);
        unit.value
            .apply(simd, &scratch.activation, &mut scratch.value);
        unit.gate
            .apply(simd, &scratch.activation, &mut scratch.gate);
        let gated = &mut scratch.value;
        for (value, gate) in gated.iter_mut().zip(&scratch.gate) {
            *value = *value * gate.sigmoid();
        }
        drop_elements(unit.mask(1), self.start, gated);
        for ((output, skip), gated) in self.output.iter_mut().zip(self.skip).zip(&*gated) {
            *output = *skip + *gated;
        }
    }
}

fn backward_typed<T: Real>(
    input: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
    output_gradient: &FlexTensor,
) -> GatedUnitGradients<FlexTensor> {
    let [batch, length, hidden] = dims(input);
    let unit = Unit::<T>::new(hidden, weights, dropout);
    let (input, gradient) = (input.to_contiguous(), output_gradient.to_contiguous());
    let (x, g) = (input.storage::<T>(), gradient.storage::<T>());
    let block = unit.block();
    let piece = x.len().div_ceil(block).div_ceil(REDUCTION_PIECES).max(1) * block;

    let mut dx = vec![T::ZERO; x.len()];
    let pieces: Vec<[AffineGradient<T>; 2]> = dx
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .enumerate()
        .map(|(index, ((dx, x), g))| {
            let mut sums = [(); 2].map(|()| AffineGradient::zeros([hidden, hidden]));
            let mut scratch = Scratch::new(&unit);
            let blocks = dx
                .chunks_mut(block)
                .zip(x.chunks(block))
                .zip(g.chunks(block));
            for (k, ((input_gradient, input), output_gradient)) in blocks.enumerate() {
                scratch.resize(input.len());
                pulp::Arch::new().dispatch(BackwardBlock {
                    unit: &unit,
                    start: index * piece + k * block,
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

    let [mut value, mut gate] = [(); 2].map(|()| AffineGradient::zeros([hidden, hidden]));
    for [value_part, gate_part] in &pieces {
        value.add(value_part);
        gate.add(gate_part);
    }
    GatedUnitGradients {
        input: tensor(dx, [batch, length, hidden]),
        weights: GatedUnit {
            value_weight: tensor(value.weight, [hidden, hidden]),
            value_bias: tensor(value.bias, [hidden]),
            gate_weight: tensor(gate.weight, [hidden, hidden]),
            gate_bias: tensor(gate.bias, [hidden]),
        },
    }
}

/// A block of rows on its way back.
struct BackwardBlock<'a, T> {
    unit: &'a Unit<T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    output_gradient: &'a [T],
    input_gradient: &'a mut [T],
    /// Of value and gate.
    sums: &'a mut [AffineGradient<T>; 2],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for BackwardBlock<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (unit, scratch) = (self.unit, self.scratch);
        let activations = scratch.activation.iter_mut().zip(&mut scratch.slope);
        for ((activation, slope), x) in activations.zip(self.input) {
            (*activation, *slope) = gelu_and_slope(*x);
        }
        drop_elements(unit.mask(0), self.start, &mut scratch.activation);
        drop_elements(unit.mask(0), self.start, &mut scratch.slope);
        unit.value
            .apply(simd, &scratch.activation, &mut scratch.value);
        unit.gate
            .apply(simd, &scratch.activation, &mut scratch.gate);

        scratch.gradient.copy_from_slice(self.output_gradient);
        drop_elements(unit.mask(1), self.start, &mut scratch.gradient);
        let pairs = scratch.value.iter_mut().zip(&mut scratch.gate);
        for ((value, gate), g) in pairs.zip(&scratch.gradient) {
            let s = gate.sigmoid();
            *gate = *g * *value * s * (T::ONE - s);
            *value = *g * s;
        }

        let [value_sum, gate_sum] = self.sums;
        let (products, activation) = (unit.value.products(), &scratch.activation);
        value_sum.accumulate(simd, products, &scratch.value, activation);
        gate_sum.accumulate(simd, products, &scratch.gate, activation);
        let gradient = &mut scratch.gradient;
        unit.value
            .pull_back(simd, &scratch.value, Destination::Overwrite, gradient);
        unit.gate
            .pull_back(simd, &scratch.gate, Destination::Accumulate, gradient);
        let gradients = self.input_gradient.iter_mut().zip(&*gradient);
        for ((dx, gradient), slope) in gradients.zip(&scratch.slope) {
            *dx = *gradient * *slope;
        }
    }
}

//! Native CPU kernel: blocks of rows that stay in the cache.
//!
//! The backward pass computes activations again. The two products before the gate it computes again as well where they
//! are narrow, and reads what the forward pass kept where they are wide: at 64 channels a product costs what writing
//! and reading its result does, at 512 eight times that.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{GELU_CUBIC, GELU_SLOPE, GatedUnit, GatedUnitForward, GatedUnitGradients};
use crate::{
    affine::native::{Affine, AffineGradient},
    cpu::{Destination, Products, REDUCTION_PIECES, Real, dims, tensor, zeros},
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
) -> GatedUnitForward<FlexTensor> {
    match input.dtype() {
        DType::F64 => forward_typed::<f64>(input, skip, weights, dropout),
        _ => forward_typed::<f32>(input, skip, weights, dropout),
    }
}

pub(crate) fn backward(
    input: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
    branches: Option<&[FlexTensor; 2]>,
    output_gradient: &FlexTensor,
) -> GatedUnitGradients<FlexTensor> {
    match input.dtype() {
        DType::F64 => backward_typed::<f64>(input, weights, dropout, branches, output_gradient),
        _ => backward_typed::<f32>(input, weights, dropout, branches, output_gradient),
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

    fn keeps_branches(&self) -> bool {
        self.value.products() == Products::Blocked
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
fn gelu_and_slope<S: Simd, T: Real>(x: T) -> (T, T) {
    let slope = T::from_f64(2.0 * GELU_SLOPE);
    let cubic = T::from_f64(2.0 * GELU_SLOPE * GELU_CUBIC);
    let square = x * x;
    let s = (x * cubic.fused::<S>(square, slope)).sigmoid::<S>();
    let dz = (cubic * T::from_f64(3.0)).fused::<S>(square, slope);
    let value = x * s;
    (value, (value * (T::ONE - s)).fused::<S>(dz, s))
}

/// The value alone.
#[inline(always)]
pub(crate) fn gelu<S: Simd, T: Real>(x: T) -> T {
    gelu_and_slope::<S, T>(x).0
}

/// Dropout factor of the element at `start + k`; the position wraps, as a mask's does.
#[inline(always)]
fn factor<T: Real>(mask: Option<Mask>, start: usize, k: usize) -> T {
    mask.map_or(T::ONE, |mask| {
        T::from_f32(mask.factor((start as u32).wrapping_add(k as u32)))
    })
}

fn forward_typed<T: Real>(
    input: &FlexTensor,
    skip: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
) -> GatedUnitForward<FlexTensor> {
    let [batch, length, hidden] = dims(input);
    let unit = Unit::<T>::new(hidden, weights, dropout);
    let (input, skip) = (input.to_contiguous(), skip.to_contiguous());
    let (x, skip) = (input.storage::<T>(), skip.storage::<T>());
    let block = unit.block();
    let mut output = zeros::<T>(x.len());
    let mut branches = unit
        .keeps_branches()
        .then(|| [(); 2].map(|()| zeros::<T>(x.len())));
    let mut kept = branches
        .as_mut()
        .map(|branches| branches.each_mut().map(|branch| branch.chunks_mut(block)));
    let blocks: Vec<ForwardBlock<'_, T>> = output
        .chunks_mut(block)
        .zip(x.chunks(block))
        .zip(skip.chunks(block))
        .enumerate()
        .map(|(index, ((output, input), skip))| ForwardBlock {
            unit: &unit,
            start: index * block,
            input,
            skip,
            output,
            branches: kept
                .as_mut()
                .and_then(|[value, gate]| Some([value.next()?, gate.next()?])),
        })
        .collect();
    blocks.into_par_iter().for_each_init(
        || Scratch::new(&unit),
        |scratch, block| {
            scratch.resize(block.input.len());
            pulp::Arch::new().dispatch(ForwardPass { block, scratch });
        },
    );
    let shape = [batch, length, hidden];
    GatedUnitForward {
        output: tensor(output, shape),
        branches: branches.map(|branches| branches.map(|branch| tensor(branch, shape))),
    }
}

/// A block of rows on its way forward.
struct ForwardBlock<'a, T> {
    unit: &'a Unit<T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    skip: &'a [T],
    output: &'a mut [T],
    /// Where its branches are kept.
    branches: Option<[&'a mut [T]; 2]>,
}

struct ForwardPass<'a, 'b, T> {
    block: ForwardBlock<'a, T>,
    scratch: &'b mut Scratch<T>,
}

impl<T: Real> WithSimd for ForwardPass<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, scratch } = self;
        let (unit, start) = (block.unit, block.start);
        let mask = unit.mask(0);
        let activations = scratch.activation.iter_mut().zip(block.input);
        for (k, (activation, x)) in activations.enumerate() {
            *activation = gelu::<S, T>(*x) * factor(mask, start, k);
        }
        let activation = &scratch.activation;
        unit.value.apply(simd, activation, &mut scratch.value);
        unit.gate.apply(simd, activation, &mut scratch.gate);
        if let Some([value, gate]) = block.branches {
            // Not computed in place: a product touches its destination several times, which is in the cache here.
            value.copy_from_slice(&scratch.value);
            gate.copy_from_slice(&scratch.gate);
        }
        let mask = unit.mask(1);
        let branches = scratch.value.iter().zip(&scratch.gate);
        let outputs = block.output.iter_mut().zip(block.skip).zip(branches);
        for (k, ((output, skip), (value, gate))) in outputs.enumerate() {
            let gated = *value * gate.sigmoid::<S>();
            *output = gated.fused::<S>(factor(mask, start, k), *skip);
        }
    }
}

fn backward_typed<T: Real>(
    input: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
    branches: Option<&[FlexTensor; 2]>,
    output_gradient: &FlexTensor,
) -> GatedUnitGradients<FlexTensor> {
    let [batch, length, hidden] = dims(input);
    let unit = Unit::<T>::new(hidden, weights, dropout);
    let (input, gradient) = (input.to_contiguous(), output_gradient.to_contiguous());
    let (x, g) = (input.storage::<T>(), gradient.storage::<T>());
    let branches = branches.map(|branches| branches.each_ref().map(FlexTensor::to_contiguous));
    let branches = branches
        .as_ref()
        .map(|branches| branches.each_ref().map(|branch| branch.storage::<T>()));
    let block = unit.block();
    let piece = x.len().div_ceil(block).div_ceil(REDUCTION_PIECES).max(1) * block;

    let mut dx = zeros::<T>(x.len());
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
                let start = index * piece + k * block;
                pulp::Arch::new().dispatch(BackwardBlock {
                    unit: &unit,
                    start,
                    input,
                    branches: branches
                        .map(|branches| branches.map(|branch| &branch[start..][..input.len()])),
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
    unit: &'a Unit<T>,
    /// Position of the first element.
    start: usize,
    input: &'a [T],
    /// What the forward pass kept.
    branches: Option<[&'a [T]; 2]>,
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
        let (mask, start) = (unit.mask(0), self.start);
        let activations = scratch.activation.iter_mut().zip(&mut scratch.slope);
        for (k, ((activation, slope), x)) in activations.zip(self.input).enumerate() {
            let factor = factor(mask, start, k);
            let (value, derivative) = gelu_and_slope::<S, T>(*x);
            *activation = value * factor;
            *slope = derivative * factor;
        }
        match self.branches {
            Some([value, gate]) => {
                scratch.value.copy_from_slice(value);
                scratch.gate.copy_from_slice(gate);
            }
            None => {
                let activation = &scratch.activation;
                unit.value.apply(simd, activation, &mut scratch.value);
                unit.gate.apply(simd, activation, &mut scratch.gate);
            }
        }

        let mask = unit.mask(1);
        let pairs = scratch.value.iter_mut().zip(&mut scratch.gate);
        for (k, ((value, gate), g)) in pairs.zip(self.output_gradient).enumerate() {
            let s = gate.sigmoid::<S>();
            let of_value = *g * factor(mask, start, k) * s;
            *gate = of_value * *value * (T::ONE - s);
            *value = of_value;
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

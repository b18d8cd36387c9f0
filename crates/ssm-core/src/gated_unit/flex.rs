//! Native CPU kernel: blocks of rows that stay in the cache, activations recomputed in the backward pass.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{GELU_CUBIC, GELU_SLOPE, GatedUnit, GatedUnitGradients};
use crate::{
    cpu::{
        Destination, MatrixRef, REDUCTION_PIECES, Real, add_assign, dims, product, tensor,
        vectorized,
    },
    dropout::{Dropout, Mask},
};

/// Elements of one block of rows: with the handful of buffers of its size, well inside an L2 cache.
const BLOCK_ELEMENTS: usize = 4096;

/// One of the two affine maps.
struct Affine<T> {
    /// `[hidden, hidden]` as `[output, input]`.
    weight: Vec<T>,
    /// `[hidden]`.
    bias: Vec<T>,
}

impl<T: Real> Affine<T> {
    fn new(weight: &FlexTensor, bias: &FlexTensor) -> Self {
        Self {
            weight: weight.to_contiguous().storage::<T>().to_vec(),
            bias: bias.to_contiguous().storage::<T>().to_vec(),
        }
    }

    fn zeros(hidden: usize) -> Self {
        Self {
            weight: vec![T::ZERO; hidden * hidden],
            bias: vec![T::ZERO; hidden],
        }
    }

    fn weight(&self) -> MatrixRef<'_, T> {
        let hidden = self.bias.len();
        MatrixRef::new(&self.weight, hidden, hidden)
    }

    /// W a + b for the rows of `activation`.
    fn apply(&self, activation: MatrixRef<'_, T>, output: &mut [T]) {
        for row in output.chunks_exact_mut(self.bias.len()) {
            row.copy_from_slice(&self.bias);
        }
        product(
            output,
            Destination::Accumulate,
            activation,
            self.weight().transpose(),
        );
    }

    /// Adds the gradients that `gradient`, of the output, has in weight and bias.
    fn accumulate(&mut self, gradient: &[T], activation: MatrixRef<'_, T>) {
        let hidden = self.bias.len();
        for row in gradient.chunks_exact(hidden) {
            add_assign(&mut self.bias, row);
        }
        let gradient = MatrixRef::new(gradient, gradient.len() / hidden, hidden);
        product(
            &mut self.weight,
            Destination::Accumulate,
            gradient.transpose(),
            activation,
        );
    }

    fn add(&mut self, other: &Self) {
        add_assign(&mut self.weight, &other.weight);
        add_assign(&mut self.bias, &other.bias);
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
        Self {
            hidden,
            value: Affine::new(&weights.value_weight, &weights.value_bias),
            gate: Affine::new(&weights.gate_weight, &weights.gate_bias),
            masks: dropout.map(|d| [d.stream(0).mask(), d.stream(1).mask()]),
        }
    }

    /// Elements of one block of whole rows.
    fn block(&self) -> usize {
        (BLOCK_ELEMENTS / self.hidden).max(1) * self.hidden
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        self.masks.map(|masks| masks[index])
    }

    /// Activation, value and gate of the rows in `x`, whose first element has position `start`.
    fn activate(&self, x: &[T], start: usize, scratch: &mut Scratch<T>) {
        let activation = &mut scratch.activation[..x.len()];
        vectorized(
            #[inline(always)]
            || {
                for (a, x) in activation.iter_mut().zip(x) {
                    *a = gelu(*x);
                }
            },
        );
        drop_elements(self.mask(0), start, activation);
        let rows = x.len() / self.hidden;
        let activation = MatrixRef::new(&scratch.activation, rows, self.hidden);
        self.value.apply(activation, &mut scratch.value[..x.len()]);
        self.gate.apply(activation, &mut scratch.gate[..x.len()]);
    }
}

/// Buffers for one block of rows, `[rows, hidden]` each.
struct Scratch<T> {
    /// a = drop(gelu(input)).
    activation: Vec<T>,
    /// W₁ a + b₁; in the backward pass then its gradient.
    value: Vec<T>,
    /// W₂ a + b₂; in the backward pass then its gradient.
    gate: Vec<T>,
    /// Gradient of the output, then of the activation.
    gradient: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(unit: &Unit<T>) -> Self {
        let [activation, value, gate, gradient] = [(); 4].map(|()| vec![T::ZERO; unit.block()]);
        Self {
            activation,
            value,
            gate,
            gradient,
        }
    }
}

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

/// tanh-form GELU as x σ(2z), z = √(2/π) (x + 0.044715 x³): the same function with one exponential.
#[inline(always)]
pub(crate) fn gelu<T: Real>(x: T) -> T {
    let z = T::from_f64(2.0 * GELU_SLOPE) * (x + T::from_f64(GELU_CUBIC) * x * x * x);
    x * z.sigmoid()
}

/// Derivative of [`gelu`].
#[inline(always)]
fn gelu_derivative<T: Real>(x: T) -> T {
    let slope = T::from_f64(2.0 * GELU_SLOPE);
    let z = slope * (x + T::from_f64(GELU_CUBIC) * x * x * x);
    let s = z.sigmoid();
    let dz = slope * (T::ONE + T::from_f64(3.0 * GELU_CUBIC) * x * x);
    s + x * s * (T::ONE - s) * dz
}

/// Multiplies the elements from position `start` on by their dropout factors.
fn drop_elements<T: Real>(mask: Option<Mask>, start: usize, elements: &mut [T]) {
    let Some(mask) = mask else {
        return;
    };
    vectorized(
        #[inline(always)]
        || {
            let (mask, start) = (mask, start as u32);
            for (k, element) in elements.iter_mut().enumerate() {
                let factor = mask.factor(start.wrapping_add(k as u32));
                *element = *element * T::from_f32(factor);
            }
        },
    );
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
    let (block, mask) = (unit.block(), unit.mask(1));

    let mut output = vec![T::ZERO; x.len()];
    output
        .par_chunks_mut(block)
        .zip(x.par_chunks(block))
        .zip(skip.par_chunks(block))
        .enumerate()
        .for_each_init(
            || Scratch::new(&unit),
            |scratch, (index, ((output, x), skip))| {
                let start = index * block;
                unit.activate(x, start, scratch);
                let gated = &mut scratch.value[..x.len()];
                vectorized(
                    #[inline(always)]
                    || {
                        for (value, gate) in gated.iter_mut().zip(&scratch.gate) {
                            *value = *value * gate.sigmoid();
                        }
                    },
                );
                drop_elements(mask, start, gated);
                for ((output, skip), gated) in output.iter_mut().zip(skip).zip(&*gated) {
                    *output = *skip + *gated;
                }
            },
        );
    tensor(output, [batch, length, hidden])
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
    let pieces: Vec<[Affine<T>; 2]> = dx
        .par_chunks_mut(piece)
        .zip(x.par_chunks(piece))
        .zip(g.par_chunks(piece))
        .enumerate()
        .map(|(index, ((dx, x), g))| {
            let mut sums = [Affine::zeros(hidden), Affine::zeros(hidden)];
            let mut scratch = Scratch::new(&unit);
            let blocks = dx
                .chunks_mut(block)
                .zip(x.chunks(block))
                .zip(g.chunks(block));
            for (k, ((dx, x), g)) in blocks.enumerate() {
                let start = index * piece + k * block;
                backward_block(&unit, start, [x, g], dx, &mut sums, &mut scratch);
            }
            sums
        })
        .collect();

    let [mut value, mut gate] = [Affine::zeros(hidden), Affine::zeros(hidden)];
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

/// Gradients of one block of rows; those of weights and biases are added to `sums` (value, gate).
fn backward_block<T: Real>(
    unit: &Unit<T>,
    start: usize,
    [x, g]: [&[T]; 2],
    dx: &mut [T],
    sums: &mut [Affine<T>; 2],
    scratch: &mut Scratch<T>,
) {
    let (hidden, rows, len) = (unit.hidden, x.len() / unit.hidden, x.len());
    unit.activate(x, start, scratch);

    let (value, gate) = (&mut scratch.value[..len], &mut scratch.gate[..len]);
    let gradient = &mut scratch.gradient[..len];
    gradient.copy_from_slice(g);
    drop_elements(unit.mask(1), start, gradient);
    vectorized(
        #[inline(always)]
        || {
            for ((value, gate), g) in value.iter_mut().zip(gate.iter_mut()).zip(&*gradient) {
                let s = gate.sigmoid();
                *gate = *g * *value * s * (T::ONE - s);
                *value = *g * s;
            }
        },
    );

    let activation = MatrixRef::new(&scratch.activation, rows, hidden);
    sums[0].accumulate(value, activation);
    sums[1].accumulate(gate, activation);
    let (value, gate) = (
        MatrixRef::new(value, rows, hidden),
        MatrixRef::new(gate, rows, hidden),
    );
    product(gradient, Destination::Overwrite, value, unit.value.weight());
    product(gradient, Destination::Accumulate, gate, unit.gate.weight());

    drop_elements(unit.mask(0), start, gradient);
    vectorized(
        #[inline(always)]
        || {
            for ((dx, x), gradient) in dx.iter_mut().zip(x).zip(&*gradient) {
                *dx = *gradient * gelu_derivative(*x);
            }
        },
    );
}

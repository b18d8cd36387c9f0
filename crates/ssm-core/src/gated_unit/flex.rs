//! Native CPU kernel: blocks of rows that stay in the cache.
//!
//! The backward pass computes activations again. The two products before the gate it computes again as well where they
//! are narrow, and reads what the forward pass kept where they are wide: at 64 channels a product costs what writing
//! and reading its result does, at 512 eight times that.

mod narrow;
mod wide;

use burn::tensor::DType;
use burn_flex::FlexTensor;
use pulp::Simd;

use super::{GELU_CUBIC, GELU_SLOPE, GatedUnit, GatedUnitForward, GatedUnitGradients};
use crate::{
    affine::native::AffineGradient,
    cpu::{Products, Real, tensor},
    dropout::{Dropout, Mask},
};

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

fn forward_typed<T: Real>(
    input: &FlexTensor,
    skip: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
) -> GatedUnitForward<FlexTensor> {
    let weights = weights.map(FlexTensor::to_contiguous);
    let unit = Unit::<T>::new(&weights, dropout);
    let [input, skip] = [input, skip].map(FlexTensor::to_contiguous);
    match Products::for_channels(unit.hidden()) {
        Products::Tiled => narrow::forward(&unit, &input, &skip),
        Products::Blocked => wide::forward(&unit, &input, &skip),
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

fn backward_typed<T: Real>(
    input: &FlexTensor,
    weights: &GatedUnit<FlexTensor>,
    dropout: Option<Dropout>,
    branches: Option<&[FlexTensor; 2]>,
    output_gradient: &FlexTensor,
) -> GatedUnitGradients<FlexTensor> {
    let weights = weights.map(FlexTensor::to_contiguous);
    let unit = Unit::<T>::new(&weights, dropout);
    let [input, gradient] = [input, output_gradient].map(FlexTensor::to_contiguous);
    match branches {
        None => narrow::backward(&unit, &input, &gradient),
        Some(branches) => {
            let branches = branches.each_ref().map(FlexTensor::to_contiguous);
            wide::backward(&unit, &input, &branches, &gradient)
        }
    }
}

/// Weights and dropout masks of a unit on contiguous memory.
struct Unit<'a, T> {
    weights: GatedUnit<&'a [T]>,
    masks: Option<[Mask; 2]>,
}

impl<'a, T: Real> Unit<'a, T> {
    fn new(weights: &'a GatedUnit<FlexTensor>, dropout: Option<Dropout>) -> Self {
        Self {
            weights: weights.map(FlexTensor::storage::<T>),
            masks: dropout.map(|d| [d.stream(0).mask(), d.stream(1).mask()]),
        }
    }

    fn hidden(&self) -> usize {
        self.weights.value_bias.len()
    }

    fn mask(&self, index: usize) -> Option<Mask> {
        self.masks.map(|masks| masks[index])
    }
}

/// Gradients from that of the input and from the pieces of those of value and gate.
fn gradients<T: Real>(
    input: Vec<T>,
    shape: [usize; 3],
    maps: [Vec<AffineGradient<T>>; 2],
) -> GatedUnitGradients<FlexTensor> {
    let hidden = shape[2];
    let [[value_weight, value_bias], [gate_weight, gate_bias]] = maps.map(|pieces| {
        let [weight, bias] = AffineGradient::total([hidden; 2], pieces).into_parts();
        [tensor(weight, [hidden; 2]), tensor(bias, [hidden])]
    });
    GatedUnitGradients {
        input: tensor(input, shape),
        weights: GatedUnit {
            value_weight,
            value_bias,
            gate_weight,
            gate_bias,
        },
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

//! Native CPU kernel: blocks of rows that stay in the cache.
//!
//! The backward pass computes activations again. The two products before the gate it computes again as well where they
//! are narrow, and reads what the forward pass kept where they are wide: at 64 channels a product costs what writing
//! and reading its result does, at 512 eight times that.

mod narrow;
mod wide;

use burn_flex::FlexTensor;
use pulp::Simd;

use super::{Branches, GELU_CUBIC, GELU_SLOPE, GatedUnitWeights};
use crate::{
    affine::native::AffineGradient,
    cpu::{Products, Real, tensor},
    dropout::{Dropout, Mask},
};

/// The output, and the branches if they are kept.
pub(super) fn forward<T: Real>(
    input: &FlexTensor,
    skip: &FlexTensor,
    weights: &GatedUnitWeights<FlexTensor>,
    dropout: Option<Dropout>,
) -> (FlexTensor, Branches<FlexTensor>) {
    let unit = Unit::<T>::new(weights, dropout);
    match Products::for_channels(unit.hidden()) {
        Products::Tiled => (narrow::forward(&unit, input, skip), None),
        Products::Blocked => {
            let (output, branches) = wide::forward(&unit, input, skip);
            (output, Some(branches))
        }
    }
}

/// Gradients of the input, W₁, b₁, W₂ and b₂.
pub(super) fn backward<T: Real>(
    input: &FlexTensor,
    weights: &GatedUnitWeights<FlexTensor>,
    dropout: Option<Dropout>,
    branches: Option<&[FlexTensor; 2]>,
    output_gradient: &FlexTensor,
) -> [FlexTensor; 5] {
    let unit = Unit::<T>::new(weights, dropout);
    match branches {
        None => narrow::backward(&unit, input, output_gradient),
        Some(branches) => wide::backward(&unit, input, branches, output_gradient),
    }
}

/// Weights and dropout masks of a unit on contiguous memory.
struct Unit<'a, T> {
    weights: GatedUnitWeights<&'a [T]>,
    masks: Option<[Mask; 2]>,
}

impl<'a, T: Real> Unit<'a, T> {
    fn new(weights: &'a GatedUnitWeights<FlexTensor>, dropout: Option<Dropout>) -> Self {
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

/// Gradients of input, W₁, b₁, W₂ and b₂, from the first and from the pieces of the others.
fn gradients<T: Real>(
    input: Vec<T>,
    shape: [usize; 3],
    maps: [Vec<AffineGradient<T>>; 2],
) -> [FlexTensor; 5] {
    let hidden = shape[2];
    let [[value_weight, value_bias], [gate_weight, gate_bias]] = maps.map(|pieces| {
        let [weight, bias] = AffineGradient::total([hidden; 2], pieces).into_parts();
        [tensor(weight, [hidden; 2]), tensor(bias, [hidden])]
    });
    [
        tensor(input, shape),
        value_weight,
        value_bias,
        gate_weight,
        gate_bias,
    ]
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

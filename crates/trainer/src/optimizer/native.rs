//! One update on the memory of tensors of the native CPU: a single pass, in place, with subnormal numbers flushed.
//!
//! Average squares of gradients that fade pass through the subnormal numbers on their way to zero, which takes them
//! thousands of steps.

use std::any::Any;

use burn::backend::Flex;
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_flex::FlexTensor;
use rayon::prelude::*;
use subnormals::Subnormals;

use super::{Coefficients, Moments, Parameter};

/// Elements that a thread updates at a time: 256 KiB of value, gradient and moments, which a cache of the second level
/// holds. A smaller parameter is updated by one thread, since handing out less costs more than it saves.
const PIECE_LENGTH: usize = 1 << 14;

/// Updates a parameter of `f32` on the native CPU; says whether it was one.
pub(super) fn update<B: Backend>(
    coefficients: &Coefficients,
    parameter: &mut Parameter<B>,
) -> bool {
    let parameter: &mut dyn Any = parameter;
    match parameter.downcast_mut::<Parameter<Flex>>() {
        Some(parameter) if parameter.value.dtype() == DType::F32 => {
            update_flex(coefficients, parameter);
            true
        }
        _ => false,
    }
}

fn update_flex(coefficients: &Coefficients, parameter: &mut Parameter<Flex>) {
    let gradient = parameter.gradient.clone().into_primitive().tensor();
    let gradient = gradient.to_contiguous();
    // Taken out, so that memory with one owner is updated in place.
    let Moments { first, second, .. } = &mut parameter.moments;
    let [mut value, mut first_moment, mut second_moment] =
        [&mut parameter.value, &mut *first, &mut *second].map(take);
    value
        .storage_mut::<f32>()
        .par_chunks_mut(PIECE_LENGTH)
        .zip(gradient.storage::<f32>().par_chunks(PIECE_LENGTH))
        .zip(
            first_moment
                .storage_mut::<f32>()
                .par_chunks_mut(PIECE_LENGTH),
        )
        .zip(
            second_moment
                .storage_mut::<f32>()
                .par_chunks_mut(PIECE_LENGTH),
        )
        .for_each(|(((value, gradient), first), second)| {
            let _flushed = Subnormals::flushed();
            pulp::Arch::new()
                .dispatch(|| update_slice(coefficients, value, gradient, first, second));
        });
    *first = tensor(first_moment);
    *second = tensor(second_moment);
    parameter.value = tensor(value);
}

#[inline(always)]
fn update_slice(
    coefficients: &Coefficients,
    value: &mut [f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    let Coefficients {
        betas: [beta_1, beta_2],
        epsilon,
        rate,
        kept,
    } = *coefficients;
    let [keep_1, keep_2] = [beta_1 as f32, beta_2 as f32];
    let [add_1, add_2] = [(1.0 - beta_1) as f32, (1.0 - beta_2) as f32];
    let [epsilon, rate, kept] = [epsilon as f32, rate as f32, kept as f32];
    let elements = value.iter_mut().zip(gradient).zip(first).zip(second);
    for (((value, gradient), first), second) in elements {
        *first = *first * keep_1 + *gradient * add_1;
        *second = *second * keep_2 + *gradient * *gradient * add_2;
        *value = *value * kept - *first / (second.sqrt() + epsilon) * rate;
    }
}

fn take(tensor: &mut Tensor<Flex, 1>) -> FlexTensor {
    let empty = Tensor::empty([0], &Default::default());
    let tensor = std::mem::replace(tensor, empty);
    tensor.into_primitive().tensor().to_contiguous()
}

fn tensor(values: FlexTensor) -> Tensor<Flex, 1> {
    Tensor::from_primitive(TensorPrimitive::Float(values))
}

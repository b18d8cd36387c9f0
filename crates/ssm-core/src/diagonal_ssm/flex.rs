//! The native kernel on Flex tensors.

use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::{
    DiagonalSsm, DiagonalSsmForward, DiagonalSsmGradients, DiagonalSsmOutput,
    native::{self, Shape},
};
use crate::cpu::{Real, dims, tensor};

pub(crate) fn forward(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    initial_state: &FlexTensor,
) -> DiagonalSsmForward<FlexTensor> {
    match input.dtype() {
        DType::F64 => forward_typed::<f64>(input, system, initial_state),
        _ => forward_typed::<f32>(input, system, initial_state),
    }
}

pub(crate) fn backward(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> DiagonalSsmGradients<FlexTensor> {
    match input.dtype() {
        DType::F64 => backward_typed::<f64>(input, system, chunk_states, output_gradient),
        _ => backward_typed::<f32>(input, system, chunk_states, output_gradient),
    }
}

fn shape(input: &FlexTensor, system: &DiagonalSsm<FlexTensor>) -> Shape {
    let [batch, length, hidden] = dims(input);
    let [state] = dims(&system.lambda_re);
    Shape {
        batch,
        length,
        hidden,
        state,
    }
}

fn forward_typed<T: Real>(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    initial_state: &FlexTensor,
) -> DiagonalSsmForward<FlexTensor> {
    let shape = shape(input, system);
    let Shape {
        batch,
        length,
        hidden,
        state,
    } = shape;
    let (input, initial_state) = (input.to_contiguous(), initial_state.to_contiguous());
    let system = system.map(FlexTensor::to_contiguous);
    let forward = native::forward(
        shape,
        input.storage::<T>(),
        &system.map(|t| t.storage::<T>()),
        initial_state.storage::<T>(),
    );
    DiagonalSsmForward {
        result: DiagonalSsmOutput {
            output: tensor(forward.output, [batch, length, hidden]),
            final_state: tensor(forward.final_state, [batch, 2 * state]),
        },
        chunk_states: tensor(forward.chunk_states, forward.chunk_shape),
    }
}

fn backward_typed<T: Real>(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> DiagonalSsmGradients<FlexTensor> {
    let shape = shape(input, system);
    let Shape {
        batch,
        length,
        hidden,
        state,
    } = shape;
    let (input, output_gradient) = (input.to_contiguous(), output_gradient.to_contiguous());
    let (system, chunk_states) = (
        system.map(FlexTensor::to_contiguous),
        chunk_states.to_contiguous(),
    );
    let gradients = native::backward(
        shape,
        input.storage::<T>(),
        &system.map(|t| t.storage::<T>()),
        chunk_states.storage::<T>(),
        output_gradient.storage::<T>(),
    );
    let system = gradients.system;
    DiagonalSsmGradients {
        input: tensor(gradients.input, [batch, length, hidden]),
        system: DiagonalSsm {
            lambda_re: tensor(system.lambda_re, [state]),
            lambda_im: tensor(system.lambda_im, [state]),
            input_re: tensor(system.input_re, [state, hidden]),
            input_im: tensor(system.input_im, [state, hidden]),
            output_re: tensor(system.output_re, [hidden, state]),
            output_im: tensor(system.output_im, [hidden, state]),
            feedthrough: tensor(system.feedthrough, [hidden]),
        },
        initial_state: tensor(gradients.initial_state, [batch, 2 * state]),
    }
}

//! The native kernel on Flex tensors.

use burn_flex::FlexTensor;

use super::{
    DiagonalSystem,
    native::{self, Shape},
};
use crate::cpu::{Real, dims, tensor};

fn shape(input: &FlexTensor, system: &DiagonalSystem<FlexTensor>) -> Shape {
    let [batch, length, hidden] = dims(input);
    let [state] = dims(&system.lambda_re);
    Shape {
        batch,
        length,
        hidden,
        state,
    }
}

/// Output, final state, and the states of chunks.
pub(super) fn forward<T: Real>(
    input: &FlexTensor,
    system: &DiagonalSystem<FlexTensor>,
    initial_state: &FlexTensor,
) -> [FlexTensor; 3] {
    let shape = shape(input, system);
    let Shape {
        batch,
        length,
        hidden,
        state,
    } = shape;
    let forward = native::forward(
        shape,
        input.storage::<T>(),
        &system.map(|t| t.storage::<T>()),
        initial_state.storage::<T>(),
    );
    [
        tensor(forward.output, [batch, length, hidden]),
        tensor(forward.final_state, [batch, 2 * state]),
        tensor(forward.chunk_states, forward.chunk_shape),
    ]
}

/// Gradients of input, system and initial state.
pub(super) fn backward<T: Real>(
    input: &FlexTensor,
    system: &DiagonalSystem<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> [FlexTensor; 9] {
    let shape = shape(input, system);
    let Shape {
        batch,
        length,
        hidden,
        state,
    } = shape;
    let gradients = native::backward(
        shape,
        input.storage::<T>(),
        &system.map(|t| t.storage::<T>()),
        chunk_states.storage::<T>(),
        output_gradient.storage::<T>(),
    );
    let system = gradients.system;
    [
        tensor(gradients.input, [batch, length, hidden]),
        tensor(system.lambda_re, [state]),
        tensor(system.lambda_im, [state]),
        tensor(system.input_re, [state, hidden]),
        tensor(system.input_im, [state, hidden]),
        tensor(system.output_re, [hidden, state]),
        tensor(system.output_im, [hidden, state]),
        tensor(system.feedthrough, [hidden]),
        tensor(gradients.initial_state, [batch, 2 * state]),
    ]
}

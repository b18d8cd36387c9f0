//! The diagonal state space map as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{backend::AutodiffBackend, ops::FloatTensor},
};

use super::{DiagonalSsm, DiagonalSsmOutput};
use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct Mapped<T> {
    input: T,
    system: DiagonalSsm<T>,
    chunk_states: T,
}

impl<B: Kernels> Operation<B, 9> for Mapped<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 9],
    ) -> [Option<FloatTensor<B>>; 9] {
        let gradients = B::diagonal_ssm_backward(
            &self.input,
            &self.system,
            &self.chunk_states,
            &output_gradient,
        );
        let system = &gradients.system;
        parents(&gradients.input, system, &gradients.initial_state).map(|g| Some(g.clone()))
    }
}

/// What the map comes from, in this order.
fn parents<'a, T>(input: &'a T, system: &'a DiagonalSsm<T>, initial_state: &'a T) -> [&'a T; 9] {
    [
        input,
        &system.lambda_re,
        &system.lambda_im,
        &system.input_re,
        &system.input_im,
        &system.output_re,
        &system.output_im,
        &system.feedthrough,
        initial_state,
    ]
}

pub(crate) fn diagonal_ssm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    system: DiagonalSsm<FloatTensor<Autodiff<B, C>>>,
    initial_state: FloatTensor<Autodiff<B, C>>,
) -> DiagonalSsmOutput<FloatTensor<Autodiff<B, C>>> {
    let inner = system.map(|parameter| parameter.primitive.clone());
    let forward = B::diagonal_ssm_forward(&input.primitive, &inner, &initial_state.primitive);
    let operation = Mapped {
        input: input.primitive.clone(),
        system: inner,
        chunk_states: forward.chunk_states,
    };
    let parents = parents(&input, &system, &initial_state);
    DiagonalSsmOutput {
        output: record::<B, C, _, 9>(operation, parents, forward.result.output),
        final_state: <Autodiff<B, C> as AutodiffBackend>::from_inner(forward.result.final_state),
    }
}

//! The diagonal state space map as one node of the autodiff graph.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{backend::AutodiffBackend, ops::FloatTensor},
};

use super::{DiagonalSsm, DiagonalSsmOutput};
use crate::backend::Kernels;

#[derive(Debug)]
struct DiagonalSsmBackward;

/// What the backward pass needs: the inputs and the states at chunk boundaries.
type State<B> = (FloatTensor<B>, DiagonalSsm<FloatTensor<B>>, FloatTensor<B>);

impl<B: Kernels> Backward<B, 9> for DiagonalSsmBackward {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 9>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (input, system, chunk_states) = ops.state;
        let gradients = B::diagonal_ssm_backward(&input, &system, &chunk_states, &output_gradient);
        let ordered = [
            gradients.input,
            gradients.system.lambda_re,
            gradients.system.lambda_im,
            gradients.system.input_re,
            gradients.system.input_im,
            gradients.system.output_re,
            gradients.system.output_im,
            gradients.system.feedthrough,
            gradients.initial_state,
        ];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn diagonal_ssm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    system: DiagonalSsm<FloatTensor<Autodiff<B, C>>>,
    initial_state: FloatTensor<Autodiff<B, C>>,
) -> DiagonalSsmOutput<FloatTensor<Autodiff<B, C>>> {
    let nodes = [
        input.node.clone(),
        system.lambda_re.node.clone(),
        system.lambda_im.node.clone(),
        system.input_re.node.clone(),
        system.input_im.node.clone(),
        system.output_re.node.clone(),
        system.output_im.node.clone(),
        system.feedthrough.node.clone(),
        initial_state.node,
    ];
    let input = input.primitive;
    let system = DiagonalSsm {
        lambda_re: system.lambda_re.primitive,
        lambda_im: system.lambda_im.primitive,
        input_re: system.input_re.primitive,
        input_im: system.input_im.primitive,
        output_re: system.output_re.primitive,
        output_im: system.output_im.primitive,
        feedthrough: system.feedthrough.primitive,
    };
    let forward = B::diagonal_ssm_forward(&input, &system, &initial_state.primitive);
    let result = forward.result;
    let output = match DiagonalSsmBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((input, system, forward.chunk_states), result.output),
        OpsKind::UnTracked(prep) => prep.finish(result.output),
    };
    DiagonalSsmOutput {
        output,
        final_state: <Autodiff<B, C> as AutodiffBackend>::from_inner(result.final_state),
    }
}

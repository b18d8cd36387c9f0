//! The mean over time as one node of the autodiff graph.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
    },
    tensor::{TensorMetadata, ops::FloatTensor},
};

use crate::backend::Kernels;

#[derive(Debug)]
struct MeanOverTimeBackward;

impl<B: Kernels> Backward<B, 1> for MeanOverTimeBackward {
    /// Number of steps.
    type State = usize;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let length = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            B::mean_over_time_backward(gradient, length)
        });
    }
}

pub(crate) fn mean_over_time<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let [_, length, _] = input.primitive.shape().dims();
    let mean = B::mean_over_time_forward(input.primitive);
    match MeanOverTimeBackward
        .prepare::<C>([input.node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(length, mean),
        OpsKind::UnTracked(prep) => prep.finish(mean),
    }
}

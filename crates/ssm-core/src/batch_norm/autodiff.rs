//! Batch normalization as one node of the autodiff graph.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind, unary},
        },
    },
    tensor::{backend::AutodiffBackend, ops::FloatTensor},
};

use super::Normalized;
use crate::backend::Kernels;

#[derive(Debug)]
struct BatchNormBackward;

impl<B: Kernels> Backward<B, 1> for BatchNormBackward {
    /// Normalized output, variance, epsilon.
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (normalized, variance, epsilon) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            B::batch_norm_backward(&normalized, &variance, epsilon, &gradient)
        });
    }
}

pub(crate) fn batch_norm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> Normalized<FloatTensor<Autodiff<B, C>>> {
    let forward = B::batch_norm_forward(&input.primitive, epsilon);
    let prepared = BatchNormBackward
        .prepare::<C>([input.node])
        .compute_bound()
        .stateful();
    let output = match prepared {
        OpsKind::Tracked(prep) => {
            let state = (forward.output.clone(), forward.variance.clone(), epsilon);
            prep.finish(state, forward.output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward.output),
    };
    Normalized {
        output,
        mean: <Autodiff<B, C> as AutodiffBackend>::from_inner(forward.mean),
        variance: <Autodiff<B, C> as AutodiffBackend>::from_inner(forward.variance),
    }
}

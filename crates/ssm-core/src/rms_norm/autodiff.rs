//! Normalization by the root mean square as one node of the autodiff graph.

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::ops::FloatTensor,
};

use crate::backend::Kernels;

#[derive(Debug)]
struct RmsNormBackward;

impl<B: Kernels> Backward<B, 2> for RmsNormBackward {
    /// Input, weight, epsilon.
    type State = (FloatTensor<B>, FloatTensor<B>, f64);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (input, weight, epsilon) = ops.state;
        let gradients = B::rms_norm_backward(&input, &weight, epsilon, &output_gradient);
        let ordered = [gradients.input, gradients.weight];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn rms_norm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let output = B::rms_norm_forward(&input.primitive, &weight.primitive, epsilon);
    match RmsNormBackward
        .prepare::<C>([input.node, weight.node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((input.primitive, weight.primitive, epsilon), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

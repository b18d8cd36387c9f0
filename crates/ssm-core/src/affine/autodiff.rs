//! The affine map as one node of the autodiff graph.

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
struct AffineBackward;

impl<B: Kernels> Backward<B, 3> for AffineBackward {
    /// Input and weight.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (input, weight) = ops.state;
        let [of_input, ..] = &ops.parents;
        // The first layer of a model maps data, which has no gradient.
        let gradients = B::affine_backward(&input, &weight, &output_gradient, of_input.is_some());
        let ordered = [
            gradients.input,
            Some(gradients.weight),
            Some(gradients.bias),
        ];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn affine<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let output = B::affine_forward(&input.primitive, &weight.primitive, &bias.primitive);
    match AffineBackward
        .prepare::<C>([input.node, weight.node, bias.node])
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((input.primitive, weight.primitive), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

//! The convolution as one node of the autodiff graph.

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
struct CausalConvBackward;

impl<B: Kernels> Backward<B, 3> for CausalConvBackward {
    /// Input, weight and bias.
    type State = [FloatTensor<B>; 3];

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let [input, weight, bias] = ops.state;
        let gradients = B::causal_conv_backward(&input, &weight, &bias, &output_gradient);
        let ordered = [gradients.input, gradients.weight, gradients.bias];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn causal_conv<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let parts = [input, weight, bias];
    let nodes = parts.each_ref().map(|part| part.node.clone());
    let state = parts.map(|part| part.primitive);
    let [input, weight, bias] = &state;
    let output = B::causal_conv_forward(input, weight, bias);
    match CausalConvBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(state, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

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

/// Input and weight.
type AffineState<B> = (FloatTensor<B>, FloatTensor<B>);

/// With three parents input, weight and bias, with two there is no bias.
impl<B: Kernels, const N: usize> Backward<B, N> for AffineBackward {
    type State = AffineState<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (input, weight) = ops.state;
        // The first layer of a model maps data, which has no gradient.
        let wanted = [0, 2].map(|index| ops.parents.get(index).is_some_and(Option::is_some));
        let gradients = B::affine_backward(&input, &weight, &output_gradient, wanted);
        let ordered = [gradients.input, Some(gradients.weight), gradients.bias];
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
    bias: Option<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let bias_primitive = bias.as_ref().map(|bias| &bias.primitive);
    let output = B::affine_forward(&input.primitive, &weight.primitive, bias_primitive);
    let state = (input.primitive, weight.primitive);
    match bias {
        Some(bias) => {
            let parents = [input.node, weight.node, bias.node];
            let node = AffineBackward.prepare::<C>(parents);
            finish(node.compute_bound().stateful(), state, output)
        }
        None => {
            let node = AffineBackward.prepare::<C>([input.node, weight.node]);
            finish(node.compute_bound().stateful(), state, output)
        }
    }
}

fn finish<B: Kernels, C: CheckpointStrategy, const N: usize>(
    node: OpsKind<AffineBackward, B, AffineState<B>, C, N>,
    state: AffineState<B>,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match node {
        OpsKind::Tracked(prep) => prep.finish(state, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

//! The gated unit as one node of the autodiff graph.

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

use super::{GatedUnit, GatedUnitForward};
use crate::{backend::Kernels, dropout::Dropout};

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct State<B: Kernels> {
    input: FloatTensor<B>,
    weights: GatedUnit<FloatTensor<B>>,
    dropout: Option<Dropout>,
    branches: Option<[FloatTensor<B>; 2]>,
}

#[derive(Debug)]
struct GatedUnitBackward;

impl<B: Kernels> Backward<B, 6> for GatedUnitBackward {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 6>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let State {
            input,
            weights,
            dropout,
            branches,
        } = ops.state;
        let gradients = B::gated_unit_backward(
            &input,
            &weights,
            dropout,
            branches.as_ref(),
            &output_gradient,
        );
        let ordered = [
            gradients.input,
            output_gradient,
            gradients.weights.value_weight,
            gradients.weights.value_bias,
            gradients.weights.gate_weight,
            gradients.weights.gate_bias,
        ];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn gated_unit<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    skip: FloatTensor<Autodiff<B, C>>,
    weights: GatedUnit<FloatTensor<Autodiff<B, C>>>,
    dropout: Option<Dropout>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [
        input.node,
        skip.node,
        weights.value_weight.node,
        weights.value_bias.node,
        weights.gate_weight.node,
        weights.gate_bias.node,
    ];
    let weights = GatedUnit {
        value_weight: weights.value_weight.primitive,
        value_bias: weights.value_bias.primitive,
        gate_weight: weights.gate_weight.primitive,
        gate_bias: weights.gate_bias.primitive,
    };
    let GatedUnitForward { output, branches } =
        B::gated_unit_forward(&input.primitive, &skip.primitive, &weights, dropout);
    match GatedUnitBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => {
            let state = State {
                input: input.primitive,
                weights,
                dropout,
                branches,
            };
            prep.finish(state, output)
        }
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

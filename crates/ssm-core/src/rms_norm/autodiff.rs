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

#[derive(Clone, Debug)]
struct State<T> {
    input: T,
    gate: Option<T>,
    weight: T,
    epsilon: f64,
}

/// With three parents input, weight and gate, with two there is no gate.
impl<B: Kernels, const N: usize> Backward<B, N> for RmsNormBackward {
    type State = State<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let State {
            input,
            gate,
            weight,
            epsilon,
        } = ops.state;
        let gradients =
            B::rms_norm_backward(&input, gate.as_ref(), &weight, epsilon, &output_gradient);
        let ordered = [
            Some(gradients.input),
            Some(gradients.weight),
            gradients.gate,
        ];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn rms_norm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    gate: Option<FloatTensor<Autodiff<B, C>>>,
    weight: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let state = State {
        input: input.primitive,
        gate: gate.as_ref().map(|gate| gate.primitive.clone()),
        weight: weight.primitive,
        epsilon,
    };
    let gate_primitive = state.gate.as_ref();
    let output = B::rms_norm_forward(&state.input, gate_primitive, &state.weight, epsilon);
    match gate {
        Some(gate) => {
            let node = RmsNormBackward.prepare::<C>([input.node, weight.node, gate.node]);
            finish(node.compute_bound().stateful(), state, output)
        }
        None => {
            let node = RmsNormBackward.prepare::<C>([input.node, weight.node]);
            finish(node.compute_bound().stateful(), state, output)
        }
    }
}

fn finish<B: Kernels, C: CheckpointStrategy, const N: usize>(
    node: OpsKind<RmsNormBackward, B, State<FloatTensor<B>>, C, N>,
    state: State<FloatTensor<B>>,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match node {
        OpsKind::Tracked(prep) => prep.finish(state, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

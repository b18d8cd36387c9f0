//! The plain scan as one node of the autodiff graph.

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

use super::LinearScan;
use crate::backend::Kernels;

#[derive(Debug)]
struct LinearScanBackward;

impl<B: Kernels> Backward<B, 3> for LinearScanBackward {
    /// The inputs and all states.
    type State = (LinearScan<FloatTensor<B>>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (scan, states) = ops.state;
        let gradients = B::linear_scan_backward(&scan, &states, &output_gradient);
        let ordered = [gradients.decay, gradients.input, gradients.initial_state];
        for (parent, gradient) in ops.parents.into_iter().zip(ordered) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

pub(crate) fn linear_scan<B: Kernels, C: CheckpointStrategy>(
    scan: LinearScan<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = [
        scan.decay.tensor().node.clone(),
        scan.input.node.clone(),
        scan.initial_state.node.clone(),
    ];
    let scan = LinearScan {
        decay: scan.decay.with(scan.decay.tensor().primitive.clone()),
        input: scan.input.primitive,
        initial_state: scan.initial_state.primitive,
        field: scan.field,
    };
    let states = B::linear_scan_forward(&scan);
    match LinearScanBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((scan, states.clone()), states),
        OpsKind::UnTracked(prep) => prep.finish(states),
    }
}

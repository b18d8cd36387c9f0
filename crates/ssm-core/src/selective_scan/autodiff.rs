//! The selective scan as one node of the autodiff graph.

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

use super::SelectiveScan;
use crate::backend::Kernels;

#[derive(Debug)]
struct SelectiveScanBackward;

impl<B: Kernels> Backward<B, 7> for SelectiveScanBackward {
    /// The inputs and the states at chunk boundaries.
    type State = (SelectiveScan<FloatTensor<B>>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 7>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (scan, chunk_states) = ops.state;
        let gradients = B::selective_scan_backward(&scan, &chunk_states, &output_gradient);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients.parts()) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient.clone());
            }
        }
    }
}

pub(crate) fn selective_scan<B: Kernels, C: CheckpointStrategy>(
    scan: SelectiveScan<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let nodes = scan.parts().map(|part| part.node.clone());
    let scan = SelectiveScan::of_parts(scan.parts().map(|part| part.primitive.clone()));
    let forward = B::selective_scan_forward(&scan);
    match SelectiveScanBackward
        .prepare::<C>(nodes)
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish((scan, forward.chunk_states), forward.output),
        OpsKind::UnTracked(prep) => prep.finish(forward.output),
    }
}

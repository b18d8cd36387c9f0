//! The map of Mamba-2 as one node of the autodiff graph, where the backend has a kernel for it.

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

use super::{Ssd, composed};
use crate::backend::Kernels;

#[derive(Debug)]
struct SsdBackward;

impl<B: Kernels> Backward<B, 6> for SsdBackward {
    /// The inputs and the states at chunk boundaries.
    type State = (Ssd<FloatTensor<B>>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 6>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let (map, chunk_states) = ops.state;
        let gradients = B::ssd_backward(&map, &chunk_states, &output_gradient);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients.parts()) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient.clone());
            }
        }
    }
}

pub(crate) fn ssd<B: Kernels, C: CheckpointStrategy>(
    map: Ssd<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let inner = map.parts().map(|part| part.primitive.clone());
    let inner = Ssd::of_parts(inner, map.groups);
    let Some(forward) = B::ssd_forward(&inner) else {
        return composed::ssd::<Autodiff<B, C>>(map);
    };
    let nodes = map.parts().map(|part| part.node.clone());
    match SsdBackward.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((inner, forward.chunk_states), forward.output),
        OpsKind::UnTracked(prep) => prep.finish(forward.output),
    }
}

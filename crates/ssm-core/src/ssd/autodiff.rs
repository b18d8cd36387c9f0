//! The map of Mamba-2 as one node of the autodiff graph, where the backend has a kernel for it.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use super::{Ssd, composed};
use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct Mapped<T> {
    map: Ssd<T>,
    chunk_states: T,
}

impl<B: Kernels> Operation<B, 6> for Mapped<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 6],
    ) -> [Option<FloatTensor<B>>; 6] {
        let gradients = B::ssd_backward(&self.map, &self.chunk_states, &output_gradient);
        gradients.parts().map(|gradient| Some(gradient.clone()))
    }
}

pub(crate) fn ssd<B: Kernels, C: CheckpointStrategy>(
    map: Ssd<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let inner = Ssd::of_parts(map.parts().map(|part| part.primitive.clone()), map.groups);
    let Some(forward) = B::ssd_forward(&inner) else {
        return composed::ssd::<Autodiff<B, C>>(map);
    };
    let operation = Mapped {
        map: inner,
        chunk_states: forward.chunk_states,
    };
    record::<B, C, _, 6>(operation, map.parts(), forward.output)
}

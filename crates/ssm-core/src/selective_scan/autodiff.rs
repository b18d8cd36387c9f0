//! The selective scan as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use super::SelectiveScan;
use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct Scanned<T> {
    scan: SelectiveScan<T>,
    chunk_states: T,
}

impl<B: Kernels> Operation<B, 7> for Scanned<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 7],
    ) -> [Option<FloatTensor<B>>; 7] {
        let gradients =
            B::selective_scan_backward(&self.scan, &self.chunk_states, &output_gradient);
        gradients.parts().map(|gradient| Some(gradient.clone()))
    }
}

pub(crate) fn selective_scan<B: Kernels, C: CheckpointStrategy>(
    scan: SelectiveScan<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let inner = SelectiveScan::of_parts(scan.parts().map(|part| part.primitive.clone()));
    let forward = B::selective_scan_forward(&inner);
    let operation = Scanned {
        scan: inner,
        chunk_states: forward.chunk_states,
    };
    record::<B, C, _, 7>(operation, scan.parts(), forward.output)
}

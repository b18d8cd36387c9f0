//! The mean over time as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{TensorMetadata, ops::FloatTensor},
};

use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct MeanOverTime {
    length: usize,
}

impl<B: Kernels> Operation<B, 1> for MeanOverTime {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        [B::mean_over_time_backward(output_gradient, self.length)].map(Some)
    }
}

pub(crate) fn mean_over_time<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let [_, length, _] = input.primitive.shape().dims();
    let mean = B::mean_over_time_forward(input.primitive.clone());
    record::<B, C, _, 1>(MeanOverTime { length }, [&input], mean)
}

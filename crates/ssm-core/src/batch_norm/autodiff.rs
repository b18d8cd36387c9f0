//! Batch normalization as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::{backend::AutodiffBackend, ops::FloatTensor},
};

use super::Normalized;
use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct BatchNorm<T> {
    /// The output.
    normalized: T,
    variance: T,
    epsilon: f64,
}

impl<B: Kernels> Operation<B, 1> for BatchNorm<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 1],
    ) -> [Option<FloatTensor<B>>; 1] {
        let (normalized, variance) = (&self.normalized, &self.variance);
        [B::batch_norm_backward(
            normalized,
            variance,
            self.epsilon,
            &output_gradient,
        )]
        .map(Some)
    }
}

pub(crate) fn batch_norm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> Normalized<FloatTensor<Autodiff<B, C>>> {
    let forward = B::batch_norm_forward(&input.primitive, epsilon);
    let operation = BatchNorm {
        normalized: forward.output.clone(),
        variance: forward.variance.clone(),
        epsilon,
    };
    Normalized {
        output: record::<B, C, _, 1>(operation, [&input], forward.output),
        mean: <Autodiff<B, C> as AutodiffBackend>::from_inner(forward.mean),
        variance: <Autodiff<B, C> as AutodiffBackend>::from_inner(forward.variance),
    }
}

//! The plain scan as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use super::LinearScan;
use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct Scanned<T> {
    scan: LinearScan<T>,
    states: T,
}

impl<B: Kernels> Operation<B, 3> for Scanned<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let gradients = B::linear_scan_backward(&self.scan, &self.states, &output_gradient);
        [gradients.decay, gradients.input, gradients.initial_state].map(Some)
    }
}

pub(crate) fn linear_scan<B: Kernels, C: CheckpointStrategy>(
    scan: LinearScan<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let inner = LinearScan {
        decay: scan.decay.with(scan.decay.tensor().primitive.clone()),
        input: scan.input.primitive.clone(),
        initial_state: scan.initial_state.primitive.clone(),
        field: scan.field,
    };
    let states = B::linear_scan_forward(&inner);
    let operation = Scanned {
        scan: inner,
        states: states.clone(),
    };
    let parents = [scan.decay.tensor(), &scan.input, &scan.initial_state];
    record::<B, C, _, 3>(operation, parents, states)
}

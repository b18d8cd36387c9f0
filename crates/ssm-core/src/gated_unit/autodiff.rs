//! The gated unit as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use super::GatedUnit;
use crate::{
    backend::Kernels,
    dropout::Dropout,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct Gated<T> {
    input: T,
    weights: GatedUnit<T>,
    dropout: Option<Dropout>,
    branches: Option<[T; 2]>,
}

impl<B: Kernels> Operation<B, 6> for Gated<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 6],
    ) -> [Option<FloatTensor<B>>; 6] {
        let gradients = B::gated_unit_backward(
            &self.input,
            &self.weights,
            self.dropout,
            self.branches.as_ref(),
            &output_gradient,
        );
        [
            gradients.input,
            output_gradient,
            gradients.weights.value_weight,
            gradients.weights.value_bias,
            gradients.weights.gate_weight,
            gradients.weights.gate_bias,
        ]
        .map(Some)
    }
}

pub(crate) fn gated_unit<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    skip: FloatTensor<Autodiff<B, C>>,
    weights: GatedUnit<FloatTensor<Autodiff<B, C>>>,
    dropout: Option<Dropout>,
) -> FloatTensor<Autodiff<B, C>> {
    let inner = weights.map(|weight| weight.primitive.clone());
    let forward = B::gated_unit_forward(&input.primitive, &skip.primitive, &inner, dropout);
    let operation = Gated {
        input: input.primitive.clone(),
        weights: inner,
        dropout,
        branches: forward.branches,
    };
    let parents = [
        &input,
        &skip,
        &weights.value_weight,
        &weights.value_bias,
        &weights.gate_weight,
        &weights.gate_bias,
    ];
    record::<B, C, _, 6>(operation, parents, forward.output)
}

//! Normalization by the root mean square as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct RmsNorm<T> {
    input: T,
    gate: Option<T>,
    weight: T,
    epsilon: f64,
}

/// With three parents input, weight and gate, with two there is no gate.
impl<B: Kernels, const N: usize> Operation<B, N> for RmsNorm<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; N],
    ) -> [Option<FloatTensor<B>>; N] {
        let gradients = B::rms_norm_backward(
            &self.input,
            self.gate.as_ref(),
            &self.weight,
            self.epsilon,
            &output_gradient,
        );
        let mut ordered = [
            Some(gradients.input),
            Some(gradients.weight),
            gradients.gate,
        ];
        std::array::from_fn(|index| ordered[index].take())
    }
}

pub(crate) fn rms_norm<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    gate: Option<FloatTensor<Autodiff<B, C>>>,
    weight: FloatTensor<Autodiff<B, C>>,
    epsilon: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let operation = RmsNorm {
        input: input.primitive.clone(),
        gate: gate.as_ref().map(|gate| gate.primitive.clone()),
        weight: weight.primitive.clone(),
        epsilon,
    };
    let output = B::rms_norm_forward(
        &operation.input,
        operation.gate.as_ref(),
        &operation.weight,
        epsilon,
    );
    match &gate {
        Some(gate) => record::<B, C, _, 3>(operation, [&input, &weight, gate], output),
        None => record::<B, C, _, 2>(operation, [&input, &weight], output),
    }
}

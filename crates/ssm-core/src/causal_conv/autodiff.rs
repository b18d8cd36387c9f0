//! The convolution as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct CausalConv<T> {
    input: T,
    weight: T,
    bias: T,
}

impl<B: Kernels> Operation<B, 3> for CausalConv<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        _wanted: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let Self {
            input,
            weight,
            bias,
        } = &self;
        let gradients = B::causal_conv_backward(input, weight, bias, &output_gradient);
        [gradients.input, gradients.weight, gradients.bias].map(Some)
    }
}

pub(crate) fn causal_conv<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: FloatTensor<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let output = B::causal_conv_forward(&input.primitive, &weight.primitive, &bias.primitive);
    let operation = CausalConv {
        input: input.primitive.clone(),
        weight: weight.primitive.clone(),
        bias: bias.primitive.clone(),
    };
    record::<B, C, _, 3>(operation, [&input, &weight, &bias], output)
}

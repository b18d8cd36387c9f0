//! The affine map as one node of the autodiff graph.

use burn::{
    backend::{Autodiff, autodiff::checkpoint::strategy::CheckpointStrategy},
    tensor::ops::FloatTensor,
};

use crate::{
    backend::Kernels,
    operation::{Operation, record},
};

#[derive(Clone, Debug)]
struct Affine<T> {
    input: T,
    weight: T,
}

/// With three parents input, weight and bias, with two there is no bias.
impl<B: Kernels, const N: usize> Operation<B, N> for Affine<FloatTensor<B>> {
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        wanted: [bool; N],
    ) -> [Option<FloatTensor<B>>; N] {
        // The first layer of a model maps data, which has no gradient.
        let wanted = [0, 2].map(|index| wanted.get(index) == Some(&true));
        let gradients = B::affine_backward(&self.input, &self.weight, &output_gradient, wanted);
        let mut ordered = [gradients.input, Some(gradients.weight), gradients.bias];
        std::array::from_fn(|index| ordered[index].take())
    }
}

pub(crate) fn affine<B: Kernels, C: CheckpointStrategy>(
    input: FloatTensor<Autodiff<B, C>>,
    weight: FloatTensor<Autodiff<B, C>>,
    bias: Option<FloatTensor<Autodiff<B, C>>>,
) -> FloatTensor<Autodiff<B, C>> {
    let bias_primitive = bias.as_ref().map(|bias| &bias.primitive);
    let output = B::affine_forward(&input.primitive, &weight.primitive, bias_primitive);
    let operation = Affine {
        input: input.primitive.clone(),
        weight: weight.primitive.clone(),
    };
    match &bias {
        Some(bias) => record::<B, C, _, 3>(operation, [&input, &weight, bias], output),
        None => record::<B, C, _, 2>(operation, [&input, &weight], output),
    }
}

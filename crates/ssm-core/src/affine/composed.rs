//! The affine map in tensor operations, with the backward pass by hand: for backends without a kernel of their own.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{AffineGradients, affine_reference};
use crate::{
    axis_sum::sum_along,
    primitive::{primitive, tensor},
};

pub(crate) fn forward<B: Backend>(
    input: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    bias: Option<&FloatTensor<B>>,
) -> FloatTensor<B> {
    primitive(affine_reference::<B>(
        tensor(input.clone()),
        tensor(weight.clone()),
        bias.cloned().map(tensor),
    ))
}

pub(crate) fn backward<B: Backend>(
    input: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    output_gradient: &FloatTensor<B>,
    [of_input, of_bias]: [bool; 2],
) -> AffineGradients<FloatTensor<B>> {
    let (input, weight): (Tensor<B, 2>, Tensor<B, 2>) =
        (tensor(input.clone()), tensor(weight.clone()));
    let gradient: Tensor<B, 2> = tensor(output_gradient.clone());
    let [outputs, _] = weight.dims();
    AffineGradients {
        input: of_input.then(|| primitive(gradient.clone().matmul(weight))),
        weight: primitive(gradient.clone().transpose().matmul(input)),
        bias: of_bias.then(|| primitive(sum_along(gradient, 0).reshape([outputs]))),
    }
}

//! The convolution from tensor operations: what backends without a kernel of their own run.

use burn::tensor::{Tensor, activation::sigmoid, backend::Backend, ops::FloatTensor, s};

use crate::{
    axis_sum::sum_along,
    primitive::{primitive, tensor},
};

/// Filter `k` of every channel, `[1, 1, channels]`.
fn tap<B: Backend>(weight: &Tensor<B, 2>, k: usize) -> Tensor<B, 3> {
    let [channels, _] = weight.dims();
    weight.clone().slice(s![.., k]).reshape([1, 1, channels])
}

/// `count` steps of zeros in front or behind.
fn pad<B: Backend>(x: Tensor<B, 3>, count: usize, in_front: bool) -> Tensor<B, 3> {
    let [batch, _, channels] = x.dims();
    let zeros = Tensor::zeros([batch, count, channels], (&x.device(), x.dtype()));
    Tensor::cat(
        if in_front {
            vec![zeros, x]
        } else {
            vec![x, zeros]
        },
        1,
    )
}

/// b + Σ_k w_k ∘ u_{t - taps + 1 + k}.
pub(super) fn before_activation<B: Backend>(
    input: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let [_, length, channels] = input.dims();
    let [_, taps] = weight.dims();
    let padded = pad(input, taps - 1, true);
    let bias = bias.reshape([1, 1, channels]);
    (0..taps).fold(
        bias.expand(padded.clone().slice(s![.., 0..length, ..]).dims()),
        |sum, k| sum + padded.clone().slice(s![.., k..k + length, ..]) * tap(&weight, k),
    )
}

/// Gradients of input, weight and bias.
pub(super) fn backward<B: Backend>(
    [input, weight, bias]: [FloatTensor<B>; 3],
    output_gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    let input: Tensor<B, 3> = tensor(input);
    let weight: Tensor<B, 2> = tensor(weight);
    let [_, length, channels] = input.dims();
    let [_, taps] = weight.dims();
    let z = before_activation(input.clone(), weight.clone(), tensor(bias));
    let open = sigmoid(z.clone());
    let slope = open.clone() * (z * (open.neg() + 1.0) + 1.0);
    let gradient = tensor::<B, 3>(output_gradient) * slope;

    let sum = |x: Tensor<B, 3>| -> Tensor<B, 1> { sum_along(x.sum_dim(0), 1).reshape([channels]) };
    let padded = pad(input, taps - 1, true);
    let later = pad(gradient.clone(), taps - 1, false);
    let mut of_taps = Vec::with_capacity(taps);
    let mut of_input = gradient.zeros_like();
    for k in 0..taps {
        let seen = padded.clone().slice(s![.., k..k + length, ..]);
        of_taps.push(sum(gradient.clone() * seen));
        let lag = taps - 1 - k;
        of_input = of_input + later.clone().slice(s![.., lag..lag + length, ..]) * tap(&weight, k);
    }
    [
        primitive(of_input),
        primitive(Tensor::stack::<2>(of_taps, 1)),
        primitive(sum(gradient)),
    ]
}

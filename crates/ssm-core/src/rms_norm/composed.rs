//! Normalization by the root mean square in tensor operations, with the backward pass by hand: for backends without a kernel
//! of their own.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{RmsNormGradients, rms_norm_reference};
use crate::{
    axis_sum::{mean_along, sum_along},
    primitive::{primitive, tensor},
};

pub(crate) fn forward<B: Backend>(
    input: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let (input, weight) = (tensor(input.clone()), tensor(weight.clone()));
    primitive(rms_norm_reference::<B>(input, weight, epsilon))
}

/// With s = 1 / √(mean x² + ε) and x̂ = s x: ∂x = s (w ∘ g - x̂ mean(w ∘ g ∘ x̂)), ∂w = Σ g ∘ x̂.
pub(crate) fn backward<B: Backend>(
    input: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    epsilon: f64,
    output_gradient: &FloatTensor<B>,
) -> RmsNormGradients<FloatTensor<B>> {
    let input: Tensor<B, 3> = tensor(input.clone());
    let [batch, length, channels] = input.dims();
    let rows = [batch * length, channels];
    let input = input.reshape(rows);
    let gradient = tensor::<B, 3>(output_gradient.clone()).reshape(rows);
    let weight: Tensor<B, 1> = tensor(weight.clone());

    let scale = (mean_along(input.clone().square(), 1) + epsilon)
        .sqrt()
        .recip();
    let normalized = input * scale.clone();
    let of_weight = sum_along(gradient.clone() * normalized.clone(), 0);
    let gradient = gradient * weight.unsqueeze();
    let slope = mean_along(gradient.clone() * normalized.clone(), 1);
    let of_input = (gradient - normalized * slope) * scale;
    RmsNormGradients {
        input: primitive(of_input.reshape([batch, length, channels])),
        weight: primitive(of_weight.reshape([channels])),
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        rms_norm::flex,
        testing::{assert_close, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel() {
        let shape = [3, 40, 5];
        let input = primitive(random::<Flex, 3>(1, shape) * 2.0 + 3.0);
        let weight = primitive(random::<Flex, 1>(2, [5]));
        let gradient = primitive(random::<Flex, 3>(3, shape));
        let want = flex::forward(&input, &weight, 1e-5);
        assert_close::<Flex>(&forward::<Flex>(&input, &weight, 1e-5), &want);
        let want = flex::backward(&input, &weight, 1e-5, &gradient);
        let got = backward::<Flex>(&input, &weight, 1e-5, &gradient);
        assert_close::<Flex>(&got.input, &want.input);
        assert_close::<Flex>(&got.weight, &want.weight);
    }
}

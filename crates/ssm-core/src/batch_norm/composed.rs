//! Batch normalization in tensor operations, with the backward pass by hand: for backends without a kernel of their own.

use burn::tensor::{Tensor, backend::Backend, ops::FloatTensor};

use super::{Normalized, batch_norm_reference};
use crate::{
    axis_sum::mean_along,
    primitive::{primitive, tensor},
};

pub(crate) fn forward<B: Backend>(
    input: &FloatTensor<B>,
    epsilon: f64,
) -> Normalized<FloatTensor<B>> {
    let (output, mean, variance) =
        batch_norm_reference::<B>(tensor::<B, 3>(input.clone()), epsilon);
    Normalized {
        output: primitive(output),
        mean: primitive(mean),
        variance: primitive(variance),
    }
}

/// (g - mean(g) - x̂ ∘ mean(g ∘ x̂)) / √(variance + epsilon), with x̂ the normalized input.
pub(crate) fn backward<B: Backend>(
    normalized: &FloatTensor<B>,
    variance: &FloatTensor<B>,
    epsilon: f64,
    output_gradient: &FloatTensor<B>,
) -> FloatTensor<B> {
    let gradient: Tensor<B, 3> = tensor(output_gradient.clone());
    let [batch, length, hidden] = gradient.dims();
    let rows = [batch * length, hidden];
    let gradient = gradient.reshape(rows);
    let normalized = tensor::<B, 3>(normalized.clone()).reshape(rows);
    let variance: Tensor<B, 1> = tensor(variance.clone());

    let mean = mean_along(gradient.clone(), 0);
    let slope = mean_along(gradient.clone() * normalized.clone(), 0);
    let scale = (variance + epsilon).sqrt().recip().unsqueeze();
    let input_gradient = (gradient - mean - normalized * slope) * scale;
    primitive(input_gradient.reshape([batch, length, hidden]))
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        batch_norm::flex,
        testing::{assert_close, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel() {
        let shape = [3, 40, 5];
        let input = primitive(random::<Flex, 3>(1, shape) * 2.0 + 3.0);
        let gradient = primitive(random::<Flex, 3>(2, shape));
        let want = flex::forward(&input, 1e-5);
        let got = forward::<Flex>(&input, 1e-5);
        assert_close::<Flex>(&got.output, &want.output);
        assert_close::<Flex>(&got.mean, &want.mean);
        assert_close::<Flex>(&got.variance, &want.variance);
        let got = backward::<Flex>(&want.output, &want.variance, 1e-5, &gradient);
        let want = flex::backward(&want.output, &want.variance, 1e-5, &gradient);
        assert_close::<Flex>(&got, &want);
    }
}

//! The gated unit in tensor operations, with the backward pass by hand: for backends without a kernel of their own.

use burn::tensor::{Tensor, TensorMetadata, activation::sigmoid, ops::FloatTensor};

use super::{GELU_CUBIC, GELU_SLOPE, GatedUnit, GatedUnitGradients};
use crate::{
    backend::Kernels,
    dropout::Dropout,
    primitive::{primitive, tensor},
};

/// The tensors that forward and backward share, all `[rows, hidden]` with a row per batch row and step.
struct Gate<B: Kernels> {
    /// a = drop(gelu(input)).
    activated: Tensor<B, 2>,
    /// W₁ a + b₁.
    value: Tensor<B, 2>,
    /// σ(W₂ a + b₂).
    gate: Tensor<B, 2>,
    /// Dropout factors of the activation and of the output.
    factors: Option<[Tensor<B, 2>; 2]>,
}

impl<B: Kernels> Gate<B> {
    fn new(
        input: &Tensor<B, 2>,
        weights: &GatedUnit<FloatTensor<B>>,
        dropout: Option<Dropout>,
    ) -> Self {
        let factors = dropout.map(|dropout| {
            [0, 1].map(|index| {
                let (shape, dtype) = (input.shape(), input.dtype());
                let dropout = dropout.stream(index);
                tensor(B::dropout_factors(dropout, shape, &input.device(), dtype))
            })
        });
        let gelu = input.clone() * 0.5 * (gelu_tanh(input) + 1.0);
        let activated = match &factors {
            Some([first, _]) => gelu * first.clone(),
            None => gelu,
        };
        let affine = |weight: &FloatTensor<B>, bias: &FloatTensor<B>| {
            let (weight, bias) = (tensor::<B, 2>(weight.clone()), tensor::<B, 1>(bias.clone()));
            activated.clone().matmul(weight.transpose()) + bias.unsqueeze()
        };
        let value = affine(&weights.value_weight, &weights.value_bias);
        let gate = sigmoid(affine(&weights.gate_weight, &weights.gate_bias));
        Self {
            activated,
            value,
            gate,
            factors,
        }
    }
}

/// tanh(√(2/π) (x + c x³)).
fn gelu_tanh<B: Kernels>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let inner = x.clone().square() * (GELU_SLOPE * GELU_CUBIC) + GELU_SLOPE;
    (x.clone() * inner).tanh()
}

/// Derivative of x (1 + t) / 2 with t = [`gelu_tanh`]: (1 + t + x (1 - t²) √(2/π) (1 + 3 c x²)) / 2.
fn gelu_derivative<B: Kernels>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let t = gelu_tanh(x);
    let inner = x.clone().square() * (3.0 * GELU_SLOPE * GELU_CUBIC) + GELU_SLOPE;
    let through_tanh = x.clone() * inner * (-t.clone().square() + 1.0);
    (t + 1.0 + through_tanh) * 0.5
}

fn rows<B: Kernels>(primitive: &FloatTensor<B>) -> Tensor<B, 2> {
    let [batch, length, hidden] = primitive.shape().dims();
    tensor::<B, 3>(primitive.clone()).reshape([batch * length, hidden])
}

pub(crate) fn forward<B: Kernels>(
    input: &FloatTensor<B>,
    skip: &FloatTensor<B>,
    weights: &GatedUnit<FloatTensor<B>>,
    dropout: Option<Dropout>,
) -> FloatTensor<B> {
    let Gate {
        value,
        gate,
        factors,
        ..
    } = Gate::<B>::new(&rows::<B>(input), weights, dropout);
    let gated = match factors {
        Some([_, second]) => value * gate * second,
        None => value * gate,
    };
    let skip: Tensor<B, 3> = tensor(skip.clone());
    let shape = skip.shape();
    primitive(skip + gated.reshape(shape))
}

pub(crate) fn backward<B: Kernels>(
    input: &FloatTensor<B>,
    weights: &GatedUnit<FloatTensor<B>>,
    dropout: Option<Dropout>,
    output_gradient: &FloatTensor<B>,
) -> GatedUnitGradients<FloatTensor<B>> {
    let shape: [usize; 3] = input.shape().dims();
    let input = rows::<B>(input);
    let Gate {
        activated,
        value,
        gate,
        factors,
    } = Gate::<B>::new(&input, weights, dropout);
    let (first, second) = match factors {
        Some([first, second]) => (Some(first), Some(second)),
        None => (None, None),
    };
    let masked = |gradient: Tensor<B, 2>, factors: Option<Tensor<B, 2>>| match factors {
        Some(factors) => gradient * factors,
        None => gradient,
    };

    let gradient = masked(rows::<B>(output_gradient), second);
    let value_gradient = gradient.clone() * gate.clone();
    // σ' = σ (1 - σ).
    let gate_gradient = gradient * value * gate.clone() * (-gate + 1.0);
    let weight = |gradient: &Tensor<B, 2>| gradient.clone().transpose().matmul(activated.clone());
    let bias = |gradient: &Tensor<B, 2>| gradient.clone().sum_dim(0).squeeze_dim::<1>(0);
    let gradients = GatedUnit {
        value_weight: primitive(weight(&value_gradient)),
        value_bias: primitive(bias(&value_gradient)),
        gate_weight: primitive(weight(&gate_gradient)),
        gate_bias: primitive(bias(&gate_gradient)),
    };
    let activated_gradient = value_gradient.matmul(tensor(weights.value_weight.clone()))
        + gate_gradient.matmul(tensor(weights.gate_weight.clone()));
    let input_gradient = masked(activated_gradient, first) * gelu_derivative(&input);
    GatedUnitGradients {
        input: primitive::<B, 3>(input_gradient.reshape(shape)),
        weights: gradients,
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        gated_unit::flex,
        testing::{assert_close, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel_with_and_without_dropout() {
        let (shape, hidden) = ([2, 30, 5], 5);
        let matrix = |seed| primitive(random::<Flex, 2>(seed, [hidden, hidden]));
        let vector = |seed| primitive(random::<Flex, 1>(seed, [hidden]));
        let weights = GatedUnit {
            value_weight: matrix(1),
            value_bias: vector(2),
            gate_weight: matrix(3),
            gate_bias: vector(4),
        };
        let input = primitive(random::<Flex, 3>(5, shape) * 4.0);
        let skip = primitive(random::<Flex, 3>(6, shape));
        let gradient = primitive(random::<Flex, 3>(7, shape));
        let some = Dropout {
            probability: 0.3,
            seed: 9,
        };
        for dropout in [None, Some(some)] {
            let got = forward::<Flex>(&input, &skip, &weights, dropout);
            assert_close::<Flex>(&got, &flex::forward(&input, &skip, &weights, dropout));
            let got = backward::<Flex>(&input, &weights, dropout, &gradient);
            let want = flex::backward(&input, &weights, dropout, &gradient);
            assert_close::<Flex>(&got.input, &want.input);
            let parts = |w: GatedUnit<FloatTensor<Flex>>| {
                [w.value_weight, w.value_bias, w.gate_weight, w.gate_bias]
            };
            let (got, want) = (parts(got.weights), parts(want.weights));
            for (got, want) in got.iter().zip(&want) {
                assert_close::<Flex>(got, want);
            }
        }
    }
}

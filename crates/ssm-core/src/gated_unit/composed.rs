//! The gated unit in tensor operations, with the backward pass by hand: for backends without a kernel of their own.

use burn::tensor::{Tensor, TensorMetadata, activation::sigmoid, ops::FloatTensor};

use super::{Branches, GELU_CUBIC, GELU_SLOPE, GatedUnitWeights};
use crate::{
    axis_sum::sum_along,
    backend::Backend,
    dropout::{Dropout, DropoutFactors},
    operation::Run,
    primitive::{primitive, tensor},
};

/// What forward and backward both begin with, `[rows, hidden]` with a row per batch row and step.
struct Activation<B: Backend> {
    /// a = drop(gelu(input)).
    activated: Tensor<B, 2>,
    /// Dropout factors of the activation and of the output.
    factors: Option<[Tensor<B, 2>; 2]>,
}

impl<B: Backend> Activation<B> {
    fn new(input: &Tensor<B, 2>, dropout: Option<Dropout>) -> Self {
        let factors = dropout.map(|dropout| {
            [0, 1].map(|index| {
                let like = [primitive(input.clone())];
                let [factors] = <B as Run<DropoutFactors, 1>>::run(like, &dropout.stream(index));
                tensor(factors)
            })
        });
        let gelu = input.clone() * 0.5 * (gelu_tanh(input) + 1.0);
        let activated = match &factors {
            Some([first, _]) => gelu * first.clone(),
            None => gelu,
        };
        Self { activated, factors }
    }

    /// W₁ a + b₁ and W₂ a + b₂.
    fn branches(&self, weights: &GatedUnitWeights<FloatTensor<B>>) -> [Tensor<B, 2>; 2] {
        let affine = |weight: &FloatTensor<B>, bias: &FloatTensor<B>| {
            let (weight, bias) = (tensor::<B, 2>(weight.clone()), tensor::<B, 1>(bias.clone()));
            self.activated.clone().matmul(weight.transpose()) + bias.unsqueeze()
        };
        [
            affine(&weights.value_weight, &weights.value_bias),
            affine(&weights.gate_weight, &weights.gate_bias),
        ]
    }
}

/// tanh(√(2/π) (x + c x³)).
fn gelu_tanh<B: Backend>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let inner = x.clone().square() * (GELU_SLOPE * GELU_CUBIC) + GELU_SLOPE;
    (x.clone() * inner).tanh()
}

/// Derivative of x (1 + t) / 2 with t = [`gelu_tanh`]: (1 + t + x (1 - t²) √(2/π) (1 + 3 c x²)) / 2.
fn gelu_derivative<B: Backend>(x: &Tensor<B, 2>) -> Tensor<B, 2> {
    let t = gelu_tanh(x);
    let inner = x.clone().square() * (3.0 * GELU_SLOPE * GELU_CUBIC) + GELU_SLOPE;
    let through_tanh = x.clone() * inner * (-t.clone().square() + 1.0);
    (t + 1.0 + through_tanh) * 0.5
}

fn rows<B: Backend>(primitive: FloatTensor<B>) -> Tensor<B, 2> {
    let [batch, length, hidden] = primitive.shape().dims();
    tensor::<B, 3>(primitive).reshape([batch * length, hidden])
}

pub(super) fn forward<B: Backend>(
    input: FloatTensor<B>,
    skip: FloatTensor<B>,
    weights: &GatedUnitWeights<FloatTensor<B>>,
    dropout: Option<Dropout>,
) -> ([FloatTensor<B>; 1], Branches<FloatTensor<B>>) {
    let activation = Activation::<B>::new(&rows::<B>(input), dropout);
    let [value, gate] = activation.branches(weights);
    let gated = value.clone() * sigmoid(gate.clone());
    let gated = match activation.factors {
        Some([_, second]) => gated * second,
        None => gated,
    };
    let skip: Tensor<B, 3> = tensor(skip);
    let shape = skip.dims();
    (
        [primitive(skip + gated.reshape(shape))],
        Some([value, gate].map(|branch| primitive::<B, 3>(branch.reshape(shape)))),
    )
}

/// Gradients of the input, W₁, b₁, W₂ and b₂.
pub(super) fn backward<B: Backend>(
    input: FloatTensor<B>,
    weights: &GatedUnitWeights<FloatTensor<B>>,
    dropout: Option<Dropout>,
    branches: Branches<FloatTensor<B>>,
    output_gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 5] {
    let shape: [usize; 3] = input.shape().dims();
    let input = rows::<B>(input);
    let activation = Activation::<B>::new(&input, dropout);
    let [value, gate] = match branches {
        Some(branches) => branches.map(rows::<B>),
        None => activation.branches(weights),
    };
    let gate = sigmoid(gate);
    let Activation { activated, factors } = activation;
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
    let bias = |gradient: &Tensor<B, 2>| sum_along(gradient.clone(), 0).squeeze_dim::<1>(0);
    let value_weight = primitive(weight(&value_gradient));
    let value_bias = primitive(bias(&value_gradient));
    let gate_weight = primitive(weight(&gate_gradient));
    let gate_bias = primitive(bias(&gate_gradient));
    let activated_gradient = value_gradient.matmul(tensor(weights.value_weight.clone()))
        + gate_gradient.matmul(tensor(weights.gate_weight.clone()));
    let input_gradient = masked(activated_gradient, first) * gelu_derivative(&input);
    [
        primitive::<B, 3>(input_gradient.reshape(shape)),
        value_weight,
        value_bias,
        gate_weight,
        gate_bias,
    ]
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        gated_unit::GatedUnit,
        operation::{Kernel, Operation, Pullback},
        testing::{assert_close, assert_composed_equals_native, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel_with_and_without_dropout() {
        let (shape, hidden) = ([2, 30, 5], 5);
        let matrix = |seed| primitive(random::<Flex, 2>(seed, [hidden, hidden]));
        let vector = |seed| primitive(random::<Flex, 1>(seed, [hidden]));
        let input = primitive(random::<Flex, 3>(5, shape) * 4.0);
        let skip = primitive(random::<Flex, 3>(6, shape));
        let inputs = [input, skip, matrix(1), vector(2), matrix(3), vector(4)];
        let gradient = primitive(random::<Flex, 3>(7, shape));
        let some = Dropout {
            probability: 0.3,
            seed: 9,
        };
        for dropout in [None, Some(some)] {
            let (inputs, gradient) = (inputs.clone(), gradient.clone());
            assert_composed_equals_native::<GatedUnit, 6>(
                inputs.clone(),
                dropout,
                gradient.clone(),
                1,
            );
            // Kept, above, or computed again: two ways to the same gradients.
            let (saved, _) = GatedUnit::save(inputs.clone(), &([inputs[0].clone()], None));
            let back = Pullback {
                saved: (saved, None),
                gradient,
                shapes: inputs.map(|input| input.shape()),
                wanted: [true; 6],
            };
            let got = GatedUnit::backward::<Flex>(back.clone(), &dropout);
            let want = <Flex as Kernel<GatedUnit, 6>>::backward(back, &dropout);
            for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                assert_close::<Flex>(got, want);
            }
        }
    }
}

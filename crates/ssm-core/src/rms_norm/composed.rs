//! Normalization by the root mean square in tensor operations, with the backward pass by hand: for backends without a kernel
//! of their own.

use burn::tensor::{Tensor, activation::sigmoid, backend::Backend, ops::FloatTensor};

use crate::{
    axis_sum::{mean_along, sum_along},
    primitive::{primitive, tensor},
};

/// Gradients of input, weight and gate.
///
/// With s = 1 / √(mean x² + ε) and x̂ = s x: ∂x = s (w ∘ g - x̂ mean(w ∘ g ∘ x̂)), ∂w = Σ g ∘ x̂; of x = y ∘ SiLU(z) then to y
/// and z.
pub(super) fn backward<B: Backend>(
    [input, weight]: [FloatTensor<B>; 2],
    gate: Option<FloatTensor<B>>,
    epsilon: f64,
    output_gradient: FloatTensor<B>,
) -> [Option<FloatTensor<B>>; 3] {
    let input: Tensor<B, 3> = tensor(input);
    let shape = input.dims();
    let [batch, length, channels] = shape;
    let rows = |x: Tensor<B, 3>| x.reshape([batch * length, channels]);
    let by_step = |x: Tensor<B, 2>| primitive(x.reshape(shape));
    let input = rows(input);
    let gate = gate.map(|gate| rows(tensor(gate)));
    let open = gate.clone().map(sigmoid);
    let x = match (&gate, &open) {
        (Some(gate), Some(open)) => input.clone() * gate.clone() * open.clone(),
        _ => input.clone(),
    };
    let gradient = rows(tensor(output_gradient));
    let weight: Tensor<B, 1> = tensor(weight);

    let scale = (mean_along(x.clone().square(), 1) + epsilon).sqrt().recip();
    let normalized = x * scale.clone();
    let of_weight = sum_along(gradient.clone() * normalized.clone(), 0);
    let gradient = gradient * weight.unsqueeze();
    let slope = mean_along(gradient.clone() * normalized.clone(), 1);
    let of_x = (gradient - normalized * slope) * scale;
    let (of_input, of_gate) = match (gate, open) {
        (Some(gate), Some(open)) => {
            let opened = gate.clone() * open.clone();
            // SiLU'(z) = σ(z) (1 + z (1 - σ(z))).
            let slope = open.clone() + opened.clone() * (1.0 - open);
            (of_x.clone() * opened, Some(of_x * input * slope))
        }
        _ => (of_x, None),
    };
    [
        Some(by_step(of_input)),
        Some(primitive(of_weight.reshape([channels]))),
        of_gate.map(by_step),
    ]
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        rms_norm::RmsNorm,
        testing::{assert_composed_equals_native, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel() {
        let shape = [3, 40, 5];
        let input = primitive(random::<Flex, 3>(1, shape) * 2.0 + 3.0);
        let weight = primitive(random::<Flex, 1>(2, [5]));
        let gradient = primitive(random::<Flex, 3>(3, shape));
        let gate = primitive(random::<Flex, 3>(4, shape) * 3.0);
        let gated = [input.clone(), weight.clone(), gate];
        assert_composed_equals_native::<RmsNorm, 3>(gated, 1e-5, gradient.clone(), 1);
        assert_composed_equals_native::<RmsNorm, 2>([input, weight], 1e-5, gradient, 1);
    }
}

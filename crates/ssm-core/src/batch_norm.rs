//! Batch normalization without affine parameters, over batch and time.

mod flex;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor};
use burn_flex::FlexTensor;

use crate::{
    axis_sum::mean_along,
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{ByHand, Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of the input to output, mean and variance, with epsilon: see [`batch_norm`](crate::batch_norm()).
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm;

impl Operation<1> for BatchNorm {
    const NAME: &'static str = "batch_norm";

    type Settings = f64;
    type Outputs<T> = [T; 3];
    /// Output and variance.
    type Saved<T> = [T; 2];

    fn save<T: Clone>(_: [T; 1], [output, _, variance]: &[T; 3]) -> [T; 2] {
        [output, variance].map(Clone::clone)
    }

    fn forward<B: Backend>([input]: [FloatTensor<B>; 1], epsilon: &f64) -> [FloatTensor<B>; 3] {
        let (output, mean, variance) = batch_norm_reference::<B>(tensor(input), *epsilon);
        [primitive(output), primitive(mean), primitive(variance)]
    }

    /// (g - mean(g) - x̂ ∘ mean(g ∘ x̂)) / √(variance + epsilon), with x̂ the normalized input.
    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 2], FloatTensor<B>, 1>,
        epsilon: &f64,
    ) -> [Option<FloatTensor<B>>; 1] {
        let [normalized, variance] = back.saved;
        let gradient: Tensor<B, 3> = tensor(back.gradient);
        let [batch, length, hidden] = gradient.dims();
        let rows = [batch * length, hidden];
        let gradient = gradient.reshape(rows);
        let normalized = tensor::<B, 3>(normalized).reshape(rows);
        let variance: Tensor<B, 1> = tensor(variance);

        let mean = mean_along(gradient.clone(), 0);
        let slope = mean_along(gradient.clone() * normalized.clone(), 0);
        let scale = (variance + *epsilon).sqrt().recip().unsqueeze();
        let input_gradient = (gradient - mean - normalized * slope) * scale;
        [Some(primitive(
            input_gradient.reshape([batch, length, hidden]),
        ))]
    }

    fn native_forward<T: Real>([input]: [FlexTensor; 1], epsilon: &f64) -> [FlexTensor; 3] {
        flex::forward::<T>(&input, *epsilon)
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 2], FlexTensor, 1>,
        epsilon: &f64,
    ) -> [Option<FlexTensor>; 1] {
        let [normalized, variance] = &back.saved;
        [Some(flex::backward::<T>(
            normalized,
            variance,
            *epsilon,
            &back.gradient,
        ))]
    }
}

/// Of input, mean and variance, with epsilon: see [`normalize`](crate::normalize()).
#[derive(Clone, Copy, Debug)]
pub struct Normalize;

impl Operation<3> for Normalize {
    const NAME: &'static str = "normalize";
    const BACKWARD: ByHand = ByHand::Nowhere;

    type Settings = f64;
    type Outputs<T> = [T; 1];
    type Saved<T> = [T; 0];

    fn save<T: Clone>(_: [T; 3], _: &[T; 1]) -> [T; 0] {
        []
    }

    fn forward<B: Backend>(
        [input, mean, variance]: [FloatTensor<B>; 3],
        epsilon: &f64,
    ) -> [FloatTensor<B>; 1] {
        let input: Tensor<B, 3> = tensor(input);
        let [mean, variance]: [Tensor<B, 1>; 2] = [mean, variance].map(tensor);
        let scale = (variance + *epsilon).sqrt().recip();
        [primitive((input - mean.unsqueeze()) * scale.unsqueeze())]
    }

    fn native_forward<T: Real>(
        [input, mean, variance]: [FlexTensor; 3],
        epsilon: &f64,
    ) -> [FlexTensor; 1] {
        [flex::normalize::<T>(&input, &mean, &variance, *epsilon)]
    }
}

/// Normalizes every channel by the mean and the biased variance of this batch.
///
/// Returns the normalized batch (differentiable, through the statistics too), the mean and the variance (neither
/// differentiated through).
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - returns `[batch, length, hidden]`, `[hidden]`, `[hidden]`
pub fn batch_norm<B: Backend>(
    input: Tensor<B, 3>,
    epsilon: f64,
) -> (Tensor<B, 3>, Tensor<B, 1>, Tensor<B, 1>) {
    let [output, mean, variance] = <B as Run<BatchNorm, 1>>::run([primitive(input)], &epsilon);
    (tensor(output), tensor(mean), tensor(variance))
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn batch_norm_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    epsilon: f64,
) -> (Tensor<B, 3>, Tensor<B, 1>, Tensor<B, 1>) {
    let [batch, length, hidden] = input.dims();
    let rows = input.reshape([batch * length, hidden]);
    let mean = mean_along(rows.clone(), 0);
    let centered = rows - mean.clone();
    let variance = mean_along(centered.clone().square(), 0);
    let output = centered / (variance.clone() + epsilon).sqrt();
    (
        output.reshape([batch, length, hidden]),
        mean.reshape([hidden]),
        variance.reshape([hidden]),
    )
}

/// Normalizes every channel by given statistics: what evaluation does with the running ones.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`; `mean`, `variance`: `[hidden]`
/// - returns `[batch, length, hidden]`
pub fn normalize<B: Backend>(
    input: Tensor<B, 3>,
    mean: Tensor<B, 1>,
    variance: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 3> {
    let inputs = [primitive(input), primitive(mean), primitive(variance)];
    let [output] = <B as Run<Normalize, 3>>::run(inputs, &epsilon);
    tensor(output)
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::testing::{assert_composed_equals_native, random};

    #[test]
    fn composed_operations_equal_the_native_kernel() {
        let shape = [3, 40, 5];
        let input = primitive(random::<Flex, 3>(1, shape) * 2.0 + 3.0);
        let gradient = primitive(random::<Flex, 3>(2, shape));
        assert_composed_equals_native::<BatchNorm, 1>([input], 1e-5, gradient, 3);
    }
}

//! Normalization of every step by the root mean square of its channels.

mod composed;
mod flex;

use burn::tensor::{Tensor, activation::silu, backend::Backend as BurnBackend, ops::FloatTensor};
use burn_flex::FlexTensor;

use crate::{
    axis_sum::mean_along,
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Operation, Pullback, Run, leading, with_optional},
    primitive::{primitive, tensor},
};

/// Of input, weight and gate, or of input and weight, with epsilon: see [`rms_norm`](crate::rms_norm()).
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm;

impl<const N: usize> Operation<N> for RmsNorm {
    const NAME: &'static str = "rms_norm";

    type Settings = f64;
    type Outputs<T> = [T; 1];
    type Saved<T> = [T; N];

    fn save<T: Clone>(inputs: [T; N], _: &[T; 1]) -> [T; N] {
        inputs
    }

    fn forward<B: Backend>(inputs: [FloatTensor<B>; N], epsilon: &f64) -> [FloatTensor<B>; 1] {
        let ([input, weight], gate) = with_optional(inputs);
        let (input, gate, weight) = (tensor(input), gate.map(tensor), tensor(weight));
        [primitive(rms_norm_reference::<B>(
            input, gate, weight, *epsilon,
        ))]
    }

    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; N], FloatTensor<B>, N>,
        epsilon: &f64,
    ) -> [Option<FloatTensor<B>>; N] {
        let (inputs, gate) = with_optional(back.saved);
        leading(composed::backward::<B>(
            inputs,
            gate,
            *epsilon,
            back.gradient,
        ))
    }

    fn native_forward<T: Real>(inputs: [FlexTensor; N], epsilon: &f64) -> [FlexTensor; 1] {
        let ([input, weight], gate) = with_optional(inputs.each_ref());
        [flex::forward::<T>(input, gate, weight, *epsilon)]
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; N], FlexTensor, N>,
        epsilon: &f64,
    ) -> [Option<FlexTensor>; N] {
        let ([input, weight], gate) = with_optional(back.saved.each_ref());
        leading(flex::backward::<T>(
            input,
            gate,
            weight,
            *epsilon,
            &back.gradient,
        ))
    }
}

/// x / √(mean x² + ε) ∘ w, the mean over the channels of a step (`ZS19`); x is the input, or with a gate z the input ∘ SiLU(z).
///
/// # Shapes
/// - `input`, `gate`: `[batch, length, channels]`; `weight`: `[channels]`
/// - returns `[batch, length, channels]`
pub fn rms_norm<B: Backend>(
    input: Tensor<B, 3>,
    gate: Option<Tensor<B, 3>>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 3> {
    let (input, weight) = (primitive(input), primitive(weight));
    let [output] = match gate {
        Some(gate) => <B as Run<RmsNorm, 3>>::run([input, weight, primitive(gate)], &epsilon),
        None => <B as Run<RmsNorm, 2>>::run([input, weight], &epsilon),
    };
    tensor(output)
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn rms_norm_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    gate: Option<Tensor<B, 3>>,
    weight: Tensor<B, 1>,
    epsilon: f64,
) -> Tensor<B, 3> {
    let input = match gate {
        Some(gate) => input * silu(gate),
        None => input,
    };
    let scale = (mean_along(input.clone().square(), 2) + epsilon).sqrt();
    input / scale * weight.unsqueeze()
}

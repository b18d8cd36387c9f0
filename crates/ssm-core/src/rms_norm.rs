//! Normalization of every step by the root mean square of its channels.

pub(crate) mod autodiff;
pub(crate) mod composed;
pub(crate) mod flex;

use burn::tensor::{Tensor, activation::silu, backend::Backend as BurnBackend};

use crate::{
    axis_sum::mean_along,
    backend::Backend,
    primitive::{primitive, tensor},
};

/// Gradients of what goes into [`rms_norm`].
#[derive(Clone, Debug)]
pub struct RmsNormGradients<T> {
    /// Gradient of x, `[batch, length, channels]`.
    pub input: T,
    /// Gradient of the gate, if there is one, of the same shape.
    pub gate: Option<T>,
    /// Gradient of w, `[channels]`.
    pub weight: T,
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
    let (input, gate, weight) = (primitive(input), gate.map(primitive), primitive(weight));
    tensor(B::rms_norm(input, gate, weight, epsilon))
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

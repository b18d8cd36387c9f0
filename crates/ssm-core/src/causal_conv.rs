//! Causal convolution of every channel by itself, then SiLU: what stands before a selective scan.

pub(crate) mod autodiff;
pub(crate) mod composed;
pub(crate) mod flex;

use burn::tensor::{Tensor, activation::silu, backend::Backend as BurnBackend};

use crate::{
    backend::Backend,
    primitive::{primitive, tensor},
};

/// Gradients of everything that goes into a convolution.
#[derive(Clone, Debug)]
pub struct CausalConvGradients<T> {
    /// `[batch, length, channels]`.
    pub input: T,
    /// `[channels, taps]`.
    pub weight: T,
    /// `[channels]`.
    pub bias: T,
}

/// SiLU(b + Σ_k w_k ∘ u_{t - taps + 1 + k}), with zeros before the first step.
///
/// # Shapes
/// - `input`: `[batch, length, channels]`; `weight`: `[channels, taps]`, the last tap on the current step; `bias`:
///   `[channels]`
/// - returns `[batch, length, channels]`
///
/// # Panics
/// When the shapes do not fit together.
pub fn causal_conv<B: Backend>(
    input: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let [_, _, channels] = input.dims();
    assert_eq!(weight.dims()[0], channels, "one filter per channel");
    assert_eq!(bias.dims(), [channels], "one bias per channel");
    let output = B::causal_conv(primitive(input), primitive(weight), primitive(bias));
    tensor(output)
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn causal_conv_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 3> {
    silu(composed::before_activation(input, weight, bias))
}

//! Affine maps of rows: encoder and head.

pub(crate) mod autodiff;
pub(crate) mod composed;
pub(crate) mod flex;
pub(crate) mod native;

use burn::tensor::{Tensor, backend::Backend as BurnBackend};

use crate::{
    backend::Backend,
    primitive::{primitive, tensor},
};

/// Gradients of everything that goes into an affine map.
#[derive(Clone, Debug)]
pub struct AffineGradients<T> {
    /// Gradient of x, `[rows, input]`, where it was asked for.
    pub input: Option<T>,
    /// Gradient of W, `[output, input]`.
    pub weight: T,
    /// Gradient of b, `[output]`.
    pub bias: T,
}

/// W x + b for every row x.
///
/// # Shapes
/// - `input`: `[rows, input]`; `weight`: `[output, input]`; `bias`: `[output]`
/// - returns `[rows, output]`
pub fn affine<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 2> {
    tensor(B::affine(
        primitive(input),
        primitive(weight),
        primitive(bias),
    ))
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn affine_reference<B: BurnBackend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 2> {
    input.matmul(weight.transpose()) + bias.unsqueeze()
}

//! Affine and linear maps of rows: encoders, heads and projections.

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
    /// Gradient of b, `[output]`, where it was asked for.
    pub bias: Option<T>,
}

/// W x + b for every row x, or W x.
///
/// # Shapes
/// - `input`: `[rows, input]`; `weight`: `[output, input]`; `bias`: `[output]`
/// - returns `[rows, output]`
pub fn affine<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    tensor(B::affine(
        primitive(input),
        primitive(weight),
        bias.map(primitive),
    ))
}

/// The same in plain tensor operations: the twin of the kernels.
pub fn affine_reference<B: BurnBackend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 2> {
    let output = input.matmul(weight.transpose());
    match bias {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    }
}

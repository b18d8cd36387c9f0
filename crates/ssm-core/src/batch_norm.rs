//! Batch normalization without affine parameters, over batch and time.

pub(crate) mod autodiff;
pub(crate) mod composed;
pub(crate) mod flex;

use burn::tensor::{Tensor, TensorPrimitive, backend::Backend as BurnBackend, ops::FloatTensor};

use crate::{axis_sum::mean_along, backend::Backend};

/// A normalized batch and the statistics it was normalized with.
#[derive(Clone, Debug)]
pub struct Normalized<T> {
    /// (input - mean) / sqrt(variance + epsilon), `[batch, length, hidden]`.
    pub output: T,
    /// Mean over batch and time, `[hidden]`; not differentiated through.
    pub mean: T,
    /// Biased variance over batch and time, `[hidden]`; not differentiated through.
    pub variance: T,
}

/// Normalizes every channel by the mean and the biased variance of this batch.
///
/// Returns the normalized batch (differentiable, through the statistics too), the mean and the variance.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - returns `[batch, length, hidden]`, `[hidden]`, `[hidden]`
pub fn batch_norm<B: Backend>(
    input: Tensor<B, 3>,
    epsilon: f64,
) -> (Tensor<B, 3>, Tensor<B, 1>, Tensor<B, 1>) {
    let normalized = B::batch_norm(input.into_primitive().tensor(), epsilon);
    (
        Tensor::from_primitive(TensorPrimitive::Float(normalized.output)),
        Tensor::from_primitive(TensorPrimitive::Float(normalized.mean)),
        Tensor::from_primitive(TensorPrimitive::Float(normalized.variance)),
    )
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
    let [mean, variance] = [mean, variance].map(|t| t.into_primitive().tensor());
    let output = B::normalize(input.into_primitive().tensor(), mean, variance, epsilon);
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// [`normalize`] in plain tensor operations: what backends without a kernel run, and the twin of those with one.
pub(crate) fn plain_normalize<B: BurnBackend>(
    input: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let input: Tensor<B, 3> = Tensor::from_primitive(TensorPrimitive::Float(input));
    let [mean, variance]: [Tensor<B, 1>; 2] =
        [mean, variance].map(|t| Tensor::from_primitive(TensorPrimitive::Float(t)));
    let scale = (variance + epsilon).sqrt().recip();
    let output = (input - mean.unsqueeze()) * scale.unsqueeze();
    output.into_primitive().tensor()
}

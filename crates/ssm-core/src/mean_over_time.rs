//! Mean over time: what a classifier pools with.

pub(crate) mod autodiff;
pub(crate) mod flex;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor};

use crate::{
    axis_sum::mean_along,
    backend::Backend,
    primitive::{primitive, tensor},
};

/// Mean over the steps of a sequence.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - returns `[batch, hidden]`
pub fn mean_over_time<B: Backend>(input: Tensor<B, 3>) -> Tensor<B, 2> {
    tensor(B::mean_over_time(primitive(input)))
}

/// The same in plain tensor operations: what backends without a kernel run, and the twin of those with one.
pub(crate) fn plain_forward<B: BurnBackend>(input: FloatTensor<B>) -> FloatTensor<B> {
    let mean: Tensor<B, 2> = mean_along(tensor::<B, 3>(input), 1).squeeze_dim(1);
    primitive(mean)
}

/// Every step's share of the gradient `[batch, hidden]`.
pub(crate) fn plain_backward<B: BurnBackend>(
    gradient: FloatTensor<B>,
    length: usize,
) -> FloatTensor<B> {
    let gradient: Tensor<B, 2> = tensor(gradient);
    let [batch, hidden] = gradient.dims();
    let share: Tensor<B, 3> = (gradient / length as f64).unsqueeze_dim(1);
    primitive(share.expand([batch, length, hidden]))
}

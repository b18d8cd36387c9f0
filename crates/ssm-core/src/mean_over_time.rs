//! Mean over time: what a classifier pools with.

mod flex;

use burn::tensor::{Tensor, ops::FloatTensor};
use burn_flex::FlexTensor;

use crate::{
    axis_sum::mean_along,
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of the input: see [`mean_over_time`](crate::mean_over_time()).
#[derive(Clone, Copy, Debug)]
pub struct MeanOverTime;

impl Operation<1> for MeanOverTime {
    const NAME: &'static str = "mean_over_time";

    type Settings = ();
    type Outputs<T> = [T; 1];
    type Saved<T> = [T; 0];

    fn save<T: Clone>(_: [T; 1], _: &[T; 1]) -> [T; 0] {
        []
    }

    fn forward<B: Backend>([input]: [FloatTensor<B>; 1], _: &()) -> [FloatTensor<B>; 1] {
        let mean: Tensor<B, 2> = mean_along(tensor::<B, 3>(input), 1).squeeze_dim(1);
        [primitive(mean)]
    }

    /// Every step's share of the gradient.
    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 0], FloatTensor<B>, 1>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; 1] {
        let gradient: Tensor<B, 2> = tensor(back.gradient);
        let [batch, length, hidden] = back.shapes[0].dims();
        let share: Tensor<B, 3> = (gradient / length as f64).unsqueeze_dim(1);
        [Some(primitive(share.expand([batch, length, hidden])))]
    }

    fn native_forward<T: Real>([input]: [FlexTensor; 1], _: &()) -> [FlexTensor; 1] {
        [flex::forward::<T>(&input)]
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 0], FlexTensor, 1>,
        _: &(),
    ) -> [Option<FlexTensor>; 1] {
        let [_, length, _] = back.shapes[0].dims();
        [Some(flex::backward::<T>(&back.gradient, length))]
    }
}

/// Mean over the steps of a sequence.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - returns `[batch, hidden]`
pub fn mean_over_time<B: Backend>(input: Tensor<B, 3>) -> Tensor<B, 2> {
    let [mean] = <B as Run<MeanOverTime, 1>>::run([primitive(input)], &());
    tensor(mean)
}

//! Affine and linear maps of rows: encoders, heads and projections.

mod flex;
pub(crate) mod native;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor};
use burn_flex::FlexTensor;

use crate::{
    axis_sum::sum_along,
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Operation, Pullback, Run, leading, with_optional},
    primitive::{primitive, tensor},
};

/// Of input, weight and bias, or of input and weight: see [`affine`](crate::affine()).
#[derive(Clone, Copy, Debug)]
pub struct Affine;

impl<const N: usize> Operation<N> for Affine {
    const NAME: &'static str = "affine";

    type Settings = ();
    type Outputs<T> = [T; 1];
    type Saved<T> = [T; 2];

    fn save<T: Clone>(inputs: [T; N], _: &[T; 1]) -> [T; 2] {
        with_optional(inputs).0
    }

    fn forward<B: Backend>(inputs: [FloatTensor<B>; N], _: &()) -> [FloatTensor<B>; 1] {
        let ([input, weight], bias) = with_optional(inputs);
        let (input, weight, bias) = (tensor(input), tensor(weight), bias.map(tensor));
        [primitive(affine_reference::<B>(input, weight, bias))]
    }

    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 2], FloatTensor<B>, N>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; N] {
        let [of_input, of_bias] = [0, 2].map(|input| back.wants(input));
        let [input, weight]: [Tensor<B, 2>; 2] = back.saved.map(tensor);
        let gradient: Tensor<B, 2> = tensor(back.gradient);
        let [outputs, _] = weight.dims();
        leading([
            of_input.then(|| primitive(gradient.clone().matmul(weight))),
            Some(primitive(gradient.clone().transpose().matmul(input))),
            of_bias.then(|| primitive(sum_along(gradient, 0).reshape([outputs]))),
        ])
    }

    fn native_forward<T: Real>(inputs: [FlexTensor; N], _: &()) -> [FlexTensor; 1] {
        let ([input, weight], bias) = with_optional(inputs);
        [flex::forward::<T>(&input, &weight, bias.as_ref())]
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 2], FlexTensor, N>,
        _: &(),
    ) -> [Option<FlexTensor>; N] {
        let wanted = [0, 2].map(|input| back.wants(input));
        let [input, weight] = &back.saved;
        leading(flex::backward::<T>(input, weight, &back.gradient, wanted))
    }
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
    let (input, weight) = (primitive(input), primitive(weight));
    let [output] = match bias {
        Some(bias) => <B as Run<Affine, 3>>::run([input, weight, primitive(bias)], &()),
        None => <B as Run<Affine, 2>>::run([input, weight], &()),
    };
    tensor(output)
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

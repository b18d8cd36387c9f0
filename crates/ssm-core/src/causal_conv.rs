//! Causal convolution of every channel by itself, then SiLU: what stands before a selective scan.

mod composed;
mod flex;

#[cfg(feature = "cube")]
use burn::tensor::{DType, Shape};
use burn::tensor::{Tensor, activation::silu, backend::Backend as BurnBackend, ops::FloatTensor};
#[cfg(feature = "cube")]
use burn_cubecl::kernel::into_contiguous;
use burn_flex::FlexTensor;

#[cfg(feature = "cube")]
use crate::operation::OnCube;
use crate::{
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Operation, Pullback, Run},
    primitive::{primitive, tensor},
};

/// Of input, weight and bias: see [`causal_conv`](crate::causal_conv()).
#[derive(Clone, Copy, Debug)]
pub struct CausalConv;

impl Operation<3> for CausalConv {
    const NAME: &'static str = "causal_conv";

    type Settings = ();
    type Outputs<T> = [T; 1];
    type Saved<T> = [T; 3];

    fn save<T: Clone>(inputs: [T; 3], _: &[T; 1]) -> [T; 3] {
        inputs
    }

    fn forward<B: Backend>(
        [input, weight, bias]: [FloatTensor<B>; 3],
        _: &(),
    ) -> [FloatTensor<B>; 1] {
        let output = causal_conv_reference::<B>(tensor(input), tensor(weight), tensor(bias));
        [primitive(output)]
    }

    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 3], FloatTensor<B>, 3>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; 3] {
        composed::backward::<B>(back.saved, back.gradient).map(Some)
    }

    fn native_forward<T: Real>(inputs: [FlexTensor; 3], _: &()) -> [FlexTensor; 1] {
        [flex::forward::<T>(inputs.each_ref())]
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 3], FlexTensor, 3>,
        _: &(),
    ) -> [Option<FlexTensor>; 3] {
        flex::backward::<T>(back.saved.each_ref(), &back.gradient).map(Some)
    }

    // Not fused: only the backend below can make its weight contiguous first.
    #[cfg(feature = "cube")]
    fn cube_outputs([input, ..]: &[Shape; 3], dtype: DType, _: &()) -> Option<[(Shape, DType); 1]> {
        Some([(input.clone(), dtype)])
    }

    // On contiguous tensors: burn-cubecl 0.21 reshapes a column of a transposed view into the wrong elements.
    #[cfg(feature = "cube")]
    fn cube_forward<B: OnCube>(inputs: [FloatTensor<B>; 3], _: &()) -> [FloatTensor<B>; 1] {
        Self::forward::<B>(inputs.map(into_contiguous), &())
    }

    #[cfg(feature = "cube")]
    fn cube_backward<B: OnCube>(
        back: Pullback<[FloatTensor<B>; 3], FloatTensor<B>, 3>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; 3] {
        let saved = back.saved.map(into_contiguous);
        composed::backward::<B>(saved, into_contiguous(back.gradient)).map(Some)
    }
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
    let inputs = [primitive(input), primitive(weight), primitive(bias)];
    let [output] = <B as Run<CausalConv, 3>>::run(inputs, &());
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

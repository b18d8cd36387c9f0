//! Operations on the CPU's tensors.
//!
//! The registry calls these functions for one operation each, in this crate: kernels are compiled here, with its level of
//! optimization, and not wherever they are called from.

use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::{Operation, Pullback, Tensors};

pub(crate) fn forward<O: Operation<N>, const N: usize>(
    inputs: [FlexTensor; N],
    settings: &O::Settings,
) -> O::Outputs<FlexTensor> {
    let inputs = inputs.map(|input| input.to_contiguous());
    match inputs[0].dtype() {
        DType::F64 => O::native_forward::<f64>(inputs, settings),
        _ => O::native_forward::<f32>(inputs, settings),
    }
}

pub(crate) fn backward<O: Operation<N>, const N: usize>(
    back: Pullback<O::Saved<FlexTensor>, FlexTensor, N>,
    settings: &O::Settings,
) -> [Option<FlexTensor>; N] {
    let back = Pullback {
        saved: back.saved.map(|tensor| tensor.to_contiguous()),
        gradient: back.gradient.to_contiguous(),
        ..back
    };
    match back.gradient.dtype() {
        DType::F64 => O::native_backward::<f64>(back, settings),
        _ => O::native_backward::<f32>(back, settings),
    }
}

//! The primitives of this crate on CubeCL devices (wgpu, CUDA).

pub(crate) mod rows;

use burn::tensor::{DType, Shape, ops::FloatTensor};
use burn_cubecl::{
    BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement, kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor,
};

use crate::{
    backend::Kernels,
    causal_conv::{self, CausalConvGradients},
    dropout::{self, Dropout},
    fusion::LazyKernels,
    scan::{self, LinearScan, LinearScanGradients},
    selective_scan::{self, SelectiveScan, SelectiveScanForward},
};

impl<R, F, I, BT> Kernels for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn linear_scan_forward(scan: &LinearScan<FloatTensor<Self>>) -> FloatTensor<Self> {
        scan::cube::forward(scan)
    }

    fn linear_scan_backward(
        scan: &LinearScan<FloatTensor<Self>>,
        states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> LinearScanGradients<FloatTensor<Self>> {
        scan::cube::backward(scan, states, output_gradient)
    }

    fn dropout_factors(
        dropout: Dropout,
        shape: Shape,
        device: &Self::Device,
        dtype: DType,
    ) -> FloatTensor<Self> {
        dropout::cube::factors(dropout, shape, device, dtype)
    }

    // On contiguous tensors: burn-cubecl 0.21 reshapes a column of a transposed view into the wrong elements.
    fn causal_conv_forward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [input, weight, bias] = [input, weight, bias].map(|x| into_contiguous(x.clone()));
        causal_conv::composed::forward::<Self>(&input, &weight, &bias)
    }

    fn causal_conv_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> CausalConvGradients<FloatTensor<Self>> {
        let [input, weight, bias, output_gradient] =
            [input, weight, bias, output_gradient].map(|x| into_contiguous(x.clone()));
        causal_conv::composed::backward::<Self>(&input, &weight, &bias, &output_gradient)
    }

    fn selective_scan_forward(
        scan: &SelectiveScan<FloatTensor<Self>>,
    ) -> SelectiveScanForward<FloatTensor<Self>> {
        selective_scan::cube::forward(scan)
    }

    fn selective_scan_backward(
        scan: &SelectiveScan<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> SelectiveScan<FloatTensor<Self>> {
        selective_scan::cube::backward(scan, chunk_states, output_gradient)
    }
}

impl<R, F, I, BT> LazyKernels for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn selective_scan_states(input: &Shape, decay: &Shape, dtype: DType) -> (Shape, DType) {
        selective_scan::cube::chunk_states(input, decay, dtype)
    }
}

/// Type of sums and products over tensors of this type.
pub(crate) fn sums_of(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// A contiguous tensor of this shape and type on the device of `beside`, its values not set.
pub(crate) fn empty<R: CubeRuntime>(
    beside: &CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (beside.client.clone(), beside.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

//! The primitives of this crate on CubeCL devices (wgpu, CUDA).

use burn::tensor::{DType, Shape, ops::FloatTensor};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use crate::{
    backend::Kernels,
    dropout::{self, Dropout},
    scan::{self, LinearScan, LinearScanGradients},
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
}

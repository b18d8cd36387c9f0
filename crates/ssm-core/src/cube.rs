//! What the kernels on CubeCL devices (wgpu, CUDA) share.

pub(crate) mod rows;

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, ops::numeric::empty_device_contiguous_dtype, tensor::CubeTensor};

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

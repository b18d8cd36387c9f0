//! Operations on LibTorch: some lend tensors on the CPU to the native kernels, others are tensor operations.
//!
//! The memory of a tensor is lent to the kernels as it is. Elementwise operations and matrix products are left to LibTorch,
//! which has good ones; the recurrence is what it has none for.

use burn::{
    backend::{
        LibTorch,
        libtorch::{LibTorchDevice, TchElement, TchTensor},
    },
    tensor::{AllocationProperty, Bytes, DType, TensorMetadata},
};
use burn_flex::{Flex, FlexTensor, Layout};

use super::{ByHand, Kernel, Operation, Pullback, Run, Tensors};

/// The best device that LibTorch has here: the first NVIDIA GPU, else the CPU.
pub fn libtorch_device() -> LibTorchDevice {
    match tch::Cuda::is_available() {
        true => LibTorchDevice::Cuda(0),
        false => LibTorchDevice::Cpu,
    }
}

impl<O, E, const N: usize> Run<O, N> for LibTorch<E>
where
    O: Operation<N>,
    E: TchElement,
    Flex: Kernel<O, N>,
{
    fn run(inputs: [TchTensor; N], settings: &O::Settings) -> O::Outputs<TchTensor> {
        match O::LENT && is_native(&inputs[0]) {
            true => Flex::run(inputs.map(lend), settings).map(take),
            false => O::forward::<Self>(inputs, settings),
        }
    }
}

impl<O, E, const N: usize> Kernel<O, N> for LibTorch<E>
where
    O: Operation<N>,
    E: TchElement,
    Flex: Kernel<O, N>,
{
    fn has_backward(inputs: &[TchTensor; N]) -> bool {
        match O::BACKWARD {
            ByHand::Everywhere => true,
            ByHand::Natively => O::LENT && is_native(&inputs[0]),
            ByHand::Nowhere => false,
        }
    }

    fn backward(
        back: Pullback<O::Saved<TchTensor>, TchTensor, N>,
        settings: &O::Settings,
    ) -> [Option<TchTensor>; N] {
        if !(O::LENT && is_native(&back.gradient)) {
            return O::backward::<Self>(back, settings);
        }
        let lent = Pullback {
            saved: back.saved.map(lend),
            gradient: lend(back.gradient),
            shapes: back.shapes,
            wanted: back.wanted,
        };
        Flex::backward(lent, settings).map(|gradient| gradient.map(take))
    }
}

/// Whether the native kernels can work on a tensor: it is on the CPU, in a precision that they know.
fn is_native(tensor: &TchTensor) -> bool {
    tensor.tensor.device() == tch::Device::Cpu && matches!(tensor.dtype(), DType::F32 | DType::F64)
}

/// Keeps a contiguous tensor alive, and unchanged, while a kernel reads its memory.
///
/// Holding the tensor with burn's count of its storage is what keeps burn from reusing that storage for a result.
struct Lender(TchTensor);

impl AsRef<[u8]> for Lender {
    fn as_ref(&self) -> &[u8] {
        let tensor = &self.0.tensor;
        let len = tensor.numel() * tensor.kind().elt_size_in_bytes();
        if len == 0 {
            return &[];
        }
        // SAFETY: a contiguous CPU tensor is `numel` initialized elements from `data_ptr` on, which live as long as the
        // tensor does.
        unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>(), len) }
    }
}

/// The same values as a tensor of the native kernels; no copy if they are contiguous.
///
/// # Panics
/// If the tensor is not [native](is_native).
fn lend(tensor: TchTensor) -> FlexTensor {
    assert!(is_native(&tensor), "only CPU memory can be lent to kernels");
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let contiguous = match tensor.tensor.is_contiguous() {
        true => tensor,
        false => TchTensor::new(tensor.tensor.contiguous()),
    };
    let memory = bytes::Bytes::from_owner(Lender(contiguous));
    let memory = Bytes::from_shared(memory, AllocationProperty::Native);
    FlexTensor::new(memory, Layout::contiguous(shape), dtype)
}

/// A result of the native kernels as a LibTorch tensor: one copy.
fn take(tensor: FlexTensor) -> TchTensor {
    let tensor = tensor.to_contiguous();
    let kind = match tensor.dtype() {
        DType::F64 => tch::Kind::Double,
        _ => tch::Kind::Float,
    };
    let shape = tensor.shape();
    let sizes: Vec<i64> = shape.as_slice().iter().map(|&n| n as i64).collect();
    TchTensor::new(tch::Tensor::from_data_size(tensor.bytes(), &sizes, kind))
}

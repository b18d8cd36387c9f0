//! LibTorch: tensors on the CPU go through the native kernels, others through tensor operations.
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
use burn_flex::{FlexTensor, Layout};

use crate::{
    backend::Kernels,
    diagonal_ssm::{
        self, DiagonalSsm, DiagonalSsmForward, DiagonalSsmGradients, DiagonalSsmOutput,
    },
    scan::{self, LinearScan, LinearScanGradients},
    selective_scan::{self, SelectiveScan, SelectiveScanForward},
    ssd::{self, Ssd, SsdForward},
};

/// The best device that LibTorch has here: the first NVIDIA GPU, else the CPU.
pub fn libtorch_device() -> LibTorchDevice {
    match tch::Cuda::is_available() {
        true => LibTorchDevice::Cuda(0),
        false => LibTorchDevice::Cpu,
    }
}

impl<E: TchElement> Kernels for LibTorch<E> {
    fn linear_scan_forward(scan: &LinearScan<TchTensor>) -> TchTensor {
        match is_native(&scan.input) {
            true => take(scan::flex::forward(&lend_scan(scan))),
            false => scan::blocked::forward::<Self>(scan),
        }
    }

    fn linear_scan_backward(
        scan: &LinearScan<TchTensor>,
        states: &TchTensor,
        output_gradient: &TchTensor,
    ) -> LinearScanGradients<TchTensor> {
        if !is_native(&scan.input) {
            return scan::blocked::backward::<Self>(scan, states, output_gradient);
        }
        let (states, gradient) = (lend(states), lend(output_gradient));
        let gradients = scan::flex::backward(&lend_scan(scan), &states, &gradient);
        LinearScanGradients {
            decay: take(gradients.decay),
            input: take(gradients.input),
            initial_state: take(gradients.initial_state),
        }
    }

    fn diagonal_ssm_forward(
        input: &TchTensor,
        system: &DiagonalSsm<TchTensor>,
        initial_state: &TchTensor,
    ) -> DiagonalSsmForward<TchTensor> {
        if !is_native(input) {
            return diagonal_ssm::composed::forward::<Self>(input, system, initial_state);
        }
        let (input, initial_state) = (lend(input), lend(initial_state));
        let forward = diagonal_ssm::flex::forward(&input, &system.map(lend), &initial_state);
        DiagonalSsmForward {
            result: DiagonalSsmOutput {
                output: take(forward.result.output),
                final_state: take(forward.result.final_state),
            },
            chunk_states: take(forward.chunk_states),
        }
    }

    fn diagonal_ssm_backward(
        input: &TchTensor,
        system: &DiagonalSsm<TchTensor>,
        chunk_states: &TchTensor,
        output_gradient: &TchTensor,
    ) -> DiagonalSsmGradients<TchTensor> {
        if !is_native(input) {
            return diagonal_ssm::composed::backward::<Self>(
                input,
                system,
                chunk_states,
                output_gradient,
            );
        }
        let [input, states, gradient] = [input, chunk_states, output_gradient].map(lend);
        let gradients = diagonal_ssm::flex::backward(&input, &system.map(lend), &states, &gradient);
        DiagonalSsmGradients {
            input: take(gradients.input),
            system: gradients.system.map(|part| take(part.clone())),
            initial_state: take(gradients.initial_state),
        }
    }

    fn selective_scan_forward(scan: &SelectiveScan<TchTensor>) -> SelectiveScanForward<TchTensor> {
        if !is_native(&scan.input) {
            return selective_scan::composed::forward::<Self>(scan);
        }
        let lent = SelectiveScan::of_parts(scan.parts().map(lend));
        let forward = selective_scan::flex::forward(&lent);
        SelectiveScanForward {
            output: take(forward.output),
            chunk_states: take(forward.chunk_states),
        }
    }

    fn selective_scan_backward(
        scan: &SelectiveScan<TchTensor>,
        chunk_states: &TchTensor,
        output_gradient: &TchTensor,
    ) -> SelectiveScan<TchTensor> {
        if !is_native(&scan.input) {
            return selective_scan::composed::backward::<Self>(scan, chunk_states, output_gradient);
        }
        let lent = SelectiveScan::of_parts(scan.parts().map(lend));
        let [states, gradient] = [chunk_states, output_gradient].map(lend);
        let gradients = selective_scan::flex::backward(&lent, &states, &gradient);
        SelectiveScan::of_parts(gradients.parts().map(|part| take(part.clone())))
    }

    fn ssd_forward(map: &Ssd<TchTensor>) -> Option<SsdForward<TchTensor>> {
        if !is_native(&map.input) {
            return None;
        }
        let lent = Ssd::of_parts(map.parts().map(lend), map.groups);
        let forward = ssd::flex::forward(&lent);
        Some(SsdForward {
            output: take(forward.output),
            chunk_states: take(forward.chunk_states),
        })
    }

    fn ssd_backward(
        map: &Ssd<TchTensor>,
        chunk_states: &TchTensor,
        output_gradient: &TchTensor,
    ) -> Ssd<TchTensor> {
        let lent = Ssd::of_parts(map.parts().map(lend), map.groups);
        let [states, gradient] = [chunk_states, output_gradient].map(lend);
        let gradients = ssd::flex::backward(&lent, &states, &gradient);
        Ssd::of_parts(gradients.parts().map(|part| take(part.clone())), map.groups)
    }
}

fn lend_scan(scan: &LinearScan<TchTensor>) -> LinearScan<FlexTensor> {
    LinearScan {
        decay: scan.decay.with(lend(scan.decay.tensor())),
        input: lend(&scan.input),
        initial_state: lend(&scan.initial_state),
        field: scan.field,
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
fn lend(tensor: &TchTensor) -> FlexTensor {
    assert!(is_native(tensor), "only CPU memory can be lent to kernels");
    let (shape, dtype) = (tensor.shape(), tensor.dtype());
    let contiguous = match tensor.tensor.is_contiguous() {
        true => tensor.clone(),
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

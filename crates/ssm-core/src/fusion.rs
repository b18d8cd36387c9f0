//! The primitives of this crate on `Fusion`: lazy, as custom operations of its stream.
//!
//! A custom operation only registers what it reads and writes. The kernels run when the stream does, so that the
//! tensor operations before and after are fused as if they were burn's own.

use std::{
    fmt::{self, Debug, Formatter},
    marker::PhantomData,
};

use burn::tensor::{DType, Shape, backend::BackendTypes, ops::FloatTensor};
use burn_fusion::{
    Fusion, FusionBackend, FusionRuntime, FusionTensor, get_client,
    stream::{Operation, OperationStreams},
};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, OperationOutput, TensorIr};

use crate::{
    backend::Kernels,
    dropout::Dropout,
    scan::{Decay, Field, LinearScan, LinearScanGradients},
};

type Handles<B> =
    HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

impl<B: FusionBackend + Kernels> Kernels for Fusion<B> {
    fn linear_scan_forward(scan: &LinearScan<FloatTensor<Self>>) -> FloatTensor<Self> {
        let [states] = register(
            "linear_scan",
            [scan.decay.tensor(), &scan.input, &scan.initial_state],
            [&scan.input],
            |operands| Forward::<B> {
                kind: Kind::of(scan),
                operands,
                backend: PhantomData,
            },
        );
        states
    }

    fn linear_scan_backward(
        scan: &LinearScan<FloatTensor<Self>>,
        states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> LinearScanGradients<FloatTensor<Self>> {
        let (decay, input, initial_state) = (scan.decay.tensor(), &scan.input, &scan.initial_state);
        let [decay, input, initial_state] = register(
            "linear_scan_backward",
            [decay, input, initial_state, states, output_gradient],
            [decay, input, initial_state],
            |operands| Backward::<B> {
                kind: Kind::of(scan),
                operands,
                backend: PhantomData,
            },
        );
        LinearScanGradients {
            decay,
            input,
            initial_state,
        }
    }

    fn dropout_factors(
        dropout: Dropout,
        shape: Shape,
        device: &B::Device,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let client = get_client::<B>(device);
        let factors = TensorIr::uninit(client.create_empty_handle(), shape, dtype);
        let operands = CustomOpIr::new("dropout_factors", &[], &[factors]);
        let operation = DropoutFactors::<B> {
            dropout,
            device: device.clone(),
            operands: operands.clone(),
        };
        client
            .register(
                OperationStreams::default(),
                OperationIr::Custom(operands),
                operation,
            )
            .output()
    }
}

/// Registers an operation that reads `inputs` and writes tensors of the shapes and types of `outputs`.
fn register<R: FusionRuntime, O: Operation<R> + 'static, const I: usize, const N: usize>(
    name: &'static str,
    inputs: [&FusionTensor<R>; I],
    outputs: [&FusionTensor<R>; N],
    operation: impl FnOnce(CustomOpIr) -> O,
) -> [FusionTensor<R>; N] {
    let client = inputs[0].client.clone();
    let streams = OperationStreams::with_inputs(inputs);
    let inputs = inputs.map(|tensor| tensor.clone().into_ir());
    let outputs = outputs
        .map(|like| TensorIr::uninit(client.create_empty_handle(), like.shape.clone(), like.dtype));
    let operands = CustomOpIr::new(name, &inputs, &outputs);
    client
        .register(
            streams,
            OperationIr::Custom(operands.clone()),
            operation(operands),
        )
        .outputs()
}

/// What a scan is besides its tensors.
#[derive(Debug)]
struct Kind {
    decay: Decay<()>,
    field: Field,
}

impl Kind {
    fn of<T>(scan: &LinearScan<T>) -> Self {
        Self {
            decay: scan.decay.with(()),
            field: scan.field,
        }
    }

    fn scan<B: FusionBackend>(
        &self,
        [decay, input, initial_state]: [&TensorIr; 3],
        handles: &mut Handles<B>,
    ) -> LinearScan<FloatTensor<B>> {
        LinearScan {
            decay: self.decay.with(handles.get_float_tensor::<B>(decay)),
            input: handles.get_float_tensor::<B>(input),
            initial_state: handles.get_float_tensor::<B>(initial_state),
            field: self.field,
        }
    }
}

#[derive(Debug)]
struct Forward<B> {
    kind: Kind,
    operands: CustomOpIr,
    backend: PhantomData<B>,
}

impl<B: FusionBackend + Kernels> Operation<B::FusionRuntime> for Forward<B> {
    fn execute(&self, handles: &mut Handles<B>) {
        let ([decay, input, initial_state], [states]) = self.operands.as_fixed();
        let scan = self.kind.scan::<B>([decay, input, initial_state], handles);
        handles.register_float_tensor::<B>(&states.id, B::linear_scan_forward(&scan));
    }
}

#[derive(Debug)]
struct Backward<B> {
    kind: Kind,
    operands: CustomOpIr,
    backend: PhantomData<B>,
}

impl<B: FusionBackend + Kernels> Operation<B::FusionRuntime> for Backward<B> {
    fn execute(&self, handles: &mut Handles<B>) {
        let ([decay, input, initial_state, states, output_gradient], gradients) =
            self.operands.as_fixed::<5, 3>();
        let scan = self.kind.scan::<B>([decay, input, initial_state], handles);
        let states = handles.get_float_tensor::<B>(states);
        let output_gradient = handles.get_float_tensor::<B>(output_gradient);
        let result = B::linear_scan_backward(&scan, &states, &output_gradient);
        for (gradient, tensor) in
            gradients
                .iter()
                .zip([result.decay, result.input, result.initial_state])
        {
            handles.register_float_tensor::<B>(&gradient.id, tensor);
        }
    }
}

struct DropoutFactors<B: BackendTypes> {
    dropout: Dropout,
    device: B::Device,
    operands: CustomOpIr,
}

impl<B: BackendTypes> Debug for DropoutFactors<B> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropoutFactors")
            .field("dropout", &self.dropout)
            .field("operands", &self.operands)
            .finish_non_exhaustive()
    }
}

impl<B: FusionBackend + Kernels> Operation<B::FusionRuntime> for DropoutFactors<B> {
    fn execute(&self, handles: &mut Handles<B>) {
        let ([], [factors]) = self.operands.as_fixed();
        let (shape, dtype) = (factors.shape.clone(), factors.dtype);
        let result = B::dropout_factors(self.dropout, shape, &self.device, dtype);
        handles.register_float_tensor::<B>(&factors.id, result);
    }
}

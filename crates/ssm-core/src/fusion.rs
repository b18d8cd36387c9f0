//! The primitives of this crate on `Fusion`: lazy, as custom operations of its stream.
//!
//! A custom operation only registers what it reads and writes. The kernels run when the stream does, so that the
//! tensor operations before and after are fused as if they were burn's own.

use std::{
    array::from_fn,
    fmt::{self, Debug, Formatter},
    marker::PhantomData,
};

use burn::tensor::{DType, Shape, ops::FloatTensor};
use burn_fusion::{
    Fusion, FusionBackend, FusionRuntime, FusionTensor, get_client,
    stream::{Operation, OperationStreams},
};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, OperationOutput, TensorIr};

use crate::{
    backend::Kernels,
    causal_conv::CausalConvGradients,
    dropout::Dropout,
    scan::{LinearScan, LinearScanGradients},
    selective_scan::{SelectiveScan, SelectiveScanForward},
};

type Handles<B> =
    HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

type Client<B> = burn_fusion::Client<<B as FusionBackend>::FusionRuntime>;

/// Kernels whose results are known in shape before they run.
pub(crate) trait LazyKernels: Kernels {
    /// Shape and type of the states that [`Kernels::selective_scan_forward`] leaves, from the shapes of input and decay
    /// and the type of all tensors.
    fn selective_scan_states(input: &Shape, decay: &Shape, dtype: DType) -> (Shape, DType);
}

impl<B: FusionBackend + LazyKernels> Kernels for Fusion<B> {
    fn linear_scan_forward(scan: &LinearScan<FloatTensor<Self>>) -> FloatTensor<Self> {
        let (kind, field) = (scan.decay.with(()), scan.field);
        let [states] = register::<B, _, _>(
            "linear_scan",
            [scan.decay.tensor(), &scan.input, &scan.initial_state],
            [like(&scan.input)],
            move |[decay, input, initial_state]| {
                [B::linear_scan_forward(&LinearScan {
                    decay: kind.with(decay),
                    input,
                    initial_state,
                    field,
                })]
            },
        );
        states
    }

    fn linear_scan_backward(
        scan: &LinearScan<FloatTensor<Self>>,
        states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> LinearScanGradients<FloatTensor<Self>> {
        let (kind, field) = (scan.decay.with(()), scan.field);
        let (decay, input, initial_state) = (scan.decay.tensor(), &scan.input, &scan.initial_state);
        let [decay, input, initial_state] = register::<B, _, _>(
            "linear_scan_backward",
            [decay, input, initial_state, states, output_gradient],
            [like(decay), like(input), like(initial_state)],
            move |[decay, input, initial_state, states, output_gradient]| {
                let scan = LinearScan {
                    decay: kind.with(decay),
                    input,
                    initial_state,
                    field,
                };
                let found = B::linear_scan_backward(&scan, &states, &output_gradient);
                [found.decay, found.input, found.initial_state]
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
        let (client, device) = (get_client::<B>(device), device.clone());
        let [factors] = register_on::<B, _, _>(
            &client,
            "dropout_factors",
            [],
            [(shape.clone(), dtype)],
            move |[]| [B::dropout_factors(dropout, shape.clone(), &device, dtype)],
        );
        factors
    }

    // Not fused: only the backend below can make its weight contiguous first.
    fn causal_conv_forward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [output] = register::<B, _, _>(
            "causal_conv",
            [input, weight, bias],
            [like(input)],
            |[input, weight, bias]| [B::causal_conv_forward(&input, &weight, &bias)],
        );
        output
    }

    fn causal_conv_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        bias: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> CausalConvGradients<FloatTensor<Self>> {
        let [input, weight, bias] = register::<B, _, _>(
            "causal_conv_backward",
            [input, weight, bias, output_gradient],
            [like(input), like(weight), like(bias)],
            |[input, weight, bias, output_gradient]| {
                let found = B::causal_conv_backward(&input, &weight, &bias, &output_gradient);
                [found.input, found.weight, found.bias]
            },
        );
        CausalConvGradients {
            input,
            weight,
            bias,
        }
    }

    fn selective_scan_forward(
        scan: &SelectiveScan<FloatTensor<Self>>,
    ) -> SelectiveScanForward<FloatTensor<Self>> {
        let (input, decay) = (&scan.input, &scan.decay);
        let states = B::selective_scan_states(&input.shape, &decay.shape, input.dtype);
        let [output, chunk_states] = register::<B, _, _>(
            "selective_scan",
            scan.parts(),
            [like(input), states],
            |parts| {
                let found = B::selective_scan_forward(&SelectiveScan::of_parts(parts));
                [found.output, found.chunk_states]
            },
        );
        SelectiveScanForward {
            output,
            chunk_states,
        }
    }

    fn selective_scan_backward(
        scan: &SelectiveScan<FloatTensor<Self>>,
        chunk_states: &FloatTensor<Self>,
        output_gradient: &FloatTensor<Self>,
    ) -> SelectiveScan<FloatTensor<Self>> {
        let parts = scan.parts();
        let [u, step, a, b, c, d, z] = parts;
        SelectiveScan::of_parts(register::<B, _, _>(
            "selective_scan_backward",
            [u, step, a, b, c, d, z, chunk_states, output_gradient],
            parts.map(like),
            |[u, step, a, b, c, d, z, chunk_states, output_gradient]| {
                let scan = SelectiveScan::of_parts([u, step, a, b, c, d, z]);
                let found = B::selective_scan_backward(&scan, &chunk_states, &output_gradient);
                found.parts().map(Clone::clone)
            },
        ))
    }
}

/// Shape and type of a tensor.
fn like<R: FusionRuntime>(tensor: &FusionTensor<R>) -> (Shape, DType) {
    (tensor.shape.clone(), tensor.dtype)
}

/// Registers that `run` makes tensors of the shapes and types of `outputs` from `inputs`, of which there is one.
fn register<B: FusionBackend, const I: usize, const O: usize>(
    name: &'static str,
    inputs: [&FusionTensor<B::FusionRuntime>; I],
    outputs: [(Shape, DType); O],
    run: impl Fn([FloatTensor<B>; I]) -> [FloatTensor<B>; O] + Send + Sync + 'static,
) -> [FusionTensor<B::FusionRuntime>; O] {
    register_on::<B, _, _>(&inputs[0].client.clone(), name, inputs, outputs, run)
}

fn register_on<B: FusionBackend, const I: usize, const O: usize>(
    client: &Client<B>,
    name: &'static str,
    inputs: [&FusionTensor<B::FusionRuntime>; I],
    outputs: [(Shape, DType); O],
    run: impl Fn([FloatTensor<B>; I]) -> [FloatTensor<B>; O] + Send + Sync + 'static,
) -> [FusionTensor<B::FusionRuntime>; O] {
    let streams = OperationStreams::with_inputs(inputs);
    let inputs = inputs.map(|tensor| tensor.clone().into_ir());
    let outputs =
        outputs.map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype));
    let operands = CustomOpIr::new(name, &inputs, &outputs);
    let operation = Custom::<B, _, I, O> {
        operands: operands.clone(),
        run,
        backend: PhantomData,
    };
    client
        .register(streams, OperationIr::Custom(operands), operation)
        .outputs()
}

/// A function of primitives that the stream calls.
struct Custom<B, F, const I: usize, const O: usize> {
    operands: CustomOpIr,
    run: F,
    backend: PhantomData<B>,
}

impl<B, F, const I: usize, const O: usize> Debug for Custom<B, F, I, O> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom")
            .field("operands", &self.operands)
            .finish_non_exhaustive()
    }
}

impl<B, F, const I: usize, const O: usize> Operation<B::FusionRuntime> for Custom<B, F, I, O>
where
    B: FusionBackend,
    F: Fn([FloatTensor<B>; I]) -> [FloatTensor<B>; O] + Send + Sync,
{
    fn execute(&self, handles: &mut Handles<B>) {
        let (inputs, outputs) = self.operands.as_fixed::<I, O>();
        let inputs = from_fn(|i| handles.get_float_tensor::<B>(&inputs[i]));
        for (output, tensor) in outputs.iter().zip((self.run)(inputs)) {
            handles.register_float_tensor::<B>(&output.id, tensor);
        }
    }
}

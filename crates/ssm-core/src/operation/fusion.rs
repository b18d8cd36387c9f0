//! Operations on `Fusion`: those with a kernel are lazy, as custom operations of its stream; of others the tensor
//! operations are fused.
//!
//! A custom operation only registers what it reads and writes. The kernels run when the stream does, so that the
//! tensor operations before and after are fused as if they were burn's own.

use std::{
    fmt::{self, Debug, Formatter},
    marker::PhantomData,
};

use burn::tensor::{DType, Shape, ops::FloatTensor};
use burn_fusion::{
    Fusion, FusionBackend, FusionRuntime, FusionTensor,
    stream::{Operation as StreamOperation, OperationStreams},
};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};

use super::{ByHand, Kernel, Operation, Pullback, Run, Tensors};
use crate::backend::Kernels;

type Handles<B> =
    HandleContainer<<<B as FusionBackend>::FusionRuntime as FusionRuntime>::FusionHandle>;

impl<O, B, const N: usize> Run<O, N> for Fusion<B>
where
    O: Operation<N>,
    B: FusionBackend + Kernels + Kernel<O, N>,
{
    fn run(
        inputs: [FloatTensor<Self>; N],
        settings: &O::Settings,
    ) -> O::Outputs<FloatTensor<Self>> {
        let (shapes, dtype) = (inputs.each_ref().map(|t| t.shape.clone()), inputs[0].dtype);
        let Some(outputs) = O::cube_outputs(&shapes, dtype, settings) else {
            return O::forward::<Self>(inputs, settings);
        };
        let settings = settings.clone();
        let run =
            move |inputs| <B as Run<O, N>>::run(Tensors::of_vec(inputs), &settings).into_vec();
        let outputs = outputs.into_vec();
        Tensors::of_vec(register::<B>(O::NAME.into(), inputs.into(), outputs, run))
    }
}

impl<O, B, const N: usize> Kernel<O, N> for Fusion<B>
where
    O: Operation<N>,
    B: FusionBackend + Kernels + Kernel<O, N>,
{
    fn has_backward(_inputs: &[FloatTensor<Self>; N]) -> bool {
        O::BACKWARD == ByHand::Everywhere
    }

    fn backward(
        back: Pullback<O::Saved<FloatTensor<Self>>, FloatTensor<Self>, N>,
        settings: &O::Settings,
    ) -> [Option<FloatTensor<Self>>; N] {
        let dtype = back.gradient.dtype;
        if O::cube_outputs(&back.shapes, dtype, settings).is_none() {
            return O::backward::<Self>(back, settings);
        }
        let Pullback {
            saved,
            gradient,
            shapes,
            wanted,
        } = back;
        let found = shapes.iter().zip(wanted).filter(|(_, wanted)| *wanted);
        let outputs = found.map(|(shape, _)| (shape.clone(), dtype)).collect();
        let mut inputs = saved.into_vec();
        inputs.push(gradient);
        let settings = settings.clone();
        let run = move |mut inputs: Vec<FloatTensor<B>>| {
            let back = Pullback {
                gradient: inputs.pop().expect("the gradient comes last"),
                saved: Tensors::of_vec(inputs),
                shapes: shapes.clone(),
                wanted,
            };
            let gradients = <B as Kernel<O, N>>::backward(back, &settings);
            let found = gradients.into_iter().zip(wanted);
            let found = found.filter_map(|(gradient, wanted)| wanted.then_some(gradient));
            found
                .map(|gradient| gradient.expect("a gradient that is wanted is found"))
                .collect()
        };
        let name = format!("{}_backward", O::NAME);
        let mut gradients = register::<B>(name, inputs, outputs, run).into_iter();
        wanted.map(|wanted| if wanted { gradients.next() } else { None })
    }
}

/// Registers that `run` makes tensors of the shapes and types of `outputs` from `inputs`, of which there is one.
fn register<B: FusionBackend>(
    name: String,
    inputs: Vec<FusionTensor<B::FusionRuntime>>,
    outputs: Vec<(Shape, DType)>,
    run: impl Fn(Vec<FloatTensor<B>>) -> Vec<FloatTensor<B>> + Send + Sync + 'static,
) -> Vec<FusionTensor<B::FusionRuntime>> {
    let client = inputs[0].client.clone();
    let streams = OperationStreams::with_inputs(&inputs);
    let read = inputs.iter().map(|tensor| tensor.clone().into_ir());
    let written = outputs.into_iter();
    let operands = CustomOpIr {
        id: name,
        inputs: read.collect(),
        outputs: written
            .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype))
            .collect(),
    };
    let operation = Custom::<B, _> {
        operands: operands.clone(),
        run,
        backend: PhantomData,
    };
    client.register(streams, OperationIr::Custom(operands), operation)
}

/// A function of primitives that the stream calls.
struct Custom<B, F> {
    operands: CustomOpIr,
    run: F,
    backend: PhantomData<B>,
}

impl<B, F> Debug for Custom<B, F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custom")
            .field("operands", &self.operands)
            .finish_non_exhaustive()
    }
}

impl<B, F> StreamOperation<B::FusionRuntime> for Custom<B, F>
where
    B: FusionBackend,
    F: Fn(Vec<FloatTensor<B>>) -> Vec<FloatTensor<B>> + Send + Sync,
{
    fn execute(&self, handles: &mut Handles<B>) {
        let inputs = self.operands.inputs.iter();
        let inputs = inputs.map(|input| handles.get_float_tensor::<B>(input));
        let outputs = (self.run)(inputs.collect());
        for (output, tensor) in self.operands.outputs.iter().zip(outputs) {
            handles.register_float_tensor::<B>(&output.id, tensor);
        }
    }
}

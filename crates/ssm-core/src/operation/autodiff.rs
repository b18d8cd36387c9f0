//! Operations as nodes of the autodiff graph.

use std::marker::PhantomData;

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{backend::AutodiffBackend, ops::FloatTensor},
};

use super::{Kernel, Operation, Recorded, Run, Tensors};
use crate::backend::Kernels;

impl<O, B, C, const N: usize> Run<O, N> for Autodiff<B, C>
where
    O: Operation<N>,
    B: Kernels + Kernel<O, N>,
    C: CheckpointStrategy,
{
    fn run(
        inputs: [FloatTensor<Self>; N],
        settings: &O::Settings,
    ) -> O::Outputs<FloatTensor<Self>> {
        let primitives = inputs.each_ref().map(|input| input.primitive.clone());
        if !B::has_backward(&primitives) {
            return O::forward::<Self>(inputs, settings);
        }
        let (outputs, way_back) = Recorded::<O, B, N>::run(primitives, settings.clone());
        // The inputs stay until the output is registered: of a graph that nothing refers to, the end of a backward pass in
        // another thread takes nodes away, and with them parts of gradients.
        let node = Node(PhantomData::<O>)
            .prepare::<C>(inputs.each_ref().map(|input| input.node.clone()))
            .compute_bound()
            .stateful();
        // The first output is the node's.
        let mut node = Some(node);
        let outputs = outputs.map(|output| match node.take() {
            Some(OpsKind::Tracked(prep)) => prep.finish(way_back.clone(), output),
            Some(OpsKind::UnTracked(prep)) => prep.finish(output),
            None => <Self as AutodiffBackend>::from_inner(output),
        });
        drop(inputs);
        outputs
    }
}

#[derive(Debug)]
struct Node<O>(PhantomData<O>);

impl<O: Operation<N>, B: Kernel<O, N>, const N: usize> Backward<B, N> for Node<O> {
    type State = Recorded<O, B, N>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        // The first layer of a model maps data, which has no gradient.
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = ops.state.backward(gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

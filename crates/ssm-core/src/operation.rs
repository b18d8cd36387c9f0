//! Operations with a backward pass written by hand, as nodes of the autodiff graph.

use std::{fmt::Debug, marker::PhantomData};

use burn::{
    backend::{
        Autodiff,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::ops::FloatTensor,
};

use crate::backend::Kernels;

/// An operation after its forward pass: what the backward pass over its `N` parents needs.
pub(crate) trait Operation<B: Kernels, const N: usize>:
    Clone + Debug + Send + 'static
{
    /// Gradients of the parents, in their order; `None` is one that nobody `wanted`, or that there is none of.
    fn backward(
        self,
        output_gradient: FloatTensor<B>,
        wanted: [bool; N],
    ) -> [Option<FloatTensor<B>>; N];
}

/// The output of an operation as a node of the graph, behind its parents.
pub(crate) fn record<B, C, O, const N: usize>(
    operation: O,
    parents: [&FloatTensor<Autodiff<B, C>>; N],
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>>
where
    B: Kernels,
    C: CheckpointStrategy,
    O: Operation<B, N>,
{
    let nodes = parents.map(|parent| parent.node.clone());
    let node = Node(PhantomData::<fn() -> O>);
    match node.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(operation, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

struct Node<O>(PhantomData<fn() -> O>);

impl<O> Debug for Node<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::any::type_name::<O>())
    }
}

impl<B: Kernels, O: Operation<B, N>, const N: usize> Backward<B, N> for Node<O> {
    type State = O;

    fn backward(self, ops: Ops<O, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let output_gradient = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = ops.state.backward(output_gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

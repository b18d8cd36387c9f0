//! Removing states from a layer whose states do not mix: the ones that stay are what they were, bit for bit.

use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend as BurnBackend},
};

/// What stays of a tensor when states are removed: some slices along an axis, exactly as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRows {
    /// Path of the tensor inside its layer.
    pub name: &'static str,
    /// The tensor as `[slices, length, ..]`, of which the middle axis gets shorter.
    slices: usize,
    length: usize,
    /// Positions on it that stay, in their new order.
    kept: Vec<usize>,
    /// Axis of the tensor itself that gets shorter, and its new size.
    axis: usize,
    size: usize,
}

impl KeptRows {
    /// Of a tensor whose first axis is that of the states.
    pub(crate) fn rows(name: &'static str, length: usize, kept: Vec<usize>) -> Self {
        Self {
            name,
            slices: 1,
            length,
            axis: 0,
            size: kept.len(),
            kept,
        }
    }

    /// Of a tensor whose second axis is that of the states, `[slices, length, ..]`.
    pub(crate) fn columns(
        name: &'static str,
        [slices, length]: [usize; 2],
        kept: Vec<usize>,
    ) -> Self {
        Self {
            name,
            slices,
            length,
            axis: 1,
            size: kept.len(),
            kept,
        }
    }

    /// Of a tensor `[channels, length, ..]` in which every channel keeps its own, as many as all others; `kept` counts
    /// through all channels.
    pub(crate) fn channelwise(
        name: &'static str,
        [channels, length]: [usize; 2],
        kept: Vec<usize>,
    ) -> Self {
        Self {
            name,
            slices: 1,
            length: channels * length,
            axis: 1,
            size: kept.len() / channels,
            kept,
        }
    }

    /// What stays of values in row-major order.
    pub fn select<B: BurnBackend>(&self, flat: Tensor<B, 1>) -> Tensor<B, 1> {
        let inner = flat.dims()[0] / (self.slices * self.length);
        let positions: Vec<i32> = self.kept.iter().map(|&i| i as i32).collect();
        let positions = Tensor::from_ints(positions.as_slice(), &flat.device());
        flat.reshape([self.slices, self.length, inner])
            .select(1, positions)
            .flatten(0, 2)
    }

    /// A parameter of its own with what stays of another.
    pub(crate) fn of<B: BurnBackend, const D: usize>(
        &self,
        param: &Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let mut shape = param.dims();
        shape[self.axis] = self.size;
        let rest = self.select(param.val().detach().flatten(0, D - 1));
        Param::initialized(param.id, rest.reshape(shape).detach().require_grad())
    }
}

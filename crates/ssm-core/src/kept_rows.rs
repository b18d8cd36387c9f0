//! Removing states from a layer whose states do not mix: the ones that stay are what they were, bit for bit.

use burn::{
    module::Param,
    tensor::{Tensor, backend::Backend as BurnBackend},
};

/// What stays of a tensor when states are removed: some of its rows, or of its columns, exactly as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRows {
    /// Path of the tensor inside its layer.
    pub name: &'static str,
    /// Axis that gets shorter, the first or the last of two.
    axis: usize,
    /// Its length before.
    length: usize,
    /// Positions on it that stay, in their new order.
    kept: Vec<usize>,
}

impl KeptRows {
    pub(crate) fn rows(name: &'static str, length: usize, kept: Vec<usize>) -> Self {
        Self {
            name,
            axis: 0,
            length,
            kept,
        }
    }

    pub(crate) fn columns(name: &'static str, length: usize, kept: Vec<usize>) -> Self {
        Self {
            name,
            axis: 1,
            length,
            kept,
        }
    }

    /// What stays of values in row-major order.
    pub fn select<B: BurnBackend>(&self, flat: Tensor<B, 1>) -> Tensor<B, 1> {
        let other = flat.dims()[0] / self.length;
        let shape = match self.axis {
            0 => [self.length, other],
            _ => [other, self.length],
        };
        let positions: Vec<i32> = self.kept.iter().map(|&i| i as i32).collect();
        let positions = Tensor::from_ints(positions.as_slice(), &flat.device());
        flat.reshape(shape)
            .select(self.axis, positions)
            .flatten(0, 1)
    }

    /// A parameter of its own with what stays of another.
    pub(crate) fn of<B: BurnBackend, const D: usize>(
        &self,
        param: &Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let mut shape = param.dims();
        shape[self.axis] = self.kept.len();
        let rest = self.select(param.val().detach().flatten(0, D - 1));
        Param::initialized(param.id, rest.reshape(shape).detach().require_grad())
    }
}

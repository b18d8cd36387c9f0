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
    /// Product of the sizes before the axis, and its own size.
    shape: [usize; 2],
    /// Positions on it that stay, in their new order.
    kept: Vec<usize>,
}

impl KeptRows {
    /// Of a tensor whose first axis is that of the states.
    pub(crate) fn rows(name: &'static str, length: usize, kept: Vec<usize>) -> Self {
        Self::slices(name, [1, length], kept)
    }

    /// Of a matrix whose columns are those of the states, `[rows, length]`.
    pub(crate) fn columns(
        name: &'static str,
        [rows, length]: [usize; 2],
        kept: Vec<usize>,
    ) -> Self {
        Self::slices(name, [rows, length], kept)
    }

    /// Of a tensor with so many slices of so many states, `[slices, length, ..]`.
    pub(crate) fn slices(name: &'static str, shape: [usize; 2], kept: Vec<usize>) -> Self {
        Self { name, shape, kept }
    }

    /// What stays of values in row-major order.
    pub fn select<B: BurnBackend>(&self, flat: Tensor<B, 1>) -> Tensor<B, 1> {
        let [slices, length] = self.shape;
        let inner = flat.dims()[0] / (slices * length);
        let positions: Vec<i32> = self.kept.iter().map(|&i| i as i32).collect();
        let positions = Tensor::from_ints(positions.as_slice(), &flat.device());
        flat.reshape([slices, length, inner])
            .select(1, positions)
            .flatten(0, 2)
    }

    /// A parameter of its own with what stays of another, in a shape that has as many entries.
    pub(crate) fn of<B: BurnBackend, const D: usize>(
        &self,
        param: &Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>> {
        let mut shape = param.dims();
        let [slices, length] = self.shape;
        // The axis whose prefix is the slices: the first of those with this product before them and this length.
        let mut before = 1;
        for size in &mut shape {
            if before == slices && *size == length {
                *size = self.kept.len();
                break;
            }
            before *= *size;
        }
        let rest = self.select(param.val().detach().flatten(0, D - 1));
        Param::initialized(param.id, rest.reshape(shape).detach().require_grad())
    }
}

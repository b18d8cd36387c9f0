//! Affine maps of one vector.

use burn::tensor::backend::Backend;

use super::matrix::LaneMatrix;
use super::values;
use crate::linear::Linear;

/// W x + b.
#[derive(Debug)]
pub(super) struct Affine {
    weight: LaneMatrix,
    bias: Vec<f32>,
}

impl Affine {
    pub(super) fn new<B: Backend>(linear: &Linear<B>) -> Self {
        Self {
            weight: LaneMatrix::of(linear.weight.val()),
            bias: values(linear.bias.val()),
        }
    }

    /// Number of outputs.
    pub(super) fn rows(&self) -> usize {
        self.bias.len()
    }

    #[inline(always)]
    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        self.weight.apply(input, output);
        for (output, bias) in output.iter_mut().zip(&self.bias) {
            *output += bias;
        }
    }
}

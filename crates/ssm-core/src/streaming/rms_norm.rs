//! Normalization of one vector by its root mean square.

use burn::tensor::backend::Backend;

use super::values;
use crate::mamba::{self, RMS_NORM_EPSILON};

/// x / √(mean x² + ε) ∘ w.
#[derive(Debug)]
pub(super) struct RmsNorm {
    weight: Vec<f32>,
}

/// Squares that are summed apart, so that an addition need not wait for the one before.
const APART: usize = 16;

impl RmsNorm {
    pub(super) fn new<B: Backend>(norm: &mamba::RmsNorm<B>) -> Self {
        Self {
            weight: values(norm.weight.val()),
        }
    }

    #[inline(always)]
    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        let mut sums = [0.0; APART];
        let (pieces, rest) = input.as_chunks::<APART>();
        for piece in pieces {
            for (sum, x) in sums.iter_mut().zip(piece) {
                *sum += x * x;
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += x * x;
        }
        let mean = sums.iter().sum::<f32>() / input.len() as f32;
        let scale = 1.0 / (mean + RMS_NORM_EPSILON as f32).sqrt();
        for ((y, x), weight) in output.iter_mut().zip(input).zip(&self.weight) {
            *y = x * scale * weight;
        }
    }
}

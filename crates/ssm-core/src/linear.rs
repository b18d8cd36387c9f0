//! Affine map with its weight stored as the published files store it, `[output, input]`.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    affine::affine,
    backend::Backend,
    parameter::{parameter, uniform},
    tensors::{NamedTensors, WeightsError},
};

/// y = W x + b.
#[derive(Module, Debug)]
pub struct Linear<B: BurnBackend> {
    /// W, `[output, input]`.
    pub weight: Param<Tensor<B, 2>>,
    /// b, `[output]`.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: BurnBackend> Linear<B> {
    /// Weight and bias from U(-1/√input, 1/√input).
    pub(crate) fn init(
        input: usize,
        output: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let bound = 1.0 / (input as f64).sqrt();
        Self {
            weight: parameter(uniform(rng, output * input, bound), [output, input], device),
            bias: parameter(uniform(rng, output, bound), [output], device),
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        [output, input]: [usize; 2],
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let mut take = tensors.prefixed(prefix);
        Ok(Self {
            weight: parameter(take("weight", &[output, input])?, [output, input], device),
            bias: parameter(take("bias", &[output])?, [output], device),
        })
    }
}

impl<B: Backend> Linear<B> {
    /// Rows of x, `[rows, input]`, to `[rows, output]`.
    pub fn forward(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        affine(rows, self.weight.val(), Some(self.bias.val()))
    }
}

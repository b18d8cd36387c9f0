//! What both kinds of mixers are built of.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    affine::affine,
    backend::Backend,
    causal_conv::causal_conv,
    parameter::{parameter, uniform},
    rms_norm::rms_norm,
    tensors::{NamedTensors, WeightsError},
};

/// A linear map without bias, y = W x.
#[derive(Module, Debug)]
pub struct Projection<B: BurnBackend> {
    /// W, `[output, input]`.
    pub weight: Param<Tensor<B, 2>>,
}

impl<B: BurnBackend> Projection<B> {
    /// From U(-scale/√input, scale/√input).
    pub(crate) fn init(
        input: usize,
        output: usize,
        scale: f64,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let bound = scale / (input as f64).sqrt();
        Self {
            weight: parameter(uniform(rng, output * input, bound), [output, input], device),
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        shape: [usize; 2],
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let weight = tensors.prefixed(prefix)("weight", &shape)?;
        Ok(Self {
            weight: parameter(weight, shape, device),
        })
    }
}

impl<B: Backend> Projection<B> {
    /// `[batch, length, input]` to `[batch, length, output]`.
    pub(crate) fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let rows = self.weight.dims()[0];
        self.rows(0, rows, x)
    }

    /// The same of some of the outputs, `first..first + count`.
    pub(crate) fn rows(&self, first: usize, count: usize, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let weight = self.weight.val().narrow(0, first, count);
        let [batch, length, input] = x.dims();
        let flat = x.reshape([batch * length, input]);
        affine(flat, weight, None).reshape([batch, length, count])
    }
}

/// x / √(mean x² + ε) ∘ w, the mean over the channels.
#[derive(Module, Debug)]
pub struct RmsNorm<B: BurnBackend> {
    /// w, `[channels]`.
    pub weight: Param<Tensor<B, 1>>,
}

/// ε of every [`RmsNorm`].
pub const RMS_NORM_EPSILON: f64 = 1e-5;

impl<B: BurnBackend> RmsNorm<B> {
    pub(crate) fn init(channels: usize, device: &B::Device) -> Self {
        Self {
            weight: parameter(vec![1.0; channels], [channels], device),
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        channels: usize,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let weight = tensors.prefixed(prefix)("weight", &[channels])?;
        Ok(Self {
            weight: parameter(weight, [channels], device),
        })
    }
}

impl<B: Backend> RmsNorm<B> {
    pub(crate) fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        rms_norm(x, None, self.weight.val(), RMS_NORM_EPSILON)
    }

    /// Of x ∘ SiLU(z).
    pub(crate) fn gated(&self, x: Tensor<B, 3>, gate: Tensor<B, 3>) -> Tensor<B, 3> {
        rms_norm(x, Some(gate), self.weight.val(), RMS_NORM_EPSILON)
    }
}

/// A causal filter per channel.
#[derive(Module, Debug)]
pub struct Conv1d<B: BurnBackend> {
    /// `[channels, 1, taps]`.
    pub weight: Param<Tensor<B, 3>>,
    /// `[channels]`.
    pub bias: Param<Tensor<B, 1>>,
}

impl<B: BurnBackend> Conv1d<B> {
    /// From U(-1/√taps, 1/√taps).
    pub(crate) fn init(
        channels: usize,
        taps: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let bound = 1.0 / (taps as f64).sqrt();
        let weight = uniform(rng, channels * taps, bound);
        Self {
            weight: parameter(weight, [channels, 1, taps], device),
            bias: parameter(uniform(rng, channels, bound), [channels], device),
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        [channels, taps]: [usize; 2],
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let mut take = tensors.prefixed(prefix);
        let shape = [channels, 1, taps];
        Ok(Self {
            weight: parameter(take("weight", &shape)?, shape, device),
            bias: parameter(take("bias", &[channels])?, [channels], device),
        })
    }
}

impl<B: Backend> Conv1d<B> {
    /// SiLU of the filtered input, `[batch, length, channels]`.
    pub(crate) fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.channels(0, self.bias.dims()[0], x)
    }

    /// The same by the filters of some channels, `first..first + count`.
    pub(crate) fn channels(&self, first: usize, count: usize, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let taps = self.weight.dims()[2];
        let weight = self.weight.val().narrow(0, first, count);
        let bias = self.bias.val().narrow(0, first, count);
        causal_conv(x, weight.reshape([count, taps]), bias)
    }
}

//! One residual block: normalization, a layer that mixes steps, perhaps a gated unit, skip connection.

use burn::{
    module::{Module, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    backend::Backend,
    batch_norm::{batch_norm, normalize},
    dropout::Dropout,
    gated_unit::{GatedUnitTensors, gated_unit},
    kinds::{Layer, LayerSettings, LayerShape},
    layer::{Frame, Surroundings},
    linear::Linear,
    mamba::RmsNorm,
    model::names::{NORM, UNIT},
    parameter::constant,
    tensors::{NamedTensors, WeightsError},
};

/// Added to the variance under the square root.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;

/// Share of a batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Mean and biased variance of one batch per channel, `[hidden]` each.
pub type Statistics<B> = (Tensor<B, 1>, Tensor<B, 1>);

/// Batch normalization without affine parameters: batch statistics in training, running ones in evaluation.
#[derive(Module, Debug)]
pub struct BatchNorm<B: BurnBackend> {
    /// Running mean, `[hidden]`.
    pub mean: Param<Tensor<B, 1>>,
    /// Running biased variance, `[hidden]`.
    pub var: Param<Tensor<B, 1>>,
}

impl<B: BurnBackend> BatchNorm<B> {
    fn init(hidden: usize, device: &B::Device) -> Self {
        Self {
            mean: constant(vec![0.0; hidden], [hidden], device),
            var: constant(vec![1.0; hidden], [hidden], device),
        }
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let mut take = tensors.prefixed(prefix);
        Ok(Self {
            mean: constant(take("mean", &[hidden])?, [hidden], device),
            var: constant(take("var", &[hidden])?, [hidden], device),
        })
    }

    /// Moves the running statistics towards those of a batch.
    fn update(&mut self, (mean, var): Statistics<B>) {
        for (running, batch) in [(&mut self.mean, mean), (&mut self.var, var)] {
            let value = running.val() * (1.0 - BATCH_NORM_MOMENTUM) + batch * BATCH_NORM_MOMENTUM;
            *running = Param::initialized(running.id, value.detach()).set_require_grad(false);
        }
    }
}

impl<B: Backend> BatchNorm<B> {
    /// With the running statistics.
    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        normalize(input, self.mean.val(), self.var.val(), BATCH_NORM_EPSILON)
    }
}

/// Gated linear unit (W₁ a + b₁) ∘ σ(W₂ a + b₂).
#[derive(Module, Debug)]
pub struct Glu<B: BurnBackend> {
    /// Value branch.
    pub w1: Linear<B>,
    /// Gate branch.
    pub w2: Linear<B>,
}

impl<B: BurnBackend> Glu<B> {
    fn tensors(&self) -> GatedUnitTensors<B> {
        GatedUnitTensors {
            weights: [self.w1.weight.val(), self.w2.weight.val()],
            biases: [self.w1.bias.val(), self.w2.bias.val()],
        }
    }
}

impl<B: BurnBackend> Glu<B> {
    fn init(hidden: usize, rng: &mut ChaCha8Rng, device: &B::Device) -> Self {
        Self {
            w1: Linear::init(hidden, hidden, rng, device),
            w2: Linear::init(hidden, hidden, rng, device),
        }
    }

    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let square = [hidden, hidden];
        Ok(Self {
            w1: Linear::load(tensors, &format!("{prefix}.w1"), square, device)?,
            w2: Linear::load(tensors, &format!("{prefix}.w2"), square, device)?,
        })
    }
}

/// What normalizes the input of a layer.
#[derive(Module, Debug)]
pub enum Norm<B: BurnBackend> {
    /// Over the batch and all steps.
    Batch(BatchNorm<B>),
    /// Over the channels of a step.
    Rms(RmsNorm<B>),
}

/// A layer and what stands around it: with a gated unit x + drop(GLU(drop(GELU(layer(norm(x)))))), without one
/// x + layer(norm(x)).
#[derive(Module, Debug)]
pub struct Block<B: BurnBackend> {
    /// Normalization of the block's input.
    pub norm: Norm<B>,
    /// What mixes steps.
    pub layer: Layer<B>,
    /// The gated unit, if there is one.
    pub unit: Option<Glu<B>>,
}

impl<B: Backend> Block<B> {
    /// Random weights.
    pub fn init(
        around: Surroundings,
        state: usize,
        settings: &LayerSettings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let hidden = around.hidden;
        let frame = settings.kind().frame();
        Self {
            norm: match frame {
                Frame::Gated => Norm::Batch(BatchNorm::init(hidden, device)),
                Frame::Residual => Norm::Rms(RmsNorm::init(hidden, device)),
            },
            layer: Layer::init(around, state, settings, rng, device),
            unit: (frame == Frame::Gated).then(|| Glu::init(hidden, rng, device)),
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        shape: &LayerShape,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let path = |name: &str| format!("{prefix}.{name}");
        let (kind, norm) = (shape.kind(), path(NORM));
        let norm = match kind.frame() {
            Frame::Gated => Norm::Batch(BatchNorm::load(tensors, &norm, hidden, device)?),
            Frame::Residual => Norm::Rms(RmsNorm::load(tensors, &norm, hidden, device)?),
        };
        let layer = Layer::load(tensors, &path(kind.name()), hidden, shape, device)?;
        let unit = match kind.frame() {
            Frame::Gated => Some(Glu::load(tensors, &path(UNIT), hidden, device)?),
            Frame::Residual => None,
        };
        Ok(Self { norm, layer, unit })
    }

    /// What goes into the layer in evaluation.
    pub(crate) fn normalized(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.norm {
            Norm::Batch(norm) => norm.forward(input),
            Norm::Rms(norm) => norm.forward(input),
        }
    }

    /// What comes out of the block, given what goes into it and what that is normalized.
    fn around(
        &self,
        input: Tensor<B, 3>,
        normalized: Tensor<B, 3>,
        dropout: Option<Dropout>,
    ) -> Tensor<B, 3> {
        let mixed = self.layer.forward(normalized);
        match &self.unit {
            Some(unit) => gated_unit(mixed, input, unit.tensors(), dropout),
            None => input + mixed,
        }
    }

    /// Evaluation: running statistics, no dropout.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        let normalized = self.normalized(input.clone());
        self.around(input, normalized, None)
    }

    /// Training: batch statistics (returned where there are any) and dropout.
    pub fn forward_train(
        &self,
        input: Tensor<B, 3>,
        dropout: Option<Dropout>,
    ) -> (Tensor<B, 3>, Option<Statistics<B>>) {
        let (normalized, statistics) = match &self.norm {
            Norm::Batch(_) => {
                let (normalized, mean, var) = batch_norm(input.clone(), BATCH_NORM_EPSILON);
                (normalized, Some((mean, var)))
            }
            Norm::Rms(norm) => (norm.forward(input.clone()), None),
        };
        (self.around(input, normalized, dropout), statistics)
    }

    /// Moves the running statistics of the normalization towards those of a batch.
    pub fn update_statistics(&mut self, statistics: Option<Statistics<B>>) {
        if let (Norm::Batch(norm), Some(statistics)) = (&mut self.norm, statistics) {
            norm.update(statistics);
        }
    }
}

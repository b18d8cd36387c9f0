//! One residual block: normalization, recurrence, gated unit, skip connection.

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
    linear::Linear,
    lru::{Lru, LruInit},
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

/// x + drop(GLU(drop(GELU(LRU(norm(x)))))).
#[derive(Module, Debug)]
pub struct Block<B: BurnBackend> {
    /// Normalization of the block's input.
    pub norm: BatchNorm<B>,
    /// The recurrence.
    pub lru: Lru<B>,
    /// The gated unit.
    pub glu: Glu<B>,
}

impl<B: BurnBackend> Block<B> {
    pub(crate) fn init(
        state: usize,
        hidden: usize,
        init: LruInit,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        Self {
            norm: BatchNorm::init(hidden, device),
            lru: Lru::init(state, hidden, init, rng, device),
            glu: Glu {
                w1: Linear::init(hidden, hidden, rng, device),
                w2: Linear::init(hidden, hidden, rng, device),
            },
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        [state, hidden]: [usize; 2],
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let square = [hidden, hidden];
        Ok(Self {
            norm: BatchNorm::load(tensors, &format!("{prefix}.norm"), hidden, device)?,
            lru: Lru::load(tensors, &format!("{prefix}.lru"), [state, hidden], device)?,
            glu: Glu {
                w1: Linear::load(tensors, &format!("{prefix}.glu.w1"), square, device)?,
                w2: Linear::load(tensors, &format!("{prefix}.glu.w2"), square, device)?,
            },
        })
    }

    /// Moves the running statistics of the normalization towards those of a batch.
    pub fn update_statistics(&mut self, statistics: Statistics<B>) {
        self.norm.update(statistics);
    }
}

impl<B: Backend> Block<B> {
    /// What goes into the recurrence in evaluation.
    pub(crate) fn normalized(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        self.norm.forward(input)
    }

    /// Evaluation: running statistics, no dropout.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        let normalized = self.normalized(input.clone());
        gated_unit(
            self.lru.forward(normalized),
            input,
            self.glu.tensors(),
            None,
        )
    }

    /// Training: batch statistics (returned) and dropout.
    pub fn forward_train(
        &self,
        input: Tensor<B, 3>,
        dropout: Option<Dropout>,
    ) -> (Tensor<B, 3>, Statistics<B>) {
        let (normalized, mean, var) = batch_norm(input.clone(), BATCH_NORM_EPSILON);
        let output = gated_unit(
            self.lru.forward(normalized),
            input,
            self.glu.tensors(),
            dropout,
        );
        (output, (mean, var))
    }
}

//! One optimizer step: what a run repeats, and what `cargo xtask bench step` times.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use ssm_core::{Dropout, Model, TrainingBackend};

use crate::data::Batch;
use crate::evaluate::{correct, cross_entropy};
use crate::optimizer::{AdamW, LearningRates};

/// What a step leaves besides the new weights, still on the device.
#[derive(Debug, Clone)]
pub struct StepOutcome<B: AutodiffBackend> {
    /// Mean cross-entropy of the batch before the update, `[1]`.
    pub loss: Tensor<B::InnerBackend, 1>,
    /// Number of answers whose largest logit was the right one, `[1]`.
    pub hits: Tensor<B::InnerBackend, 1, Int>,
}

/// Forward, loss, backward, AdamW and running statistics on one batch.
pub fn train_step<B: TrainingBackend>(
    model: &mut Model<B>,
    optimizer: &mut AdamW<B>,
    batch: Batch<B>,
    dropout: Option<Dropout>,
    rates: LearningRates,
) -> StepOutcome<B> {
    let (logits, statistics) = model.forward_train(batch.input, batch.readout, dropout);
    let hits = correct(logits.clone().inner(), batch.labels.clone().inner());
    let loss = cross_entropy(logits, batch.labels);
    let mut gradients = loss.backward();
    *model = optimizer.step(rates, model.clone(), &mut gradients);
    model.update_statistics(statistics);
    StepOutcome {
        loss: loss.inner(),
        hits,
    }
}

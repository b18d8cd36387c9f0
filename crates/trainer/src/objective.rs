//! What training makes smaller: the loss of a batch, and what is added to its gradient.

mod cross_entropy;
mod label_smoothing;
#[cfg(test)]
mod laws;

use std::fmt::Debug;

use burn::tensor::Tensor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ssm_core::{Model, OutOfRange, TrainingBackend};

pub use cross_entropy::{CrossEntropy, cross_entropy};
pub use label_smoothing::LabelSmoothing;

use crate::batch::Batch;
use crate::gradients::NamedGradients;

/// What an objective says of one batch.
#[derive(Debug, Clone)]
pub struct StepLoss<B: TrainingBackend> {
    /// What becomes smaller, `[1]`: a mean over the answers, so that batches of as many answers have as much of a say.
    pub loss: Tensor<B, 1>,
    /// Mean cross-entropy of the answers, `[1]`: what is written down, and compares with that of the validation set
    /// whatever the objective is.
    pub cross_entropy: Tensor<B::InnerBackend, 1>,
}

/// What training makes smaller.
pub trait Objective<B: TrainingBackend>: Debug {
    /// Loss of the logits `[answers, classes]` that the model gave for a batch.
    fn loss(&self, logits: Tensor<B, 2>, batch: &Batch<B>) -> StepLoss<B>;

    /// Adds the gradients of what depends on nothing but the parameters, such as a penalty: once for every update, after the
    /// backward passes of its batches and before a limit on the norm. Nothing by default.
    fn add_gradients(&self, _model: &Model<B>, _gradients: &mut NamedGradients<B::InnerBackend>) {}
}

/// Settings of an objective: its own table of a configuration, and what makes it.
pub trait ObjectiveSettings:
    Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned
{
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value beyond it.
    fn check(&self) -> Result<(), OutOfRange>;

    /// The objective with these settings.
    fn objective<B: TrainingBackend>(&self) -> Box<dyn Objective<B>>;
}

/// All objectives: the word in `training.objective`, which is the name of its table as well, and its settings.
macro_rules! with_objectives {
    ($callback:ident) => {
        $callback! {
            "cross-entropy" CrossEntropy cross_entropy,
            "label-smoothing" LabelSmoothing label_smoothing,
        }
    };
}
pub(crate) use with_objectives;

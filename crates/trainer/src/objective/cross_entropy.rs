//! Cross-entropy: how surprising the right answers are.

use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use ssm_core::{OutOfRange, TrainingBackend};

use super::{Objective, ObjectiveSettings, StepLoss};
use crate::batch::Batch;

/// Mean cross-entropy of logits `[answers, classes]`, from the log-softmax: finite wherever the logits are.
pub fn cross_entropy<B: BurnBackend>(
    logits: Tensor<B, 2>,
    labels: Tensor<B, 1, Int>,
) -> Tensor<B, 1> {
    of_log_probabilities(log_softmax(logits, 1), labels)
}

/// As [`cross_entropy`], of the logarithms of the probabilities `[answers, classes]`.
pub(super) fn of_log_probabilities<B: BurnBackend>(
    log_probabilities: Tensor<B, 2>,
    labels: Tensor<B, 1, Int>,
) -> Tensor<B, 1> {
    let right = labels.unsqueeze_dim(1);
    log_probabilities.gather(1, right).mean().neg()
}

/// The mean of -log p over the answers, with p the probability that the model gives the right class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {}

impl<B: TrainingBackend> Objective<B> for CrossEntropy {
    fn loss(&self, logits: Tensor<B, 2>, batch: &Batch<B>) -> StepLoss<B> {
        let loss = cross_entropy(logits, batch.labels.clone());
        StepLoss {
            cross_entropy: loss.clone().inner(),
            loss,
        }
    }
}

impl ObjectiveSettings for CrossEntropy {
    fn check(&self) -> Result<(), OutOfRange> {
        Ok(())
    }

    fn objective<B: TrainingBackend>(&self) -> Box<dyn Objective<B>> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use burn::tensor::ElementConversion;

    crate::objective::laws::objective_laws!(CrossEntropy {});

    #[test]
    fn the_loss_of_certain_and_hopeless_logits_is_finite() {
        let device = Default::default();
        let logits = Tensor::<Flex, 2>::from_floats([[0.0, 200.0], [0.0, 200.0]], &device);
        let labels = Tensor::<Flex, 1, Int>::from_ints([1, 0], &device);
        let loss: f64 = cross_entropy(logits, labels).into_scalar().elem();
        assert!((loss - 100.0).abs() < 1e-4, "{loss}");
    }
}

//! Cross-entropy against labels that leave some doubt, so that a model need not make its logits ever larger.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;
use serde::{Deserialize, Serialize};
use ssm_core::{OutOfRange, TrainingBackend};

use super::cross_entropy::of_log_probabilities;
use super::{Objective, ObjectiveSettings, StepLoss};
use crate::batch::Batch;

/// Cross-entropy with the share `epsilon` of every label spread evenly over all classes, the right one included:
/// the mean over the answers of -(1 - epsilon) log p - epsilon / classes · Σ log q, with p the probability of the right
/// class and q that of each.
///
/// # Source
/// Szegedy et al. (2016), section 7: `SVISW16`. The same as PyTorch's `cross_entropy(.., label_smoothing=epsilon)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelSmoothing {
    /// Share of a label that all classes have in common, in `[0, 1)`; 0 is plain cross-entropy.
    pub epsilon: f64,
}

impl Default for LabelSmoothing {
    fn default() -> Self {
        Self { epsilon: 0.1 }
    }
}

impl<B: TrainingBackend> Objective<B> for LabelSmoothing {
    fn loss(&self, logits: Tensor<B, 2>, batch: &Batch<B>) -> StepLoss<B> {
        let log_probabilities = log_softmax(logits, 1);
        let of_labels = of_log_probabilities(log_probabilities.clone(), batch.labels.clone());
        // Over answers and classes.
        let of_all = log_probabilities.mean().neg();
        StepLoss {
            cross_entropy: of_labels.clone().inner(),
            loss: of_labels * (1.0 - self.epsilon) + of_all * self.epsilon,
        }
    }
}

impl ObjectiveSettings for LabelSmoothing {
    fn check(&self) -> Result<(), OutOfRange> {
        if (0.0..1.0).contains(&self.epsilon) {
            return Ok(());
        }
        Err(OutOfRange {
            key: "epsilon",
            value: self.epsilon.to_string(),
            expected: "it is the share of a label that all classes have in common, at least 0 and below 1",
        })
    }

    fn objective<B: TrainingBackend>(&self) -> Box<dyn Objective<B>> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::laws::{objective_laws, scalar, some_batch, some_logits};

    objective_laws!(LabelSmoothing { epsilon: 0.1 });

    /// By the definition: cross-entropy against the smoothed labels.
    fn plain(logits: &[Vec<f64>], labels: &[usize], epsilon: f64) -> f64 {
        let of_answer = |(logits, label): (&Vec<f64>, &usize)| -> f64 {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let classes = logits.len();
            (0..classes)
                .map(|class| {
                    let right = if class == *label { 1.0 - epsilon } else { 0.0 };
                    let target = right + epsilon / classes as f64;
                    -target * (logits[class].exp() / sum).ln()
                })
                .sum()
        };
        logits.iter().zip(labels).map(of_answer).sum::<f64>() / labels.len() as f64
    }

    #[test]
    fn the_loss_is_the_cross_entropy_against_smoothed_labels() {
        let (logits, labels) = (some_logits(7, 5), [4, 0, 3, 3, 1, 2, 0]);
        for epsilon in [0.0, 0.1, 0.5, 0.99] {
            let want = plain(&logits, &labels, epsilon);
            let (logits, batch) = some_batch(&logits, &labels);
            let got = scalar(LabelSmoothing { epsilon }.loss(logits, &batch).loss.inner());
            // A few hundred operations in f64 on numbers around one.
            assert!((got - want).abs() < 1e-13, "{epsilon}: {got} {want}");
        }
    }

    #[test]
    fn without_smoothing_it_is_plain_cross_entropy() {
        let (logits, batch) = some_batch(&some_logits(4, 3), &[2, 1, 0, 0]);
        let StepLoss {
            loss,
            cross_entropy,
        } = LabelSmoothing { epsilon: 0.0 }.loss(logits, &batch);
        assert_eq!(scalar(loss.inner()), scalar(cross_entropy));
    }

    #[test]
    fn certainty_is_not_the_best_answer() {
        let smoothing = LabelSmoothing { epsilon: 0.1 };
        let loss = |margin: f64| {
            let (logits, batch) = some_batch(&[vec![margin, 0.0, 0.0]], &[0]);
            scalar(smoothing.loss(logits, &batch).loss.inner())
        };
        // The right class at 1 - epsilon + epsilon / 3, each other at epsilon / 3.
        let best = (0.9_f64 + 0.1 / 3.0).ln() - (0.1_f64 / 3.0).ln();
        for margin in [best - 0.5, best + 0.5, 100.0] {
            assert!(loss(best) < loss(margin), "{margin}");
        }
    }
}

//! What a run has gained, for a file and for a person.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bridge::Cut;

/// The content of `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Data set.
    pub dataset: String,
    /// Backend.
    pub backend: String,
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer steps taken.
    pub steps: u64,
    /// State dimension of every layer at the start.
    pub initial_state_dims: Vec<usize>,
    /// State dimension of every layer at the end.
    pub final_state_dims: Vec<usize>,
    /// Numbers in the model at the start: parameters and running statistics.
    pub initial_parameters: usize,
    /// Numbers in the model at the end.
    pub final_parameters: usize,
    /// Best accuracy on the validation set since the last cut, in `[0, 1]`: of the model that the run is about.
    pub best_val_accuracy: f64,
    /// Step of the best validation accuracy since the last cut.
    pub best_step: u64,
    /// State dimension of every layer at that step.
    #[serde(default)]
    pub best_state_dims: Vec<usize>,
    /// Accuracy on the test set with the weights of `best_step`, in `[0, 1]`.
    pub test_accuracy: f64,
    /// Mean cross-entropy on the test set with those weights, in nats.
    pub test_loss: f64,
    /// The best of all evaluations before the last cut, if there was a cut and one before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_last_cut: Option<Evaluated>,
    /// Wall-clock seconds of the training loop with its evaluations, cuts and checkpoints; over all resumptions.
    pub train_seconds: f64,
    /// Seconds spent in checks: spectra, truncations, optimizer state.
    pub check_seconds: f64,
    /// Median milliseconds of a training step before the first cut.
    pub median_step_ms_first: f64,
    /// Median milliseconds of a training step after the last cut.
    pub median_step_ms_last: f64,
    /// Every truncation, in order.
    pub cuts: Vec<Cut>,
    /// Those that were made, judged and taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverted_cuts: Vec<Cut>,
}

/// A model of the run, as it was at the best of some evaluations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// Optimizer steps taken.
    pub step: u64,
    /// State dimension of every layer.
    pub state_dims: Vec<usize>,
    /// Accuracy on the validation set, in `[0, 1]`.
    pub val_accuracy: f64,
    /// Accuracy on the test set, in `[0, 1]`.
    pub test_accuracy: f64,
    /// Mean cross-entropy on the test set, in nats.
    pub test_loss: f64,
}

fn dims(dims: &[usize]) -> String {
    let words: Vec<String> = dims.iter().map(usize::to_string).collect();
    words.join(" ")
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cuts.is_empty() && self.reverted_cuts.is_empty() {
            writeln!(f, "cuts: none")?;
        } else {
            writeln!(f, "cuts:")?;
            writeln!(
                f,
                "{:>8}  {:>5}  {:>5}  {:>5}  {:>9}  {:>9}  {:>8}",
                "step", "layer", "from", "to", "discarded", "bound", "seconds"
            )?;
        }
        let kept = self.cuts.iter().map(|cut| (cut, ""));
        let reverted = self.reverted_cuts.iter().map(|cut| (cut, "  taken back"));
        for (cut, fate) in kept.chain(reverted) {
            writeln!(
                f,
                "{:>8}  {:>5}  {:>5}  {:>5}  {:>7.2} %  {:>9}  {:>8.3}{fate}",
                cut.step,
                cut.layer,
                cut.from,
                cut.to,
                100.0 * cut.discarded,
                cut.bound
                    .map_or("-".to_owned(), |bound| format!("{bound:.2e}")),
                cut.seconds
            )?;
        }
        let speedup = self.median_step_ms_first / self.median_step_ms_last;
        writeln!(f, "summary:")?;
        writeln!(f, "  data set             {}", self.dataset)?;
        writeln!(f, "  steps                {}", self.steps)?;
        writeln!(
            f,
            "  state dims           {} -> {}",
            dims(&self.initial_state_dims),
            dims(&self.final_state_dims)
        )?;
        writeln!(
            f,
            "  parameters           {} -> {}",
            self.initial_parameters, self.final_parameters
        )?;
        writeln!(
            f,
            "  median step          {:.2} ms -> {:.2} ms ({speedup:.1} times faster)",
            self.median_step_ms_first, self.median_step_ms_last
        )?;
        writeln!(
            f,
            "  training             {:.1} s, of which checks and cuts {:.2} s",
            self.train_seconds, self.check_seconds
        )?;
        writeln!(
            f,
            "  validation accuracy  {:.2} % (best with state {}, at step {})",
            100.0 * self.best_val_accuracy,
            dims(&self.best_state_dims),
            self.best_step
        )?;
        write!(
            f,
            "  test accuracy        {:.2} % (at that step)",
            100.0 * self.test_accuracy
        )?;
        if let Some(before) = &self.before_last_cut {
            write!(
                f,
                "\n  before the last cut  {:.2} % validation, {:.2} % test (best with state {}, at step {})",
                100.0 * before.val_accuracy,
                100.0 * before.test_accuracy,
                dims(&before.state_dims),
                before.step
            )?;
        }
        Ok(())
    }
}

//! What a run consists of between two steps, new or out of a checkpoint.

use burn::module::Module;
use compress_schedule::{ParameterCount, Schedule};
use datasets::Dataset;
use serde::{Deserialize, Serialize};
use ssm_core::{Model, NamedTensors, TrainingBackend};

use super::TrainError;
use crate::bridge::Cut;
use crate::checkpoint::{self, Checkpoint, CheckpointError, model_metadata};
use crate::config::Config;
use crate::files::remove_if_there;
use crate::model;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::run_dir::RunDir;
use crate::step_times::StepTimes;
use crate::weights::write_tensors;

/// Where a run is: with weights and optimizer, all that a checkpoint needs to hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Steps taken.
    pub step: u64,
    pub schedule: Schedule,
    pub initial_state_dims: Vec<usize>,
    pub initial_parameters: usize,
    /// Those that stayed.
    pub cuts: Vec<Cut>,
    /// Those that were taken back.
    pub reverted_cuts: Vec<Cut>,
    /// Of the evaluations since the last cut.
    pub best: Option<Best>,
    /// Of the evaluations before the last cut.
    #[serde(default)]
    pub best_before_cut: Option<Best>,
    /// Training loss and accuracy since the last evaluation.
    pub since_evaluation: Tally,
    pub step_times: StepTimes,
    pub train_seconds: f64,
    pub check_seconds: f64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Best {
    pub step: u64,
    pub accuracy: f64,
}

/// The weights that belong to [`Progress::best`] and [`Progress::best_before_cut`].
#[derive(Debug, Default)]
pub(super) struct BestWeights {
    pub since_cut: Option<NamedTensors>,
    pub before_cut: Option<NamedTensors>,
}

impl Progress {
    /// A cut makes another model, whose evaluations start anew: the best so far stands beside them, not among them.
    pub(super) fn retire_best(&mut self, weights: &mut BestWeights) {
        let (Some(best), tensors) = (self.best.take(), weights.since_cut.take()) else {
            return;
        };
        let earlier = self.best_before_cut;
        if earlier.is_none_or(|earlier| best.accuracy > earlier.accuracy) {
            self.best_before_cut = Some(best);
            weights.before_cut = tensors;
        }
    }

    /// Checkpoints of format version 2 hold the best of all evaluations: it may be from before the last cut.
    fn retire_best_of_a_larger_model(&mut self, weights: &mut BestWeights) {
        let last_cut = self.cuts.iter().map(|cut| cut.step).max();
        // A cut comes before the evaluation of its step.
        if let (Some(best), Some(cut)) = (self.best, last_cut)
            && best.step < cut
        {
            self.retire_best(weights);
        }
    }
}

/// Sums over the answers to training examples.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub steps: u64,
    pub loss: f64,
    pub correct: i64,
    #[serde(alias = "examples")]
    pub answers: i64,
}

/// What a run starts or goes on with.
pub(super) struct Restored<B: TrainingBackend> {
    pub model: Model<B>,
    pub optimizer: AdamW<B>,
    pub best: BestWeights,
    /// The model at the last snapshot of the spectra.
    pub snapshot: Option<Model<B::Inner>>,
    pub progress: Progress,
    /// Lines of earlier steps than this one are in the files already; at and after it, nothing is.
    pub written: u64,
}

fn optimizer_config(config: &Config) -> AdamWConfig {
    AdamWConfig {
        weight_decay: config.training.weight_decay,
    }
}

impl<B: TrainingBackend> Restored<B> {
    pub(super) fn fresh(
        config: &Config,
        data: &Dataset,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let model = model::init(&model::architecture(config, data.shape), config, device);
        let schedule = config.schedule()?;
        let (fixed, per_state) = parameters(&model);
        let count = ParameterCount {
            fixed,
            per_state: &per_state,
        };
        schedule
            .validate_target(&model.state_dims(), count)
            .map_err(TrainError::Compress)?;
        let progress = Progress {
            step: 0,
            schedule,
            initial_state_dims: model.state_dims(),
            initial_parameters: model.num_params(),
            cuts: Vec::new(),
            reverted_cuts: Vec::new(),
            best: None,
            best_before_cut: None,
            since_evaluation: Tally::default(),
            step_times: StepTimes::default(),
            train_seconds: 0.0,
            check_seconds: 0.0,
        };
        Ok(Self {
            model,
            optimizer: AdamW::new(optimizer_config(config)),
            best: BestWeights::default(),
            snapshot: None,
            progress,
            written: 0,
        })
    }

    pub(super) fn load(
        run: &RunDir,
        config: &Config,
        data: &Dataset,
        device: &B::Device,
    ) -> Result<Self, TrainError> {
        let path = match run.checkpoints().latest() {
            // Killed before its first checkpoint: nothing was trained yet.
            Err(CheckpointError::NoCheckpoint { .. }) => {
                return Self::fresh(config, data, device);
            }
            path => path.map_err(TrainError::Resume)?,
        };
        let loaded: Checkpoint<Progress> = checkpoint::load(&path).map_err(TrainError::Resume)?;
        let mismatch = |mismatch| TrainError::ResumeMismatch {
            path: path.clone(),
            mismatch,
        };
        let model = Model::from_tensors(loaded.model, device).map_err(TrainError::ResumeWeights)?;
        let wanted = model::architecture(config, data.shape).sizes();
        if !model.sizes().equals_but_for_states(&wanted) {
            return Err(mismatch("the model has other sizes"));
        }
        let optimizer = AdamW::new(optimizer_config(config))
            .with_tensors(&loaded.optimizer, device)
            .ok_or_else(|| mismatch("the optimizer state is incomplete"))?;
        let snapshot = loaded
            .snapshot
            .map(|tensors| Model::from_tensors(tensors, device))
            .transpose()
            .map_err(TrainError::ResumeWeights)?;
        let mut progress = loaded.state;
        let mut best = BestWeights {
            since_cut: loaded.best,
            before_cut: loaded.best_before_cut,
        };
        for (score, weights) in [
            (progress.best, &best.since_cut),
            (progress.best_before_cut, &best.before_cut),
        ] {
            if score.is_some() != weights.is_some() {
                return Err(mismatch("the best weights are missing"));
            }
        }
        progress.retire_best_of_a_larger_model(&mut best);
        save_best(run, &best)?;
        // Before a check that is due, nothing of that step has been written.
        let due = progress.schedule.is_due(progress.step)?;
        Ok(Self {
            model,
            optimizer,
            best,
            snapshot,
            written: if due {
                progress.step
            } else {
                progress.step + 1
            },
            progress,
        })
    }
}

/// The numbers in a model that do not depend on its states, and what one state adds to them in each layer.
pub(super) fn parameters<B: TrainingBackend>(model: &Model<B>) -> (u64, Vec<u64>) {
    let per_state = model.parameters_per_state();
    let dims = model.state_dims();
    let in_states: usize = dims.iter().zip(&per_state).map(|(n, each)| n * each).sum();
    let fixed = (model.num_params() - in_states) as u64;
    (
        fixed,
        per_state.into_iter().map(|each| each as u64).collect(),
    )
}

/// Makes the files of the best weights what they are at this point of the run.
pub(super) fn save_best(run: &RunDir, best: &BestWeights) -> Result<(), TrainError> {
    for (path, weights) in [
        (run.best_weights(), &best.since_cut),
        (run.best_weights_before_cut(), &best.before_cut),
    ] {
        match weights {
            Some(weights) => write_tensors(&path, weights, model_metadata(weights))
                .map_err(TrainError::SaveWeights)?,
            None => remove_if_there(&path).map_err(TrainError::Write)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_core::NamedTensor;

    fn weights(value: f32) -> Option<NamedTensors> {
        let tensor = NamedTensor {
            shape: vec![1],
            values: vec![value],
        };
        Some(NamedTensors([("w".to_owned(), tensor)].into()))
    }

    fn progress(cuts: &[u64]) -> Progress {
        let cut = |step: &u64| {
            serde_json::json!({
                "step": step, "layer": 0, "from": 4, "to": 3, "discarded": 0.1, "bound": 1.0,
                "measured": { "error": 0.0 }, "seconds": 0.1,
            })
        };
        let config = Config::default();
        serde_json::from_value(serde_json::json!({
            "step": 50,
            "schedule": config.schedule().unwrap(),
            "initial_state_dims": [4],
            "initial_parameters": 9,
            "cuts": cuts.iter().map(cut).collect::<Vec<_>>(),
            "reverted_cuts": [],
            "best": null,
            "since_evaluation": Tally::default(),
            "step_times": StepTimes::default(),
            "train_seconds": 0.0,
            "check_seconds": 0.0,
        }))
        .unwrap()
    }

    /// Evaluates models with these accuracies, with a cut after each of them.
    fn evaluated(accuracies: &[f64]) -> (Progress, BestWeights) {
        let (mut progress, mut best) = (progress(&[]), BestWeights::default());
        for (step, accuracy) in (1..).zip(accuracies) {
            progress.best = Some(Best {
                step,
                accuracy: *accuracy,
            });
            best.since_cut = weights(step as f32);
            progress.retire_best(&mut best);
            assert!(progress.best.is_none() && best.since_cut.is_none());
        }
        (progress, best)
    }

    #[test]
    fn the_best_before_the_last_cut_is_the_best_of_all_before_it() {
        for (accuracies, step) in [
            (&[0.7, 0.9, 0.8][..], 2),
            (&[0.9, 0.9], 1),
            (&[0.1, 0.2, 0.3], 3),
        ] {
            let (mut progress, mut best) = evaluated(accuracies);
            let before = progress.best_before_cut.unwrap();
            assert_eq!(before.step, step, "{accuracies:?}");
            assert_eq!(best.before_cut, weights(step as f32));
            // Two cuts without an evaluation between them lose nothing.
            progress.retire_best(&mut best);
            assert_eq!(progress.best_before_cut.unwrap().step, step);
            assert_eq!(best.before_cut, weights(step as f32));
        }
    }

    #[test]
    fn the_best_of_an_old_checkpoint_is_put_where_it_belongs() {
        for (cuts, step, stays) in [
            (&[][..], 20, true),
            (&[10, 20], 20, true),
            (&[10, 20], 15, false),
        ] {
            let (mut progress, mut best) = (progress(cuts), BestWeights::default());
            progress.best = Some(Best {
                step,
                accuracy: 0.5,
            });
            best.since_cut = weights(1.0);
            progress.retire_best_of_a_larger_model(&mut best);
            assert_eq!(progress.best.is_some(), stays, "{cuts:?} {step}");
            assert_eq!(best.since_cut.is_some(), stays);
            assert_eq!(progress.best_before_cut.is_some(), !stays);
            assert_eq!(best.before_cut.is_some(), !stays);
        }
    }
}

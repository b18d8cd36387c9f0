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
    pub best: Option<Best>,
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
    pub best: Option<NamedTensors>,
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
        let model = model::init(&model::sizes(config, data.shape), config, device);
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
            since_evaluation: Tally::default(),
            step_times: StepTimes::default(),
            train_seconds: 0.0,
            check_seconds: 0.0,
        };
        Ok(Self {
            model,
            optimizer: AdamW::new(optimizer_config(config)),
            best: None,
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
        let wanted = model::sizes(config, data.shape);
        if !model.config().equals_but_for_states(&wanted) {
            return Err(mismatch("the model has other sizes"));
        }
        let optimizer = AdamW::from_tensors(optimizer_config(config), &loaded.optimizer, device)
            .ok_or_else(|| mismatch("the optimizer state is incomplete"))?;
        let snapshot = loaded
            .snapshot
            .map(|tensors| Model::from_tensors(tensors, device))
            .transpose()
            .map_err(TrainError::ResumeWeights)?;
        let progress = loaded.state;
        if progress.best.is_some() != loaded.best.is_some() {
            return Err(mismatch("the best weights are missing"));
        }
        if let Some(best) = &loaded.best {
            save_best(run, best)?;
        }
        // Before a check that is due, nothing of that step has been written.
        let due = progress.schedule.is_due(progress.step)?;
        Ok(Self {
            model,
            optimizer,
            best: loaded.best,
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

/// Writes the weights of the best evaluation.
pub(super) fn save_best(run: &RunDir, best: &NamedTensors) -> Result<(), TrainError> {
    write_tensors(&run.best_weights(), best, model_metadata(best)).map_err(TrainError::SaveWeights)
}

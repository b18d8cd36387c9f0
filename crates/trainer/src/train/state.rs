//! What a run consists of between two steps, new or out of a checkpoint.

use burn::module::Module;
use compress_schedule::{ParameterCount, Schedule};
use datasets::{Content, Dataset};
use serde::{Deserialize, Serialize};
use ssm_core::{
    Classifier, ClassifierConfig, Encoder, LruInit, NamedTensors, Reducible, TrainingBackend,
};

use super::TrainError;
use crate::bridge::Cut;
use crate::checkpoint::{self, Checkpoint, CheckpointError, model_metadata};
use crate::config::Config;
use crate::optimizer::{AdamW, AdamWConfig};
use crate::run_dir::RunDir;
use crate::seeds::{Purpose, derive};
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
    pub model: Classifier<B>,
    pub optimizer: AdamW<B>,
    pub best: Option<NamedTensors>,
    /// The model at the last snapshot of the spectra.
    pub snapshot: Option<Classifier<B::Inner>>,
    pub progress: Progress,
    /// Lines of earlier steps than this one are in the files already; at and after it, nothing is.
    pub written: u64,
}

fn model_config(config: &Config, data: &Dataset) -> ClassifierConfig {
    ClassifierConfig {
        encoder: match data.shape.content {
            Content::Values => Encoder::Linear {
                channels: data.shape.channels,
            },
            Content::Tokens { vocabulary } => Encoder::Embedding { vocabulary },
        },
        hidden_dim: config.model.hidden_dim,
        state_dims: vec![config.model.state_dim; config.model.blocks],
        classes: data.shape.classes,
    }
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
        let model = &config.model;
        let init = LruInit {
            r_min: model.r_min,
            r_max: model.r_max,
            max_phase: model.max_phase,
        };
        let seed = derive(config.training.seed, Purpose::Weights);
        let model = Classifier::<B>::init(&model_config(config, data), init, seed, device);
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
        let model =
            Classifier::from_tensors(loaded.model, device).map_err(TrainError::ResumeWeights)?;
        let (found, wanted) = (model.config(), model_config(config, data));
        if (
            found.encoder,
            found.hidden_dim,
            found.classes,
            found.state_dims.len(),
        ) != (
            wanted.encoder,
            wanted.hidden_dim,
            wanted.classes,
            wanted.state_dims.len(),
        ) {
            return Err(mismatch("the model has other sizes"));
        }
        let optimizer = AdamW::from_tensors(optimizer_config(config), &loaded.optimizer, device)
            .ok_or_else(|| mismatch("the optimizer state is incomplete"))?;
        let snapshot = loaded
            .snapshot
            .map(|tensors| Classifier::from_tensors(tensors, device))
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
pub(super) fn parameters<B: TrainingBackend>(model: &Classifier<B>) -> (u64, Vec<u64>) {
    let (mut fixed, mut per_state) = (model.num_params() as u64, Vec::new());
    for layer in model.blocks.iter().map(|block| &block.lru) {
        let in_states = layer.num_params() - layer.D.dims()[0];
        fixed -= in_states as u64;
        per_state.push((in_states / layer.state_dim()) as u64);
    }
    (fixed, per_state)
}

/// Writes the weights of the best evaluation.
pub(super) fn save_best(run: &RunDir, best: &NamedTensors) -> Result<(), TrainError> {
    write_tensors(&run.best_weights(), best, model_metadata(best)).map_err(TrainError::SaveWeights)
}

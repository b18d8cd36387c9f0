//! Training: from a configuration or a run's folder to a run that is finished, or interrupted and ready to go on.

mod run;
pub(crate) mod state;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use compress_schedule::ScheduleError;
use datasets::DatasetError;
use ssm_core::{TrainingBackend, WeightsError};
use thiserror::Error;
use tracing::info;

use crate::backend::{BackendError, Job, dispatch};
use crate::batch::BatchOrder;
use crate::checkpoint::CheckpointError;
use crate::config::{Config, ConfigError};
use crate::data;
use crate::files::FileError;
use crate::progress::Reporter;
use crate::run_dir::{RunDir, RunDirError};
use crate::summary::Summary;
use crate::weights::WeightsFileError;
use run::Training;
use state::Restored;

/// Why a run did not start or did not finish.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The backend is not compiled in, or has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The configuration asks for a model that cannot be had.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data set cannot be loaded.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The run's folder cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A batch asks for more examples than there are.
    #[error(
        "`training.batch_size` = {batch_size} exceeds the {examples} training examples of {dataset}; lower it"
    )]
    BatchSize {
        /// Examples in a batch.
        batch_size: usize,
        /// Examples for training.
        examples: usize,
        /// The data set.
        dataset: String,
    },
    /// The compression that was asked for is impossible for this model.
    #[error("section `compress`: {0}")]
    Compress(#[source] ScheduleError),
    /// The checkpoint to go on from cannot be used.
    #[error("cannot resume: {0}")]
    Resume(#[source] CheckpointError),
    /// The checkpoint's weights are not a model.
    #[error("cannot resume: {0}")]
    ResumeWeights(#[source] WeightsError),
    /// The checkpoint belongs to another model, data set or optimizer.
    #[error("cannot resume: the checkpoint {} does not fit the run's configuration: {mismatch}", path.display())]
    ResumeMismatch {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        mismatch: &'static str,
    },
    /// The loss is not a number.
    #[error(
        "training diverged: the loss is {loss} after step {step}; lower `training.lr`; the checkpoints of this run are untouched"
    )]
    Diverged {
        /// Steps taken.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// A check and the schedule disagree; an error of this program.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A checkpoint cannot be written.
    #[error(transparent)]
    Save(CheckpointError),
    /// The best weights cannot be written.
    #[error(transparent)]
    SaveWeights(WeightsFileError),
    /// A result file cannot be written.
    #[error(transparent)]
    Write(FileError),
}

impl TrainError {
    /// Whether the run failed after it began, rather than being refused for what it was given.
    pub fn is_failed_run(&self) -> bool {
        matches!(
            self,
            Self::Diverged { .. }
                | Self::Schedule(_)
                | Self::Save(_)
                | Self::SaveWeights(_)
                | Self::Write(_)
        )
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// With its last step.
    Finished(Box<Summary>),
    /// Before, as it was asked to, with a checkpoint.
    Interrupted {
        /// Steps taken.
        step: u64,
        /// The run.
        folder: PathBuf,
    },
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished(summary) => summary.fmt(f),
            Self::Interrupted { step, folder } => write!(
                f,
                "interrupted after step {step}, with a checkpoint; go on by `train --resume {}`",
                folder.display()
            ),
        }
    }
}

/// Trains from the start, in a new folder.
pub fn train(config: &Config, output: &Path, quiet: bool) -> Result<Ending, TrainError> {
    let job = Start {
        config,
        from: From::Scratch { output },
        quiet,
    };
    dispatch(config.run.backend, job)?
}

/// Goes on with the run in `folder` from its newest checkpoint. `data_dir` says where the data are, if they have moved.
pub fn resume(folder: &Path, data_dir: Option<PathBuf>, quiet: bool) -> Result<Ending, TrainError> {
    let (run, mut config) = RunDir::open(folder)?;
    config.data.dir = data_dir.or(config.data.dir);
    let job = Start {
        config: &config,
        from: From::Checkpoint { run },
        quiet,
    };
    dispatch(config.run.backend, job)?
}

enum From<'a> {
    Scratch { output: &'a Path },
    Checkpoint { run: RunDir },
}

struct Start<'a> {
    config: &'a Config,
    from: From<'a>,
    quiet: bool,
}

impl Job for Start<'_> {
    type Output = Result<Ending, TrainError>;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> Self::Output {
        let config = self.config;
        let data = data::load(config)?;
        let (examples, batch_size) = (data.train.len(), config.training.batch_size);
        if batch_size > examples {
            return Err(TrainError::BatchSize {
                batch_size,
                examples,
                dataset: config.data.dataset.clone(),
            });
        }
        let (dir, restored) = match self.from {
            From::Scratch { output } => {
                let fresh = Restored::fresh(config, &data, device)?;
                (RunDir::create(output, config)?, fresh)
            }
            From::Checkpoint { run } => {
                let restored = Restored::load(&run, config, &data, device)?;
                (run, restored)
            }
        };
        let step = restored.progress.step;
        crate::events::log_to(&dir.events_log()).map_err(TrainError::Write)?;
        info!(step, folder = %dir.path().display(), "training");
        let reporter = Reporter::new(config.training.steps, self.quiet);
        reporter.event(&format!("run {}", dir.path().display()));
        reporter.resume_at(step);
        let training = Training::<B> {
            config,
            data: &data,
            device: device.clone(),
            metrics: dir.metrics(restored.written).map_err(TrainError::Write)?,
            hsv: dir.hsv(restored.written).map_err(TrainError::Write)?,
            order: BatchOrder::new(examples, batch_size, config.training.seed),
            objective: config.training.objective(),
            model: restored.model,
            optimizer: restored.optimizer,
            best: restored.best,
            snapshot: restored.snapshot,
            seconds_before: restored.progress.train_seconds,
            progress: restored.progress,
            began: Instant::now(),
            reporter,
            dir,
        };
        training.run()
    }
}

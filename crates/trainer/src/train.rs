//! The training loop: steps, checks, evaluations and checkpoints, each when it is due.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{ElementConversion, Int, Tensor};
use compress_schedule::{Decision, Schedule, ScheduleError};
use datasets::{Dataset, DatasetError, SequenceSet};
use serde::{Deserialize, Serialize};
use ssm_core::{
    Classifier, ClassifierConfig, Dropout, Encoder, LruInit, NamedTensors, TrainingBackend,
    WeightsError,
};
use thiserror::Error;
use tracing::{info, warn};

use crate::backend::{BackendError, Job, dispatch};
use crate::bridge::{self, Cut, LayerReport};
use crate::checkpoint::{self, Checkpoint, CheckpointError, model_metadata};
use crate::config::Config;
use crate::data::{self, BatchOrder};
use crate::evaluate::{Scores, evaluate};
use crate::files::{FileError, JsonLines, write_json};
use crate::learning_rate::learning_rate;
use crate::optimizer::{AdamW, AdamWConfig, LearningRates};
use crate::progress::Reporter;
use crate::run_dir::{RunDir, RunDirError};
use crate::seeds::{Purpose, derive};
use crate::step::{StepOutcome, train_step};
use crate::step_times::StepTimes;
use crate::summary::Summary;
use crate::weights::{WeightsFileError, write_tensors};

/// Steps between two looks at the loss: the only time the host waits for the device.
const WINDOW: u64 = 25;

/// Why a run did not start or did not finish.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The backend is not compiled in, or has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
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

/// Trains from the start, in a new folder.
pub fn train(config: &Config, output: &Path, quiet: bool) -> Result<Summary, TrainError> {
    let job = Start {
        config,
        from: From::Scratch { output },
        quiet,
    };
    dispatch(config.run.backend, job)?
}

/// Goes on with the run in `folder` from its newest checkpoint. `data_dir` says where the data are, if they have moved.
pub fn resume(
    folder: &Path,
    data_dir: Option<PathBuf>,
    quiet: bool,
) -> Result<Summary, TrainError> {
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
    type Output = Result<Summary, TrainError>;

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
            metrics: dir.metrics(step).map_err(TrainError::Write)?,
            hsv: dir.hsv(step).map_err(TrainError::Write)?,
            order: BatchOrder::new(examples, batch_size, config.training.seed),
            model: restored.model,
            optimizer: restored.optimizer,
            best: restored.best,
            seconds_before: restored.progress.train_seconds,
            progress: restored.progress,
            began: Instant::now(),
            reporter,
            dir,
        };
        training.run()
    }
}

/// Where a run is: with weights and optimizer, all that a checkpoint needs to hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Progress {
    /// Steps taken.
    step: u64,
    schedule: Schedule,
    initial_state_dims: Vec<usize>,
    initial_parameters: usize,
    cuts: Vec<Cut>,
    best: Option<Best>,
    /// Training loss and accuracy since the last evaluation.
    since_evaluation: Tally,
    step_times: StepTimes,
    train_seconds: f64,
    check_seconds: f64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Best {
    step: u64,
    accuracy: f64,
}

/// Sums over training examples.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    steps: u64,
    loss: f64,
    correct: i64,
    examples: i64,
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Serialize)]
struct Metrics {
    step: u64,
    train_loss: f64,
    train_accuracy: f64,
    val_loss: f64,
    val_accuracy: f64,
    learning_rate: f64,
    state_dims: Vec<usize>,
    /// Median milliseconds of a step since the last cut.
    step_ms: Option<f64>,
    /// Seconds of training so far.
    seconds: f64,
}

/// What a run starts with, new or from a checkpoint.
struct Restored<B: TrainingBackend> {
    model: Classifier<B>,
    optimizer: AdamW<B>,
    best: Option<NamedTensors>,
    progress: Progress,
}

fn model_config(config: &Config, data: &Dataset) -> ClassifierConfig {
    ClassifierConfig {
        encoder: Encoder::Linear {
            channels: data.shape.channels,
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
    fn fresh(config: &Config, data: &Dataset, device: &B::Device) -> Result<Self, TrainError> {
        let model = &config.model;
        let init = LruInit {
            r_min: model.r_min,
            r_max: model.r_max,
            max_phase: model.max_phase,
        };
        let seed = derive(config.training.seed, Purpose::Weights);
        let model = Classifier::<B>::init(&model_config(config, data), init, seed, device);
        let progress = Progress {
            step: 0,
            schedule: config.schedule()?,
            initial_state_dims: model.state_dims(),
            initial_parameters: model.num_params(),
            cuts: Vec::new(),
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
            progress,
        })
    }

    fn load(
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
        if loaded.state.best.is_some() != loaded.best.is_some() {
            return Err(mismatch("the best weights are missing"));
        }
        if let Some(best) = &loaded.best {
            save_best(run, best)?;
        }
        Ok(Self {
            model,
            optimizer,
            best: loaded.best,
            progress: loaded.state,
        })
    }
}

fn save_best(run: &RunDir, best: &NamedTensors) -> Result<(), TrainError> {
    write_tensors(&run.best_weights(), best, model_metadata(best)).map_err(TrainError::SaveWeights)
}

/// Losses and hits of a stretch of steps, still on the device.
struct Window<B: BurnBackend> {
    began: Instant,
    steps: u64,
    sums: Option<(Tensor<B, 1>, Tensor<B, 1, Int>)>,
}

impl<B: BurnBackend> Window<B> {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            steps: 0,
            sums: None,
        }
    }

    fn add(&mut self, loss: Tensor<B, 1>, hits: Tensor<B, 1, Int>) {
        self.steps += 1;
        self.sums = Some(match self.sums.take() {
            None => (loss, hits),
            Some((losses, all)) => (losses + loss, all + hits),
        });
    }
}

/// A run under way.
struct Training<'a, B: TrainingBackend> {
    config: &'a Config,
    data: &'a Dataset,
    device: B::Device,
    dir: RunDir,
    metrics: JsonLines,
    hsv: JsonLines,
    reporter: Reporter,
    order: BatchOrder,
    model: Classifier<B>,
    optimizer: AdamW<B>,
    best: Option<NamedTensors>,
    progress: Progress,
    /// Training time of earlier processes.
    seconds_before: f64,
    began: Instant,
}

impl<B: TrainingBackend> Training<'_, B> {
    fn run(mut self) -> Result<Summary, TrainError> {
        let training = &self.config.training;
        let steps = training.steps;
        if self.progress.step == 0 {
            self.save_checkpoint()?;
        }
        let mut window = Window::new();
        while self.progress.step < steps {
            let outcome = self.train_step();
            window.add(outcome.loss, outcome.hits);
            let step = self.progress.step;
            let every = |period: u64| step.is_multiple_of(period) || step == steps;
            let check = self.progress.schedule.is_due(step)?;
            let (evaluation, checkpoint) =
                (every(training.eval_every), every(training.checkpoint_every));
            if window.steps == WINDOW || check || evaluation || checkpoint {
                self.close_window(window)?;
                if check {
                    self.check()?;
                }
                if evaluation {
                    self.evaluate()?;
                }
                if checkpoint {
                    self.save_checkpoint()?;
                }
                window = Window::new();
            }
        }
        self.finish()
    }

    /// The next optimizer step.
    fn train_step(&mut self) -> StepOutcome<B> {
        let (config, step) = (self.config, self.progress.step);
        let batch = data::batch::<B>(&self.data.train, self.order.step(step), &self.device);
        let dropout = (config.model.dropout > 0.0).then(|| {
            let seed = derive(config.training.seed, Purpose::Dropout);
            let probability = config.model.dropout;
            Dropout { probability, seed }.stream(step)
        });
        let peak = config.training.lr;
        let rates = LearningRates {
            main: learning_rate(&config.training, peak, step),
            recurrent: learning_rate(&config.training, peak * config.training.ssm_lr_factor, step),
        };
        self.progress.step += 1;
        train_step(&mut self.model, &mut self.optimizer, batch, dropout, rates)
    }

    /// Waits for the device, takes the time and looks at the loss.
    fn close_window(&mut self, window: Window<B::InnerBackend>) -> Result<(), TrainError> {
        let Some((losses, hits)) = window.sums else {
            return Ok(());
        };
        let loss: f64 = losses.into_scalar().elem();
        let hits: i64 = hits.into_scalar().elem();
        self.progress
            .step_times
            .record(window.steps, window.began.elapsed());
        if !loss.is_finite() {
            return Err(TrainError::Diverged {
                step: self.progress.step,
                loss,
            });
        }
        let tally = &mut self.progress.since_evaluation;
        tally.steps += window.steps;
        tally.loss += loss;
        tally.correct += hits;
        tally.examples += (window.steps as usize * self.config.training.batch_size) as i64;
        let message = format!(
            "loss {:.3}  val {}  state {}",
            loss / window.steps as f64,
            match self.progress.best {
                Some(best) => format!("{:.1} %", 100.0 * best.accuracy),
                None => "-".to_owned(),
            },
            self.state_dims_text(),
        );
        self.reporter.advance(self.progress.step, message);
        Ok(())
    }

    fn state_dims_text(&self) -> String {
        let dims: Vec<String> = self
            .model
            .state_dims()
            .iter()
            .map(usize::to_string)
            .collect();
        dims.join("/")
    }

    /// The compression check that is due now.
    fn check(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        let reports = bridge::check(
            &mut self.model,
            &mut self.optimizer,
            &mut self.progress.schedule,
            self.progress.step,
            self.config.compress.optimizer_state,
        )?;
        let seconds = start.elapsed().as_secs_f64();
        self.progress.check_seconds += seconds;
        if reports.iter().any(|report| report.cut.is_some()) {
            self.progress.step_times.cut();
        }
        for report in reports {
            let line = event_line(&report);
            match &report.refusal {
                Some(_) => warn!("{line}"),
                None => info!("{line}"),
            }
            self.reporter.event(&line);
            self.hsv.push(&report).map_err(TrainError::Write)?;
            self.progress.cuts.extend(report.cut);
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    fn scores(&self, model: &Classifier<B::Inner>, set: &SequenceSet) -> Scores {
        evaluate(model, set, self.config.training.batch_size, &self.device)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let scores = self.scores(&self.model.valid(), &self.data.validation);
        let step = self.progress.step;
        if self
            .progress
            .best
            .is_none_or(|best| scores.accuracy > best.accuracy)
        {
            let tensors = self.model.to_tensors();
            save_best(&self.dir, &tensors)?;
            self.best = Some(tensors);
            self.progress.best = Some(Best {
                step,
                accuracy: scores.accuracy,
            });
        }
        let tally = std::mem::take(&mut self.progress.since_evaluation);
        let training = &self.config.training;
        let metrics = Metrics {
            step,
            train_loss: tally.loss / tally.steps as f64,
            train_accuracy: tally.correct as f64 / tally.examples as f64,
            val_loss: scores.loss,
            val_accuracy: scores.accuracy,
            learning_rate: learning_rate(training, training.lr, step - 1),
            state_dims: self.model.state_dims(),
            step_ms: self.progress.step_times.median_last(),
            seconds: self.seconds(),
        };
        let line = format!(
            "step {step}  loss {:.4}  train {:.2} %  val {:.2} %  state {}  {}  {:.0} s",
            metrics.train_loss,
            100.0 * metrics.train_accuracy,
            100.0 * metrics.val_accuracy,
            self.state_dims_text(),
            match metrics.step_ms {
                Some(ms) => format!("{ms:.1} ms/step"),
                None => "just cut".to_owned(),
            },
            metrics.seconds,
        );
        info!("{line}");
        self.reporter.event(&line);
        self.metrics.push(&metrics).map_err(TrainError::Write)
    }

    fn save_checkpoint(&mut self) -> Result<(), TrainError> {
        self.progress.train_seconds = self.seconds();
        let checkpoint = Checkpoint {
            model: self.model.to_tensors(),
            optimizer: self.optimizer.to_tensors(),
            best: self.best.clone(),
            state: &self.progress,
        };
        let step = self.progress.step;
        self.dir
            .checkpoints()
            .save(step, &checkpoint)
            .map_err(TrainError::Save)?;
        Ok(())
    }

    /// Tests the best weights and writes the summary.
    fn finish(self) -> Result<Summary, TrainError> {
        let train_seconds = self.seconds();
        let (best, tensors) = match (self.progress.best, &self.best) {
            (Some(best), Some(tensors)) => (best, tensors.clone()),
            _ => unreachable!("the last step is evaluated"),
        };
        let best_model = Classifier::<B::Inner>::from_tensors(tensors, &self.device)
            .expect("weights that were evaluated are finite and complete");
        let test = self.scores(&best_model, &self.data.test);
        let times = &self.progress.step_times;
        let summary = Summary {
            dataset: self.config.data.dataset.clone(),
            backend: self.config.run.backend.to_string(),
            seed: self.config.training.seed,
            steps: self.progress.step,
            initial_state_dims: self.progress.initial_state_dims.clone(),
            final_state_dims: self.model.state_dims(),
            initial_parameters: self.progress.initial_parameters,
            final_parameters: self.model.num_params(),
            best_val_accuracy: best.accuracy,
            best_step: best.step,
            test_accuracy: test.accuracy,
            test_loss: test.loss,
            train_seconds,
            check_seconds: self.progress.check_seconds,
            median_step_ms_first: times.median_first().unwrap_or_default(),
            median_step_ms_last: times.median_last().unwrap_or_default(),
            cuts: self.progress.cuts.clone(),
        };
        write_json(&self.dir.summary(), &summary).map_err(TrainError::Write)?;
        self.reporter.finish();
        info!(test_accuracy = summary.test_accuracy, "finished");
        Ok(summary)
    }
}

/// One line on what a check did to a layer.
fn event_line(report: &LayerReport) -> String {
    let (step, layer) = (report.step, report.layer);
    let start = format!("step {step}  layer {layer}  ");
    match (&report.cut, &report.refusal, &report.decision) {
        (Some(cut), ..) => format!(
            "{start}order {} -> {}  discarded {:.2} %  bound {:.2e}  {:.3} s",
            cut.from,
            cut.to,
            100.0 * cut.discarded,
            cut.bound,
            cut.seconds
        ),
        (None, Some(refusal), _) => {
            format!("{start}order {} kept  refused: {refusal}", report.state_dim)
        }
        (None, None, decision @ (Decision::Keep { .. } | Decision::Cut { .. })) => {
            format!("{start}{decision}")
        }
    }
}

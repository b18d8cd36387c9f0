//! The training loop: steps, checks, snapshots, evaluations and checkpoints, each when it is due.

use std::time::Instant;

use burn::module::{AutodiffModule, Module};
use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{Int, Tensor};
use compress_schedule::{Decision, LayerSpectrum, Observation, ParameterCount};
use datasets::{Dataset, SequenceSet};
use hsv::Selection as StateSelection;
use serde::Serialize;
use ssm_core::{Dropout, Method, Model, NamedTensors, TrainingBackend};
use tracing::{info, warn};

use super::state::{Best, BestWeights, Progress, parameters, save_best};
use super::{Ending, TrainError};
use crate::batch::{BatchOrder, batch};
use crate::bridge::{self, Calibration, Examined, LayerReport, Treatment};
use crate::checkpoint::{Checkpoint, Moment};
use crate::config::{Config, Selection, TrainingConfig};
use crate::evaluate::{Scores, evaluate};
use crate::files::{JsonLines, write_json};
use crate::interrupt;
use crate::learning_rate::learning_rate;
use crate::objective::Objective;
use crate::optimizer::{AdamW, LearningRates};
use crate::progress::Reporter;
use crate::run_dir::RunDir;
use crate::seeds::{Purpose, derive};
use crate::step::{Step, StepOutcome};
use crate::summary::{Evaluated, Summary};

/// Steps between two looks at the loss: the only time the host waits for the device.
const WINDOW: u64 = 25;

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

/// Losses and hits of a stretch of steps, still on the device.
struct Window<B: BurnBackend> {
    began: Instant,
    losses: Vec<Tensor<B, 1>>,
    hits: Vec<Tensor<B, 1, Int>>,
}

impl<B: BurnBackend> Window<B> {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            losses: Vec::new(),
            hits: Vec::new(),
        }
    }

    fn steps(&self) -> u64 {
        self.losses.len() as u64
    }

    fn add(&mut self, loss: Tensor<B, 1>, hits: Tensor<B, 1, Int>) {
        self.losses.push(loss);
        self.hits.push(hits);
    }
}

/// A run under way.
pub(super) struct Training<'a, B: TrainingBackend> {
    pub config: &'a Config,
    pub data: &'a Dataset,
    pub device: B::Device,
    pub dir: RunDir,
    pub metrics: JsonLines,
    pub hsv: JsonLines,
    pub reporter: Reporter,
    pub order: BatchOrder,
    pub objective: Box<dyn Objective<B>>,
    pub model: Model<B>,
    pub optimizer: AdamW<B>,
    pub best: BestWeights,
    /// The model at the last snapshot of the spectra.
    pub snapshot: Option<Model<B::Inner>>,
    pub progress: Progress,
    /// Training time of earlier processes.
    pub seconds_before: f64,
    pub began: Instant,
}

impl<B: TrainingBackend> Training<'_, B> {
    pub(super) fn run(mut self) -> Result<Ending, TrainError> {
        let steps = self.config.training.steps;
        if self.progress.step == 0 {
            if self.config.compress.snapshot_every > 0 {
                self.take_snapshot()?;
            }
            self.save_checkpoint(Moment::end(0))?;
        } else if self.progress.schedule.is_due(self.progress.step)? {
            // Resumed from right before a cut.
            self.after_step()?;
        }
        let mut window = Window::new();
        while self.progress.step < steps {
            let outcome = self.train_step();
            window.add(outcome.loss, outcome.hits);
            let interrupted = interrupt::requested();
            if window.steps() == WINDOW || interrupted || self.has_work()? {
                self.close_window(window)?;
                self.after_step()?;
                window = Window::new();
            }
            if interrupted && self.progress.step < steps {
                return self.stop();
            }
        }
        self.finish()
    }

    /// The next optimizer step, on the batches that are next.
    fn train_step(&mut self) -> StepOutcome<B> {
        let (config, step) = (self.config, self.progress.step);
        let TrainingConfig {
            accumulate,
            clip,
            lr,
            ssm_lr_factor,
            ..
        } = config.training;
        let probability = config.model.dropout;
        let seed = derive(config.training.seed, Purpose::Dropout);
        let dropout = (probability > 0.0).then_some(Dropout { probability, seed });
        let (order, train, device) = (&mut self.order, &self.data.train, &self.device);
        let first = step * accumulate;
        let batches = (first..first + accumulate).map(|number| {
            let batch = batch::<B>(train, order.step(number), device);
            (batch, dropout.map(|dropout| dropout.stream(number)))
        });
        let step = Step {
            objective: self.objective.as_ref(),
            clip,
            rates: LearningRates {
                main: learning_rate(&config.training, lr, step),
                recurrent: learning_rate(&config.training, lr * ssm_lr_factor, step),
            },
        };
        self.progress.step += 1;
        step.run(&mut self.model, &mut self.optimizer, batches)
    }

    /// Waits for the device, takes the time and looks at the losses.
    fn close_window(&mut self, window: Window<B::InnerBackend>) -> Result<(), TrainError> {
        let steps = window.steps();
        // Step by step in f64: the sum does not depend on where windows end, which an interruption moves.
        let losses: Vec<f64> = Tensor::cat(window.losses, 0).into_data().iter().collect();
        let hits: i64 = Tensor::cat(window.hits, 0).into_data().iter::<i64>().sum();
        let began = window.began;
        self.progress.step_times.record(steps, began.elapsed());
        if let Some(position) = losses.iter().position(|loss| !loss.is_finite()) {
            return Err(TrainError::Diverged {
                step: self.progress.step - steps + 1 + position as u64,
                loss: losses[position],
            });
        }
        let tally = &mut self.progress.since_evaluation;
        tally.steps += steps;
        for loss in &losses {
            tally.loss += loss;
        }
        tally.correct += hits;
        let training = &self.config.training;
        let answers = training.batch_size * self.data.shape.labels();
        tally.answers += (steps * training.accumulate) as i64 * answers as i64;
        let message = format!(
            "loss {:.3}  val {}  state {}",
            losses.iter().sum::<f64>() / steps as f64,
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
        let dims = self.model.state_dims();
        let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
        dims.join("/")
    }

    /// Whether this step is the last one or a multiple of `period`.
    fn is_every(&self, period: u64) -> bool {
        let step = self.progress.step;
        step.is_multiple_of(period) || step == self.config.training.steps
    }

    fn is_snapshot(&self) -> bool {
        let period = self.config.compress.snapshot_every;
        period > 0 && self.is_every(period)
    }

    fn has_work(&self) -> Result<bool, TrainError> {
        let training = &self.config.training;
        Ok(self.progress.schedule.is_due(self.progress.step)?
            || self.is_snapshot()
            || self.is_every(training.eval_every)
            || self.is_every(training.checkpoint_every))
    }

    /// What is due at this step, in the order in which a resumed run would do it.
    fn after_step(&mut self) -> Result<(), TrainError> {
        let step = self.progress.step;
        let training = &self.config.training;
        let evaluation = self.is_every(training.eval_every);
        let checkpoint = self.is_every(training.checkpoint_every);
        if self.progress.schedule.is_due(step)? {
            self.check()?;
        } else if self.is_snapshot() {
            self.take_snapshot()?;
        }
        if evaluation {
            self.evaluate()?;
        }
        if checkpoint {
            self.save_checkpoint(Moment::end(step))?;
        }
        Ok(())
    }

    fn treatment(&self) -> Treatment {
        let compress = &self.config.compress;
        let seed = derive(self.config.training.seed, Purpose::Selection);
        Treatment {
            method: Method {
                realization: compress.realization,
                reduction: compress.reduction,
                selection: match compress.selection {
                    Selection::Largest => StateSelection::Largest,
                    Selection::Smallest => StateSelection::Smallest,
                    Selection::Random => StateSelection::Random {
                        seed: seed.wrapping_add(self.progress.step),
                    },
                },
                estimate: compress.gramian,
            },
            optimizer_state: compress.optimizer_state,
        }
    }

    fn examine(&self) -> Vec<Examined> {
        let method = self.treatment().method;
        let (previous, calibration) = (self.snapshot.as_ref(), self.calibration());
        bridge::examine(&self.model, previous, &calibration, method)
    }

    /// Writes down the spectra between checks.
    fn take_snapshot(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        let step = self.progress.step;
        for (layer, examined) in self.examine().iter().enumerate() {
            let report = examined.report(step, layer);
            self.hsv.push(&report).map_err(TrainError::Write)?;
        }
        self.snapshot = Some(self.model.valid());
        self.progress.check_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Asks the schedule and does what it decides.
    fn check(&mut self) -> Result<(), TrainError> {
        let start = Instant::now();
        let step = self.progress.step;
        let examined = self.examine();
        let spectra: Vec<LayerSpectrum<'_>> = examined.iter().map(Examined::spectrum).collect();
        let (fixed, per_state) = parameters(&self.model);
        let observation = Observation {
            layers: &spectra,
            parameters: ParameterCount {
                fixed,
                per_state: &per_state,
            },
            step_ms: self.progress.step_times.median_last(),
        };
        // The schedule as it was belongs to the checkpoint before the cut.
        let mut schedule = self.progress.schedule.clone();
        let decisions = schedule.decide(step, &observation)?;
        if decisions.iter().any(Decision::is_cut) {
            self.save_checkpoint(Moment::before_cut(step))?;
        }
        let trial = schedule.needs_verdict().then(|| {
            let before = self.validate().accuracy;
            (before, self.model.clone(), self.optimizer.clone())
        });
        let (calibration, treatment) = (self.calibration(), self.treatment());
        let mut reports = bridge::carry_out(
            &mut self.model,
            &mut self.optimizer,
            step,
            examined.into_iter().zip(decisions).collect(),
            calibration,
            treatment,
        );
        for report in &reports {
            if report.refusal.is_some() && report.decision.as_ref().is_some_and(Decision::is_cut) {
                schedule.refused(report.layer);
            }
        }
        if let Some((before, model, optimizer)) = trial.filter(|_| schedule.needs_verdict()) {
            let verdict = schedule.judge(before, self.validate().accuracy)?;
            if verdict.reverted {
                (self.model, self.optimizer) = (model, optimizer);
            }
            for report in reports.iter_mut().filter(|report| report.cut.is_some()) {
                report.verdict = Some(verdict);
            }
        }
        self.progress.schedule = schedule;
        self.snapshot = Some(self.model.valid());
        self.progress.check_seconds += start.elapsed().as_secs_f64();
        self.write_down(reports)
    }

    fn write_down(&mut self, reports: Vec<LayerReport>) -> Result<(), TrainError> {
        let reverted = |report: &LayerReport| report.verdict.is_some_and(|v| v.reverted);
        if reports.iter().any(|r| r.cut.is_some() && !reverted(r)) {
            self.progress.step_times.cut();
            self.progress.retire_best(&mut self.best);
            save_best(&self.dir, &self.best)?;
        }
        for report in reports {
            let line = event_line(&report);
            match &report.refusal {
                Some(_) => warn!("{line}"),
                None => info!("{line}"),
            }
            self.reporter.event(&line);
            self.hsv.push(&report).map_err(TrainError::Write)?;
            let cuts = match reverted(&report) {
                true => &mut self.progress.reverted_cuts,
                false => &mut self.progress.cuts,
            };
            cuts.extend(report.cut);
        }
        Ok(())
    }

    /// The training examples that layers are tried on.
    fn calibration(&self) -> Calibration<B::Inner> {
        let (train, asked) = (&self.data.train, self.config.compress.calibration_examples);
        Calibration::of(batch(train, 0..asked.min(train.len()), &self.device))
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    fn scores(&self, model: &Model<B::Inner>, set: &SequenceSet) -> Scores {
        evaluate(model, set, self.config.training.batch_size, &self.device)
    }

    fn validate(&self) -> Scores {
        self.scores(&self.model.valid(), &self.data.validation)
    }

    /// Keeps the weights if no evaluation since the last cut was as good.
    fn keep_if_best(&mut self, scores: Scores) -> Result<(), TrainError> {
        let best = self.progress.best;
        if best.is_none_or(|best| scores.accuracy > best.accuracy) {
            self.best.since_cut = Some(self.model.to_tensors());
            save_best(&self.dir, &self.best)?;
            self.progress.best = Some(Best {
                step: self.progress.step,
                accuracy: scores.accuracy,
            });
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let scores = self.validate();
        let step = self.progress.step;
        self.keep_if_best(scores)?;
        let tally = std::mem::take(&mut self.progress.since_evaluation);
        let training = &self.config.training;
        let metrics = Metrics {
            step,
            train_loss: tally.loss / tally.steps as f64,
            train_accuracy: tally.correct as f64 / tally.answers as f64,
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

    fn save_checkpoint(&mut self, moment: Moment) -> Result<(), TrainError> {
        // What a resumed run takes for written must be.
        self.metrics.sync().map_err(TrainError::Write)?;
        self.hsv.sync().map_err(TrainError::Write)?;
        self.progress.train_seconds = self.seconds();
        let checkpoint = Checkpoint {
            model: self.model.to_tensors(),
            optimizer: self.optimizer.to_tensors(),
            best: self.best.since_cut.clone(),
            best_before_cut: self.best.before_cut.clone(),
            snapshot: self.snapshot.as_ref().map(Model::to_tensors),
            state: &self.progress,
        };
        let kept = self.config.training.keep_checkpoints;
        let saved = self.dir.checkpoints().save(moment, &checkpoint, kept);
        saved.map_err(TrainError::Save)?;
        Ok(())
    }

    /// Leaves a checkpoint for another day.
    fn stop(mut self) -> Result<Ending, TrainError> {
        let step = self.progress.step;
        self.save_checkpoint(Moment::end(step))?;
        self.reporter.finish();
        info!(step, "interrupted");
        Ok(Ending::Interrupted {
            step,
            folder: self.dir.path().to_path_buf(),
        })
    }

    /// Tests the best weights, validated with this accuracy at this step.
    fn result(&self, best: Best, weights: &NamedTensors) -> Result<Evaluated, TrainError> {
        // The step before an evaluation may have been one too far, and its loss is that of the weights before it.
        let model = Model::<B::Inner>::from_tensors(weights.clone(), &self.device);
        let model = model.map_err(|_| TrainError::Diverged {
            step: best.step,
            loss: f64::NAN,
        })?;
        let test = self.scores(&model, &self.data.test);
        Ok(Evaluated {
            step: best.step,
            state_dims: model.state_dims(),
            val_accuracy: best.accuracy,
            test_accuracy: test.accuracy,
            test_loss: test.loss,
        })
    }

    /// Tests the best weights and writes the summary.
    fn finish(mut self) -> Result<Ending, TrainError> {
        let train_seconds = self.seconds();
        if self.progress.best.is_none() {
            // The last step is evaluated. But a finished run of an earlier version may have kept nothing since its last cut.
            let scores = self.validate();
            self.keep_if_best(scores)?;
        }
        let tested = |best: Option<Best>, weights: &Option<NamedTensors>| {
            let (best, weights) = best.zip(weights.as_ref())?;
            Some(self.result(best, weights))
        };
        let best = tested(self.progress.best, &self.best.since_cut)
            .expect("a score has weights, and the last step has a score")?;
        let before_last_cut =
            tested(self.progress.best_before_cut, &self.best.before_cut).transpose()?;
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
            best_val_accuracy: best.val_accuracy,
            best_step: best.step,
            best_state_dims: best.state_dims,
            test_accuracy: best.test_accuracy,
            test_loss: best.test_loss,
            before_last_cut,
            train_seconds,
            check_seconds: self.progress.check_seconds,
            median_step_ms_first: times.median_first().unwrap_or_default(),
            median_step_ms_last: times.median_last().unwrap_or_default(),
            cuts: self.progress.cuts.clone(),
            reverted_cuts: self.progress.reverted_cuts.clone(),
        };
        write_json(&self.dir.summary(), &summary).map_err(TrainError::Write)?;
        self.reporter.finish();
        info!(test_accuracy = summary.test_accuracy, "finished");
        Ok(Ending::Finished(Box::new(summary)))
    }
}

/// One line on what a check did to a layer.
fn event_line(report: &LayerReport) -> String {
    let (step, layer) = (report.step, report.layer);
    let start = format!("step {step}  layer {layer}  ");
    let explanation = report.explanation.as_deref().unwrap_or_default();
    match (&report.cut, &report.refusal) {
        (Some(cut), _) => {
            let fate = match report.verdict {
                Some(verdict) => format!("  {verdict}"),
                None => String::new(),
            };
            format!(
                "{start}order {} -> {}  discarded {:.2} %{}  output error {}{:.2e}{}  {:.3} s{fate}",
                cut.from,
                cut.to,
                100.0 * cut.discarded,
                cut.bound
                    .map_or(String::new(), |bound| format!("  bound {bound:.2e}")),
                cut.measured
                    .relative
                    .map_or(String::new(), |share| format!("{:.2} %, ", 100.0 * share)),
                cut.measured.error,
                cut.measured
                    .allowed
                    .map_or(String::new(), |allowed| format!(" of {allowed:.2e}")),
                cut.seconds
            )
        }
        (None, Some(refusal)) => {
            format!("{start}order {} kept  refused: {refusal}", report.state_dim)
        }
        (None, None) => format!("{start}{explanation}"),
    }
}

//! Compression events: layers to systems, the ranking of their states, smaller layers back, optimizer state with them.
//!
//! [`examine`] ranks the states of every layer; [`carry_out`] does what the schedule decided. A layer is replaced
//! together with its optimizer state, or not at all: a system that cannot be reduced, and a smaller layer whose output
//! on a calibration batch is not within the bound, leave both as they were.

mod calibration;
mod error;
#[cfg(test)]
mod idle_states;
mod moments;
mod ranking;
pub(crate) mod selective;

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend as BurnBackend;
use compress_schedule::{Decision, Drift, LayerSpectrum, Verdict};
use hsv::{BalancedGramians, DiscreteDiagonalSystem, hankel_norm, spearman};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ssm_core::{Lru, Model, Reducible, Sequences, TrainingBackend};

use crate::config::{OptimizerState, Realization};
use crate::optimizer::AdamW;

pub use calibration::OutputError;
pub use error::CutError;
use moments::{Succession, keep_rows};
pub use ranking::Method;
use ranking::{Ranking, States, mode_scores};

/// One truncation that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Optimizer steps taken before it.
    pub step: u64,
    /// Index of the layer.
    pub layer: usize,
    /// States before.
    pub from: usize,
    /// States after.
    pub to: usize,
    /// Share of the sum of the Hankel singular values, or scores, that went, in `[0, 1)`; of the energies of all modes if
    /// other modes than the strongest were to stay.
    pub discarded: f64,
    /// Bounds the H-infinity error: twice the sum of the discarded Hankel singular values, or the sum of the largest gains
    /// of the discarded modes. `None` for a recurrence that depends on its input, which has no such bound.
    pub bound: Option<f64>,
    /// Error of the layer's output on a calibration batch, and what the bound allows there.
    pub measured: OutputError,
    /// Time from the layer's parameters to the smaller layer's, spectrum included.
    pub seconds: f64,
}

/// What a snapshot found in one layer, and a check did there: one line of `hsv.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Optimizer steps taken before.
    pub step: u64,
    /// Index of the layer.
    pub layer: usize,
    /// States before a cut.
    pub state_dim: usize,
    /// Hankel singular values, largest first; empty when the layer is not a valid system.
    pub hsv: Vec<f64>,
    /// Spearman's rank correlation of the modes' energies with those of the snapshot before.
    pub rank_correlation: Option<f64>,
    /// Norm of the change of the Hankel operator since the snapshot before.
    pub hankel_distance: Option<f64>,
    /// What the schedule decided, at a check.
    #[serde(flatten)]
    pub decision: Option<Decision>,
    /// The decision in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// The cut, if one happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// Why a layer has no spectrum or a decided cut did not happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// What became of the cut when the model was judged after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// What layers are tried on.
#[derive(Debug, Clone)]
pub struct Calibration<B: BurnBackend> {
    /// Some examples.
    pub input: Sequences<B>,
    /// Steps of each that are no padding.
    pub lengths: Vec<usize>,
}

/// What a reduction starts from.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per layer, and matrices hang on it"
)]
enum Basis {
    /// A linear system.
    Linear(Ranking),
    /// A score of every state index of a selective layer.
    Scores(Vec<f64>),
    /// The balanced states of every head.
    Heads(Vec<BalancedGramians>),
}

impl Basis {
    /// One value per state, largest first.
    fn values(&self) -> Vec<f64> {
        match self {
            Self::Linear(ranking) => ranking.values(),
            Self::Scores(scores) => selective::sorted(scores),
            Self::Heads(heads) => selective::sums(heads),
        }
    }
}

/// A layer's spectrum and what a reduction starts from.
#[derive(Debug)]
pub struct Examined {
    outcome: Result<Basis, CutError>,
    state_dim: usize,
    /// NaN when there is no spectrum: the schedule then leaves the layer alone.
    hsv: Vec<f64>,
    drift: Option<Drift>,
    seconds: f64,
}

impl Examined {
    /// As the schedule wants to see it.
    pub fn spectrum(&self) -> LayerSpectrum<'_> {
        LayerSpectrum {
            state_dim: self.state_dim,
            hsv: &self.hsv,
            drift: self.drift,
        }
    }

    /// The line of a snapshot.
    pub fn report(&self, step: u64, layer: usize) -> LayerReport {
        let distance = self.drift.map(|drift| drift.hankel_distance);
        LayerReport {
            step,
            layer,
            state_dim: self.state_dim,
            hsv: match &self.outcome {
                Ok(_) => self.hsv.clone(),
                Err(_) => Vec::new(),
            },
            rank_correlation: self.drift.and_then(|drift| drift.rank_correlation),
            hankel_distance: distance.filter(|distance| distance.is_finite()),
            decision: None,
            explanation: None,
            cut: None,
            refusal: self.outcome.as_ref().err().map(ToString::to_string),
            verdict: None,
        }
    }
}

/// Ranks the states of every layer. `previous` is the model at the snapshot before.
pub fn examine<B: TrainingBackend>(
    model: &Model<B>,
    previous: Option<&Model<B::InnerBackend>>,
    calibration: &Calibration<B::InnerBackend>,
    method: Method,
) -> Vec<Examined> {
    match (model, previous) {
        (Model::Lru(model), previous) => {
            let previous = match previous {
                Some(Model::Lru(previous)) => Some(previous),
                _ => None,
            };
            let blocks = model.blocks.par_iter().enumerate();
            blocks
                .map(|(index, block)| {
                    let previous = previous.map(|model| &model.blocks[index].lru);
                    examine_layer(&block.lru, previous, method)
                })
                .collect()
        }
        (Model::Mamba(model), previous) => {
            let previous = match previous {
                Some(Model::Mamba(previous)) => Some(previous),
                _ => None,
            };
            selective::examine(&model.valid(), previous, calibration, method)
        }
    }
}

fn examine_layer<B: TrainingBackend>(
    layer: &Lru<B>,
    previous: Option<&Lru<B::InnerBackend>>,
    method: Method,
) -> Examined {
    let start = Instant::now();
    let state_dim = layer.state_dim();
    let system = layer.to_system();
    let previous = previous
        .filter(|previous| previous.state_dim() == state_dim)
        .and_then(|previous| previous.to_system().ok());
    let (drift, outcome) = rayon::join(
        || match (&system, &previous) {
            (Ok(now), Some(before)) => drift(before, now, method.realization),
            _ => None,
        },
        || -> Result<Basis, CutError> {
            Ranking::of(system.clone()?, method.realization).map(Basis::Linear)
        },
    );
    let hsv = match &outcome {
        Ok(basis) => basis.values(),
        Err(_) => vec![f64::NAN; state_dim],
    };
    Examined {
        outcome,
        state_dim,
        hsv,
        drift,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// How far a layer has come from an earlier snapshot.
fn drift(
    before: &DiscreteDiagonalSystem,
    now: &DiscreteDiagonalSystem,
    realization: Realization,
) -> Option<Drift> {
    let difference = now.minus(before).ok()?;
    let hankel_distance = match realization {
        Realization::Complex => hankel_norm(&difference).ok()?,
        // Reported values are sums of two, each of which moves by at most the norm.
        Realization::Real => 2.0 * hankel_norm(&difference.real_part()).ok()?,
    };
    Some(Drift {
        rank_correlation: spearman(&mode_scores(before), &mode_scores(now)),
        hankel_distance,
    })
}

/// How decided cuts are carried out.
#[derive(Debug, Clone, Copy)]
pub struct Treatment {
    /// How the smaller systems are made.
    pub method: Method,
    /// What becomes of the optimizer's moments.
    pub optimizer_state: OptimizerState,
}

/// Does what the schedule decided at `step`, layer by layer. `calibration` is what smaller layers are tried on.
///
/// A layer that cannot be cut is left as it is, and its report says why.
pub fn carry_out<B: TrainingBackend>(
    model: &mut Model<B>,
    optimizer: &mut AdamW<B>,
    step: u64,
    decided: Vec<(Examined, Decision)>,
    calibration: Calibration<B::InnerBackend>,
    treatment: Treatment,
) -> Vec<LayerReport> {
    // Of the model as it is: a layer further up is tried on what it was ranked for.
    let inputs = match (decided.iter().any(|(_, d)| d.is_cut()), &*model) {
        (false, _) => Vec::new(),
        (true, Model::Lru(model)) => {
            let few = calibration::first_examples(calibration.input);
            model.valid().recurrence_inputs(few)
        }
        (true, Model::Mamba(model)) => model.valid().mixer_inputs(calibration.input),
    };
    let mut reports = Vec::with_capacity(decided.len());
    for (layer, (examined, decision)) in decided.into_iter().enumerate() {
        let mut report = examined.report(step, layer);
        report.decision = Some(decision);
        report.explanation = Some(decision.to_string());
        if let (Ok(basis), Decision::Cut { to, .. }) = (&examined.outcome, decision) {
            let start = Instant::now();
            let input = inputs[layer].clone();
            let outcome = match (&mut *model, basis) {
                (Model::Lru(model), Basis::Linear(ranking)) => {
                    let path = format!("blocks.{layer}.lru");
                    let lru = &mut model.blocks[layer].lru;
                    cut(
                        lru,
                        optimizer,
                        Place { path, input },
                        treatment,
                        ranking,
                        to,
                    )
                }
                (Model::Mamba(model), basis) => {
                    let path = format!("backbone.layers.{layer}.mixer");
                    let mixer = &mut model.backbone.layers[layer].mixer;
                    selective::cut(
                        mixer,
                        optimizer,
                        Place { path, input },
                        treatment,
                        basis,
                        to,
                    )
                }
                _ => unreachable!("what a layer was examined for is what it is"),
            };
            match outcome {
                Err(reason) => report.refusal = Some(reason.to_string()),
                Ok(outcome) => {
                    report.cut = Some(Cut {
                        step,
                        layer,
                        from: examined.state_dim,
                        to: model.state_dims()[layer],
                        discarded: outcome.discarded,
                        bound: outcome.bound,
                        measured: outcome.measured,
                        seconds: examined.seconds + start.elapsed().as_secs_f64(),
                    });
                }
            }
        }
        reports.push(report);
    }
    reports
}

/// Where a layer stands in the model.
struct Place<B: TrainingBackend> {
    path: String,
    /// Its input on the calibration batch.
    input: Tensor<B::InnerBackend, 3>,
}

struct Outcome {
    discarded: f64,
    bound: Option<f64>,
    measured: OutputError,
}

/// Replaces a layer and its optimizer state by their reduction to `order` states, or leaves both as they are.
fn cut<B: TrainingBackend>(
    layer: &mut Lru<B>,
    optimizer: &mut AdamW<B>,
    place: Place<B>,
    treatment: Treatment,
    ranking: &Ranking,
    order: usize,
) -> Result<Outcome, CutError> {
    let reduced = ranking.reduce(order, treatment.method)?;
    let smaller = match &reduced.states {
        States::Kept(kept) => layer.selected(kept),
        States::New(_) => layer.reduced(&reduced.system)?,
    };
    let distances = reduced.system.lambda().iter().map(|l| 1.0 - l.norm());
    let decay = distances.fold(f64::INFINITY, f64::min);
    let (before, after) = (layer.valid(), smaller.valid());
    let measured = calibration::output_error(place.input, &before, &after, reduced.bound, decay);
    measured.check()?;
    match &reduced.states {
        States::Kept(kept) => {
            let parts = layer.selection(kept);
            keep_rows(optimizer, &place.path, &parts, treatment.optimizer_state);
        }
        States::New(maps) => {
            let succession = Succession {
                path: &place.path,
                layer,
                smaller: &smaller,
                maps: maps.as_ref(),
            };
            succession.carry(optimizer, treatment.optimizer_state);
        }
    }
    *layer = smaller;
    Ok(Outcome {
        discarded: reduced.discarded,
        bound: Some(reduced.bound),
        measured,
    })
}

//! Compression events: the states of layers ranked, smaller layers in their place, optimizer state with them.
//!
//! [`examine`] ranks the states of every layer; [`carry_out`] does what the schedule decided. A layer is replaced
//! together with its optimizer state, or not at all: a layer that cannot be reduced, and a smaller one whose output
//! on a calibration batch is not within the bound, leave both as they were.

mod calibration;
mod error;
#[cfg(test)]
mod idle_states;
mod moments;

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use compress_schedule::{Decision, Drift, LayerSpectrum, Verdict};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ssm_core::{
    Backend, CompressionError, Layer, LayerBasis, Method, Model, Seen, TrainingBackend,
};

use crate::config::OptimizerState;
use crate::optimizer::AdamW;

pub use calibration::{Calibration, OutputError};
pub use error::CutError;

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

/// A layer's spectrum and what a reduction starts from.
#[derive(Debug)]
pub struct Examined {
    outcome: Result<LayerBasis, CompressionError>,
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
    previous: Option<&Model<B::Inner>>,
    calibration: &Calibration<B::Inner>,
    method: Method,
) -> Vec<Examined> {
    let now = View::of(model.valid(), calibration);
    let before = previous.map(|previous| View::of(previous.clone(), calibration));
    let layers = 0..now.model.blocks.len();
    layers
        .into_par_iter()
        .map(|index| {
            let start = Instant::now();
            let (layer, seen) = now.layer(index);
            let outcome = layer.rank(seen, method);
            let before = before.as_ref().map(|before| before.layer(index));
            let before = before.filter(|(before, _)| before.state_dim() == layer.state_dim());
            let drift = match (&outcome, before) {
                (Ok(basis), Some((before, seen))) => Layer::drift(basis, before, seen, method),
                _ => None,
            };
            let state_dim = layer.state_dim();
            Examined {
                state_dim,
                hsv: match &outcome {
                    Ok(basis) => basis.spectrum(),
                    Err(_) => vec![f64::NAN; state_dim],
                },
                outcome,
                drift: drift.map(|drift| Drift {
                    rank_correlation: drift.rank_correlation,
                    hankel_distance: drift.hankel_distance,
                }),
                seconds: start.elapsed().as_secs_f64(),
            }
        })
        .collect()
}

/// A model, and what goes into its layers on calibration data if they are ranked on it.
struct View<B: Backend> {
    model: Model<B>,
    seen: Option<Vec<Seen<B>>>,
}

impl<B: Backend> View<B> {
    fn of(model: Model<B>, calibration: &Calibration<B>) -> Self {
        let seen = model
            .kind()
            .is_ranked_on_data()
            .then(|| calibration.seen(&model));
        Self { model, seen }
    }

    fn layer(&self, index: usize) -> (&Layer<B>, Option<&Seen<B>>) {
        let seen = self.seen.as_ref().map(|seen| &seen[index]);
        (&self.model.blocks[index].layer, seen)
    }
}

/// How decided cuts are carried out.
#[derive(Debug, Clone, Copy)]
pub struct Treatment {
    /// How the smaller layers are made.
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
    calibration: Calibration<B::Inner>,
    treatment: Treatment,
) -> Vec<LayerReport> {
    // Of the model as it is: a layer further up is tried on what it was ranked for.
    let inputs = match decided.iter().any(|(_, decision)| decision.is_cut()) {
        false => Vec::new(),
        true => {
            let tried = match model.kind().is_ranked_on_data() {
                true => calibration,
                false => calibration.few(),
            };
            model.valid().layer_inputs(tried.input)
        }
    };
    let mut reports = Vec::with_capacity(decided.len());
    for (layer, (examined, decision)) in decided.into_iter().enumerate() {
        let mut report = examined.report(step, layer);
        report.decision = Some(decision);
        report.explanation = Some(decision.to_string());
        if let (Ok(basis), Decision::Cut { to, .. }) = (&examined.outcome, decision) {
            let start = Instant::now();
            let path = model.layer_path(layer);
            let place = &mut model.blocks[layer].layer;
            let input = &inputs[layer];
            match cut(place, optimizer, &path, input, treatment, basis, to) {
                Err(reason) => report.refusal = Some(reason.to_string()),
                Ok(outcome) => {
                    report.cut = Some(Cut {
                        step,
                        layer,
                        from: examined.state_dim,
                        to: place.state_dim(),
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

struct Outcome {
    discarded: f64,
    bound: Option<f64>,
    measured: OutputError,
}

/// Replaces a layer and what the optimizer knows of it by a reduction to `order` states, or leaves both as they are.
fn cut<B: TrainingBackend>(
    layer: &mut Layer<B>,
    optimizer: &mut AdamW<B>,
    path: &str,
    input: &Tensor<B::Inner, 3>,
    treatment: Treatment,
    basis: &LayerBasis,
    order: usize,
) -> Result<Outcome, CutError> {
    let reduced = layer.reduce(basis, order, treatment.method)?;
    let [before, after] =
        [&*layer, &reduced.layer].map(|layer| layer.valid().forward(input.clone()));
    let measured = OutputError::of(input.clone(), before, after, reduced.bound);
    measured.check()?;
    moments::carry(optimizer, path, reduced.carry, treatment.optimizer_state);
    *layer = reduced.layer;
    Ok(Outcome {
        discarded: reduced.discarded,
        bound: reduced.bound.map(|bound| bound.gain),
        measured,
    })
}

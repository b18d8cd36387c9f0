//! One compression event: layers to systems, the schedule's decision, smaller layers back, optimizer state with them.
//!
//! A layer is replaced together with its optimizer state, or not at all.

use std::time::Instant;

use burn::tensor::Tensor;
use compress_schedule::{Decision, LayerSpectrum, Schedule, ScheduleError};
use hsv::{DiagonalForm, DiscreteDiagonalSystem, HankelDecomposition, LinearSystem, Truncation};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ssm_core::{Classifier, GradientKind, Lru, LruGradient, Reducible, TrainingBackend};

use crate::config::OptimizerState;
use crate::optimizer::{AdamW, Moments};

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
    /// Share of the sum of the Hankel singular values that went, in `[0, 1)`.
    pub discarded: f64,
    /// Twice the sum of the discarded Hankel singular values: bounds the H-infinity error.
    pub bound: f64,
    /// Time from the layer's parameters to the smaller layer's, spectrum included.
    pub seconds: f64,
}

/// What a check found and did in one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Optimizer steps taken before the check.
    pub step: u64,
    /// Index of the layer.
    pub layer: usize,
    /// States before the check.
    pub state_dim: usize,
    /// Hankel singular values, largest first; empty when the layer is not a valid system.
    pub hsv: Vec<f64>,
    /// What the schedule decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// The cut, if one happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// Why a layer has no spectrum or a decided cut did not happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A layer's spectrum and what a truncation starts from.
struct Analysis {
    outcome: Result<Ranked, String>,
    state_dim: usize,
    /// NaN when there is no spectrum: the schedule then leaves the layer alone.
    hsv: Vec<f64>,
    seconds: f64,
}

fn analyze<B: TrainingBackend>(layer: &Lru<B>) -> Analysis {
    let start = Instant::now();
    let state_dim = layer.state_dim();
    let outcome = layer
        .to_system()
        .map_err(|e| e.to_string())
        .and_then(|system| system.hankel().map_err(|e| e.to_string()));
    let hsv = match &outcome {
        Ok(hankel) => hankel.singular_values().to_vec(),
        Err(_) => vec![f64::NAN; state_dim],
    };
    Analysis {
        outcome,
        state_dim,
        hsv,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Does the check that is due at `step`: ranks every layer, asks the schedule, cuts.
///
/// # Errors
/// [`ScheduleError`] when no check is due. A layer that cannot be cut is left as it is, and its report says why.
pub fn check<B: TrainingBackend>(
    model: &mut Classifier<B>,
    optimizer: &mut AdamW<B>,
    schedule: &mut Schedule,
    step: u64,
    treatment: OptimizerState,
) -> Result<Vec<LayerReport>, ScheduleError> {
    let analyses: Vec<Analysis> = model
        .blocks
        .par_iter()
        .map(|block| analyze(&block.lru))
        .collect();
    let spectra: Vec<LayerSpectrum<'_>> = analyses
        .iter()
        .map(|analysis| LayerSpectrum {
            state_dim: analysis.state_dim,
            hsv: &analysis.hsv,
        })
        .collect();
    let decisions = schedule.decide(step, &spectra)?;

    let mut reports = Vec::with_capacity(decisions.len());
    for (layer, (analysis, decision)) in analyses.into_iter().zip(decisions).enumerate() {
        let mut report = LayerReport {
            step,
            layer,
            state_dim: analysis.state_dim,
            hsv: Vec::new(),
            decision,
            cut: None,
            refusal: None,
        };
        match (analysis.outcome, decision) {
            (Err(reason), _) => report.refusal = Some(reason),
            (Ok(_), Decision::Keep { .. }) => report.hsv = analysis.hsv,
            (Ok(ranked), Decision::Cut { to, .. }) => {
                report.hsv = analysis.hsv;
                let start = Instant::now();
                let path = format!("blocks.{layer}.lru");
                let lru = &mut model.blocks[layer].lru;
                match cut(lru, optimizer, &path, treatment, &ranked, to) {
                    Err(reason) => report.refusal = Some(reason),
                    Ok(truncation) => {
                        report.cut = Some(Cut {
                            step,
                            layer,
                            from: analysis.state_dim,
                            to,
                            discarded: truncation.discarded_share(),
                            bound: truncation.h_infinity_bound(),
                            seconds: analysis.seconds + start.elapsed().as_secs_f64(),
                        });
                    }
                }
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// A layer as a system, and its Hankel singular values.
type Ranked = HankelDecomposition<DiscreteDiagonalSystem>;

/// Replaces a layer and its optimizer state by their truncation to `order`, or leaves both as they are.
fn cut<B: TrainingBackend>(
    layer: &mut Lru<B>,
    optimizer: &mut AdamW<B>,
    path: &str,
    treatment: OptimizerState,
    ranked: &Ranked,
    order: usize,
) -> Result<Truncation<DiscreteDiagonalSystem>, String> {
    let reduction = reduce(layer, ranked, order)?;
    carry_moments(optimizer, path, treatment, layer, &reduction);
    *layer = reduction.layer;
    Ok(reduction.truncation)
}

/// A smaller layer and how it came about.
struct Reduction<B: TrainingBackend> {
    layer: Lru<B>,
    truncation: Truncation<DiscreteDiagonalSystem>,
    diagonal: DiagonalForm,
}

fn reduce<B: TrainingBackend>(
    layer: &Lru<B>,
    hankel: &Ranked,
    order: usize,
) -> Result<Reduction<B>, String> {
    let truncation = hankel
        .balanced_truncation(order)
        .map_err(|e| e.to_string())?;
    let diagonal = truncation.diagonalize().map_err(|e| e.to_string())?;
    let layer = layer.reduced(&diagonal).map_err(|e| e.to_string())?;
    Ok(Reduction {
        layer,
        truncation,
        diagonal,
    })
}

/// The parameters whose shape a cut changes.
const STATE_PARAMETERS: [&str; 7] = [
    "nu_log",
    "theta_log",
    "gamma_log",
    "B_re",
    "B_im",
    "C_re",
    "C_im",
];

/// Brings the optimizer's moments of one layer into the basis of its smaller successor.
fn carry_moments<B: TrainingBackend>(
    optimizer: &mut AdamW<B>,
    path: &str,
    treatment: OptimizerState,
    layer: &Lru<B>,
    reduction: &Reduction<B>,
) {
    let names = STATE_PARAMETERS.map(|name| format!("{path}.{name}"));
    if treatment == OptimizerState::Reset {
        names.iter().for_each(|name| optimizer.reset(name));
        return;
    }
    let shift = |gradient: LruGradient, kind| {
        gradient.after_truncation(kind, layer, &reduction.layer, &reduction.diagonal)
    };
    for kind in [GradientKind::Gradient, GradientKind::Squared] {
        let Some(old) = gather(optimizer, &names, kind) else {
            // No gradient has reached this layer yet (its parameters are frozen): nothing to carry.
            return;
        };
        for (name, values) in names.iter().zip(fields(shift(old, kind))) {
            let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
            if let Some(moments) = optimizer.moments_mut(name) {
                let slot = slot(moments, kind);
                *slot = Tensor::from_floats(values.as_slice(), &slot.device());
            }
        }
    }
}

fn slot<B: burn::tensor::backend::Backend>(
    moments: &mut Moments<B>,
    kind: GradientKind,
) -> &mut Tensor<B, 1> {
    match kind {
        GradientKind::Gradient => &mut moments.first,
        GradientKind::Squared => &mut moments.second,
    }
}

fn gather<B: TrainingBackend>(
    optimizer: &mut AdamW<B>,
    names: &[String; 7],
    kind: GradientKind,
) -> Option<LruGradient> {
    let mut read = |name: &String| -> Option<Vec<f64>> {
        let moments = optimizer.moments_mut(name)?;
        Some(slot(moments, kind).to_data().iter().collect())
    };
    let [nu_log, theta_log, gamma_log, b_re, b_im, c_re, c_im] = names;
    Some(LruGradient {
        nu_log: read(nu_log)?,
        theta_log: read(theta_log)?,
        gamma_log: read(gamma_log)?,
        B_re: read(b_re)?,
        B_im: read(b_im)?,
        C_re: read(c_re)?,
        C_im: read(c_im)?,
    })
}

/// The fields in the order of [`STATE_PARAMETERS`].
fn fields(gradient: LruGradient) -> [Vec<f64>; 7] {
    [
        gradient.nu_log,
        gradient.theta_log,
        gradient.gamma_log,
        gradient.B_re,
        gradient.B_im,
        gradient.C_re,
        gradient.C_im,
    ]
}

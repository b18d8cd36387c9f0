//! Layers whose recurrence depends on the input: state indices scored on data, and removed as they are.
//!
//! States do not mix, so what stays of the layer and of its optimizer state is exactly what it was.

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use compress_schedule::Drift;
use hsv::{Selection, spearman};
use ssm_core::{Backend, GramianEstimate, KeptRows, Mamba, Mixer, TrainingBackend};

use super::calibration::{OutputError, rms};
use super::{Basis, Calibration, Examined, Outcome, Place, Treatment};
use crate::config::OptimizerState;
use crate::optimizer::AdamW;

/// Scores the state indices of every layer. `previous` is the model at the snapshot before.
pub(super) fn examine<B: Backend>(
    model: &Mamba<B>,
    previous: Option<&Mamba<B>>,
    calibration: &Calibration<B>,
    estimate: GramianEstimate,
) -> Vec<Examined> {
    let start = Instant::now();
    let before = previous.map(|previous| scores(previous, calibration, estimate));
    let now = scores(model, calibration, estimate);
    let seconds = start.elapsed().as_secs_f64() / now.len() as f64;
    now.into_iter()
        .enumerate()
        .map(|(layer, scores)| {
            let before = before.as_ref().map(|before| &before[layer]);
            let drift = before
                .filter(|before| before.len() == scores.len())
                .map(|before| drift(before, &scores));
            let is_valid = scores.iter().all(|score| score.is_finite());
            Examined {
                state_dim: scores.len(),
                hsv: match is_valid {
                    true => sorted(&scores),
                    false => vec![f64::NAN; scores.len()],
                },
                outcome: match is_valid {
                    true => Ok(Basis::Scores(scores)),
                    false => Err("the scores of its states are not finite numbers".to_owned()),
                },
                drift,
                seconds,
            }
        })
        .collect()
}

/// Scores of the state indices of every layer.
pub(crate) fn scores<B: Backend>(
    model: &Mamba<B>,
    calibration: &Calibration<B>,
    estimate: GramianEstimate,
) -> Vec<Vec<f64>> {
    let inputs = model.mixer_inputs(calibration.input.clone());
    let layers = model.backbone.layers.iter().zip(inputs);
    layers
        .map(|(layer, input)| {
            let mixer = &layer.mixer;
            mixer.state_scores(input, &calibration.lengths, estimate)
        })
        .collect()
}

/// Largest first.
pub(crate) fn sorted(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted
}

/// How far a layer has come: each state is scored by itself, so no score can move by more than the one that moved most.
fn drift(before: &[f64], now: &[f64]) -> Drift {
    let moves = before.iter().zip(now).map(|(a, b)| (a - b).abs());
    Drift {
        rank_correlation: spearman(before, now),
        hankel_distance: moves.fold(0.0, f64::max),
    }
}

/// Positions of the states that stay, in increasing order, and the share of all scores that goes.
fn choose(scores: &[f64], selection: Selection, order: usize) -> (Vec<usize>, f64) {
    let mut ranking: Vec<usize> = (0..scores.len()).collect();
    ranking.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    let places = selection.states(scores.len(), order).into_iter();
    let mut kept: Vec<usize> = places.map(|place| ranking[place]).collect();
    kept.sort_unstable();
    let sum = |states: &mut dyn Iterator<Item = usize>| states.map(|n| scores[n]).sum::<f64>();
    let all = sum(&mut (0..scores.len()));
    let gone = sum(&mut (0..scores.len()).filter(|n| kept.binary_search(n).is_err()));
    (kept, if gone > 0.0 { gone / all } else { 0.0 })
}

/// Removes all but `order` states of a layer, and what the optimizer knows of them, or leaves both as they are.
pub(super) fn cut<B: TrainingBackend>(
    mixer: &mut Mixer<B>,
    optimizer: &mut AdamW<B>,
    place: Place<B>,
    treatment: Treatment,
    scores: &[f64],
    order: usize,
) -> Result<Outcome, String> {
    let (kept, discarded) = choose(scores, treatment.method.selection, order);
    let smaller = mixer.selected(&kept);
    let output = |mixer: &Mixer<B>| -> Tensor<B::InnerBackend, 3> {
        mixer.valid().forward(place.input.clone())
    };
    let measured = OutputError {
        error: rms(output(&smaller) - output(mixer)),
        allowed: None,
    };
    measured.check()?;
    for part in mixer.selection(&kept) {
        carry(optimizer, &place.path, &part, treatment.optimizer_state);
    }
    *mixer = smaller;
    Ok(Outcome {
        discarded,
        bound: None,
        measured,
    })
}

/// The states that stay keep their basis, and with it their moments: transformed and sliced are the same here.
fn carry<B: TrainingBackend>(
    optimizer: &mut AdamW<B>,
    path: &str,
    part: &KeptRows,
    treatment: OptimizerState,
) {
    let name = format!("{path}.{}", part.name);
    match (treatment, optimizer.moments_mut(&name)) {
        (OptimizerState::Reset, _) => optimizer.reset(&name),
        (_, Some(moments)) => {
            moments.first = part.select(moments.first.clone());
            moments.second = part.select(moments.second.clone());
        }
        (_, None) => {}
    }
}

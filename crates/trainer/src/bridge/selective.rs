//! Layers whose recurrence depends on the input, ranked on data.
//!
//! State indices are scored and removed as they are: states do not mix, so what stays of the layer and of its optimizer
//! state is exactly what it was. Heads with one decay for all of their states (Mamba-2) can be balanced as well.

use std::time::Instant;

use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use compress_schedule::Drift;
use hsv::{BalancedGramians, Selection, spearman};
use ssm_core::{Backend, DualMixer, GramianEstimate, HeadBasis, Mamba, Mixer, TrainingBackend};

use super::calibration::OutputError;
use super::moments::keep_rows;
use super::{Basis, Calibration, CutError, Examined, Method, Outcome, Place, Treatment};
use crate::config::Reduction;
use crate::optimizer::AdamW;

/// Ranks the states of every layer. `previous` is the model at the snapshot before.
pub(super) fn examine<B: Backend>(
    model: &Mamba<B>,
    previous: Option<&Mamba<B>>,
    calibration: &Calibration<B>,
    method: Method,
) -> Vec<Examined> {
    let before = previous.map(|previous| scores(previous, calibration, method.estimate));
    let inputs = model.mixer_inputs(calibration.input.clone());
    let layers = model.backbone.layers.iter().zip(inputs).enumerate();
    layers
        .map(|(layer, (block, input))| {
            let start = Instant::now();
            let lengths = &calibration.lengths;
            let scores = block
                .mixer
                .state_scores(input.clone(), lengths, method.estimate);
            let before = before.as_ref().map(|before| &before[layer]);
            let drift = before
                .filter(|before| before.len() == scores.len())
                .map(|before| drift(before, &scores));
            let state_dim = scores.len();
            let outcome = match (&block.mixer, method.reduction) {
                _ if scores.iter().any(|score| !score.is_finite()) => {
                    Err(CutError::ScoresNotFinite)
                }
                (Mixer::Dual(mixer), Reduction::Balanced) => {
                    balance(mixer, input, lengths).map(Basis::Heads)
                }
                _ => Ok(Basis::Scores(scores)),
            };
            Examined {
                state_dim,
                hsv: match &outcome {
                    Ok(basis) => basis.values(),
                    Err(_) => vec![f64::NAN; state_dim],
                },
                outcome,
                drift,
                seconds: start.elapsed().as_secs_f64(),
            }
        })
        .collect()
}

fn balance<B: Backend>(
    mixer: &DualMixer<B>,
    input: Tensor<B, 3>,
    lengths: &[usize],
) -> Result<Vec<BalancedGramians>, CutError> {
    let heads = mixer.head_gramians(input, lengths).into_iter();
    heads
        .map(|head| Ok(head.in_basis(HeadBasis::Balanced)?))
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

/// One value per state, largest first: the sums of the Hankel singular values of all heads.
pub(super) fn sums(heads: &[BalancedGramians]) -> Vec<f64> {
    let states = heads[0].singular_values().len();
    let sum = |state: usize| heads.iter().map(|head| head.singular_values()[state]).sum();
    (0..states).map(sum).collect()
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

/// Leaves a layer `order` states and the optimizer what it knows of them, or leaves both as they are.
pub(super) fn cut<B: TrainingBackend>(
    mixer: &mut Mixer<B>,
    optimizer: &mut AdamW<B>,
    place: Place<B>,
    treatment: Treatment,
    basis: &Basis,
    order: usize,
) -> Result<Outcome, CutError> {
    let (smaller, kept, discarded) = match (basis, &*mixer) {
        (Basis::Heads(heads), Mixer::Dual(dual)) => {
            let projections: Vec<_> = heads.iter().map(|head| head.projections(order)).collect();
            let values = sums(heads);
            let gone: f64 = values[order..].iter().sum();
            let discarded = gone / values.iter().sum::<f64>();
            (Mixer::Dual(dual.balanced(&projections)), None, discarded)
        }
        (Basis::Scores(scores), mixer) => {
            let (kept, discarded) = choose(scores, treatment.method.selection, order);
            (mixer.selected(&kept), Some(kept), discarded)
        }
        _ => unreachable!("what a layer was examined for is what it is"),
    };
    let output = |mixer: &Mixer<B>| -> Tensor<B::InnerBackend, 3> {
        mixer.valid().forward(place.input.clone())
    };
    let measured = OutputError::between(output(mixer), output(&smaller));
    measured.check()?;
    match kept {
        Some(kept) => {
            let parts = mixer.selection(&kept);
            keep_rows(optimizer, &place.path, &parts, treatment.optimizer_state);
        }
        // The maps of the heads are new, or compositions of what the moments were of.
        None => {
            for map in ["key_map", "query_map"] {
                optimizer.reset(&format!("{}.{map}.weight", place.path));
            }
        }
    }
    *mixer = smaller;
    Ok(Outcome {
        discarded,
        bound: None,
        measured,
    })
}

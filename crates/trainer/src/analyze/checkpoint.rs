//! The spectra of the layers of a model.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use hsv::Selection;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use ssm_core::{Encoder, GramianEstimate, Method, Model, Realization, Reduction, Sequences};

use super::{AnalyzeError, ranks_at};
use crate::batch::batch;
use crate::bridge::Calibration;
use crate::checkpoint::resolve_weights;
use crate::data;
use crate::run_dir::RunDir;
use crate::weights::read_model;

/// Spectrum of one layer.
#[derive(Debug, Serialize)]
pub struct LayerSpectrum {
    /// Its index.
    pub layer: usize,
    /// States it has.
    pub state_dim: usize,
    /// Hankel singular values, largest first; of a selective layer, the scores of its state indices on data.
    pub hsv: Vec<f64>,
    /// Smallest order whose discarded share of Σσ is at most tau, by tau as it was written.
    pub rank_at_tau: BTreeMap<String, usize>,
}

/// What `analyze --checkpoint` prints.
#[derive(Debug, Serialize)]
pub struct CheckpointReport {
    /// The weights file that was read.
    pub weights: PathBuf,
    /// The data that selective layers were scored on: a data set, or `synthetic`. `None` for layers that need none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// One entry per layer.
    pub layers: Vec<LayerSpectrum>,
}

/// Analyzes every layer of a weights file, a checkpoint, a folder as the hubs publish it, or what a run has come to.
///
/// What the states of a selective layer matter depends on its input: that of a run's folder is the run's data set, with
/// its files in `data_dir` if that is given; anything else is scored on random input.
pub fn analyze_checkpoint(
    path: &Path,
    taus: &[String],
    data_dir: Option<PathBuf>,
) -> Result<CheckpointReport, AnalyzeError> {
    let weights = resolve_weights(path)?;
    let tensors = read_model(&weights)?;
    let model = Model::<Flex>::from_tensors(tensors, &Default::default()).map_err(|source| {
        AnalyzeError::Weights {
            path: weights.clone(),
            source,
        }
    })?;
    let (data, estimate, seen) = match model.kind().is_ranked_on_data() {
        false => (None, GramianEstimate::Empirical, None),
        true => {
            let encoder = model.encoder.sizes();
            let (data, estimate, calibration) = calibration(path, data_dir, encoder)?;
            (Some(data), estimate, Some(calibration.seen(&model)))
        }
    };
    let method = Method {
        realization: Realization::Complex,
        reduction: Reduction::Modal,
        selection: Selection::Largest,
        estimate,
    };
    let blocks = model.blocks.iter().enumerate();
    let layers = blocks.map(|(index, block)| {
        let seen = seen.as_ref().map(|seen| &seen[index]);
        let basis = block.layer.rank(seen, method);
        let basis = basis.map_err(|source| AnalyzeError::Layer {
            layer: index,
            source,
        })?;
        let hsv = basis.spectrum();
        Ok(LayerSpectrum {
            layer: index,
            state_dim: hsv.len(),
            rank_at_tau: ranks_at(&hsv, taus)?,
            hsv,
        })
    });
    let layers = layers.collect::<Result<_, AnalyzeError>>()?;
    Ok(CheckpointReport {
        weights,
        data,
        layers,
    })
}

/// Random sequences that a selective layer is scored on, and their length.
const SYNTHETIC: [usize; 2] = [8, 256];

/// The name of the data, how states are scored, and the data.
fn calibration(
    path: &Path,
    data_dir: Option<PathBuf>,
    encoder: Encoder,
) -> Result<(String, GramianEstimate, Calibration<Flex>), AnalyzeError> {
    let device = Default::default();
    if let Ok((_, mut config)) = RunDir::open(path) {
        config.data.dir = data_dir.or(config.data.dir);
        let train = data::load(&config)?.train;
        let examples = 0..config.compress.calibration_examples.min(train.len());
        let calibration = Calibration::of(batch(&train, examples, &device));
        let estimate = config.compress.gramian;
        return Ok((config.data.dataset, estimate, calibration));
    }
    let [count, length] = SYNTHETIC;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let input = match encoder {
        Encoder::Embedding { vocabulary } => {
            let last = i32::try_from(vocabulary - 1).unwrap_or(i32::MAX);
            let tokens: Vec<i32> = (0..count * length)
                .map(|_| rng.random_range(0..=last))
                .collect();
            let tokens = TensorData::new(tokens, [count, length]);
            Sequences::Tokens(Tensor::from_data(tokens, &device))
        }
        Encoder::Linear { channels } => {
            let values = (0..count * length * channels).map(|_| rng.random::<f32>());
            let values = TensorData::new(values.collect::<Vec<f32>>(), [count, length, channels]);
            Sequences::Features(Tensor::from_data(values, &device))
        }
    };
    let lengths = vec![length; count];
    let name = "synthetic".to_owned();
    Ok((
        name,
        GramianEstimate::Empirical,
        Calibration { input, lengths },
    ))
}

impl CheckpointReport {
    /// A table of orders, then the spectra.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        if let Some(data) = &self.data {
            let _ = writeln!(text, "states scored on: {data}");
        }
        let _ = write!(text, "layer  states    largest hsv   smallest hsv");
        if let Some(first) = self.layers.first() {
            for tau in first.rank_at_tau.keys() {
                let _ = write!(text, "  {:>10}", format!("tau {tau}"));
            }
        }
        for layer in &self.layers {
            let (largest, smallest) = (layer.hsv.first(), layer.hsv.last());
            let _ = write!(
                text,
                "\n{:>5}  {:>6}  {:>13.6e}  {:>13.6e}",
                layer.layer,
                layer.state_dim,
                largest.copied().unwrap_or_default(),
                smallest.copied().unwrap_or_default()
            );
            for rank in layer.rank_at_tau.values() {
                let _ = write!(text, "  {rank:>10}");
            }
        }
        for layer in &self.layers {
            let _ = write!(text, "\n\nlayer {} hsv:", layer.layer);
            for (index, sigma) in layer.hsv.iter().enumerate() {
                let separator = if index % 8 == 0 { "\n " } else { " " };
                let _ = write!(text, "{separator}{sigma:.6e}");
            }
        }
        text
    }
}

//! Hankel singular values, orders and reduced systems, of a system in a file or of every layer of a checkpoint.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use datasets::DatasetError;
use hsv::{
    DiscreteDiagonalSystem, HankelError, LinearSystem, Mat, SystemError, TruncationError, c64,
    order_for_tolerance,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use ssm_core::{
    Encoder, GramianEstimate, Lru, MambaConfig, Model, Reducible, ReductionError, Sequences,
    WeightsError,
};
use thiserror::Error;

use crate::bridge::{Calibration, selective};
use crate::checkpoint::{CheckpointError, resolve_weights};
use crate::data;
use crate::files::FileError;
use crate::run_dir::RunDir;
use crate::weights::{WeightsFileError, read_model};

/// Why there is no analysis.
#[derive(Debug, Error)]
pub enum AnalyzeError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a system.
    #[error("{} is not a system: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// The matrices do not fit together.
    #[error("row {row} of `{matrix}` has {found} entries, expected {expected}")]
    Ragged {
        /// `B` or `C`.
        matrix: &'static str,
        /// Index of the row.
        row: usize,
        /// Entries it has.
        found: usize,
        /// Entries of the first row, or states.
        expected: usize,
    },
    /// The data that a selective layer is to be scored on cannot be loaded.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// A selective layer gives no finite scores.
    #[error(
        "layer {layer}: the scores of its states are not finite numbers; the weights are damaged or training diverged"
    )]
    Scores {
        /// Its index.
        layer: usize,
    },
    /// The system is not valid.
    #[error(transparent)]
    System(#[from] SystemError),
    /// It has no Hankel singular values in `f64`.
    #[error(transparent)]
    Hankel(#[from] HankelError),
    /// A rank cannot be had.
    #[error("rank {rank}: {source}")]
    Truncation {
        /// The rank asked for.
        rank: usize,
        /// Why not.
        source: TruncationError,
    },
    /// A tolerance is out of range.
    #[error(
        "tau = {tau} is out of range: a share of the sum of the Hankel singular values, in [0, 1)"
    )]
    Tau {
        /// The tolerance, as written.
        tau: String,
    },
    /// There is no checkpoint where one was expected.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights cannot be read.
    #[error(transparent)]
    WeightsFile(#[from] WeightsFileError),
    /// The weights are not a model.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// A layer is not a valid system.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Its index.
        layer: usize,
        /// What is wrong.
        source: ReductionError,
    },
}

/// A complex number as `[re, im]`.
type Pair = [f64; 2];

/// The content of a system file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SystemFile {
    lambda: Vec<Pair>,
    #[serde(rename = "B")]
    input: Vec<Vec<Pair>>,
    #[serde(rename = "C")]
    output: Vec<Vec<Pair>>,
    /// As written: the answer is keyed by it.
    #[serde(default)]
    tau: Vec<Box<RawValue>>,
    #[serde(default)]
    ranks: Vec<usize>,
    #[serde(default)]
    omega: Vec<f64>,
}

/// What `analyze --system` prints.
#[derive(Debug, Serialize)]
pub struct SystemReport {
    /// Hankel singular values, largest first.
    pub hsv: Vec<f64>,
    /// Smallest order whose discarded share of Σσ is at most tau, by tau as it was written.
    pub rank_at_tau: BTreeMap<String, usize>,
    /// One truncation per rank asked for.
    pub reduced: Vec<ReducedReport>,
}

/// One balanced truncation.
#[derive(Debug, Serialize)]
pub struct ReducedReport {
    /// Its order.
    pub rank: usize,
    /// Twice the sum of the discarded Hankel singular values.
    pub bound: f64,
    /// Poles.
    pub lambda: Vec<Pair>,
    /// G_r(e^{iω}) for every ω, outputs by inputs.
    pub transfer: Vec<Vec<Vec<Pair>>>,
}

fn pair(z: c64) -> Pair {
    [z.re, z.im]
}

fn rows(matrix: &Mat<c64>) -> Vec<Vec<Pair>> {
    (0..matrix.nrows())
        .map(|i| (0..matrix.ncols()).map(|j| pair(matrix[(i, j)])).collect())
        .collect()
}

fn matrix(name: &'static str, rows: &[Vec<Pair>], cols: usize) -> Result<Mat<c64>, AnalyzeError> {
    let ragged = rows.iter().position(|row| row.len() != cols);
    if let Some(row) = ragged {
        return Err(AnalyzeError::Ragged {
            matrix: name,
            row,
            found: rows[row].len(),
            expected: cols,
        });
    }
    Ok(Mat::from_fn(rows.len(), cols, |i, j| {
        let [re, im] = rows[i][j];
        c64::new(re, im)
    }))
}

fn tolerance(text: &str) -> Result<f64, AnalyzeError> {
    match text.parse::<f64>() {
        Ok(tau) if (0.0..1.0).contains(&tau) => Ok(tau),
        _ => Err(AnalyzeError::Tau {
            tau: text.to_owned(),
        }),
    }
}

fn ranks_at(hsv: &[f64], taus: &[&str]) -> Result<BTreeMap<String, usize>, AnalyzeError> {
    taus.iter()
        .map(|text| Ok((text.to_string(), order_for_tolerance(hsv, tolerance(text)?))))
        .collect()
}

/// Analyzes the system in a JSON file.
pub fn analyze_system(path: &Path) -> Result<SystemReport, AnalyzeError> {
    let text = fs::read_to_string(path).map_err(FileError::during("read", path))?;
    let file: SystemFile = serde_json::from_str(&text).map_err(|source| AnalyzeError::Json {
        path: path.to_path_buf(),
        source,
    })?;
    let lambda: Vec<c64> = file
        .lambda
        .iter()
        .map(|[re, im]| c64::new(*re, *im))
        .collect();
    let inputs = file.input.first().map_or(0, Vec::len);
    let input = matrix("B", &file.input, inputs)?;
    let output = matrix("C", &file.output, lambda.len())?;
    let system = DiscreteDiagonalSystem::new(lambda, input, output)?;
    let hankel = system.hankel()?;
    let hsv = hankel.singular_values();
    let taus: Vec<&str> = file.tau.iter().map(|raw| raw.get()).collect();
    let reduced =
        file.ranks
            .iter()
            .map(|rank| {
                let truncation = hankel.balanced_truncation(*rank).map_err(|source| {
                    AnalyzeError::Truncation {
                        rank: *rank,
                        source,
                    }
                })?;
                Ok(ReducedReport {
                    rank: *rank,
                    bound: truncation.h_infinity_bound(),
                    lambda: truncation.poles().iter().copied().map(pair).collect(),
                    transfer: file
                        .omega
                        .iter()
                        .map(|omega| rows(&truncation.system().transfer(*omega)))
                        .collect(),
                })
            })
            .collect::<Result<_, AnalyzeError>>()?;
    Ok(SystemReport {
        rank_at_tau: ranks_at(hsv, &taus)?,
        hsv: hsv.to_vec(),
        reduced,
    })
}

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

/// Analyzes every layer of a weights file, a checkpoint, or a run's newest checkpoint.
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
    let taus: Vec<&str> = taus.iter().map(String::as_str).collect();
    let (data, layers) = match model {
        Model::Lru(model) => {
            let layers = model.blocks.iter().enumerate();
            let layers = layers.map(|(layer, block)| spectrum(layer, &block.lru, &taus));
            (None, layers.collect::<Result<_, _>>()?)
        }
        Model::Mamba(model) => {
            let (data, estimate, calibration) = calibration(path, data_dir, &model.config())?;
            let layers = selective::scores(&model, &calibration, estimate);
            let layers = layers.iter().enumerate().map(|(layer, scores)| {
                if scores.iter().any(|score| !score.is_finite()) {
                    return Err(AnalyzeError::Scores { layer });
                }
                let hsv = selective::sorted(scores);
                Ok(LayerSpectrum {
                    layer,
                    state_dim: hsv.len(),
                    rank_at_tau: ranks_at(&hsv, &taus)?,
                    hsv,
                })
            });
            (Some(data), layers.collect::<Result<_, _>>()?)
        }
    };
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
    model: &MambaConfig,
) -> Result<(String, GramianEstimate, Calibration<Flex>), AnalyzeError> {
    let device = Default::default();
    if let Ok((_, mut config)) = RunDir::open(path) {
        config.data.dir = data_dir.or(config.data.dir);
        let train = data::load(&config)?.train;
        let examples = 0..config.compress.calibration_examples.min(train.len());
        let calibration = Calibration {
            lengths: examples.clone().map(|i| train.length(i)).collect(),
            input: data::batch(&train, examples, &device).input,
        };
        let estimate = config.compress.gramian.into();
        return Ok((config.data.dataset, estimate, calibration));
    }
    let [count, length] = SYNTHETIC;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let input = match model.encoder {
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

fn spectrum(layer: usize, lru: &Lru<Flex>, taus: &[&str]) -> Result<LayerSpectrum, AnalyzeError> {
    let system = lru
        .to_system()
        .map_err(|source| AnalyzeError::Layer { layer, source })?;
    let hankel = system.hankel()?;
    let hsv = hankel.singular_values();
    Ok(LayerSpectrum {
        layer,
        state_dim: lru.state_dim(),
        rank_at_tau: ranks_at(hsv, taus)?,
        hsv: hsv.to_vec(),
    })
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

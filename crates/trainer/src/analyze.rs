//! Hankel singular values, orders and reduced systems, of a system in a file or of every layer of a checkpoint.

mod checkpoint;
mod npz;
mod system;
mod system_file;

use std::collections::BTreeMap;
use std::path::PathBuf;

use datasets::DatasetError;
use hsv::{HankelError, SystemError, order_for_tolerance};
use ssm_core::{CompressionError, WeightsError};
use thiserror::Error;

pub use checkpoint::{CheckpointReport, LayerSpectrum, analyze_checkpoint};
pub use npz::ArrayFault;
pub use system::{
    Format, Pair, ReducedReport, SystemReport, Truncated, analyze_system, analyze_system_bytes,
};
pub use system_file::SystemFileError;

use crate::checkpoint::CheckpointError;
use crate::files::FileError;
use crate::weights::WeightsFileError;

/// Why there is no analysis.
#[derive(Debug, Error)]
pub enum AnalyzeError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not hold a system.
    #[error(transparent)]
    SystemFile(#[from] SystemFileError),
    /// The data that a selective layer is to be scored on cannot be loaded.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// The system is not valid.
    #[error(transparent)]
    System(#[from] SystemError),
    /// It has no Hankel singular values in `f64`.
    #[error(transparent)]
    Hankel(#[from] HankelError),
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
    /// A layer has no spectrum.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Its index.
        layer: usize,
        /// What is wrong.
        source: CompressionError,
    },
    /// The system of a file cannot be analyzed.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<AnalyzeError>,
    },
}

fn tolerance(text: &str) -> Result<f64, AnalyzeError> {
    match text.parse::<f64>() {
        Ok(tau) if (0.0..1.0).contains(&tau) => Ok(tau),
        _ => Err(AnalyzeError::Tau {
            tau: text.to_owned(),
        }),
    }
}

/// Smallest order whose discarded share of Σσ is at most tau, by tau as it was written.
fn ranks_at(
    hsv: &[f64],
    taus: &[impl AsRef<str>],
) -> Result<BTreeMap<String, usize>, AnalyzeError> {
    let rank = |text: &str| Ok((text.to_owned(), order_for_tolerance(hsv, tolerance(text)?)));
    taus.iter().map(|text| rank(text.as_ref())).collect()
}

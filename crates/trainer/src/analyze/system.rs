//! Hankel singular values, orders and reductions of one system.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use hsv::{
    Continuous, DenseSystem, DiagonalSystem, Discrete, HankelDecomposition, LinearSystem, Mat,
    Scalar, TimeDomain, c64,
};
use serde::Serialize;

use super::system_file::{Matrices, Questions, StateMatrix, SystemFile, SystemFileError, Time};
use super::{AnalyzeError, ranks_at};
use crate::files::FileError;

/// A complex number as `[re, im]`.
pub type Pair = [f64; 2];

/// What `analyze --system` prints.
#[derive(Debug, Serialize)]
pub struct SystemReport {
    /// Hankel singular values, largest first.
    pub hsv: Vec<f64>,
    /// Smallest order whose discarded share of Σσ is at most tau, by tau as it was written.
    pub rank_at_tau: BTreeMap<String, usize>,
    /// One entry per rank asked for.
    pub reduced: Vec<ReducedReport>,
}

/// What there is of one rank.
#[derive(Debug, Serialize)]
pub struct ReducedReport {
    /// The order asked for.
    pub rank: usize,
    /// The system of this order, or why there is none.
    #[serde(flatten)]
    pub outcome: Truncated,
}

/// A balanced truncation, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Truncated {
    /// There is one.
    Had {
        /// Twice the sum of the discarded Hankel singular values.
        bound: f64,
        /// Poles.
        lambda: Vec<Pair>,
        /// G_r(e^{iω}), in continuous time G_r(iω), for every ω, outputs by inputs.
        transfer: Vec<Vec<Vec<Pair>>>,
    },
    /// There is none.
    Refused {
        /// Why.
        error: String,
    },
}

/// The formats of system files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object.
    Json,
    /// Arrays by name, as numpy's `savez` writes them.
    Npz,
}

impl Format {
    /// By the name of the file, or by how every archive begins.
    pub fn of(path: &Path, bytes: &[u8]) -> Self {
        let named = path.extension().is_some_and(|ending| ending == "npz");
        match named || bytes.starts_with(b"PK") {
            true => Self::Npz,
            false => Self::Json,
        }
    }
}

/// Analyzes the system in a JSON or npz file.
///
/// # Errors
/// What is wrong with the file, or with the system: one that is not stable has no Hankel singular values. A rank that
/// cannot be had is no error, but an entry of the report.
pub fn analyze_system(path: &Path) -> Result<SystemReport, AnalyzeError> {
    let bytes = fs::read(path).map_err(FileError::during("read", path))?;
    analyze_system_bytes(&bytes, Format::of(path, &bytes)).map_err(|source| AnalyzeError::InFile {
        path: path.to_path_buf(),
        source: Box::new(source),
    })
}

/// Analyzes the system in the content of a file.
///
/// # Errors
/// As [`analyze_system`].
pub fn analyze_system_bytes(bytes: &[u8], format: Format) -> Result<SystemReport, AnalyzeError> {
    let file = match format {
        Format::Json => SystemFile::from_json(bytes)?,
        Format::Npz => SystemFile::from_npz(bytes)?,
    };
    if let Some(omega) = file.questions.omega.iter().find(|omega| !omega.is_finite()) {
        return Err(SystemFileError::Omega { omega: *omega }.into());
    }
    match file.time {
        Time::Discrete => analyze_in::<Discrete>(file.matrices, &file.questions),
        Time::Continuous => analyze_in::<Continuous>(file.matrices, &file.questions),
    }
}

fn analyze_in<D: TimeDomain>(
    matrices: Matrices,
    questions: &Questions,
) -> Result<SystemReport, AnalyzeError> {
    let Matrices {
        state,
        input,
        output,
        feedthrough,
    } = matrices;
    match state {
        StateMatrix::Diagonal(lambda) => {
            let system = DiagonalSystem::<D>::new(lambda, input, output)?;
            match feedthrough {
                Some(direct) => report(&system.with_feedthrough(direct)?, questions),
                None => report(&system, questions),
            }
        }
        StateMatrix::Dense(state) => {
            let direct = feedthrough.as_ref();
            match [Some(&state), Some(&input), Some(&output), direct].map(real_or_none) {
                // In real arithmetic, so that what is reduced is real again.
                [Some(state), Some(input), Some(output), direct]
                    if direct.is_some() == feedthrough.is_some() =>
                {
                    dense::<f64, D>(state, input, output, direct, questions)
                }
                _ => dense::<c64, D>(state, input, output, feedthrough, questions),
            }
        }
    }
}

/// The real part of a matrix that has no other.
fn real_or_none(matrix: Option<&Mat<c64>>) -> Option<Mat<f64>> {
    let matrix = matrix?;
    let (rows, cols) = (matrix.nrows(), matrix.ncols());
    let real = (0..cols).all(|j| (0..rows).all(|i| matrix[(i, j)].im == 0.0));
    real.then(|| Mat::from_fn(rows, cols, |i, j| matrix[(i, j)].re))
}

fn dense<T: Scalar, D: TimeDomain>(
    state: Mat<T>,
    input: Mat<T>,
    output: Mat<T>,
    feedthrough: Option<Mat<T>>,
    questions: &Questions,
) -> Result<SystemReport, AnalyzeError> {
    let system = DenseSystem::<T, D>::new(state, input, output)?;
    match feedthrough {
        Some(direct) => report(&system.with_feedthrough(direct)?, questions),
        None => report(&system, questions),
    }
}

fn report<S: LinearSystem>(
    system: &S,
    questions: &Questions,
) -> Result<SystemReport, AnalyzeError> {
    let hankel = system.hankel_with(questions.accuracy)?;
    let hsv = hankel.singular_values();
    let ranks = questions.ranks.iter();
    Ok(SystemReport {
        rank_at_tau: ranks_at(hsv, &questions.tau)?,
        hsv: hsv.to_vec(),
        reduced: ranks
            .map(|rank| reduced(&hankel, *rank, &questions.omega))
            .collect(),
    })
}

fn reduced<S: LinearSystem>(
    hankel: &HankelDecomposition<S>,
    rank: usize,
    omega: &[f64],
) -> ReducedReport {
    let outcome = match hankel.balanced_truncation(rank) {
        Ok(truncation) => {
            let responses = truncation.system().frequency_response(omega);
            Truncated::Had {
                bound: truncation.h_infinity_bound(),
                lambda: truncation.poles().iter().copied().map(pair).collect(),
                transfer: responses.iter().map(rows).collect(),
            }
        }
        Err(error) => Truncated::Refused {
            error: error.to_string(),
        },
    };
    ReducedReport { rank, outcome }
}

fn pair(z: c64) -> Pair {
    [z.re, z.im]
}

fn rows(matrix: &Mat<c64>) -> Vec<Vec<Pair>> {
    (0..matrix.nrows())
        .map(|i| (0..matrix.ncols()).map(|j| pair(matrix[(i, j)])).collect())
        .collect()
}

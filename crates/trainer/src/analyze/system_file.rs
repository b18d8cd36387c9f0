//! What a system file says, whatever its format, and the format JSON.

use std::fmt;

use hsv::{Accuracy, Mat, c64};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::npz::ArrayFault;

/// A system as it stands in a file, and what is asked about it.
#[derive(Debug)]
pub(super) struct SystemFile {
    pub(super) matrices: Matrices,
    pub(super) time: Time,
    pub(super) questions: Questions,
}

/// A system: `[state, state]`, `[state, input]`, `[output, state]` and `[output, input]`.
#[derive(Debug)]
pub(super) struct Matrices {
    pub(super) state: StateMatrix,
    pub(super) input: Mat<c64>,
    pub(super) output: Mat<c64>,
    pub(super) feedthrough: Option<Mat<c64>>,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Questions {
    pub(super) accuracy: Accuracy,
    /// As written: the answer is keyed by them.
    pub(super) tau: Vec<String>,
    pub(super) ranks: Vec<usize>,
    pub(super) omega: Vec<f64>,
}

/// The matrix A.
#[derive(Debug)]
pub(super) enum StateMatrix {
    /// Its eigenvalues, where it is diagonal.
    Diagonal(Vec<c64>),
    Dense(Mat<c64>),
}

/// What passes from one state to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Time {
    /// A step.
    #[default]
    Discrete,
    /// Time.
    Continuous,
}

/// The words for what small Hankel singular values are accurate relative to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AccuracyWord {
    #[default]
    Default,
    Relative,
}

impl From<AccuracyWord> for Accuracy {
    fn from(word: AccuracyWord) -> Self {
        match word {
            AccuracyWord::Default => Self::Absolute,
            AccuracyWord::Relative => Self::Relative,
        }
    }
}

/// Why a file does not hold a system.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SystemFileError {
    /// It is not the JSON of a system.
    #[error("not a system: {0}")]
    Json(#[from] serde_json::Error),
    /// It is not an archive of arrays.
    #[error("not an npz file: {0}")]
    Archive(#[from] zip::result::ZipError),
    /// An array is not what it has to be.
    #[error("array `{name}`: {fault}")]
    Array {
        /// Its name.
        name: String,
        /// What is wrong with it.
        fault: ArrayFault,
    },
    /// An array is missing.
    #[error("not a system: no array `{name}`")]
    MissingArray {
        /// Its name.
        name: &'static str,
    },
    /// There is no state matrix, or there are two.
    #[error("{found}: give one of them, the eigenvalues or the whole state matrix")]
    StateMatrix {
        /// `"both"` or `"neither"`.
        found: &'static str,
    },
    /// Rows of a matrix differ in length.
    #[error("row {row} of `{matrix}` has {found} entries, expected {expected}")]
    Ragged {
        /// `A`, `B`, `C` or `D`.
        matrix: &'static str,
        /// Index of the row.
        row: usize,
        /// Entries it has.
        found: usize,
        /// Entries of the first row, or states, or inputs.
        expected: usize,
    },
    /// A frequency is infinite or NaN.
    #[error("omega = {omega} is not a frequency; give finite numbers")]
    Omega {
        /// The frequency.
        omega: f64,
    },
}

impl StateMatrix {
    /// From the two names for it.
    pub(super) fn of(
        lambda: Option<Vec<c64>>,
        dense: Option<Mat<c64>>,
    ) -> Result<Self, SystemFileError> {
        match (lambda, dense) {
            (Some(lambda), None) => Ok(Self::Diagonal(lambda)),
            (None, Some(dense)) => Ok(Self::Dense(dense)),
            (Some(_), Some(_)) => Err(SystemFileError::StateMatrix {
                found: "both `lambda` and `A`",
            }),
            (None, None) => Err(SystemFileError::StateMatrix {
                found: "neither `lambda` nor `A`",
            }),
        }
    }
}

impl SystemFile {
    /// Reads JSON.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, SystemFileError> {
        let file: JsonSystem = serde_json::from_slice(bytes)?;
        let lambda = file
            .lambda
            .map(|lambda| lambda.iter().map(complex).collect());
        let dense = file.dense.map(|rows| matrix("A", &rows, rows.len()));
        let state = StateMatrix::of(lambda, dense.transpose()?)?;
        let states = match &state {
            StateMatrix::Diagonal(lambda) => lambda.len(),
            StateMatrix::Dense(dense) => dense.nrows(),
        };
        let inputs = file.input.first().map_or(0, Vec::len);
        let feedthrough = file.feedthrough.map(|rows| matrix("D", &rows, inputs));
        Ok(Self {
            matrices: Matrices {
                state,
                input: matrix("B", &file.input, inputs)?,
                output: matrix("C", &file.output, states)?,
                feedthrough: feedthrough.transpose()?,
            },
            time: file.time,
            questions: Questions {
                accuracy: file.accuracy.into(),
                tau: file.tau.iter().map(|raw| raw.get().to_owned()).collect(),
                ranks: file.ranks,
                omega: file.omega,
            },
        })
    }
}

/// A system in JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonSystem {
    lambda: Option<Vec<Number>>,
    #[serde(rename = "A")]
    dense: Option<Vec<Vec<Number>>>,
    #[serde(rename = "B")]
    input: Vec<Vec<Number>>,
    #[serde(rename = "C")]
    output: Vec<Vec<Number>>,
    #[serde(rename = "D")]
    feedthrough: Option<Vec<Vec<Number>>>,
    #[serde(default)]
    time: Time,
    #[serde(default)]
    accuracy: AccuracyWord,
    #[serde(default)]
    tau: Vec<Box<RawValue>>,
    #[serde(default)]
    ranks: Vec<usize>,
    #[serde(default)]
    omega: Vec<f64>,
}

fn complex(Number(z): &Number) -> c64 {
    *z
}

fn matrix(
    name: &'static str,
    rows: &[Vec<Number>],
    cols: usize,
) -> Result<Mat<c64>, SystemFileError> {
    if let Some(row) = rows.iter().position(|row| row.len() != cols) {
        return Err(SystemFileError::Ragged {
            matrix: name,
            row,
            found: rows[row].len(),
            expected: cols,
        });
    }
    Ok(Mat::from_fn(rows.len(), cols, |i, j| complex(&rows[i][j])))
}

/// A number, or the pair of its real and imaginary part.
#[derive(Debug, Clone, Copy)]
struct Number(c64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

/// Written out, because a derived untagged enum can only say that no variant matched.
struct NumberVisitor;

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or a pair [re, im]")
    }

    fn visit_f64<E: de::Error>(self, re: f64) -> Result<Number, E> {
        Ok(Number(c64::new(re, 0.0)))
    }

    fn visit_i64<E: de::Error>(self, re: i64) -> Result<Number, E> {
        self.visit_f64(re as f64)
    }

    fn visit_u64<E: de::Error>(self, re: u64) -> Result<Number, E> {
        self.visit_f64(re as f64)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Number, A::Error> {
        let mut part = |index| -> Result<f64, A::Error> {
            let value = parts.next_element()?;
            value.ok_or_else(|| de::Error::invalid_length(index, &NumberVisitor))
        };
        let (re, im) = (part(0)?, part(1)?);
        match parts.next_element::<de::IgnoredAny>()? {
            None => Ok(Number(c64::new(re, im))),
            Some(_) => Err(de::Error::invalid_length(3, &self)),
        }
    }
}

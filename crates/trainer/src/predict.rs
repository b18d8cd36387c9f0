//! Logits of a model in a file for inputs in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use ssm_core::{
    Encoder, Model, ModelConfig, NamedTensor, NamedTensors, Readout, Sequences, TrainingBackend,
    WeightsError,
};
use thiserror::Error;

use crate::backend::{BackendError, Job, dispatch};
use crate::checkpoint::{CheckpointError, resolve_weights};
use crate::config::BackendKind;
use crate::weights::{
    WeightsFileError, map_words, read_model, read_tensors, with_file, write_tensors,
};

/// Sequences that go through the model at once: bounds the memory of a large input.
const BATCH: usize = 64;

/// Why there are no predictions.
#[derive(Debug, Error)]
pub enum PredictError {
    /// The backend is not compiled in, or has no device.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] WeightsFileError),
    /// There is no checkpoint where one was expected.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights are not a model.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// The input file has no tensor that the model takes.
    #[error("{} has no tensor `{tensor}`, which this model takes as {shape}", path.display())]
    NoInput {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: &'static str,
        /// Its shape and type in words.
        shape: &'static str,
    },
    /// The input has another shape than the model takes.
    #[error("{}: tensor `{tensor}` has shape {found:?}, expected {expected}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: &'static str,
        /// The shape it has.
        found: Vec<usize>,
        /// The shape it should have.
        expected: String,
    },
    /// The tokens are not integers.
    #[error("{}: tensor `input_ids` has type {found}, expected I64", path.display())]
    TokenType {
        /// The file.
        path: PathBuf,
        /// The type it has.
        found: Dtype,
    },
    /// A token is not in the vocabulary.
    #[error("{}: token {token} at position {position} is outside the vocabulary of {vocabulary}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// The token.
        token: i64,
        /// Where it stands, counted through the tensor in row-major order.
        position: usize,
        /// Size of the vocabulary.
        vocabulary: usize,
    },
    /// An input value is NaN or infinite.
    #[error("{}: tensor `x` holds a value that is not finite at position {position}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Where it stands, counted through the tensor in row-major order.
        position: usize,
    },
}

/// Reads weights and input, writes `logits`.
pub fn predict(
    backend: BackendKind,
    weights: &Path,
    input: &Path,
    output: &Path,
) -> Result<(), PredictError> {
    let weights = resolve_weights(weights)?;
    let tensors = read_model(&weights)?;
    let broken = |source| PredictError::Weights {
        path: weights.clone(),
        source,
    };
    let config = ModelConfig::infer(&tensors).map_err(broken)?;
    let logits = match config.encoder() {
        Encoder::Linear { channels } => {
            let input = read_features(input, channels)?;
            dispatch(backend, Predict { tensors, input })?
        }
        Encoder::Embedding { vocabulary } => {
            let input = read_tokens(input, vocabulary)?;
            dispatch(backend, Predict { tensors, input })?
        }
    }
    .map_err(broken)?;
    let logits = NamedTensors([("logits".to_owned(), logits)].into());
    Ok(write_tensors(output, &logits, HashMap::new())?)
}

/// Sequences on the host, row-major.
enum Input {
    Features { shape: [usize; 3], values: Vec<f32> },
    Tokens { shape: [usize; 2], values: Vec<i64> },
}

impl Input {
    fn sequences(&self) -> usize {
        match self {
            Self::Features { shape, .. } => shape[0],
            Self::Tokens { shape, .. } => shape[0],
        }
    }

    /// Steps of every sequence.
    fn length(&self) -> usize {
        match self {
            Self::Features { shape, .. } => shape[1],
            Self::Tokens { shape, .. } => shape[1],
        }
    }

    /// Sequences `start..end` on the device.
    fn slice<B: burn::tensor::backend::Backend>(
        &self,
        start: usize,
        end: usize,
        device: &B::Device,
    ) -> Sequences<B> {
        match self {
            Self::Features { shape, values } => {
                let [_, length, channels] = *shape;
                let row = length * channels;
                let part = values[start * row..end * row].to_vec();
                let data = TensorData::new(part, [end - start, length, channels]);
                Sequences::Features(Tensor::from_data(data, device))
            }
            Self::Tokens { shape, values } => {
                let [_, length] = *shape;
                let part: Vec<i32> = values[start * length..end * length]
                    .iter()
                    .map(|token| *token as i32)
                    .collect();
                let data = TensorData::new(part, [end - start, length]);
                Sequences::Tokens(Tensor::<B, 2, Int>::from_data(data, device))
            }
        }
    }
}

fn read_features(path: &Path, channels: usize) -> Result<Input, PredictError> {
    let mut tensors = read_tensors(path)?;
    let Some(tensor) = tensors.0.remove("x") else {
        return Err(PredictError::NoInput {
            path: path.to_path_buf(),
            tensor: "x",
            shape: "[batch, length, input] of real numbers",
        });
    };
    let shape: Option<[usize; 3]> = tensor.shape.as_slice().try_into().ok();
    let shape = shape
        .filter(|[_, length, found]| *length > 0 && *found == channels)
        .ok_or_else(|| PredictError::Shape {
            path: path.to_path_buf(),
            tensor: "x",
            found: tensor.shape.clone(),
            expected: format!("[batch, length, {channels}]"),
        })?;
    if let Some(position) = tensor.values.iter().position(|value| !value.is_finite()) {
        return Err(PredictError::NotFinite {
            path: path.to_path_buf(),
            position,
        });
    }
    Ok(Input::Features {
        shape,
        values: tensor.values,
    })
}

fn read_tokens(path: &Path, vocabulary: usize) -> Result<Input, PredictError> {
    let (dtype, shape, values) = with_file(path, |file: &SafeTensors<'_>| {
        Ok(file.tensor("input_ids").ok().map(|view| {
            let values = map_words(view.data(), i64::from_le_bytes);
            (view.dtype(), view.shape().to_vec(), values)
        }))
    })?
    .ok_or_else(|| PredictError::NoInput {
        path: path.to_path_buf(),
        tensor: "input_ids",
        shape: "[batch, length] of I64",
    })?;
    if dtype != Dtype::I64 {
        return Err(PredictError::TokenType {
            path: path.to_path_buf(),
            found: dtype,
        });
    }
    let sizes: Option<[usize; 2]> = shape.as_slice().try_into().ok();
    let sizes = sizes
        .filter(|[_, length]| *length > 0)
        .ok_or(PredictError::Shape {
            path: path.to_path_buf(),
            tensor: "input_ids",
            found: shape,
            expected: "[batch, length]".to_owned(),
        })?;
    let outside = |token: &i64| usize::try_from(*token).map_or(true, |token| token >= vocabulary);
    if let Some(position) = values.iter().position(outside) {
        return Err(PredictError::Token {
            path: path.to_path_buf(),
            token: values[position],
            position,
            vocabulary,
        });
    }
    Ok(Input::Tokens {
        shape: sizes,
        values,
    })
}

struct Predict {
    tensors: NamedTensors,
    input: Input,
}

impl Job for Predict {
    type Output = Result<NamedTensor, WeightsError>;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> Self::Output {
        let config = ModelConfig::infer(&self.tensors)?;
        let model = Model::<B::Inner>::from_tensors(self.tensors, device)?;
        let sequences = self.input.sequences();
        let (readout, mut shape) = match config.is_language_model() {
            true => (Readout::EveryStep, vec![sequences, self.input.length()]),
            false => (Readout::Mean, vec![sequences]),
        };
        shape.push(config.classes());
        let mut values = Vec::with_capacity(shape.iter().product());
        for start in (0..sequences).step_by(BATCH) {
            let end = (start + BATCH).min(sequences);
            let input = self.input.slice(start, end, device);
            let logits = model.forward(input, readout.clone());
            values.extend(logits.into_data().iter::<f32>());
        }
        Ok(NamedTensor { shape, values })
    }
}

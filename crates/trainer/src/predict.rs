//! Logits of a model in a file for inputs in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use burn::tensor::{Int, Tensor, TensorData};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use ssm_core::{
    Encoder, Head, Model, ModelSizes, ModelStream, NamedTensor, NamedTensors, Readout, Sequences,
    TrainingBackend, WeightsError,
};
use thiserror::Error;

use crate::backend::{BackendError, Job, dispatch};
use crate::checkpoint::{CheckpointError, resolve_weights};
use crate::config::BackendKind;
use crate::weights::{
    WeightsFileError, map_words, read_model, read_tensor, with_file, write_tensors,
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
    /// The model reads pairs of sequences, and the input file has one of each.
    #[error("{} is a model of pairs of sequences (`linear_layer.0.weight`), and predict reads one sequence for an answer", path.display())]
    Pairs {
        /// The weights.
        path: PathBuf,
    },
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
    /// There is no sequence, or no step in any.
    #[error("{}: tensor `{tensor}` is empty: its shape is {found:?}; expected at least one sequence of at least one step", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: &'static str,
        /// The shape it has.
        found: Vec<usize>,
    },
    /// The tokens are not integers.
    #[error("{}: tensor `input_ids` has type {found}, expected I64 or I32", path.display())]
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
    #[error("{}: tensor `x` holds {value} at position {position}, which is not finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// NaN or an infinity.
        value: f32,
        /// Where it stands, counted through the tensor in row-major order.
        position: usize,
    },
}

/// How sequences go through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Whole, on a backend.
    Parallel(BackendKind),
    /// One step after the other, on the processor: what a program does that waits for the next sample.
    Stepwise,
}

/// Reads weights and input, writes `logits`.
pub fn predict(
    passage: Passage,
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
    let sizes = ModelSizes::infer(&tensors).map_err(broken)?;
    if let Head::Pair { .. } = sizes.head {
        return Err(PredictError::Pairs { path: weights });
    }
    let input = match sizes.encoder {
        Encoder::Linear { channels } => read_features(input, channels)?,
        Encoder::Embedding { vocabulary } => read_tokens(input, vocabulary)?,
    };
    let logits = match passage {
        Passage::Parallel(backend) => dispatch(backend, Predict { tensors, input })?,
        Passage::Stepwise => stepwise(tensors, &input),
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

    /// Gives a stream one step of a sequence.
    fn push(&self, sequence: usize, step: usize, stream: &mut ModelStream) {
        match self {
            Self::Features { shape, values } => {
                let [_, length, channels] = *shape;
                let at = (sequence * length + step) * channels;
                stream.push_features(&values[at..at + channels]);
            }
            Self::Tokens { shape, values } => {
                stream.push_token(values[sequence * shape[1] + step] as usize);
            }
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

/// A tensor of the input file by what is made of it.
fn read_input<T>(
    path: &Path,
    tensor: &'static str,
    shape: &'static str,
    read: impl FnOnce(&TensorView<'_>) -> Result<T, PredictError>,
) -> Result<T, PredictError> {
    let found = with_file(path, |file| {
        Ok(file.tensor(tensor).ok().map(|view| read(&view)))
    });
    found?.unwrap_or_else(|| {
        Err(PredictError::NoInput {
            path: path.to_path_buf(),
            tensor,
            shape,
        })
    })
}

/// The shape of the input, of which nothing but the number of sequences and of their steps is free.
fn input_shape<const D: usize>(
    path: &Path,
    tensor: &'static str,
    found: &[usize],
    expected: &str,
    fits: impl FnOnce([usize; D]) -> bool,
) -> Result<[usize; D], PredictError> {
    let Some(shape) = found.try_into().ok().filter(|shape| fits(*shape)) else {
        return Err(PredictError::Shape {
            path: path.to_path_buf(),
            tensor,
            found: found.to_vec(),
            expected: expected.to_owned(),
        });
    };
    match shape.contains(&0) {
        true => Err(PredictError::Empty {
            path: path.to_path_buf(),
            tensor,
            found: found.to_vec(),
        }),
        false => Ok(shape),
    }
}

fn read_features(path: &Path, channels: usize) -> Result<Input, PredictError> {
    const SHAPE: &str = "[batch, length, input] of real numbers";
    let NamedTensor { shape, values } =
        read_input(path, "x", SHAPE, |view| Ok(read_tensor(path, "x", view)?))?;
    let expected = format!("[batch, length, {channels}]");
    let fits = |[_, _, found]: [usize; 3]| found == channels;
    let shape = input_shape(path, "x", &shape, &expected, fits)?;
    match values.iter().position(|value| !value.is_finite()) {
        Some(position) => Err(PredictError::NotFinite {
            path: path.to_path_buf(),
            value: values[position],
            position,
        }),
        None => Ok(Input::Features { shape, values }),
    }
}

fn read_tokens(path: &Path, vocabulary: usize) -> Result<Input, PredictError> {
    const SHAPE: &str = "[batch, length] of I64 or I32";
    let (shape, values) = read_input(path, "input_ids", SHAPE, |view| {
        let values = match view.dtype() {
            Dtype::I64 => map_words(view.data(), i64::from_le_bytes),
            Dtype::I32 => map_words(view.data(), |word| i64::from(i32::from_le_bytes(word))),
            found => {
                let path = path.to_path_buf();
                return Err(PredictError::TokenType { path, found });
            }
        };
        Ok((view.shape().to_vec(), values))
    })?;
    let shape = input_shape(path, "input_ids", &shape, "[batch, length]", |_| true)?;
    let outside = |token: &i64| usize::try_from(*token).map_or(true, |token| token >= vocabulary);
    match values.iter().position(outside) {
        Some(position) => Err(PredictError::Token {
            path: path.to_path_buf(),
            token: values[position],
            position,
            vocabulary,
        }),
        None => Ok(Input::Tokens { shape, values }),
    }
}

struct Predict {
    tensors: NamedTensors,
    input: Input,
}

impl Job for Predict {
    type Output = Result<NamedTensor, WeightsError>;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> Self::Output {
        let model = Model::<B::Inner>::from_tensors(self.tensors, device)?;
        let (sizes, sequences) = (model.sizes(), self.input.sequences());
        let (readout, mut shape) = match sizes.is_language_model() {
            true => (Readout::EveryStep, vec![sequences, self.input.length()]),
            false => (Readout::Mean, vec![sequences]),
        };
        shape.push(sizes.outputs());
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

/// Logits by a stream of every sequence: of a language model after each step, of a classifier after the last.
fn stepwise(tensors: NamedTensors, input: &Input) -> Result<NamedTensor, WeightsError> {
    let model = Model::<Flex>::from_tensors(tensors, &Default::default())?;
    let (sequences, length) = (input.sequences(), input.length());
    let (outputs, every_step) = (model.sizes().outputs(), model.sizes().is_language_model());
    let answers = if every_step { length } else { 1 };
    let before = model.stream();
    let mut values = vec![0.0; sequences * answers * outputs];
    values
        .par_chunks_mut(answers * outputs)
        .enumerate()
        .for_each_with(before, |stream, (sequence, logits)| {
            stream.reset();
            for step in 0..length {
                input.push(sequence, step, stream);
                if every_step {
                    stream.logits(&mut logits[step * outputs..][..outputs]);
                }
            }
            if !every_step {
                stream.logits(logits);
            }
        });
    let shape = match every_step {
        true => vec![sequences, length, outputs],
        false => vec![sequences, outputs],
    };
    Ok(NamedTensor { shape, values })
}

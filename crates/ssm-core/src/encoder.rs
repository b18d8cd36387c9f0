//! What goes into a model at every step, and what the first layer gets of it.

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, backend::Backend as BurnBackend},
};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    layer::Frame,
    linear::Linear,
    model::names::Names,
    parameter::{normal, parameter},
    tensors::{NamedTensors, WeightsError},
};

/// What goes into a model at every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// Real channels through a linear map.
    Linear {
        /// Channels per step.
        channels: usize,
    },
    /// Tokens through a table.
    Embedding {
        /// Number of different tokens.
        vocabulary: usize,
    },
}

/// A table of vectors, one per token.
#[derive(Module, Debug)]
pub struct Embedding<B: BurnBackend> {
    /// `[vocabulary, hidden]`.
    pub weight: Param<Tensor<B, 2>>,
}

/// A batch of sequences.
#[derive(Clone, Debug)]
pub enum Sequences<B: BurnBackend> {
    /// `[batch, length, channels]`.
    Features(Tensor<B, 3>),
    /// `[batch, length]`.
    Tokens(Tensor<B, 2, Int>),
}

/// The map from what goes into a model to the residual stream.
#[derive(Module, Debug)]
pub enum EncoderLayer<B: BurnBackend> {
    /// Of real channels.
    Linear(Linear<B>),
    /// Of tokens.
    Embedding(Embedding<B>),
}

/// Standard deviation of a table at initialization.
fn table_deviation(frame: Frame) -> f64 {
    match frame {
        Frame::Gated => 1.0,
        Frame::Residual => 0.02,
    }
}

impl Encoder {
    /// Reads the sizes off the weights, the width of the model with them.
    pub(crate) fn sizes(
        tensors: &NamedTensors,
        names: Names,
    ) -> Result<(Self, usize), WeightsError> {
        let linear = format!("{}.weight", names.linear_encoder);
        let table = table(tensors, names);
        match (tensors.has(&linear), table) {
            (true, Some(table)) => Err(WeightsError::Exclusive {
                names: [linear, table],
            }),
            (true, None) => {
                let [hidden, channels] = tensors.sizes(&linear, &["hidden", "channels"])?;
                Ok((Self::Linear { channels }, hidden))
            }
            (false, Some(table)) => {
                let [vocabulary, hidden] = tensors.sizes(&table, &["vocabulary", "hidden"])?;
                Ok((Self::Embedding { vocabulary }, hidden))
            }
            (false, None) => Err(WeightsError::NoEncoder {
                names: [linear, format!("{}.weight", names.table)],
            }),
        }
    }
}

/// Name of the table of tokens, if there is one.
pub(crate) fn table(tensors: &NamedTensors, names: Names) -> Option<String> {
    let all = [names.table]
        .into_iter()
        .chain(names.other_tables.iter().copied());
    all.map(|name| format!("{name}.weight"))
        .find(|name| tensors.has(name))
}

impl<B: BurnBackend> EncoderLayer<B> {
    pub(crate) fn init(
        encoder: Encoder,
        hidden: usize,
        frame: Frame,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        match encoder {
            Encoder::Linear { channels } => {
                Self::Linear(Linear::init(channels, hidden, rng, device))
            }
            Encoder::Embedding { vocabulary } => {
                let values = normal(rng, vocabulary * hidden, table_deviation(frame));
                Self::Embedding(Embedding {
                    weight: parameter(values, [vocabulary, hidden], device),
                })
            }
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        names: Names,
        encoder: Encoder,
        hidden: usize,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        match encoder {
            Encoder::Linear { channels } => {
                let shape = [hidden, channels];
                Linear::load(tensors, names.linear_encoder, shape, device).map(Self::Linear)
            }
            Encoder::Embedding { vocabulary } => {
                // With several there, the others stay and are tensors too many.
                let table = table(tensors, names);
                let path = table
                    .as_deref()
                    .and_then(|name| name.strip_suffix(".weight"))
                    .unwrap_or(names.table);
                let shape = [vocabulary, hidden];
                let weight = tensors.prefixed(path)("weight", &shape)?;
                Ok(Self::Embedding(Embedding {
                    weight: parameter(weight, shape, device),
                }))
            }
        }
    }

    /// Its sizes.
    pub fn sizes(&self) -> Encoder {
        match self {
            Self::Linear(linear) => Encoder::Linear {
                channels: linear.weight.dims()[1],
            },
            Self::Embedding(table) => Encoder::Embedding {
                vocabulary: table.weight.dims()[0],
            },
        }
    }

    /// The table, if it takes tokens.
    pub(crate) fn table(&self) -> Option<&Embedding<B>> {
        match self {
            Self::Linear(_) => None,
            Self::Embedding(table) => Some(table),
        }
    }
}

impl<B: Backend> EncoderLayer<B> {
    /// `[batch, length, hidden]`.
    ///
    /// # Panics
    /// When the input is not of the kind that it encodes.
    pub fn forward(&self, input: Sequences<B>) -> Tensor<B, 3> {
        match (input, self) {
            (Sequences::Features(x), Self::Linear(linear)) => {
                let [batch, length, channels] = x.dims();
                let encoded = linear.forward(x.reshape([batch * length, channels]));
                let hidden = encoded.dims()[1];
                encoded.reshape([batch, length, hidden])
            }
            (Sequences::Tokens(tokens), Self::Embedding(table)) => {
                burn::tensor::module::embedding(table.weight.val(), tokens)
            }
            _ => panic!("the input is of the kind that the model encodes"),
        }
    }
}

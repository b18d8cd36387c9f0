//! Sequence classifier: encoder, blocks, readout, linear head.

use burn::{
    module::{Module, Param},
    tensor::{Int, Tensor, backend::Backend as BurnBackend},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    block::{Block, Statistics},
    dropout::Dropout,
    linear::Linear,
    lru::LruInit,
    parameter::{normal, parameter},
    readout::{Readout, read_out},
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

/// Sizes of a classifier: enough to tell which weights it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierConfig {
    /// Encoder of the input.
    pub encoder: Encoder,
    /// Width of the residual stream.
    pub hidden_dim: usize,
    /// State dimension of every block's recurrence, first block first.
    pub state_dims: Vec<usize>,
    /// Classes of the head.
    pub classes: usize,
}

impl ClassifierConfig {
    /// Reads every size off the weights.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing, empty or has the wrong rank.
    pub fn infer(tensors: &NamedTensors) -> Result<Self, WeightsError> {
        const ENCODERS: [&str; 2] = ["linear_encoder.weight", "embedding.weight"];
        let (encoder, hidden_dim) = match ENCODERS.map(|name| tensors.has(name)) {
            [true, true] => return Err(WeightsError::Exclusive { names: ENCODERS }),
            [true, false] => {
                let [hidden, channels] = tensors.sizes(ENCODERS[0], &["hidden", "channels"])?;
                (Encoder::Linear { channels }, hidden)
            }
            [false, true] => {
                let [vocabulary, hidden] = tensors.sizes(ENCODERS[1], &["vocabulary", "hidden"])?;
                (Encoder::Embedding { vocabulary }, hidden)
            }
            [false, false] => return Err(WeightsError::NoEncoder { names: ENCODERS }),
        };
        let names = (0..).map(|i| format!("blocks.{i}.lru.nu_log"));
        let state_dims = names
            .take_while(|name| tensors.has(name))
            .map(|name| tensors.sizes(&name, &["state"]).map(|[state]| state))
            .collect::<Result<Vec<_>, _>>()?;
        if state_dims.is_empty() {
            return Err(WeightsError::NoBlock { index: 0 });
        }
        let [classes, _] = tensors.sizes("linear_layer.weight", &["classes", "hidden"])?;
        Ok(Self {
            encoder,
            hidden_dim,
            state_dims,
            classes,
        })
    }
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

/// Sequences to class logits. Field names are the published tensor names.
///
/// Sequences of unequal length in a batch are padded behind their end. What a step answers depends on no later step, and
/// a [readout](Readout) leaves padding out, but the batch normalization of training counts padded steps like any others,
/// as published code does.
#[derive(Module, Debug)]
pub struct Classifier<B: BurnBackend> {
    /// Encoder of real channels; exactly one of the two encoders is there.
    pub linear_encoder: Option<Linear<B>>,
    /// Encoder of tokens.
    pub embedding: Option<Embedding<B>>,
    /// Residual blocks.
    pub blocks: Vec<Block<B>>,
    /// Head on what is read out.
    pub linear_layer: Linear<B>,
}

impl<B: BurnBackend> Classifier<B> {
    /// Random weights that depend on the configuration and the seed alone, not on the backend.
    pub fn init(config: &ClassifierConfig, init: LruInit, seed: u64, device: &B::Device) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let hidden = config.hidden_dim;
        let (linear_encoder, embedding) = match config.encoder {
            Encoder::Linear { channels } => {
                (Some(Linear::init(channels, hidden, rng, device)), None)
            }
            Encoder::Embedding { vocabulary } => {
                let shape = [vocabulary, hidden];
                let weight = parameter(normal(rng, vocabulary * hidden, 1.0), shape, device);
                (None, Some(Embedding { weight }))
            }
        };
        Self {
            linear_encoder,
            embedding,
            blocks: config
                .state_dims
                .iter()
                .map(|state| Block::init(*state, hidden, init, rng, device))
                .collect(),
            linear_layer: Linear::init(hidden, config.classes, rng, device),
        }
    }

    /// The model that `tensors` describe; every size is read off them, every tensor must be used.
    ///
    /// # Errors
    /// [`WeightsError`] names the first tensor that is missing, misshapen, not finite or unknown.
    pub fn from_tensors(
        mut tensors: NamedTensors,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let config = ClassifierConfig::infer(&tensors)?;
        let hidden = config.hidden_dim;
        let tensors_ref = &mut tensors;
        let (linear_encoder, embedding) = match config.encoder {
            Encoder::Linear { channels } => {
                let shape = [hidden, channels];
                (
                    Some(Linear::load(tensors_ref, "linear_encoder", shape, device)?),
                    None,
                )
            }
            Encoder::Embedding { vocabulary } => {
                let shape = [vocabulary, hidden];
                let weight = tensors_ref.prefixed("embedding")("weight", &shape)?;
                let weight = parameter(weight, shape, device);
                (None, Some(Embedding { weight }))
            }
        };
        let blocks = config
            .state_dims
            .iter()
            .enumerate()
            .map(|(i, state)| {
                Block::load(
                    tensors_ref,
                    &format!("blocks.{i}"),
                    [*state, hidden],
                    device,
                )
            })
            .collect::<Result<_, _>>()?;
        let head = [config.classes, hidden];
        let linear_layer = Linear::load(tensors_ref, "linear_layer", head, device)?;
        if !tensors.0.is_empty() {
            return Err(WeightsError::Unknown {
                names: tensors.0.into_keys().collect(),
            });
        }
        Ok(Self {
            linear_encoder,
            embedding,
            blocks,
            linear_layer,
        })
    }

    /// Every parameter and statistic by its published name.
    pub fn to_tensors(&self) -> NamedTensors {
        NamedTensors::of(self)
    }

    /// Sizes of this model, as they are now.
    pub fn config(&self) -> ClassifierConfig {
        let (encoder, hidden_dim) = match (&self.linear_encoder, &self.embedding) {
            (Some(linear), _) => {
                let [hidden, channels] = linear.weight.dims();
                (Encoder::Linear { channels }, hidden)
            }
            (None, Some(embedding)) => {
                let [vocabulary, hidden] = embedding.weight.dims();
                (Encoder::Embedding { vocabulary }, hidden)
            }
            (None, None) => unreachable!("both constructors set an encoder"),
        };
        ClassifierConfig {
            encoder,
            hidden_dim,
            state_dims: self.state_dims(),
            classes: self.linear_layer.weight.dims()[0],
        }
    }

    /// State dimension of every block.
    pub fn state_dims(&self) -> Vec<usize> {
        self.blocks
            .iter()
            .map(|block| block.lru.nu_log.dims()[0])
            .collect()
    }

    /// The numbers that one state adds to the parameters, for every block.
    pub fn parameters_per_state(&self) -> Vec<usize> {
        let layers = self.blocks.iter().map(|block| &block.lru);
        layers
            .map(|lru| (lru.num_params() - lru.D.dims()[0]) / lru.nu_log.dims()[0])
            .collect()
    }

    /// Moves every block's running statistics towards those of a batch, first block first.
    pub fn update_statistics(&mut self, statistics: Vec<Statistics<B>>) {
        for (block, statistics) in self.blocks.iter_mut().zip(statistics) {
            block.update_statistics(statistics);
        }
    }
}

impl<B: Backend> Classifier<B> {
    /// What goes into the first block, `[batch, length, hidden]`.
    ///
    /// # Panics
    /// When the input is not of the kind that [`config`](Self::config) says the model encodes.
    pub fn encode(&self, input: Sequences<B>) -> Tensor<B, 3> {
        match (input, &self.linear_encoder, &self.embedding) {
            (Sequences::Features(x), Some(linear), _) => {
                let [batch, length, channels] = x.dims();
                let encoded = linear.forward(x.reshape([batch * length, channels]));
                let hidden = encoded.dims()[1];
                encoded.reshape([batch, length, hidden])
            }
            (Sequences::Tokens(tokens), _, Some(embedding)) => {
                burn::tensor::module::embedding(embedding.weight.val(), tokens)
            }
            _ => panic!("the input is of the kind that the model encodes"),
        }
    }

    /// Logits `[batch * answers, classes]` of what comes out of the last block, `[batch, length, hidden]`: the linear
    /// head on what is read out.
    ///
    /// # Panics
    /// As [`read_out`].
    pub fn head(&self, features: Tensor<B, 3>, readout: Readout<B>) -> Tensor<B, 2> {
        self.linear_layer.forward(read_out(features, readout))
    }

    /// Logits `[batch * answers, classes]` with running statistics and without dropout.
    ///
    /// # Panics
    /// When the input is not of the kind that [`config`](Self::config) says the model encodes, or as [`read_out`].
    pub fn forward(&self, input: Sequences<B>, readout: Readout<B>) -> Tensor<B, 2> {
        let features = self
            .blocks
            .iter()
            .fold(self.encode(input), |x, block| block.forward(x));
        self.head(features, readout)
    }

    /// What goes into every block's recurrence in evaluation, each `[batch, length, hidden]`, first block first.
    ///
    /// # Panics
    /// When the input is not of the kind that [`config`](Self::config) says the model encodes.
    pub fn recurrence_inputs(&self, input: Sequences<B>) -> Vec<Tensor<B, 3>> {
        let mut features = self.encode(input);
        let mut inputs = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            inputs.push(block.normalized(features.clone()));
            if index + 1 < self.blocks.len() {
                features = block.forward(features);
            }
        }
        inputs
    }

    /// Logits with batch statistics and dropout, and the statistics of every block for
    /// [`update_statistics`](Self::update_statistics).
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_train(
        &self,
        input: Sequences<B>,
        readout: Readout<B>,
        dropout: Option<Dropout>,
    ) -> (Tensor<B, 2>, Vec<Statistics<B>>) {
        let mut statistics = Vec::with_capacity(self.blocks.len());
        let mut features = self.encode(input);
        for (index, block) in self.blocks.iter().enumerate() {
            let dropout = dropout.map(|dropout| dropout.stream(index as u64));
            let (output, batch) = block.forward_train(features, dropout);
            features = output;
            statistics.push(batch);
        }
        (self.head(features, readout), statistics)
    }
}

//! Mamba and Mamba-2: residual layers of selective mixers between an encoder and a head.

mod dual;
mod gramian;
mod parts;
mod published;
mod selective;
mod weights;

pub use dual::DualMixer;
pub use gramian::{GramianEstimate, HeadBasis, HeadGramians};
pub use parts::{Conv1d, Projection, RMS_NORM_EPSILON, RmsNorm};
pub use selective::SelectiveMixer;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use self::published::PublishedConfig;
use crate::{
    backend::Backend,
    classifier::{Embedding, Encoder, Sequences},
    kept_rows::KeptRows,
    linear::Linear,
    parameter::{normal, parameter},
    readout::{Readout, read_out},
    tensors::NamedTensors,
};

/// Sizes of a [`Mamba`]: enough to tell which weights it has. Written under the names of the published models'
/// configurations, with the states of every layer as `state_sizes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "PublishedConfig", try_from = "PublishedConfig")]
pub struct MambaConfig {
    /// Encoder of the input.
    pub encoder: Encoder,
    /// Width of the residual stream.
    pub hidden_dim: usize,
    /// State dimension of every layer, first one first.
    pub state_dims: Vec<usize>,
    /// Channels of a mixer, a multiple of the width.
    pub channels: usize,
    /// Taps of the convolution.
    pub taps: usize,
    /// What the mixers are.
    pub mixer: MixerKind,
    /// What becomes of the last layer's output.
    pub head: MambaHead,
}

/// What the mixers of a [`Mamba`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MixerKind {
    /// [`SelectiveMixer`].
    Selective {
        /// Rank of the step's projection.
        step_rank: usize,
    },
    /// [`DualMixer`].
    Dual {
        /// Heads that share the channels.
        heads: usize,
    },
}

/// What becomes of the last layer's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MambaHead {
    /// An affine map to classes.
    Classes {
        /// How many.
        classes: usize,
    },
    /// A linear map to the tokens of the encoder.
    Tokens {
        /// Whether it is the encoder's table itself.
        tied: bool,
    },
}

impl MambaConfig {
    /// Logits of an answer.
    pub fn outputs(&self) -> usize {
        match (self.head, self.encoder) {
            (MambaHead::Classes { classes }, _) => classes,
            (MambaHead::Tokens { .. }, Encoder::Embedding { vocabulary }) => vocabulary,
            (MambaHead::Tokens { .. }, Encoder::Linear { .. }) => {
                unreachable!("a head over tokens needs tokens")
            }
        }
    }
}

/// A mixer of one kind or the other.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a handful exist, and nothing moves them around"
)]
pub enum Mixer<B: BurnBackend> {
    /// Of Mamba.
    Selective(SelectiveMixer<B>),
    /// Of Mamba-2.
    Dual(DualMixer<B>),
}

/// r + mixer(norm(r)).
#[derive(Module, Debug)]
pub struct MambaLayer<B: BurnBackend> {
    /// Before the mixer.
    pub norm: RmsNorm<B>,
    /// What mixes steps.
    pub mixer: Mixer<B>,
}

/// Everything but the head.
#[derive(Module, Debug)]
pub struct Backbone<B: BurnBackend> {
    /// Encoder of tokens; exactly one of the two encoders is there.
    pub embeddings: Option<Embedding<B>>,
    /// Encoder of real channels.
    pub linear_encoder: Option<Linear<B>>,
    /// Residual layers.
    pub layers: Vec<MambaLayer<B>>,
    /// After the last of them.
    pub norm_f: RmsNorm<B>,
}

/// Sequences to logits. Field names are the published tensor names.
///
/// # Source
/// `GD23` and `DG24`.
#[derive(Module, Debug)]
pub struct Mamba<B: BurnBackend> {
    /// Everything but the head.
    pub backbone: Backbone<B>,
    /// Head over tokens, if it is not the encoder's table and the model is no classifier.
    pub lm_head: Option<Projection<B>>,
    /// Head over classes.
    pub linear_layer: Option<Linear<B>>,
}

/// Standard deviation of an embedding at initialization.
const EMBEDDING_DEVIATION: f64 = 0.02;

impl<B: BurnBackend> Mixer<B> {
    /// Number of states of every channel.
    pub fn state_dim(&self) -> usize {
        match self {
            Self::Selective(mixer) => mixer.state_dim(),
            Self::Dual(mixer) => mixer.state_dim(),
        }
    }

    /// How the mixer looks with the states at `kept` only, in this order.
    pub fn selection(&self, kept: &[usize]) -> Vec<KeptRows> {
        match self {
            Self::Selective(mixer) => mixer.selection(kept),
            Self::Dual(mixer) => mixer.selection(kept),
        }
    }

    /// The mixer with the states at `kept` only, in this order. What they do is what they did.
    pub fn selected(&self, kept: &[usize]) -> Self {
        match self {
            Self::Selective(mixer) => Self::Selective(mixer.selected(kept)),
            Self::Dual(mixer) => Self::Dual(mixer.selected(kept)),
        }
    }

    fn init(
        config: &MambaConfig,
        state: usize,
        out_scale: f64,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        let (hidden, channels, taps) = (config.hidden_dim, config.channels, config.taps);
        match config.mixer {
            MixerKind::Selective { step_rank } => {
                let sizes = selective::Sizes {
                    hidden,
                    channels,
                    state,
                    taps,
                    step_rank,
                };
                Self::Selective(SelectiveMixer::init(sizes, out_scale, rng, device))
            }
            MixerKind::Dual { heads } => {
                let sizes = dual::Sizes {
                    hidden,
                    channels,
                    heads,
                    state,
                    order: None,
                    taps,
                };
                Self::Dual(DualMixer::init(sizes, out_scale, rng, device))
            }
        }
    }
}

impl<B: BurnBackend> Mamba<B> {
    /// Random weights that depend on the configuration and the seed alone, not on the backend.
    pub fn init(config: &MambaConfig, seed: u64, device: &B::Device) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let hidden = config.hidden_dim;
        let (mut embeddings, mut linear_encoder) = (None, None);
        match config.encoder {
            Encoder::Linear { channels } => {
                linear_encoder = Some(Linear::init(channels, hidden, rng, device));
            }
            Encoder::Embedding { vocabulary } => {
                let shape = [vocabulary, hidden];
                let values = normal(rng, vocabulary * hidden, EMBEDDING_DEVIATION);
                let weight = parameter(values, shape, device);
                embeddings = Some(Embedding { weight });
            }
        }
        // The sum of all layers keeps the size that one has.
        let out_scale = 1.0 / (config.state_dims.len() as f64).sqrt();
        let layers = config.state_dims.iter().map(|&state| MambaLayer {
            norm: RmsNorm::init(hidden, device),
            mixer: Mixer::init(config, state, out_scale, rng, device),
        });
        let layers = layers.collect();
        let (mut lm_head, mut linear_layer) = (None, None);
        match (config.head, config.encoder) {
            (MambaHead::Classes { classes }, _) => {
                linear_layer = Some(Linear::init(hidden, classes, rng, device));
            }
            (MambaHead::Tokens { tied: false }, Encoder::Embedding { vocabulary }) => {
                lm_head = Some(Projection::init(hidden, vocabulary, 1.0, rng, device));
            }
            (MambaHead::Tokens { .. }, _) => {}
        }
        Self {
            backbone: Backbone {
                embeddings,
                linear_encoder,
                layers,
                norm_f: RmsNorm::init(hidden, device),
            },
            lm_head,
            linear_layer,
        }
    }

    /// Every parameter by its published name.
    pub fn to_tensors(&self) -> NamedTensors {
        NamedTensors::of(self)
    }

    /// Sizes of this model, as they are now.
    pub fn config(&self) -> MambaConfig {
        let backbone = &self.backbone;
        let encoder = match (&backbone.embeddings, &backbone.linear_encoder) {
            (Some(table), _) => Encoder::Embedding {
                vocabulary: table.weight.dims()[0],
            },
            (None, Some(linear)) => Encoder::Linear {
                channels: linear.weight.dims()[1],
            },
            (None, None) => unreachable!("both constructors set an encoder"),
        };
        let head = match &self.linear_layer {
            Some(linear) => MambaHead::Classes {
                classes: linear.weight.dims()[0],
            },
            None => MambaHead::Tokens {
                tied: self.lm_head.is_none(),
            },
        };
        let (mixer, channels, taps) = match &backbone.layers[0].mixer {
            Mixer::Selective(mixer) => (
                MixerKind::Selective {
                    step_rank: mixer.step_rank(),
                },
                mixer.D.dims()[0],
                mixer.conv1d.weight.dims()[2],
            ),
            Mixer::Dual(mixer) => (
                MixerKind::Dual {
                    heads: mixer.A_log.dims()[0],
                },
                mixer.out_proj.weight.dims()[1],
                mixer.conv1d.weight.dims()[2],
            ),
        };
        MambaConfig {
            encoder,
            hidden_dim: backbone.norm_f.weight.dims()[0],
            state_dims: self.state_dims(),
            channels,
            taps,
            mixer,
            head,
        }
    }

    /// State dimension of every layer.
    pub fn state_dims(&self) -> Vec<usize> {
        let layers = self.backbone.layers.iter();
        layers.map(|layer| layer.mixer.state_dim()).collect()
    }

    /// The numbers that one state adds to the parameters, for every layer.
    pub fn parameters_per_state(&self) -> Vec<usize> {
        let layers = self.backbone.layers.iter();
        layers
            .map(|layer| match &layer.mixer {
                // A column of A, and a row each of the projections to B and C.
                Mixer::Selective(mixer) => 3 * mixer.D.dims()[0],
                // A row of both maps of every head.
                Mixer::Dual(mixer) => match &mixer.key_map {
                    Some(map) => 2 * mixer.A_log.dims()[0] * map.weight.dims()[1],
                    // A row each of the projections to B and C, and their filters with bias.
                    None => {
                        let [_, hidden] = mixer.in_proj.weight.dims();
                        2 * (hidden + mixer.conv1d.weight.dims()[2] + 1)
                    }
                },
            })
            .collect()
    }
}

impl<B: Backend> Mixer<B> {
    /// `[batch, length, hidden]` to the same.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            Self::Selective(mixer) => mixer.forward(input),
            Self::Dual(mixer) => mixer.forward(input),
        }
    }

    /// A score of every state index on calibration inputs; see [`SelectiveMixer::state_scores`].
    pub fn state_scores(
        &self,
        input: Tensor<B, 3>,
        lengths: &[usize],
        estimate: GramianEstimate,
    ) -> Vec<f64> {
        match self {
            Self::Selective(mixer) => mixer.state_scores(input, lengths, estimate),
            Self::Dual(mixer) => mixer.state_scores(input, lengths, estimate),
        }
    }
}

impl<B: Backend> MambaLayer<B> {
    /// `[batch, length, hidden]` to the same.
    pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
        let normalized = self.norm.forward(input.clone());
        input + self.mixer.forward(normalized)
    }
}

impl<B: Backend> Mamba<B> {
    /// What goes into the first layer, `[batch, length, hidden]`.
    ///
    /// # Panics
    /// When the input is not of the kind that [`config`](Self::config) says the model encodes.
    pub fn encode(&self, input: Sequences<B>) -> Tensor<B, 3> {
        let backbone = &self.backbone;
        match (input, &backbone.linear_encoder, &backbone.embeddings) {
            (Sequences::Features(x), Some(linear), _) => {
                let [batch, length, channels] = x.dims();
                let encoded = linear.forward(x.reshape([batch * length, channels]));
                let hidden = encoded.dims()[1];
                encoded.reshape([batch, length, hidden])
            }
            (Sequences::Tokens(tokens), _, Some(table)) => {
                burn::tensor::module::embedding(table.weight.val(), tokens)
            }
            _ => panic!("the input is of the kind that the model encodes"),
        }
    }

    /// What comes out of the last layer, normalized, `[batch, length, hidden]`.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    pub fn features(&self, input: Sequences<B>) -> Tensor<B, 3> {
        let layers = self.backbone.layers.iter();
        let features = layers.fold(self.encode(input), |x, layer| layer.forward(x));
        self.backbone.norm_f.forward(features)
    }

    /// Logits `[batch * answers, classes or tokens]`.
    ///
    /// # Panics
    /// As [`encode`](Self::encode), and as [`read_out`].
    pub fn forward(&self, input: Sequences<B>, readout: Readout<B>) -> Tensor<B, 2> {
        self.head(read_out(self.features(input), readout))
    }

    /// Logits of features, `[rows, hidden]`: over classes, or over tokens if the model has no classes.
    pub fn head(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        match (&self.linear_layer, &self.lm_head, &self.backbone.embeddings) {
            (Some(linear), ..) => linear.forward(features),
            (None, Some(head), _) => features.matmul(head.weight.val().transpose()),
            (None, None, Some(table)) => features.matmul(table.weight.val().transpose()),
            (None, None, None) => unreachable!("a model without a table has a head of its own"),
        }
    }

    /// What goes into every mixer, each `[batch, length, hidden]`, first layer first.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    pub fn mixer_inputs(&self, input: Sequences<B>) -> Vec<Tensor<B, 3>> {
        let mut features = self.encode(input);
        let mut inputs = Vec::with_capacity(self.backbone.layers.len());
        for (index, layer) in self.backbone.layers.iter().enumerate() {
            inputs.push(layer.norm.forward(features.clone()));
            if index + 1 < self.backbone.layers.len() {
                features = layer.forward(features);
            }
        }
        inputs
    }
}

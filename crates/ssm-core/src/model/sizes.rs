//! Sizes of a model: what is to be built, and what weights tell.

use serde::{Serialize, Serializer};

use super::names::Names;
use crate::{
    encoder::Encoder,
    head::Head,
    kinds::{LayerKind, LayerSettings, LayerShape},
    layer::Frame,
    tensors::{NamedTensors, WeightsError},
};

/// What a model is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Encoder of the input.
    pub encoder: Encoder,
    /// Width of the residual stream.
    pub hidden_dim: usize,
    /// State dimension of every layer, first one first.
    pub state_dims: Vec<usize>,
    /// Kind of the layers, and how they begin.
    pub layer: LayerSettings,
    /// What becomes of the last block's output.
    pub head: Head,
}

impl Architecture {
    /// Sizes of the model.
    pub fn sizes(&self) -> ModelSizes {
        ModelSizes {
            encoder: self.encoder,
            hidden_dim: self.hidden_dim,
            state_dims: self.state_dims.clone(),
            layer: self.layer.shape(self.hidden_dim),
            head: self.head,
        }
    }
}

/// Sizes of a model: enough to tell which weights it has. Serialized as its configuration in a file: of models with
/// [residual](Frame::Residual) layers under the names that published configurations use.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSizes {
    /// Encoder of the input.
    pub encoder: Encoder,
    /// Width of the residual stream.
    pub hidden_dim: usize,
    /// State dimension of every layer, first one first.
    pub state_dims: Vec<usize>,
    /// What the layers have in common.
    pub layer: LayerShape,
    /// What becomes of the last block's output.
    pub head: Head,
}

impl ModelSizes {
    /// Reads kind and sizes off the weights.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing, empty or has the wrong rank, or when two contradict each other.
    pub fn infer(tensors: &NamedTensors) -> Result<Self, WeightsError> {
        let frame = match tensors.has_any("backbone") {
            true => Frame::Residual,
            false => Frame::Gated,
        };
        let names = Names::of(frame);
        let (encoder, hidden_dim) = Encoder::sizes(tensors, names)?;
        let head = Head::sizes(tensors, names, encoder)?;
        let blocks = (0..).take_while(|&index| tensors.has_any(&names.block(index)));
        let kind = LayerKind::described_by(tensors, &names.block(0), frame);
        let (Some(kind), count @ 1..) = (kind, blocks.count()) else {
            let kinds = LayerKind::ALL.iter().filter(|kind| kind.frame() == frame);
            let layers = kinds.map(|kind| names.layer(0, *kind));
            return Err(WeightsError::NoBlock {
                layers: layers.collect(),
            });
        };
        let layers = (0..count)
            .map(|index| kind.sizes(tensors, &names.layer(index, kind), hidden_dim))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            encoder,
            hidden_dim,
            state_dims: layers.iter().map(|(_, state)| *state).collect(),
            // What else differs from the first layer is found when it is loaded.
            layer: layers[0].0.clone(),
            head,
        })
    }

    /// Kind of the layers.
    pub fn kind(&self) -> LayerKind {
        self.layer.kind()
    }

    /// Logits of an answer: classes, or tokens of a language model.
    pub fn outputs(&self) -> usize {
        match (self.head, self.encoder) {
            (Head::Classes { classes } | Head::Pair { classes }, _) => classes,
            (Head::Tokens { .. }, Encoder::Embedding { vocabulary }) => vocabulary,
            (Head::Tokens { .. }, Encoder::Linear { .. }) => {
                unreachable!("a head over tokens needs tokens")
            }
        }
    }

    /// Whether the answer of the model is the next token, at every step.
    pub fn is_language_model(&self) -> bool {
        matches!(self.head, Head::Tokens { .. })
    }

    /// Whether a model of these sizes becomes one of the other's when its states are cut, or grow: kind, number of layers
    /// and every size but the state dimensions are the same.
    pub fn equals_but_for_states(&self, other: &Self) -> bool {
        let state_dims = other.state_dims.clone();
        self.state_dims.len() == state_dims.len()
            && Self {
                state_dims,
                ..self.clone()
            } == *other
    }
}

/// The configuration of a model with gated blocks.
#[derive(Serialize)]
struct GatedConfig<'a> {
    kind: &'static str,
    encoder: Encoder,
    hidden_dim: usize,
    state_dims: &'a [usize],
    #[serde(flatten)]
    layer: &'a LayerShape,
    classes: usize,
}

/// The configuration of a model with residual layers. Keys as in `transformers`, and `state_sizes`, `input_size` and
/// `num_labels` for what those models do not have.
#[derive(Serialize)]
struct ResidualConfig<'a> {
    #[serde(flatten)]
    layer: &'a LayerShape,
    /// Tokens of the encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    vocab_size: Option<usize>,
    /// Channels of the encoder, if it takes no tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    input_size: Option<usize>,
    hidden_size: usize,
    num_hidden_layers: usize,
    /// The most that a layer has.
    state_size: usize,
    /// Those of every layer.
    state_sizes: &'a [usize],
    tie_word_embeddings: bool,
    /// Classes, if the head is over those.
    #[serde(skip_serializing_if = "Option::is_none")]
    num_labels: Option<usize>,
}

impl Serialize for ModelSizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.kind().frame() {
            Frame::Gated => GatedConfig {
                kind: self.kind().word(),
                encoder: self.encoder,
                hidden_dim: self.hidden_dim,
                state_dims: &self.state_dims,
                layer: &self.layer,
                classes: self.outputs(),
            }
            .serialize(serializer),
            Frame::Residual => {
                let (vocab_size, input_size) = match self.encoder {
                    Encoder::Embedding { vocabulary } => (Some(vocabulary), None),
                    Encoder::Linear { channels } => (None, Some(channels)),
                };
                ResidualConfig {
                    layer: &self.layer,
                    vocab_size,
                    input_size,
                    hidden_size: self.hidden_dim,
                    num_hidden_layers: self.state_dims.len(),
                    state_size: self.state_dims.iter().copied().max().unwrap_or_default(),
                    state_sizes: &self.state_dims,
                    tie_word_embeddings: self.head == Head::Tokens { tied: true },
                    num_labels: match self.head {
                        Head::Tokens { .. } => None,
                        _ => Some(self.outputs()),
                    },
                }
                .serialize(serializer)
            }
        }
    }
}

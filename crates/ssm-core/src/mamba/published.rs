//! The sizes of a model under the names that published configurations use.

use serde::{Deserialize, Serialize};

use super::{MambaConfig, MambaHead, MixerKind};
use crate::classifier::Encoder;

/// Keys as in `transformers`, and `state_sizes`, `input_size` and `num_labels` for what those models do not have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PublishedConfig {
    model_type: ModelType,
    /// Tokens of the encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vocab_size: Option<usize>,
    /// Channels of the encoder, if it takes no tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_size: Option<usize>,
    hidden_size: usize,
    num_hidden_layers: usize,
    expand: usize,
    /// Channels of a mixer, where they are no multiple of the width.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intermediate_size: Option<usize>,
    conv_kernel: usize,
    /// The most that a layer has.
    state_size: usize,
    /// Those of every layer.
    state_sizes: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_step_rank: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_heads: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head_dim: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n_groups: Option<usize>,
    tie_word_embeddings: bool,
    /// Classes, if the head is over those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    num_labels: Option<usize>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModelType {
    Mamba,
    Mamba2,
}

impl From<MambaConfig> for PublishedConfig {
    fn from(config: MambaConfig) -> Self {
        let (vocab_size, input_size) = match config.encoder {
            Encoder::Embedding { vocabulary } => (Some(vocabulary), None),
            Encoder::Linear { channels } => (None, Some(channels)),
        };
        let (model_type, time_step_rank, num_heads) = match config.mixer {
            MixerKind::Selective { step_rank } => (ModelType::Mamba, Some(step_rank), None),
            MixerKind::Dual { heads } => (ModelType::Mamba2, None, Some(heads)),
        };
        Self {
            model_type,
            vocab_size,
            input_size,
            hidden_size: config.hidden_dim,
            num_hidden_layers: config.state_dims.len(),
            expand: config.channels / config.hidden_dim,
            intermediate_size: (!config.channels.is_multiple_of(config.hidden_dim))
                .then_some(config.channels),
            conv_kernel: config.taps,
            state_size: config.state_dims.iter().copied().max().unwrap_or_default(),
            state_sizes: config.state_dims,
            time_step_rank,
            num_heads,
            head_dim: num_heads.map(|heads| config.channels / heads),
            n_groups: num_heads.map(|_| 1),
            tie_word_embeddings: config.head == MambaHead::Tokens { tied: true },
            num_labels: match config.head {
                MambaHead::Classes { classes } => Some(classes),
                MambaHead::Tokens { .. } => None,
            },
        }
    }
}

impl TryFrom<PublishedConfig> for MambaConfig {
    type Error = String;

    fn try_from(config: PublishedConfig) -> Result<Self, String> {
        let needed = |name: &str| format!("`{name}` is missing");
        Ok(Self {
            encoder: match (config.vocab_size, config.input_size) {
                (Some(vocabulary), _) => Encoder::Embedding { vocabulary },
                (None, Some(channels)) => Encoder::Linear { channels },
                (None, None) => return Err(needed("vocab_size")),
            },
            hidden_dim: config.hidden_size,
            state_dims: config.state_sizes,
            channels: config
                .intermediate_size
                .unwrap_or_else(|| config.expand.saturating_mul(config.hidden_size)),
            taps: config.conv_kernel,
            mixer: match config.model_type {
                ModelType::Mamba => MixerKind::Selective {
                    step_rank: config
                        .time_step_rank
                        .ok_or_else(|| needed("time_step_rank"))?,
                },
                ModelType::Mamba2 => MixerKind::Dual {
                    heads: config.num_heads.ok_or_else(|| needed("num_heads"))?,
                },
            },
            head: match config.num_labels {
                Some(classes) => MambaHead::Classes { classes },
                None => MambaHead::Tokens {
                    tied: config.tie_word_embeddings,
                },
            },
        })
    }
}

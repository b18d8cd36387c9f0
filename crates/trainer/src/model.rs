//! The model that a configuration asks for.

use datasets::{Content, Shape, Target};
use ssm_core::{
    Classifier, ClassifierConfig, Encoder, LruInit, Mamba, MambaConfig, MambaHead, MixerKind,
    Model, ModelConfig, TrainingBackend,
};

use crate::config::{Config, LayerKind};
use crate::seeds::{Purpose, derive};

/// Sizes of the model for examples of this shape.
pub(crate) fn sizes(config: &Config, shape: Shape) -> ModelConfig {
    let model = &config.model;
    let (hidden_dim, state_dims) = (model.hidden_dim, vec![model.state_dim; model.blocks]);
    let channels = model.expand * hidden_dim;
    let head = match (shape.target, shape.content) {
        // Answers that are tokens themselves: a language model.
        (Target::LastSteps { .. }, Content::Tokens { vocabulary })
            if vocabulary == shape.classes =>
        {
            MambaHead::Tokens { tied: false }
        }
        _ => MambaHead::Classes {
            classes: shape.classes,
        },
    };
    let mamba = |mixer| {
        ModelConfig::Mamba(MambaConfig {
            encoder: encoder(shape),
            hidden_dim,
            state_dims: state_dims.clone(),
            channels,
            taps: model.conv_kernel,
            mixer,
            head,
        })
    };
    match model.kind {
        LayerKind::Lru => ModelConfig::Lru(ClassifierConfig {
            encoder: encoder(shape),
            hidden_dim,
            state_dims,
            classes: shape.classes,
        }),
        LayerKind::Mamba => mamba(MixerKind::Selective {
            step_rank: model
                .dt_rank
                .unwrap_or(hidden_dim.div_ceil(CHANNELS_PER_RANK)),
        }),
        LayerKind::Mamba2 => mamba(MixerKind::Dual {
            heads: channels / model.head_dim,
        }),
    }
}

/// Channels of the model for which the step's projection has one dimension, unless told otherwise.
const CHANNELS_PER_RANK: usize = 16;

fn encoder(shape: Shape) -> Encoder {
    match shape.content {
        Content::Values => Encoder::Linear {
            channels: shape.channels,
        },
        Content::Tokens { vocabulary } => Encoder::Embedding { vocabulary },
    }
}

/// A model of these sizes with random weights, by the configuration's seed.
pub(crate) fn init<B: TrainingBackend>(
    sizes: &ModelConfig,
    config: &Config,
    device: &B::Device,
) -> Model<B> {
    let seed = derive(config.training.seed, Purpose::Weights);
    match sizes {
        ModelConfig::Lru(sizes) => {
            let model = &config.model;
            let init = LruInit {
                r_min: model.r_min,
                r_max: model.r_max,
                max_phase: model.max_phase,
            };
            Model::Lru(Classifier::init(sizes, init, seed, device))
        }
        ModelConfig::Mamba(sizes) => Model::Mamba(Mamba::init(sizes, seed, device)),
    }
}

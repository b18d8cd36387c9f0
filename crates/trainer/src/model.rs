//! The model that a configuration asks for.

use datasets::{Content, Shape};
use ssm_core::{
    Classifier, ClassifierConfig, Encoder, LruInit, Model, ModelConfig, TrainingBackend,
};

use crate::config::{Config, ConfigError, LayerKind};
use crate::seeds::{Purpose, derive};

/// Sizes of the model for examples of this shape.
///
/// # Errors
/// [`ConfigError::Range`] for a kind of model that cannot be trained.
pub(crate) fn sizes(config: &Config, shape: Shape) -> Result<ModelConfig, ConfigError> {
    let model = &config.model;
    match model.kind {
        LayerKind::Lru => Ok(ModelConfig::Lru(ClassifierConfig {
            encoder: encoder(shape),
            hidden_dim: model.hidden_dim,
            state_dims: vec![model.state_dim; model.blocks],
            classes: shape.classes,
        })),
        kind @ (LayerKind::Mamba | LayerKind::Mamba2) => Err(ConfigError::Range {
            key: "model.kind",
            value: kind.to_string(),
            expected: "only `lru` can be trained",
        }),
    }
}

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
    }
}

//! The model that a configuration asks for.

use datasets::{Content, Shape, Target};
use ssm_core::{Architecture, Encoder, Frame, Head, Model, TrainingBackend};

use crate::config::Config;
use crate::seeds::{Purpose, derive};

/// The model for examples of this shape.
pub(crate) fn architecture(config: &Config, shape: Shape) -> Architecture {
    let model = &config.model;
    let classes = shape.classes;
    let head = match (shape.target, shape.content) {
        _ if shape.sequences == 2 => Head::Pair { classes },
        // Answers that are tokens themselves: a language model, if the kind is one of those.
        (Target::LastSteps { .. }, Content::Tokens { vocabulary })
            if vocabulary == shape.classes && model.kind.frame() == Frame::Residual =>
        {
            Head::Tokens { tied: false }
        }
        _ => Head::Classes { classes },
    };
    Architecture {
        encoder: match shape.content {
            Content::Values => Encoder::Linear {
                channels: shape.channels,
            },
            Content::Tokens { vocabulary } => Encoder::Embedding { vocabulary },
        },
        hidden_dim: model.hidden_dim,
        state_dims: vec![model.state_dim; model.blocks],
        layer: model.layer(),
        head,
    }
}

/// A model with random weights, by the configuration's seed.
pub(crate) fn init<B: TrainingBackend>(
    architecture: &Architecture,
    config: &Config,
    device: &B::Device,
) -> Model<B> {
    let seed = derive(config.training.seed, Purpose::Weights);
    Model::init(architecture, seed, device)
}

//! A model of any kind, as something to train, to keep and to ask.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    block::Statistics,
    classifier::{Classifier, ClassifierConfig, Encoder, Sequences},
    dropout::Dropout,
    mamba::{Mamba, MambaConfig, MambaHead},
    readout::Readout,
    tensors::{NamedTensors, WeightsError},
};

/// Sizes of a model: enough to tell which weights it has.
///
/// The kind is not written down with them, since the sizes of each kind have names of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ModelConfig {
    /// Of blocks around Linear Recurrent Units.
    Lru(ClassifierConfig),
    /// Of Mamba or Mamba-2.
    Mamba(MambaConfig),
}

impl ModelConfig {
    /// Reads kind and sizes off the weights.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing, empty or has the wrong rank.
    pub fn infer(tensors: &NamedTensors) -> Result<Self, WeightsError> {
        match Mamba::<burn_flex::Flex>::is_described_by(tensors) {
            true => MambaConfig::infer(tensors).map(Self::Mamba),
            false => ClassifierConfig::infer(tensors).map(Self::Lru),
        }
    }

    /// What goes into the model at every step.
    pub fn encoder(&self) -> Encoder {
        match self {
            Self::Lru(config) => config.encoder,
            Self::Mamba(config) => config.encoder,
        }
    }

    /// Classes of the head; those of a language model are its tokens.
    pub fn classes(&self) -> usize {
        match self {
            Self::Lru(config) => config.classes,
            Self::Mamba(config) => config.outputs(),
        }
    }

    /// Whether the answer of the model is the next token, at every step.
    pub fn is_language_model(&self) -> bool {
        match self {
            Self::Lru(_) => false,
            Self::Mamba(config) => matches!(config.head, MambaHead::Tokens { .. }),
        }
    }

    /// State dimension of every layer, first layer first.
    pub fn state_dims(&self) -> &[usize] {
        match self {
            Self::Lru(config) => &config.state_dims,
            Self::Mamba(config) => &config.state_dims,
        }
    }

    /// Whether a model of these sizes becomes one of the other's when its states are cut, or grow: kind, number of layers
    /// and every size but the state dimensions are the same.
    pub fn equals_but_for_states(&self, other: &Self) -> bool {
        if self.state_dims().len() != other.state_dims().len() {
            return false;
        }
        match (self, other) {
            (Self::Lru(config), Self::Lru(other)) => {
                let state_dims = other.state_dims.clone();
                let config = config.clone();
                ClassifierConfig {
                    state_dims,
                    ..config
                } == *other
            }
            (Self::Mamba(config), Self::Mamba(other)) => {
                let state_dims = other.state_dims.clone();
                let config = config.clone();
                MambaConfig {
                    state_dims,
                    ..config
                } == *other
            }
            _ => false,
        }
    }
}

/// A model of any kind, sequences to logits. The kind is no part of the names of its parameters.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a handful exist, and nothing moves them around"
)]
pub enum Model<B: BurnBackend> {
    /// Blocks around Linear Recurrent Units.
    Lru(Classifier<B>),
    /// Mamba or Mamba-2.
    Mamba(Mamba<B>),
}

impl<B: BurnBackend> Model<B> {
    /// The model that `tensors` describe; kind and sizes are read off them, every tensor must be used.
    ///
    /// # Errors
    /// [`WeightsError`] names the first tensor that is missing, misshapen, not finite or unknown.
    pub fn from_tensors(tensors: NamedTensors, device: &B::Device) -> Result<Self, WeightsError> {
        match Mamba::<B>::is_described_by(&tensors) {
            true => Mamba::from_tensors(tensors, device).map(Self::Mamba),
            false => Classifier::from_tensors(tensors, device).map(Self::Lru),
        }
    }

    /// Every parameter and statistic by its published name.
    pub fn to_tensors(&self) -> NamedTensors {
        NamedTensors::of(self)
    }

    /// Sizes of this model, as they are now.
    pub fn config(&self) -> ModelConfig {
        match self {
            Self::Lru(model) => ModelConfig::Lru(model.config()),
            Self::Mamba(model) => ModelConfig::Mamba(model.config()),
        }
    }

    /// What goes into the model at every step.
    pub fn encoder(&self) -> Encoder {
        self.config().encoder()
    }

    /// State dimension of every layer, first layer first.
    pub fn state_dims(&self) -> Vec<usize> {
        match self {
            Self::Lru(model) => model.state_dims(),
            Self::Mamba(model) => model.state_dims(),
        }
    }

    /// The numbers that one state adds to the model's parameters, for every layer.
    pub fn parameters_per_state(&self) -> Vec<usize> {
        match self {
            Self::Lru(model) => model.parameters_per_state(),
            Self::Mamba(model) => model.parameters_per_state(),
        }
    }

    /// Moves running statistics towards those of a batch, as [`forward_train`](Self::forward_train) gave them.
    pub fn update_statistics(&mut self, statistics: Vec<Statistics<B>>) {
        match self {
            Self::Lru(model) => model.update_statistics(statistics),
            Self::Mamba(_) => {}
        }
    }
}

impl<B: Backend> Model<B> {
    /// Logits `[batch * answers, classes]` with running statistics and without dropout.
    ///
    /// # Panics
    /// When the input is not of the kind that [`encoder`](Self::encoder) says, or as
    /// [`read_out`](crate::read_out).
    pub fn forward(&self, input: Sequences<B>, readout: Readout<B>) -> Tensor<B, 2> {
        match self {
            Self::Lru(model) => model.forward(input, readout),
            Self::Mamba(model) => model.forward(input, readout),
        }
    }

    /// Logits with batch statistics and dropout, and the statistics for
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
        match self {
            Self::Lru(model) => model.forward_train(input, readout, dropout),
            // No layer of it normalizes by statistics or drops anything.
            Self::Mamba(model) => (model.forward(input, readout), Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lru::LruInit;
    use burn::backend::Flex;

    fn sizes(state_dims: &[usize]) -> ClassifierConfig {
        ClassifierConfig {
            encoder: Encoder::Embedding { vocabulary: 5 },
            hidden_dim: 4,
            state_dims: state_dims.to_vec(),
            classes: 3,
        }
    }

    fn classifier() -> Classifier<Flex> {
        let init = LruInit {
            r_min: 0.5,
            r_max: 0.9,
            max_phase: 6.0,
        };
        Classifier::init(&sizes(&[3, 2]), init, 1, &Default::default())
    }

    #[test]
    fn a_model_has_the_tensors_of_its_kind_and_comes_back_from_them() {
        let classifier = classifier();
        let tensors = classifier.to_tensors();
        let model = Model::Lru(classifier);
        assert_eq!(model.to_tensors(), tensors);
        let again = Model::<Flex>::from_tensors(tensors.clone(), &Default::default()).unwrap();
        assert_eq!(again.to_tensors(), tensors);
        assert_eq!(again.config(), ModelConfig::Lru(sizes(&[3, 2])));
    }

    #[test]
    fn sizes_are_written_as_those_of_the_kind() {
        let json = serde_json::to_string(&sizes(&[3, 2])).unwrap();
        let config: ModelConfig = serde_json::from_str(&json).unwrap();
        assert_eq!(config, ModelConfig::Lru(sizes(&[3, 2])));
        assert_eq!(serde_json::to_string(&config).unwrap(), json);
    }

    #[test]
    fn one_state_more_adds_as_many_parameters_as_it_says() {
        let model = Model::Lru(classifier());
        let init = LruInit {
            r_min: 0.5,
            r_max: 0.9,
            max_phase: 6.0,
        };
        let grown = Classifier::<Flex>::init(&sizes(&[4, 2]), init, 1, &Default::default());
        let added = grown.num_params() - model.num_params();
        assert_eq!(model.parameters_per_state(), [added, added]);
    }

    #[test]
    fn only_states_may_differ() {
        let config = ModelConfig::Lru(sizes(&[3, 2]));
        assert!(config.equals_but_for_states(&ModelConfig::Lru(sizes(&[1, 2]))));
        assert!(!config.equals_but_for_states(&ModelConfig::Lru(sizes(&[3]))));
        let wider = ClassifierConfig {
            hidden_dim: 5,
            ..sizes(&[3, 2])
        };
        assert!(!config.equals_but_for_states(&ModelConfig::Lru(wider)));
    }
}

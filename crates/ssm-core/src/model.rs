//! A model of any kind: encoder, blocks, head, and the published names of its tensors.

pub(crate) mod names;
mod sizes;

pub use sizes::{Architecture, ModelSizes};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::names::Names;
use crate::{
    backend::Backend,
    block::{Block, Statistics},
    dropout::Dropout,
    encoder::{EncoderLayer, Sequences},
    head::HeadLayer,
    kinds::LayerKind,
    layer::{Frame, Surroundings},
    mamba::RmsNorm,
    module_path::ModulePath,
    readout::{Readout, read_out},
    tensors::{NamedTensor, NamedTensors, WeightsError},
};

/// Sequences to logits.
///
/// Sequences of unequal length in a batch are padded behind their end. What a step answers depends on no later step, and
/// a [readout](Readout) leaves padding out, but the batch normalization of training counts padded steps like any others,
/// as published code does.
///
/// # Source
/// `LRU23` and `CompreSSM26` (gated blocks), `GD23` and `DG24` (residual layers).
#[derive(Module, Debug)]
pub struct Model<B: BurnBackend> {
    /// From the input to the residual stream.
    pub encoder: EncoderLayer<B>,
    /// Residual blocks, at least one, all of one kind.
    pub blocks: Vec<Block<B>>,
    /// After the last of them, if they are residual layers.
    pub norm: Option<RmsNorm<B>>,
    /// From what is read out to logits.
    pub head: HeadLayer<B>,
}

impl<B: Backend> Model<B> {
    /// Random weights that depend on the architecture and the seed alone, not on the backend.
    ///
    /// # Panics
    /// Without layers, or with a head over tokens on an encoder that takes none.
    pub fn init(architecture: &Architecture, seed: u64, device: &B::Device) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let Architecture {
            encoder,
            hidden_dim: hidden,
            state_dims,
            layer,
            head,
        } = architecture;
        assert!(!state_dims.is_empty(), "a model has at least one layer");
        let (encoder, hidden, frame) = (*encoder, *hidden, layer.kind().frame());
        let around = Surroundings {
            hidden,
            layers: state_dims.len(),
        };
        Self {
            encoder: EncoderLayer::init(encoder, hidden, frame, rng, device),
            blocks: state_dims
                .iter()
                .map(|&state| Block::init(around, state, layer, rng, device))
                .collect(),
            norm: (frame == Frame::Residual).then(|| RmsNorm::init(hidden, device)),
            head: HeadLayer::init(*head, encoder, hidden, rng, device),
        }
    }

    /// The model that `tensors` describe; kind and sizes are read off them, every tensor must be used.
    ///
    /// The table of tokens may have the name of other authors' code, and a head that repeats it is left out.
    ///
    /// # Errors
    /// [`WeightsError`] names the first tensor that is missing, misshapen, not finite or unknown.
    pub fn from_tensors(
        mut tensors: NamedTensors,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        let ModelSizes {
            encoder,
            hidden_dim: hidden,
            state_dims,
            layer,
            head,
        } = ModelSizes::infer(&tensors)?;
        let names = Names::of(layer.kind().frame());
        let all = &mut tensors;
        let model = Self {
            encoder: EncoderLayer::load(all, names, encoder, hidden, device)?,
            head: HeadLayer::load(all, head, encoder, hidden, device)?,
            blocks: (0..state_dims.len())
                .map(|index| Block::load(all, &names.block(index), hidden, &layer, device))
                .collect::<Result<_, _>>()?,
            norm: names
                .last_norm
                .map(|name| RmsNorm::load(all, name, hidden, device))
                .transpose()?,
        };
        match tensors.0.is_empty() {
            true => Ok(model),
            false => Err(WeightsError::Unknown {
                names: tensors.0.into_keys().collect(),
            }),
        }
    }

    /// Kind of its layers.
    pub fn kind(&self) -> LayerKind {
        self.blocks[0].layer.kind()
    }

    /// Sizes of this model, as they are now.
    pub fn sizes(&self) -> ModelSizes {
        ModelSizes {
            encoder: self.encoder.sizes(),
            hidden_dim: self.hidden_dim(),
            state_dims: self.state_dims(),
            layer: self.blocks[0].layer.shape(),
            head: self.head.sizes(),
        }
    }

    /// Width of the residual stream.
    pub fn hidden_dim(&self) -> usize {
        match &self.encoder {
            EncoderLayer::Linear(linear) => linear.weight.dims()[0],
            EncoderLayer::Embedding(table) => table.weight.dims()[1],
        }
    }

    /// State dimension of every layer, first layer first.
    pub fn state_dims(&self) -> Vec<usize> {
        let blocks = self.blocks.iter();
        blocks.map(|block| block.layer.state_dim()).collect()
    }

    /// The numbers that one state adds to the model's parameters, for every layer.
    pub fn parameters_per_state(&self) -> Vec<usize> {
        let blocks = self.blocks.iter();
        blocks
            .map(|block| block.layer.parameters_per_state())
            .collect()
    }

    /// Path of the layer of a block, before the names of its parameters.
    pub fn layer_path(&self, index: usize) -> String {
        let kind = self.kind();
        Names::of(kind.frame()).layer(index, kind)
    }

    /// Every parameter and statistic by its published name.
    pub fn to_tensors(&self) -> NamedTensors {
        let mut tensors = NamedTensors::default();
        self.visit_named(&mut tensors);
        tensors
    }

    /// Visits every parameter and statistic with its published name.
    pub fn visit_named(&self, visitor: &mut impl NamedVisitor<B>) {
        self.visit(&mut Named {
            path: ModulePath::default(),
            kind: self.kind(),
            inner: visitor,
        });
    }

    /// The model with every parameter and statistic replaced, each with its published name at hand.
    pub fn map_named(self, mapper: &mut impl NamedMapper<B>) -> Self {
        let kind = self.kind();
        self.map(&mut Named {
            path: ModulePath::default(),
            kind,
            inner: mapper,
        })
    }

    /// Moves running statistics towards those of a batch, as [`forward_train`](Self::forward_train) gave them.
    pub fn update_statistics(&mut self, statistics: Vec<Option<Statistics<B>>>) {
        for (block, statistics) in self.blocks.iter_mut().zip(statistics) {
            block.update_statistics(statistics);
        }
    }

    /// What comes out of the last block, and is normalized if the model has a norm there; `[batch, length, hidden]`.
    fn last(&self, features: Tensor<B, 3>) -> Tensor<B, 3> {
        match &self.norm {
            Some(norm) => norm.forward(features),
            None => features,
        }
    }

    /// What the head reads, `[batch, length, hidden]`, with running statistics and without dropout.
    ///
    /// # Panics
    /// When the input is not of the kind that the model encodes.
    pub fn features(&self, input: Sequences<B>) -> Tensor<B, 3> {
        let encoded = self.encoder.forward(input);
        let blocks = self.blocks.iter();
        self.last(blocks.fold(encoded, |x, block| block.forward(x)))
    }

    /// What the head reads in training, and the statistics of every block.
    fn features_train(
        &self,
        input: Sequences<B>,
        dropout: Option<Dropout>,
    ) -> (Tensor<B, 3>, Vec<Option<Statistics<B>>>) {
        let mut statistics = Vec::with_capacity(self.blocks.len());
        let mut features = self.encoder.forward(input);
        for (index, block) in self.blocks.iter().enumerate() {
            let dropout = dropout.map(|dropout| dropout.stream(index as u64));
            let (output, batch) = block.forward_train(features, dropout);
            features = output;
            statistics.push(batch);
        }
        (self.last(features), statistics)
    }

    /// Logits `[batch * answers, classes or tokens]` with running statistics and without dropout.
    ///
    /// A model of pairs reads the first sequences of all pairs and behind them the second ones as one batch, twice as
    /// long as its answers.
    ///
    /// # Panics
    /// When the input is not of the kind that the model encodes, when a model of pairs is given an odd number of sequences,
    /// or as [`read_out`].
    pub fn forward(&self, input: Sequences<B>, readout: Readout<B>) -> Tensor<B, 2> {
        self.logits(read_out(self.features(input), readout))
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
    ) -> (Tensor<B, 2>, Vec<Option<Statistics<B>>>) {
        let (features, statistics) = self.features_train(input, dropout);
        (self.logits(read_out(features, readout)), statistics)
    }

    /// Logits of what is read out, `[rows, hidden]`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn logits(&self, features: Tensor<B, 2>) -> Tensor<B, 2> {
        self.head.forward(features, &self.encoder)
    }

    /// What goes into every layer in evaluation, each `[batch, length, hidden]`, first layer first.
    ///
    /// # Panics
    /// When the input is not of the kind that the model encodes.
    pub fn layer_inputs(&self, input: Sequences<B>) -> Vec<Tensor<B, 3>> {
        let mut features = self.encoder.forward(input);
        let mut inputs = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            inputs.push(block.normalized(features.clone()));
            if index + 1 < self.blocks.len() {
                features = block.forward(features);
            }
        }
        inputs
    }
}

/// Looks at the parameters of a [`Model`] by their published names.
pub trait NamedVisitor<B: BurnBackend> {
    /// Looks at one of them.
    fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>);
}

/// Replaces the parameters of a [`Model`], which it knows by their published names.
pub trait NamedMapper<B: BurnBackend> {
    /// Replaces one of them.
    fn map<const D: usize>(
        &mut self,
        name: String,
        param: Param<Tensor<B, D>>,
    ) -> Param<Tensor<B, D>>;
}

/// Follows burn through a model.
struct Named<'a, T> {
    path: ModulePath,
    kind: LayerKind,
    inner: &'a mut T,
}

impl<T> Named<'_, T> {
    fn name(&self) -> String {
        names::published(self.path.elements(), self.kind)
    }
}

impl<B: BurnBackend, T: NamedVisitor<B>> ModuleVisitor<B> for Named<'_, T> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.inner.visit(self.name(), param);
    }
}

impl<B: BurnBackend, T: NamedMapper<B>> ModuleMapper<B> for Named<'_, T> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.inner.map(self.name(), param)
    }
}

impl<B: BurnBackend> NamedVisitor<B> for NamedTensors {
    fn visit<const D: usize>(&mut self, name: String, param: &Param<Tensor<B, D>>) {
        self.0.insert(name, NamedTensor::of(param.val()));
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        backend::Flex,
        tensor::{Int, activation::relu},
    };

    use super::*;
    use crate::{
        encoder::Encoder,
        head::Head,
        kinds::LayerSettings,
        layer::Group,
        lru::LruInit,
        mamba::{DualSettings, SelectiveSettings},
        s4d::S4dSettings,
        s5::S5Settings,
    };

    fn architecture(layer: LayerSettings, state_dims: &[usize]) -> Architecture {
        Architecture {
            encoder: Encoder::Embedding { vocabulary: 5 },
            hidden_dim: 4,
            state_dims: state_dims.to_vec(),
            layer,
            head: Head::Classes { classes: 3 },
        }
    }

    /// One of every kind.
    fn kinds() -> Vec<LayerSettings> {
        let dual = DualSettings {
            head_dim: 4,
            ..DualSettings::default()
        };
        let all = vec![
            LayerSettings::Lru(LruInit::default()),
            LayerSettings::S5(S5Settings::default()),
            LayerSettings::S4d(S4dSettings::default()),
            LayerSettings::Mamba(SelectiveSettings::default()),
            LayerSettings::Mamba2(dual),
        ];
        assert_eq!(all.len(), LayerKind::ALL.len());
        all
    }

    fn model(architecture: &Architecture) -> Model<Flex> {
        Model::init(architecture, 1, &Default::default())
    }

    #[test]
    fn a_model_comes_back_from_its_tensors() {
        for layer in kinds() {
            for head in [
                Head::Classes { classes: 3 },
                Head::Pair { classes: 3 },
                Head::Tokens { tied: true },
                Head::Tokens { tied: false },
            ] {
                let architecture = Architecture {
                    head,
                    ..architecture(layer.clone(), &[3, 2])
                };
                let tensors = model(&architecture).to_tensors();
                let again = Model::<Flex>::from_tensors(tensors.clone(), &Default::default());
                let again = again.unwrap();
                assert_eq!(again.to_tensors(), tensors);
                assert_eq!(again.sizes(), architecture.sizes());
            }
        }
    }

    #[test]
    fn a_head_over_pairs_reads_both_sequences_of_each() {
        let pairs = Architecture {
            head: Head::Pair { classes: 3 },
            ..architecture(LayerSettings::Lru(LruInit::default()), &[3, 2])
        };
        let model = model(&pairs);
        let tokens = [[0, 1, 2, 4], [3, 3, 0, 1], [4, 0, 0, 2], [1, 2, 3, 0]];
        let tokens = Tensor::<Flex, 2, Int>::from_ints(tokens, &Default::default());
        let logits = model.forward(Sequences::Tokens(tokens.clone()), Readout::Mean);
        let HeadLayer::Pair(head) = &model.head else {
            panic!("{:?}", model.head);
        };
        for (answer, pair) in [[0, 2], [1, 3]].into_iter().enumerate() {
            let features = pair.map(|row| {
                let alone = Sequences::Tokens(tokens.clone().narrow(0, row, 1));
                read_out(model.features(alone), Readout::Mean)
            });
            let x = Tensor::cat(features.into(), 1);
            let x = relu(head.layers[0].forward(x));
            let x = relu(head.layers[1].forward(x));
            let want = head.layers[2].forward(x);
            let got = logits.clone().narrow(0, answer, 1);
            // A product of another height may add in another order.
            assert!((got - want).abs().max().into_scalar() < 1e-6);
        }
    }

    #[test]
    fn one_state_more_adds_as_many_parameters_as_it_says() {
        for layer in kinds() {
            let small = model(&architecture(layer.clone(), &[3, 2]));
            let large = model(&architecture(layer, &[4, 2]));
            let added = large.num_params() - small.num_params();
            assert_eq!(small.parameters_per_state(), [added, added]);
        }
    }

    #[test]
    fn only_states_may_differ() {
        for layer in kinds() {
            let sizes = architecture(layer.clone(), &[3, 2]).sizes();
            let of = |state_dims: &[usize]| architecture(layer.clone(), state_dims).sizes();
            assert!(sizes.equals_but_for_states(&of(&[1, 2])));
            assert!(!sizes.equals_but_for_states(&of(&[3])));
            let wider = ModelSizes {
                hidden_dim: 8,
                ..sizes.clone()
            };
            assert!(!sizes.equals_but_for_states(&wider));
        }
    }

    #[test]
    fn the_parameters_of_the_recurrence_are_a_group_of_their_own() {
        let layers = kinds();
        for (layer, recurrent, main) in [
            (
                &layers[0],
                vec![
                    "blocks.0.lru.nu_log",
                    "blocks.12.lru.B_im",
                    "blocks.1.lru.gamma_log",
                ],
                vec![
                    "blocks.0.lru.C_re",
                    "blocks.0.lru.D",
                    "blocks.0.glu.w1.weight",
                    "nu_log",
                ],
            ),
            (
                &layers[3],
                vec![
                    "backbone.layers.0.mixer.A_log",
                    "backbone.layers.0.mixer.dt_proj.bias",
                ],
                vec![
                    "backbone.layers.0.mixer.dt_proj.weight",
                    "backbone.layers.0.mixer.conv1d.bias",
                ],
            ),
        ] {
            let kind = layer.kind();
            for name in recurrent {
                assert_eq!(kind.group_of(name), Group::Recurrent, "{name}");
            }
            for name in main {
                assert_eq!(kind.group_of(name), Group::Main, "{name}");
            }
        }
    }
}

//! Layers that mix the steps of a sequence: what a block, a file, a stream and a cut ask of one.
//!
//! A layer is a module that implements [`SequenceLayer`] and [`Compressible`], and a line in the list at the end of this
//! file. From that list come the enums that models, files and configurations choose by.

use std::fmt::Debug;

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use burn_flex::Flex;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    backend::Backend,
    compression::{CompressionError, Drift, Method, Reduced, Seen},
    lru::Lru,
    mamba::{DualMixer, SelectiveMixer},
    s4d::S4d,
    s5::S5,
    streaming::LayerStream,
    tensors::{NamedTensors, WeightsError},
};

/// What stands around a layer in a model, and under which names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// x + drop(GLU(drop(GELU(layer(norm(x)))))), the norm over the batch: the blocks of Linear Recurrent Units.
    Gated,
    /// x + layer(norm(x)), the norm over the channels, and one more after the last block: the layers of Mamba.
    Residual,
}

/// What an optimizer may treat alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Everything else.
    Main,
    /// Parameters of a recurrence: a learning rate of their own, no weight decay.
    Recurrent,
}

/// Where a layer stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Width of the residual stream.
    pub hidden: usize,
    /// Layers of the model, of which the sum is to keep the size that one has.
    pub layers: usize,
}

impl Surroundings {
    /// What a layer's output is scaled by at initialization, so that the sum of all keeps the size that one has: 1/√layers.
    pub(crate) fn share(&self) -> f64 {
        1.0 / (self.layers as f64).sqrt()
    }
}

/// A setting beyond its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value}: {expected}")]
pub struct OutOfRange {
    /// Its key in the table of the layer's kind.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What is expected, and why.
    pub expected: &'static str,
}

/// Refuses a setting unless something holds for it.
pub(crate) fn require(
    holds: bool,
    key: &'static str,
    value: impl ToString,
    expected: &'static str,
) -> Result<(), OutOfRange> {
    match holds {
        true => Ok(()),
        false => Err(OutOfRange {
            key,
            value: value.to_string(),
            expected,
        }),
    }
}

/// Refuses a size of zero.
pub(crate) fn at_least_one(key: &'static str, size: usize) -> Result<(), OutOfRange> {
    require(size > 0, key, size, "it must be at least 1")
}

/// Settings of a kind of layer: its own table of a configuration.
pub trait Settings: Clone + Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// Keys that decide how many parameters there are.
    const SIZES: &'static [&'static str] = &[];

    /// Checks every value against its range, in a model of this width and with so many states.
    ///
    /// # Errors
    /// The first value that is beyond it.
    fn check(&self, hidden: usize, state: usize) -> Result<(), OutOfRange>;

    /// About how many parameters a layer with these settings has, without biases. Sizes that are each possible need not
    /// have a product that fits into an integer.
    fn parameters(&self, hidden: f64, state: f64) -> f64;
}

/// A layer that mixes steps.
pub trait SequenceLayer<B: Backend>: Module<B> + Sized {
    /// What it stands under in a block.
    const NAME: &'static str;
    /// What stands around it.
    const FRAME: Frame;
    /// Paths of the parameters of its recurrence.
    const RECURRENT: &'static [&'static str];
    /// Its table of the configuration.
    type Settings: Settings;
    /// What does not change when states are cut, beside the width: enough, with the states, to tell which weights the layer
    /// has. Serialized under the names of published configurations.
    type Shape: Clone + Debug + PartialEq + Serialize;

    /// Shape of a layer with these settings in a model of this width.
    fn shape_of(settings: &Self::Settings, hidden: usize) -> Self::Shape;

    /// Random weights, which depend on what `rng` gives and not on the backend.
    fn init(
        around: Surroundings,
        state: usize,
        settings: &Self::Settings,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self;

    /// Whether the tensors at `prefix` are those of a layer of this kind.
    fn is_described_by(tensors: &NamedTensors, prefix: &str) -> bool;

    /// Shape and number of states of the layer at `prefix`.
    ///
    /// # Errors
    /// When a tensor that tells a size is missing, empty or has the wrong rank, or when two contradict each other.
    fn sizes(
        tensors: &NamedTensors,
        prefix: &str,
        hidden: usize,
    ) -> Result<(Self::Shape, usize), WeightsError>;

    /// The layer at `prefix`, whose tensors are taken out. What differs from `shape` is an error.
    ///
    /// # Errors
    /// [`WeightsError`] names the first tensor that is missing, misshapen or not finite.
    fn load(
        tensors: &mut NamedTensors,
        prefix: &str,
        hidden: usize,
        shape: &Self::Shape,
        device: &B::Device,
    ) -> Result<Self, WeightsError>;

    /// What does not change when states are cut.
    fn shape(&self) -> Self::Shape;

    /// Number of states: what a cut reduces.
    fn state_dim(&self) -> usize;

    /// The numbers that one state adds to the parameters.
    fn parameters_per_state(&self) -> usize;

    /// `[batch, length, hidden]` to the same, from a zero state.
    fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3>;

    /// This layer one step at a time, from a zero state.
    fn stream(&self) -> Box<dyn LayerStream>;
}

/// A layer whose states can be ranked and cut.
pub trait Compressible<B: Backend>: SequenceLayer<B> {
    /// Whether its states are ranked on data: its recurrence depends on what goes in.
    const RANKED_ON_DATA: bool;
    /// The choices of a [`Method`] that it reads, `selection` aside, which every layer does.
    const METHOD: &'static [&'static str];
    /// What a reduction starts from.
    type Basis: Debug + Send;

    /// Ranks the states. `seen` is what goes into the layer, if it is [ranked on data](Self::RANKED_ON_DATA).
    ///
    /// # Errors
    /// When the layer has no spectrum.
    fn rank(&self, seen: Option<&Seen<B>>, method: Method)
    -> Result<Self::Basis, CompressionError>;

    /// One value per state, largest first: Hankel singular values, or scores in their place.
    fn spectrum(basis: &Self::Basis) -> Vec<f64>;

    /// How far the layer of this basis has come from what it was `before`, and with what went into it then; `None` where
    /// that cannot be told.
    fn drift(
        basis: &Self::Basis,
        before: &Self,
        seen_before: Option<&Seen<B>>,
        method: Method,
    ) -> Option<Drift>;

    /// The layer with at most `order` states, and what becomes of what an optimizer knows of the others. This layer is
    /// unchanged.
    ///
    /// # Errors
    /// When there is no such layer.
    fn reduce(
        &self,
        basis: &Self::Basis,
        order: usize,
        method: Method,
    ) -> Result<Reduced<Self>, CompressionError>;

    /// The layer with the states at `kept` only, in this order. What they do is what they did, bit for bit.
    fn selected(&self, kept: &[usize]) -> Self;
}

/// Everything that is one per kind of layer, from one line for each.
macro_rules! layers {
    ($($(#[$documentation:meta])+ $Kind:ident $word:literal $field:ident: $Layer:ident),+ $(,)?) => {
        /// A kind of layer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum LayerKind {
            $($(#[$documentation])+ #[serde(rename = $word)] $Kind,)+
        }

        impl LayerKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Kind),+];

            /// Its word in a configuration.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$Kind => $word,)+
                }
            }

            /// What stands around it.
            pub const fn frame(self) -> Frame {
                match self {
                    $(Self::$Kind => <$Layer<Flex> as SequenceLayer<Flex>>::FRAME,)+
                }
            }

            /// What it stands under in a block.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Kind => <$Layer<Flex> as SequenceLayer<Flex>>::NAME,)+
                }
            }

            /// Whether its states are ranked on data.
            pub const fn is_ranked_on_data(self) -> bool {
                match self {
                    $(Self::$Kind => <$Layer<Flex> as Compressible<Flex>>::RANKED_ON_DATA,)+
                }
            }

            /// The choices of a [`Method`] that layers of this kind read.
            pub const fn method(self) -> &'static [&'static str] {
                match self {
                    $(Self::$Kind => <$Layer<Flex> as Compressible<Flex>>::METHOD,)+
                }
            }

            /// Group of a parameter by its path in a layer of this kind.
            pub fn group(self, parameter: &str) -> Group {
                let recurrent = match self {
                    $(Self::$Kind => <$Layer<Flex> as SequenceLayer<Flex>>::RECURRENT,)+
                };
                match recurrent.contains(&parameter) {
                    true => Group::Recurrent,
                    false => Group::Main,
                }
            }

            /// The kind whose tensors are at `prefix` in a model with this frame.
            pub(crate) fn described_by(
                tensors: &NamedTensors,
                prefix: &str,
                frame: Frame,
            ) -> Option<Self> {
                $(
                    if Self::$Kind.frame() == frame
                        && <$Layer<Flex> as SequenceLayer<Flex>>::is_described_by(
                            tensors,
                            &format!("{prefix}.{}", Self::$Kind.name()),
                        )
                    {
                        return Some(Self::$Kind);
                    }
                )+
                None
            }

            /// Shape and number of states of the layer of this kind at `prefix`.
            pub(crate) fn sizes(
                self,
                tensors: &NamedTensors,
                prefix: &str,
                hidden: usize,
            ) -> Result<(LayerShape, usize), WeightsError> {
                Ok(match self {
                    $(Self::$Kind => {
                        let (shape, state) = <$Layer<Flex> as SequenceLayer<Flex>>::sizes(
                            tensors, prefix, hidden,
                        )?;
                        (LayerShape::$Kind(shape), state)
                    })+
                })
            }
        }

        impl Default for LayerKind {
            /// The first of the list.
            fn default() -> Self {
                Self::ALL[0]
            }
        }

        impl std::fmt::Display for LayerKind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        /// Settings of a layer of some kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum LayerSettings {
            $($(#[$documentation])+ $Kind(<$Layer<Flex> as SequenceLayer<Flex>>::Settings),)+
        }

        impl LayerSettings {
            /// The kind that they are of.
            pub fn kind(&self) -> LayerKind {
                match self {
                    $(Self::$Kind(_) => LayerKind::$Kind,)+
                }
            }

            /// See [`Settings::check`].
            ///
            /// # Errors
            /// The first value beyond its range.
            pub fn check(&self, hidden: usize, state: usize) -> Result<(), OutOfRange> {
                match self {
                    $(Self::$Kind(settings) => settings.check(hidden, state),)+
                }
            }

            /// See [`Settings::SIZES`].
            pub fn sizes(&self) -> &'static [&'static str] {
                fn of<S: Settings>(_: &S) -> &'static [&'static str] {
                    S::SIZES
                }
                match self {
                    $(Self::$Kind(settings) => of(settings),)+
                }
            }

            /// See [`Settings::parameters`].
            pub fn parameters(&self, hidden: f64, state: f64) -> f64 {
                match self {
                    $(Self::$Kind(settings) => settings.parameters(hidden, state),)+
                }
            }

            /// Shape of a layer with them in a model of this width.
            pub fn shape(&self, hidden: usize) -> LayerShape {
                match self {
                    $(Self::$Kind(settings) => LayerShape::$Kind(
                        <$Layer<Flex> as SequenceLayer<Flex>>::shape_of(settings, hidden),
                    ),)+
                }
            }
        }

        /// What does not change when the states of a layer are cut.
        #[derive(Clone, Debug, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum LayerShape {
            $($(#[$documentation])+ $Kind(<$Layer<Flex> as SequenceLayer<Flex>>::Shape),)+
        }

        impl LayerShape {
            /// The kind that it is of.
            pub fn kind(&self) -> LayerKind {
                match self {
                    $(Self::$Kind(_) => LayerKind::$Kind,)+
                }
            }
        }

        /// What a reduction of a layer starts from.
        #[derive(Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "one per layer, and matrices hang on it"
        )]
        pub enum LayerBasis {
            $($(#[$documentation])+ $Kind(<$Layer<Flex> as Compressible<Flex>>::Basis),)+
        }

        impl LayerBasis {
            /// One value per state, largest first.
            pub fn spectrum(&self) -> Vec<f64> {
                match self {
                    $(Self::$Kind(basis) => <$Layer<Flex> as Compressible<Flex>>::spectrum(basis),)+
                }
            }
        }

        /// A layer of some kind.
        #[derive(Module, Debug)]
        #[allow(
            clippy::large_enum_variant,
            reason = "a handful exist, and nothing moves them around"
        )]
        pub enum Layer<B: BurnBackend> {
            $($(#[$documentation])+ $Kind($Layer<B>),)+
        }

        impl<B: Backend> Layer<B> {
            /// Random weights; see [`SequenceLayer::init`].
            pub fn init(
                around: Surroundings,
                state: usize,
                settings: &LayerSettings,
                rng: &mut ChaCha8Rng,
                device: &B::Device,
            ) -> Self {
                match settings {
                    $(LayerSettings::$Kind(settings) => Self::$Kind(SequenceLayer::init(
                        around, state, settings, rng, device,
                    )),)+
                }
            }

            pub(crate) fn load(
                tensors: &mut NamedTensors,
                prefix: &str,
                hidden: usize,
                shape: &LayerShape,
                device: &B::Device,
            ) -> Result<Self, WeightsError> {
                Ok(match shape {
                    $(LayerShape::$Kind(shape) => Self::$Kind(SequenceLayer::load(
                        tensors, prefix, hidden, shape, device,
                    )?),)+
                })
            }

            /// Its kind.
            pub fn kind(&self) -> LayerKind {
                match self {
                    $(Self::$Kind(_) => LayerKind::$Kind,)+
                }
            }

            /// See [`SequenceLayer::shape`].
            pub fn shape(&self) -> LayerShape {
                match self {
                    $(Self::$Kind(layer) => LayerShape::$Kind(layer.shape()),)+
                }
            }

            /// See [`SequenceLayer::state_dim`].
            pub fn state_dim(&self) -> usize {
                match self {
                    $(Self::$Kind(layer) => SequenceLayer::state_dim(layer),)+
                }
            }

            /// See [`SequenceLayer::parameters_per_state`].
            pub fn parameters_per_state(&self) -> usize {
                match self {
                    $(Self::$Kind(layer) => layer.parameters_per_state(),)+
                }
            }

            /// See [`SequenceLayer::forward`].
            pub fn forward(&self, input: Tensor<B, 3>) -> Tensor<B, 3> {
                match self {
                    $(Self::$Kind(layer) => SequenceLayer::forward(layer, input),)+
                }
            }

            /// See [`SequenceLayer::stream`].
            pub fn stream(&self) -> Box<dyn LayerStream> {
                match self {
                    $(Self::$Kind(layer) => SequenceLayer::stream(layer),)+
                }
            }

            /// See [`Compressible::rank`].
            ///
            /// # Errors
            /// When the layer has no spectrum.
            pub fn rank(
                &self,
                seen: Option<&Seen<B>>,
                method: Method,
            ) -> Result<LayerBasis, CompressionError> {
                Ok(match self {
                    $(Self::$Kind(layer) => LayerBasis::$Kind(layer.rank(seen, method)?),)+
                })
            }

            /// See [`Compressible::drift`]; `None` as well where this layer was of another kind.
            pub fn drift(
                basis: &LayerBasis,
                before: &Self,
                seen_before: Option<&Seen<B>>,
                method: Method,
            ) -> Option<Drift> {
                match (basis, before) {
                    $((LayerBasis::$Kind(basis), Self::$Kind(before)) => {
                        <$Layer<B> as Compressible<B>>::drift(basis, before, seen_before, method)
                    })+
                    _ => None,
                }
            }

            /// See [`Compressible::reduce`].
            ///
            /// # Errors
            /// When there is no such layer.
            ///
            /// # Panics
            /// When the basis is not of a layer of this kind.
            pub fn reduce(
                &self,
                basis: &LayerBasis,
                order: usize,
                method: Method,
            ) -> Result<Reduced<Self>, CompressionError> {
                match (self, basis) {
                    $((Self::$Kind(layer), LayerBasis::$Kind(basis)) => {
                        Ok(layer.reduce(basis, order, method)?.map(Self::$Kind))
                    })+
                    _ => panic!("a layer is reduced in the basis that it was ranked in"),
                }
            }

            /// See [`Compressible::selected`].
            pub fn selected(&self, kept: &[usize]) -> Self {
                match self {
                    $(Self::$Kind(layer) => Self::$Kind(Compressible::selected(layer, kept)),)+
                }
            }
        }

        /// Calls a macro with a list of all kinds: for each its word, its variant of [`LayerKind`], the name of a field for
        /// its settings, and the layer, whose settings those are.
        #[macro_export]
        macro_rules! with_layers {
            ($callback:ident) => {
                $callback! { $($word $Kind $field $Layer,)+ }
            };
        }
    };
}

layers! {
    /// Linear Recurrent Unit: diagonal, complex, discrete (`LRU23` in `docs/references.bib`).
    Lru "lru" lru: Lru,
    /// S5: diagonal, complex, continuous, one system with many inputs and outputs (`SWL23`).
    S5 "s5" s5: S5,
    /// S4D: as S5, with a system of every channel's own (`GGGR22`).
    S4d "s4d" s4d: S4d,
    /// Mamba: diagonal, real, with step sizes, B and C that depend on the input (`GD23`).
    Mamba "mamba" mamba: SelectiveMixer,
    /// Mamba-2: as Mamba, with one decay for all the channels and states of a head (`DG24`).
    Mamba2 "mamba2" mamba2: DualMixer,
}

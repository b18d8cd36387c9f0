//! The kinds of layers, and the enums that models, files and configurations choose by.
//!
//! All of it comes from the list at the end of this file, a line for each kind.

use burn::{
    module::Module,
    tensor::{Tensor, backend::Backend as BurnBackend},
};
use burn_flex::Flex;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{
    backend::Backend,
    compression::{CompressionError, Drift, Method, Reduced, Seen},
    layer::{Compressible, Frame, Group, OutOfRange, SequenceLayer, Settings, Surroundings},
    lru::Lru,
    mamba::{DualMixer, SelectiveMixer},
    s4d::S4d,
    s5::S5,
    streaming::LayerStream,
    tensors::{NamedTensors, WeightsError},
};

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

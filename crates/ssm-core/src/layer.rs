//! Layers that mix the steps of a sequence: what a block, a file, a stream and a cut ask of one.
//!
//! A layer is a module that implements [`SequenceLayer`] and [`Compressible`], and a line in the list of `kinds.rs`.

use std::fmt::Debug;

use burn::{module::Module, tensor::Tensor};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    backend::Backend,
    compression::{CompressionError, Drift, Method, Reduced, Seen},
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
    fn is_described_by(tensors: &NamedTensors, prefix: &str) -> bool {
        tensors.has_any(prefix)
    }

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

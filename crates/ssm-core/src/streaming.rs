//! Layers and models one step at a time: constant work and memory per step, and no allocation.
//!
//! A recurrence needs its state and nothing else of the past. A stream copies the weights of a layer or a model out of
//! its tensors once, laid out for vectors, and then takes one input after the other. It runs on one processor thread
//! and knows no backend; what it computes is what [`Lru::forward`](crate::Lru::forward),
//! [`Model::forward`](crate::Model::forward) compute for the whole sequence, to `f32` rounding.
//!
//! Clones share the weights and have a state of their own: one per session that is served.
//!
//! # Example
//! ```
//! use burn::backend::Flex;
//! use rand::SeedableRng;
//! use ssm_core::{Lru, LruInit};
//!
//! let (device, mut rng) = (Default::default(), rand_chacha::ChaCha8Rng::seed_from_u64(1));
//! let init = LruInit { r_min: 0.9, r_max: 0.999, max_phase: 6.0 };
//! let layer = Lru::<Flex>::init(64, 4, init, &mut rng, &device);
//!
//! let mut stream = layer.stream();
//! let (mut first, mut second) = ([0.0; 4], [0.0; 4]);
//! stream.step(&[1.0, 0.0, 0.0, 0.0], &mut first);
//! let remembered = stream.state().to_vec();
//! stream.step(&[0.0; 4], &mut second);
//!
//! // Another session goes on from there and answers the same.
//! let mut other = stream.clone();
//! other.set_state(&remembered);
//! let mut again = [0.0; 4];
//! other.step(&[0.0; 4], &mut again);
//! assert_eq!(second, again);
//! ```

mod affine;
mod channel;
mod diagonal;
mod encoder;
mod mamba;
mod matrix;
mod mean;
mod model;
mod rms_norm;

pub use channel::ChannelStream;
pub use diagonal::DiagonalStream;
pub use model::ModelStream;

use std::fmt::Debug;

use burn::tensor::{Tensor, backend::Backend};

/// A layer of any kind that takes one input after the other. Clones share the weights and have a state of their own.
pub trait LayerStream: Debug + Send + Sync {
    /// Takes one input and writes its output, both `[hidden]`, without allocation.
    ///
    /// # Panics
    /// If `input` or `output` has another length.
    fn step(&mut self, input: &[f32], output: &mut [f32]);

    /// Forgets everything: the next step is the first.
    fn reset(&mut self);

    /// A clone.
    fn boxed(&self) -> Box<dyn LayerStream>;
}

impl Clone for Box<dyn LayerStream> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// Values of a tensor in row-major order.
fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

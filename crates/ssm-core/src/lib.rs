//! State space layers on [burn](https://burn.dev), with fused kernels, and a way to make a layer smaller.
//!
//! A layer here is a linear system inside a network. While it trains it is parameters and tensors; when it is to be cut
//! it becomes a system of [`hsv`] ([`LinearLayer::to_system`]), and a smaller layer is built from what comes back
//! ([`LinearLayer::reduced`]).
//!
//! # Glossary
//! | symbol | meaning | shape |
//! |---|---|---|
//! | u, y | input and output of a layer | `[batch, length, hidden]` |
//! | x | state of a layer, complex | `[state]` per step |
//! | Λ | state matrix, diagonal; the eigenvalues λ | `[state]` |
//! | B | input matrix; `LRU23` writes B̂ = Γ B for what the recurrence sees | `[state, hidden]` |
//! | C, D | output matrix, feedthrough | `[hidden, state]`, `[hidden]` |
//! | Γ | input normalization √(1 - abs(λ)²), trained as its logarithm | `[state]` |
//!
//! Complex tensors are pairs of real ones. `hidden` is the width of the model, `state` the size that compression
//! reduces.
//!
//! # Backends
//! Layers are generic over [`Backend`]: a burn backend with this crate's [`operations`]. Each of these is an [`Operation`]:
//! tensor operations forward and backward, which any backend can run, and kernels where they pay. `Autodiff` around any
//! backend with [`Kernels`] differentiates an operation as one node of the graph, by a hand-written backward pass. burn's
//! Flex has native kernels for all of them; LibTorch (feature `libtorch`) shares those of the recurrence on the CPU.
//! [`diagonal_ssm_reference`] and its kind are the same operations in plain tensor code: the oracle of the tests.
//!
//! # Example
//! ```
//! use burn::backend::Flex;
//! use burn::tensor::{Distribution, Tensor};
//! use hsv::LinearSystem;
//! use rand::SeedableRng;
//! use ssm_core::{LinearLayer, Lru, LruInit};
//!
//! let (device, mut rng) = (Default::default(), rand_chacha::ChaCha8Rng::seed_from_u64(1));
//! let init = LruInit { r_min: 0.9, r_max: 0.999, max_phase: 6.0 };
//! let layer = Lru::<Flex>::init(64, 4, init, &mut rng, &device);
//!
//! // Rank the states, keep the ten that matter most, and build the layer that has only those.
//! let system = layer.to_system()?;
//! let truncation = system.hankel()?.balanced_truncation(10)?;
//! let small = layer.reduced(&truncation.diagonalize()?.system)?;
//! assert_eq!(small.nu_log.dims(), [10]);
//!
//! let input = Tensor::<Flex, 3>::random([2, 100, 4], Distribution::Default, &device);
//! assert_eq!(small.forward(input).dims(), [2, 100, 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sources
//! Keys of `docs/references.bib`: `LRU23` (the layer), `GD23` and `DG24` (Mamba, Mamba-2), `CompreSSM26` (compression in
//! training).

// The published tensor names (`B_re`, `C_im`, ...) are field names here, so that a parameter's path is its name in a
// file; the attribute must cover what `#[derive(Module)]` generates.
#![allow(non_snake_case)]

mod affine;
mod axis_sum;
mod backend;
mod batch_norm;
mod block;
mod causal_conv;
mod channel_ssm;
mod compression;
mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "cube")]
mod device;
mod diagonal_ssm;
mod dropout;
mod encoder;
mod gated_unit;
mod head;
mod kinds;
mod layer;
mod linear;
mod lru;
mod mamba;
mod mean_over_time;
mod model;
mod module_path;
mod operation;
mod parameter;
mod planes;
mod primitive;
mod readout;
mod rms_norm;
mod s4d;
mod s5;
mod scan;
mod selective_scan;
mod ssd;
mod streaming;
mod system;
mod tensors;
#[cfg(test)]
mod testing;

pub use affine::{affine, affine_reference};
pub use backend::{Backend, Kernels, TrainingBackend, operations};
pub use batch_norm::{batch_norm, batch_norm_reference, normalize};
pub use block::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm, Block, Glu, Norm, Statistics};
pub use causal_conv::{causal_conv, causal_conv_reference};
pub use channel_ssm::{ChannelSsmTensors, channel_ssm, channel_ssm_reference};
pub use compression::{
    BasisChange, Carry, CompressionError, Drift, GradientKind, GradientMap, KeptRows, Method,
    OutputBound, Ranking, Realization, Reduced, Reduction, ReductionError, Seen, States,
};
#[cfg(feature = "cube")]
pub use device::DeviceError;
#[cfg(feature = "cuda")]
pub use device::probe_cuda;
#[cfg(feature = "wgpu")]
pub use device::probe_wgpu;
pub use diagonal_ssm::{
    DiagonalSsmTensors, diagonal_ssm, diagonal_ssm_from, diagonal_ssm_reference,
};
pub use dropout::Dropout;
pub use encoder::{Embedding, Encoder, EncoderLayer, Sequences};
pub use gated_unit::{GatedUnitTensors, gated_unit, gated_unit_reference};
pub use head::{Head, HeadLayer, PairHead, TokenHead};
pub use kinds::{Layer, LayerBasis, LayerKind, LayerSettings, LayerShape};
pub use layer::{Compressible, Frame, Group, OutOfRange, SequenceLayer, Settings, Surroundings};
pub use linear::Linear;
pub use lru::{Lru, LruGradient, LruInit, LruShape};
pub use mamba::{
    Conv1d, DualBasis, DualMixer, DualSettings, DualShape, GramianEstimate, HeadBasis,
    HeadGramians, Projection, RMS_NORM_EPSILON, RmsNorm, SelectiveMixer, SelectiveSettings,
    SelectiveShape,
};
pub use mean_over_time::mean_over_time;
pub use model::{Architecture, Model, ModelSizes, NamedMapper, NamedVisitor};
pub use module_path::ModulePath;
#[cfg(feature = "cube")]
pub use operation::OnCube;
#[cfg(feature = "libtorch")]
pub use operation::libtorch_device;
pub use operation::{ByHand, Kernel, Operation, Pullback, Recorded, Run, Tensors};
pub use readout::{Readout, read_out};
pub use rms_norm::{rms_norm, rms_norm_reference};
pub use s4d::{S4d, S4dInit, S4dSettings, S4dShape};
pub use s5::{Discretization, S5, S5Settings, S5Shape};
pub use scan::{Decay, DecayTensor, Field, linear_scan, linear_scan_reference};
pub use selective_scan::{SelectiveScanTensors, selective_scan, selective_scan_reference};
pub use ssd::{SsdTensors, ssd, ssd_reference};
pub use streaming::{ChannelStream, DiagonalStream, LayerStream, ModelStream};
pub use system::{LinearLayer, MapPair, StateMaps};
pub use tensors::{Axes, ExpectedShape, NamedTensor, NamedTensors, WeightsError};

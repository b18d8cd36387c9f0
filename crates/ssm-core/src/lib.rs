//! State space layers on burn.
#![allow(non_snake_case)]

mod backend;
mod batch_norm;
mod block;
mod classifier;
mod cpu;
mod diagonal_ssm;
mod dropout;
mod gated_unit;
mod linear;
mod lru;
mod parameter;
mod reduction;
mod tensors;

pub use backend::{Backend, Kernels, TrainingBackend};
pub use batch_norm::{Normalized, batch_norm, batch_norm_reference, normalize};
pub use block::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BatchNorm, Block, Glu, Statistics};
pub use classifier::{Classifier, ClassifierConfig, Embedding, Encoder, Sequences};
pub use diagonal_ssm::{
    DiagonalSsm, DiagonalSsmForward, DiagonalSsmGradients, DiagonalSsmTensors, diagonal_ssm,
    diagonal_ssm_reference,
};
pub use dropout::Dropout;
pub use gated_unit::{
    GatedUnit, GatedUnitGradients, GatedUnitTensors, gated_unit, gated_unit_reference,
};
pub use linear::Linear;
pub use lru::{GradientKind, Lru, LruGradient, LruInit};
pub use reduction::{Reducible, ReductionError};
pub use tensors::{NamedTensor, NamedTensors, WeightsError};

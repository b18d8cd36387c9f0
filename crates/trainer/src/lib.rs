//! Trains state space models that shrink while they train: the library behind the program `compressm`.
//!
//! This is the only crate that sees data, layers, reduction and schedule together; `bridge` is the one place
//! where they meet.

pub mod allocator;
pub mod analyze;
pub mod backend;
pub mod batch;
pub mod bridge;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod evaluate;
pub mod events;
pub mod files;
pub mod gradients;
pub mod history;
pub mod interrupt;
pub mod learning_rate;
mod model;
pub mod objective;
pub mod optimizer;
pub mod predict;
pub mod progress;
pub mod run_dir;
mod seeds;
pub mod step;
pub mod step_times;
pub mod summary;
pub mod train;
pub mod weights;

/// The examples of the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

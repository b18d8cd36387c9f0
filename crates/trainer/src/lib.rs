//! Trains state space models that shrink while they train.

pub mod config;

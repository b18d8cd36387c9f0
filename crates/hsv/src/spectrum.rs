//! What a list of Hankel singular values says by itself: how many states to keep, at what error, and how far it can move.

pub(crate) mod budget;
pub(crate) mod error_bound;
pub(crate) mod order;
pub(crate) mod perturbation;

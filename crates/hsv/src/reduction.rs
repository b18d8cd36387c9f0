//! Smaller systems.

pub(crate) mod balanced;
pub(crate) mod commuting;
pub(crate) mod diagonal_form;
pub(crate) mod modal;
pub(crate) mod real_diagonal_form;
pub(crate) mod selection;
pub(crate) mod singular_perturbation;

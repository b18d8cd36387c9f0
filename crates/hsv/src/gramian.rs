//! Gramians: their factors straight from a system, their closed form, and the equations that they solve.

mod closed_form;
pub(crate) mod dense_factor;
pub(crate) mod diagonal_factor;
pub(crate) mod lyapunov;
pub(crate) mod real_factor;
pub(crate) mod smith;

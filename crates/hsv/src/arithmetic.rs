//! Floating point where a plain expression would lose digits or range.

pub(crate) mod power_of_two;
pub(crate) mod sum;
pub(crate) mod unit_disk;

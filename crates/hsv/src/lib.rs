//! Hankel singular values and balanced truncation of diagonal discrete-time systems.

mod balance;
mod diagonalize;
mod gramian;
mod gramian_factor;
mod hankel;
mod mode_scaling;
mod order;
mod power_of_two;
mod system;
mod unit_disk;

pub use balance::{Truncation, TruncationError};
pub use diagonalize::{DiagonalTruncation, EIGENVECTOR_CONDITION_LIMIT};
pub use faer::{Mat, c64};
pub use hankel::{HankelDecomposition, HankelError};
pub use order::{order_for_bound, order_for_tolerance};
pub use system::{DiscreteDiagonalSystem, SystemError};

//! The mixers of Mamba and Mamba-2: recurrences that depend on their input.

mod dual;
mod gramian;
mod parts;
mod selective;

pub use dual::{DualBasis, DualMixer, DualSettings, DualShape};
pub use gramian::{GramianEstimate, HeadBasis, HeadGramians};
pub use parts::{Conv1d, Projection, RMS_NORM_EPSILON, RmsNorm};
pub use selective::{SelectiveMixer, SelectiveSettings, SelectiveShape};

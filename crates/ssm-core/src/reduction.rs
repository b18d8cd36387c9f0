//! The bridge between a layer and a linear system: the one trait that a compressible layer implements.

use hsv::{DiagonalForm, DiscreteDiagonalSystem, SystemError};

/// A layer that is a linear system and can be rebuilt from a smaller one.
pub trait Reducible: Sized {
    /// Number of states.
    fn state_dim(&self) -> usize;

    /// The layer's map from input to (complex) output as a system in `f64`, input normalization included.
    ///
    /// # Errors
    /// [`ReductionError::System`] when the parameters are not finite or the system is not stable.
    fn to_system(&self) -> Result<DiscreteDiagonalSystem, ReductionError>;

    /// The layer that realizes a truncation of [`to_system`](Self::to_system); what is not state (feedthrough)
    /// stays. This layer is unchanged.
    ///
    /// # Errors
    /// [`ReductionError::NotRepresentable`] or [`ReductionError::OutOfRange`] when the reduced system has no such layer.
    fn reduced(&self, truncation: &DiagonalForm) -> Result<Self, ReductionError>;
}

/// Why a layer could not become a system, or a system a layer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReductionError {
    /// The parameters do not form a valid system.
    #[error("the layer is not a valid system: {0}")]
    System(#[from] SystemError),
    /// A reduced eigenvalue lies where the layer's parameterization cannot follow.
    #[error(
        "eigenvalue {index} of the reduced system has modulus {modulus:e}, which the layer cannot represent in f32; keep a different order"
    )]
    NotRepresentable {
        /// Index of the eigenvalue.
        index: usize,
        /// Its modulus.
        modulus: f64,
    },
    /// An entry of the reduced B or C is beyond the range of `f32`.
    #[error("an entry of the reduced layer exceeds the range of f32; keep a different order")]
    OutOfRange,
}

//! The bridge between a layer and a linear system: the one trait that a compressible layer implements.

use hsv::{DiagonalForm, DiscreteDiagonalSystem, Mat, RealDiagonalForm, SystemError, c64};

/// A layer that is a linear system and can be rebuilt from a smaller one.
pub trait Reducible: Sized {
    /// Number of states.
    fn state_dim(&self) -> usize;

    /// The layer's map from input to (complex) output as a system in `f64`, input normalization included.
    ///
    /// # Errors
    /// [`ReductionError::System`] when the parameters are not finite or the system is not stable.
    fn to_system(&self) -> Result<DiscreteDiagonalSystem, ReductionError>;

    /// The layer that realizes a reduction of [`to_system`](Self::to_system); what is not state stays. A layer feeds
    /// each channel through to itself alone: of a reduced system's feed-through the real diagonal joins the layer's
    /// own, the rest has no place and is left out. This layer is unchanged.
    ///
    /// # Errors
    /// [`ReductionError::NotRepresentable`] or [`ReductionError::OutOfRange`] when the reduced system has no such layer.
    fn reduced(&self, system: &DiscreteDiagonalSystem) -> Result<Self, ReductionError>;
}

/// How the states x of a layer and z of its reduction go over into each other.
///
/// `x ≈ R z + R̃ z̄` and `z = L x + L̃ x̄`. The conjugates come in where the reduction is of the real part of the output:
/// it is linear over the real numbers only.
#[derive(Clone, Debug)]
pub struct StateMaps {
    /// R and L.
    pub linear: MapPair,
    /// R̃ and L̃, where they are not zero.
    pub conjugate: Option<MapPair>,
}

/// Matrices to the full states and back.
#[derive(Clone, Debug)]
pub struct MapPair {
    /// To the full states, `[state, mode]`.
    pub right: Mat<c64>,
    /// To the reduced states, `[mode, state]`.
    pub left: Mat<c64>,
}

impl From<&DiagonalForm> for StateMaps {
    fn from(form: &DiagonalForm) -> Self {
        Self {
            linear: MapPair {
                right: form.right.clone(),
                left: form.left.clone(),
            },
            conjugate: None,
        }
    }
}

impl From<&RealDiagonalForm> for StateMaps {
    fn from(form: &RealDiagonalForm) -> Self {
        Self {
            linear: MapPair {
                right: form.right.clone(),
                left: form.left.clone(),
            },
            conjugate: Some(MapPair {
                right: form.right_conjugate.clone(),
                left: form.left_conjugate.clone(),
            }),
        }
    }
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

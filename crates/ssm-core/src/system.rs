//! Layers that are a linear system, and can be rebuilt from a smaller one.

use hsv::{DiagonalForm, DiscreteDiagonalSystem, LinearSystem, Mat, RealDiagonalForm, c64};

use crate::{
    backend::Backend,
    compression::{
        BasisChange, Carry, CompressionError, Drift, GradientMap, KeptRows, Method, OutputBound,
        Ranking, Reduced, ReductionError, Seen, States,
    },
    layer::{Compressible, SequenceLayer},
};

/// A layer that is one linear system and can be rebuilt from a smaller one. That makes it [`Compressible`].
pub trait LinearLayer: Sized {
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

    /// How the layer looks with the modes at `kept` only, in this order.
    fn selection(&self, kept: &[usize]) -> Vec<KeptRows>;

    /// The layer with the modes at `kept` only, in this order. What they do is what they did, bit for bit, which the way
    /// through a system in `f64` and back would not keep.
    fn selected(&self, kept: &[usize]) -> Self;

    /// How gradients of the parameters of [`selection`](Self::selection) go over to `smaller`, a reduction of this layer
    /// whose states `maps` connects with its own.
    fn gradient_map(&self, smaller: &Self, maps: StateMaps) -> GradientMap;
}

/// Balanced truncation and its relatives, of whatever layer is one system.
impl<B: Backend, L: LinearLayer + SequenceLayer<B>> Compressible<B> for L {
    const RANKED_ON_DATA: bool = false;
    const METHOD: &'static [&'static str] = &["realization", "reduction"];
    type Basis = Ranking;

    fn rank(&self, _seen: Option<&Seen<B>>, method: Method) -> Result<Ranking, CompressionError> {
        Ranking::of(self.to_system()?, method.realization)
    }

    fn spectrum(basis: &Ranking) -> Vec<f64> {
        basis.values()
    }

    fn drift(basis: &Ranking, before: &Self, _seen: Option<&Seen<B>>, _: Method) -> Option<Drift> {
        basis.drift(&before.to_system().ok()?)
    }

    fn reduce(
        &self,
        basis: &Ranking,
        order: usize,
        method: Method,
    ) -> Result<Reduced<Self>, CompressionError> {
        let reduced = method.reduction.reduce(basis, order, method.selection)?;
        let bound = Some(OutputBound {
            gain: reduced.bound,
            decay: reduced.decay(),
        });
        let (layer, carry) = match reduced.states {
            States::Kept(kept) => (
                LinearLayer::selected(self, &kept),
                Carry::Keep(self.selection(&kept)),
            ),
            States::New(maps) => {
                let smaller = self.reduced(&reduced.system)?;
                let slice: Vec<usize> = (0..reduced.system.state_dim()).collect();
                let change = BasisChange {
                    first: self.selection(&slice),
                    map: maps.map(|maps| self.gradient_map(&smaller, maps)),
                };
                (smaller, Carry::Change(change))
            }
        };
        Ok(Reduced {
            layer,
            carry,
            bound,
            discarded: reduced.discarded,
        })
    }

    fn selected(&self, kept: &[usize]) -> Self {
        LinearLayer::selected(self, kept)
    }
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

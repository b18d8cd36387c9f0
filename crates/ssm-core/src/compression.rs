//! What a cut needs to know of a layer, and what it leaves: rankings, reductions, and the way of an optimizer's moments.
//!
//! A layer ranks its states ([`Compressible::rank`](crate::Compressible::rank)) and makes itself smaller
//! ([`Compressible::reduce`](crate::Compressible::reduce)). Nothing here knows an optimizer: a reduction says how the
//! parameters go over ([`Carry`]), and so how averages of their gradients do.

mod error;
mod kept_rows;
mod ranking;
mod reduction;

use std::fmt;

use burn::tensor::{Tensor, backend::Backend as BurnBackend};
use hsv::{Mat, Selection, c64};
use serde::{Deserialize, Serialize};

use crate::mamba::GramianEstimate;

pub use error::{CompressionError, ReductionError};
pub use kept_rows::KeptRows;
pub(crate) use ranking::ReducedSystem;
pub use ranking::{Ranking, States};
pub use reduction::Reduction;

/// How states are ranked and layers made smaller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    /// The system whose Hankel singular values rank the states.
    pub realization: Realization,
    /// How the smaller system is made.
    pub reduction: Reduction,
    /// Which states stay.
    pub selection: Selection,
    /// What stands for the inputs of a layer whose recurrence depends on them.
    pub estimate: GramianEstimate,
}

/// The system whose Hankel singular values rank the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Realization {
    /// The complex system as the layer stores it, before the real part of its output is taken.
    Complex,
    /// The real system that the rest of the model sees, with a conjugate pair of states for each of the layer's. Its
    /// spectrum is reported as the sum of two values for every state.
    Real,
}

/// What goes into a layer on calibration data.
#[derive(Debug, Clone)]
pub struct Seen<B: BurnBackend> {
    /// `[batch, length, hidden]`.
    pub input: Tensor<B, 3>,
    /// Steps of each row that are no padding.
    pub lengths: Vec<usize>,
}

/// How far a layer has come since an earlier look at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// Spearman's rank correlation of the scores of its states then and now.
    pub rank_correlation: Option<f64>,
    /// Bounds how far any value of its spectrum can have moved.
    pub hankel_distance: f64,
}

/// A layer that has been made smaller.
#[derive(Debug)]
pub struct Reduced<L> {
    /// The smaller layer.
    pub layer: L,
    /// What becomes of what an optimizer knows of the parameters.
    pub carry: Carry,
    /// What the output may be off by, where theory says.
    pub bound: Option<OutputBound>,
    /// Share of the sum of the spectrum that went, in `[0, 1)`; of the energies of all modes if other modes than the
    /// strongest were to stay.
    pub discarded: f64,
}

impl<L> Reduced<L> {
    /// The same with the layer in something else.
    pub(crate) fn map<T>(self, f: impl FnOnce(L) -> T) -> Reduced<T> {
        Reduced {
            layer: f(self.layer),
            carry: self.carry,
            bound: self.bound,
            discarded: self.discarded,
        }
    }
}

/// What the output of a smaller layer may be off by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutputBound {
    /// Bounds the gain of the error at every frequency: twice the sum of the discarded Hankel singular values, or the sum
    /// of the largest gains of the discarded modes.
    pub gain: f64,
    /// Least distance of an eigenvalue of the smaller layer from the unit circle: the rounding of its parameters weighs as
    /// much as this is small.
    pub decay: f64,
}

/// What becomes of what an optimizer knows of a layer's parameters when it gets smaller. Those that are not named stay as
/// they are.
#[derive(Debug)]
pub enum Carry {
    /// These rows of the parameters stay as they are, and with them all that is known of them.
    Keep(Vec<KeptRows>),
    /// The parameters are those of another basis.
    Change(BasisChange),
    /// The parameters of these names are new.
    Forget(Vec<&'static str>),
}

/// What the numbers are that go over into another basis, and so how they transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientKind {
    /// Gradients or averages of gradients: linear.
    Gradient,
    /// Averages of squared gradients.
    Squared,
}

impl GradientKind {
    /// What a real factor makes of a value.
    pub(crate) fn scale(self, factor: f64, value: f64) -> f64 {
        match self {
            Self::Gradient => factor * value,
            Self::Squared => factor * factor * value,
        }
    }

    /// The real matrix `[2 rows, 2 columns]` that takes values, first all real and then all imaginary parts, through
    /// `zᵢ ↦ Σ_j a_ij z_j + b_ij z̄_j`, where `maps(i, j)` is `(a_ij, b_ij)`.
    pub(crate) fn matrix(
        self,
        [rows, columns]: [usize; 2],
        maps: impl Fn(usize, usize) -> (c64, c64),
    ) -> Mat<f64> {
        Mat::from_fn(2 * rows, 2 * columns, |row, column| {
            let (a, b) = maps(row % rows, column % columns);
            let entry = match (row < rows, column < columns) {
                (true, true) => a.re + b.re,
                (true, false) => b.im - a.im,
                (false, true) => a.im + b.im,
                (false, false) => a.re - b.re,
            };
            match self {
                Self::Gradient => entry,
                Self::Squared => entry * entry,
            }
        })
    }
}

/// Values of one kind for every parameter of a [`BasisChange`], row-major, to those of the smaller layer.
pub type GradientMap = Box<dyn Fn(GradientKind, Vec<Vec<f64>>) -> Vec<Vec<f64>>>;

/// How gradients look in another basis.
pub struct BasisChange {
    /// The parameters that change, by what would be their first entries: a slice through the old basis.
    pub first: Vec<KeptRows>,
    /// The gradients of all of them, in that order, in the new basis; `None` where the new states are no linear function of
    /// the old ones.
    pub map: Option<GradientMap>,
}

impl fmt::Debug for BasisChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasisChange")
            .field("first", &self.first)
            .field("map", &self.map.is_some())
            .finish()
    }
}

/// Positions of the states with the scores that a selection wants, in increasing order, and the share of all scores that
/// goes.
pub(crate) fn choose(scores: &[f64], selection: Selection, order: usize) -> (Vec<usize>, f64) {
    let mut ranking: Vec<usize> = (0..scores.len()).collect();
    ranking.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    let places = selection.states(scores.len(), order).into_iter();
    let mut kept: Vec<usize> = places.map(|place| ranking[place]).collect();
    kept.sort_unstable();
    let sum = |states: &mut dyn Iterator<Item = usize>| states.map(|n| scores[n]).sum::<f64>();
    let all = sum(&mut (0..scores.len()));
    let gone = sum(&mut (0..scores.len()).filter(|n| kept.binary_search(n).is_err()));
    (kept, if gone > 0.0 { gone / all } else { 0.0 })
}

/// Largest first.
pub(crate) fn sorted(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted
}

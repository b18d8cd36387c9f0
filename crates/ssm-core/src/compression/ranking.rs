//! A layer's system, and its states in order of what they matter.

use hsv::{
    Discrete, DiscreteDiagonalSystem, HankelDecomposition, LinearSystem, ModalNorm, RealPartSystem,
    hankel_all, hankel_norm, spearman,
};

use super::{CompressionError, Drift, Realization};
use crate::system::StateMaps;

/// A system with what ranks its states.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per layer, and matrices hang on it"
)]
pub enum Ranking {
    /// By the complex system.
    Complex(HankelDecomposition<DiscreteDiagonalSystem>),
    /// By the real part of its output.
    Real {
        /// The complex system.
        system: DiscreteDiagonalSystem,
        /// That of the real part.
        hankel: HankelDecomposition<RealPartSystem<Discrete>>,
    },
}

/// A smaller system and what it costs.
#[derive(Debug)]
pub(crate) struct ReducedSystem {
    pub system: DiscreteDiagonalSystem,
    /// Where its states come from.
    pub states: States,
    /// Bounds the gain of the error of the layer's output at every frequency.
    pub bound: f64,
    /// Share of the sum of all values that went, in `[0, 1)`.
    pub discarded: f64,
}

impl ReducedSystem {
    /// Least distance of an eigenvalue from the unit circle.
    pub(crate) fn decay(&self) -> f64 {
        let distances = self.system.lambda().iter().map(|l| 1.0 - l.norm());
        distances.fold(f64::INFINITY, f64::min)
    }
}

/// Where the states of a smaller system come from.
#[derive(Debug)]
pub enum States {
    /// They are the full system's modes at these positions, as they were.
    Kept(Vec<usize>),
    /// They are new. The maps lead to the full system's and back; `None` where there is no linear map.
    New(Option<StateMaps>),
}

impl Ranking {
    /// Ranks the states of a system.
    ///
    /// # Errors
    /// When it has no Hankel singular values.
    pub fn of(
        system: DiscreteDiagonalSystem,
        realization: Realization,
    ) -> Result<Self, CompressionError> {
        Ok(match realization {
            Realization::Complex => Self::Complex(system.hankel()?),
            Realization::Real => {
                let hankel = system.real_part().hankel()?;
                Self::Real { system, hankel }
            }
        })
    }

    /// Ranks the states of many systems, each by itself.
    ///
    /// # Errors
    /// When one of them has no Hankel singular values.
    pub fn all(
        systems: Vec<DiscreteDiagonalSystem>,
        realization: Realization,
    ) -> Result<Vec<Self>, CompressionError> {
        match realization {
            Realization::Complex => hankel_all(&systems)
                .into_iter()
                .map(|hankel| Ok(Self::Complex(hankel?)))
                .collect(),
            Realization::Real => {
                let parts: Vec<_> = systems.iter().map(|s| s.real_part()).collect();
                let rankings = systems.into_iter().zip(hankel_all(&parts));
                rankings
                    .map(|(system, hankel)| {
                        let hankel = hankel?;
                        Ok(Self::Real { system, hankel })
                    })
                    .collect()
            }
        }
    }

    /// One value per state, largest first.
    pub fn values(&self) -> Vec<f64> {
        match self {
            Self::Complex(hankel) => hankel.singular_values().to_vec(),
            // A state of the layer is a pair of real ones: sums of two keep the order and every share of the whole.
            Self::Real { hankel, .. } => {
                let (pairs, _) = hankel.singular_values().as_chunks::<2>();
                pairs.iter().map(|[first, second]| first + second).collect()
            }
        }
    }

    /// Share of the sum of all values beyond the first `order`.
    pub(super) fn tail_share(&self, order: usize) -> f64 {
        let values = self.values();
        // From the small end: the tail is what counts.
        let sum = |values: &[f64]| values.iter().rev().sum::<f64>();
        let tail = sum(&values[order..]);
        if tail > 0.0 { tail / sum(&values) } else { 0.0 }
    }

    /// The system whose states they are.
    pub(crate) fn system(&self) -> &DiscreteDiagonalSystem {
        match self {
            Self::Complex(hankel) => hankel.system(),
            Self::Real { system, .. } => system,
        }
    }

    /// How far a system has come from an earlier one of the same size.
    pub(crate) fn drift(&self, before: &DiscreteDiagonalSystem) -> Option<Drift> {
        let now = self.system();
        let difference = now.minus(before).ok()?;
        let hankel_distance = match self {
            Self::Complex(_) => hankel_norm(&difference).ok()?,
            // Reported values are sums of two, each of which moves by at most the norm.
            Self::Real { .. } => 2.0 * hankel_norm(&difference.real_part()).ok()?,
        };
        let scores = |system: &DiscreteDiagonalSystem| system.modal_scores(ModalNorm::H2);
        Some(Drift {
            rank_correlation: spearman(&scores(before), &scores(now)),
            hankel_distance,
        })
    }
}

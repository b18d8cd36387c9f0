//! A tolerance, once the ranking has settled.

mod settled;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::key::Key;
use super::rule::{Configured, Rule};
use super::tolerance::{self, TAU};
use crate::check::{Check, Proposal};
use crate::{KeepReason, LayerSpectrum, ScheduleError, Scope};
use settled::{margin, ranks_as_before};

const MIN_CORRELATION: Key = Key {
    name: "min_correlation",
    meaning: "it is a rank correlation, from -1 to 1",
    holds: |rho| (-1.0..=1.0).contains(&rho),
};

/// As [`Tolerance`](super::Tolerance), but a layer is cut only once its ranking has settled.
///
/// A check that finds the candidate order `r` compares the layer with its previous snapshot ([`Drift`]). The
/// ranking has settled if both hold:
///
/// 1. The modal scores rank the modes as before: their rank correlation is at least `min_correlation`.
/// 2. No direction on its way out can still become a dominant one. Dominant are the first `k` whose sum reaches
///    half of Σσᵢ. Between two snapshots the Hankel operator changed by `δ` in norm, and by Weyl's inequality no
///    `σᵢ` moves further than that; so if the layer drifts once more as far, `σ_{r+1} + δ < σ_k - δ` keeps every
///    discarded direction below every dominant one.
///
/// What is *not* demanded is a gap at the cut itself, between `σ_r` and `σ_{r+1}`: in a spectrum that falls
/// smoothly neighbors are as good as equal, they trade places all the time, and whichever of them is kept the
/// cut discards the same.
///
/// Source: Weyl's inequality, `HJ91` in `docs/references.bib`, as in [`hsv::weyl_intervals`].
///
/// [`Drift`]: crate::Drift
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auto {
    /// Share of Σσᵢ that one cut may discard, in `[0, 1)`. From one half on, what is kept may be less than the
    /// dominant directions, and the layer then never counts as settled.
    pub tau: f64,
    /// Smallest rank correlation with the previous snapshot, in `[-1, 1]`.
    pub min_correlation: f64,
}

/// A cut of a layer whose ranking has settled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Share of Σσᵢ that may go; of all layers together where they share a budget.
    pub tau: f64,
    /// Rank correlation with the previous snapshot.
    #[serde(rename = "correlation")]
    pub rank_correlation: f64,
    /// `(σ_k - δ) - (σ_{r+1} + δ)`, positive: what is left between the dominant and the discarded directions
    /// even if the layer drifts once more as far, in the unit of the spectrum.
    pub margin: f64,
    /// What the share is of.
    pub scope: Scope,
}

/// Why a ranking does not count as settled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Keep {
    /// The layer has no earlier snapshot with the same states to compare with.
    NoEarlierSnapshot,
    /// The ranking of the layer's directions still moves.
    NotSettled {
        /// By which measure.
        #[serde(flatten)]
        cause: Unsettled,
    },
}

/// By which measure a ranking has not settled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unsettled {
    /// The modal scores rank the modes in another order than before.
    RankCorrelation {
        /// Rank correlation with the previous snapshot.
        #[serde(rename = "correlation")]
        rank_correlation: f64,
        /// The smallest that would do.
        min_correlation: f64,
    },
    /// The modal scores of the two snapshots have no rank correlation.
    RankCorrelationUnknown,
    /// A direction on its way out could become a dominant one if the layer drifts once more as far.
    Margin {
        /// `(σ_k - δ) - (σ_{r+1} + δ)`, not positive, in the unit of the spectrum.
        margin: f64,
        /// The drift `δ`, in the unit of the spectrum.
        #[serde(rename = "distance")]
        hankel_distance: f64,
    },
    /// How far the layer drifted is not a number, or infinite, or negative.
    HankelDistanceUnknown,
}

impl From<Unsettled> for Keep {
    fn from(cause: Unsettled) -> Self {
        Self::NotSettled { cause }
    }
}

impl Configured for Auto {
    const KEYS: &'static [Key] = &[TAU, MIN_CORRELATION];
}

impl Rule for Auto {
    fn validate(&self) -> Result<(), ScheduleError> {
        TAU.check(self.tau)?;
        MIN_CORRELATION.check(self.min_correlation)
    }

    /// As a tolerance, among the layers that have settled. Where they share a budget, a layer that has not leaves with
    /// its states and its part of it, and the others are asked again.
    fn propose(&self, check: &Check<'_>, members: &[usize]) -> Vec<Proposal> {
        let mut members = members.to_vec();
        let mut proposals = BTreeMap::new();
        loop {
            let orders = tolerance::orders(check, &members, self.tau);
            let mut settled = Vec::new();
            for (&layer, order) in members.iter().zip(orders) {
                let outcome = self.once_settled(check, layer, order);
                if outcome.is_ok() {
                    settled.push(layer);
                }
                proposals.insert(layer, outcome.unwrap_or_else(Proposal::Keep));
            }
            if settled.len() == members.len() {
                return proposals.into_values().collect();
            }
            members = settled;
        }
    }
}

impl Auto {
    /// The proposal to cut a layer to `order` if its ranking has settled; otherwise why it has not.
    fn once_settled(
        &self,
        check: &Check<'_>,
        layer: usize,
        order: usize,
    ) -> Result<Proposal, KeepReason> {
        let LayerSpectrum { hsv, drift, .. } = check.observation.layers[layer];
        // What would be cut decides, not what was asked for.
        let order = match check.gate.admitted(order, hsv.len()) {
            Ok(order) => order,
            Err(reason) => return Ok(Proposal::Keep(reason)),
        };
        let drift = drift.ok_or(Keep::NoEarlierSnapshot)?;
        let rank_correlation = ranks_as_before(drift, self.min_correlation).map_err(Keep::from)?;
        let margin = margin(hsv, order, drift.hankel_distance).map_err(Keep::from)?;
        let cut = Cut {
            tau: self.tau,
            rank_correlation,
            margin,
            scope: check.scope,
        };
        let reason = cut.into();
        Ok(Proposal::Order { order, reason })
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tau,
            rank_correlation,
            margin,
            scope,
        } = self;
        write!(
            f,
            "tolerance {tau}, settled: rank correlation {rank_correlation:.3}, margin {margin:.1e}{}",
            scope.beside()
        )
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEarlierSnapshot => f.write_str("no earlier snapshot of these states"),
            Self::NotSettled { cause } => write!(f, "not settled: {cause}"),
        }
    }
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RankCorrelation {
                rank_correlation,
                min_correlation,
            } => write!(
                f,
                "rank correlation {rank_correlation:.3}, min_correlation is {min_correlation}"
            ),
            Self::RankCorrelationUnknown => f.write_str("the rank correlation is undefined"),
            Self::Margin {
                margin,
                hankel_distance,
            } => write!(
                f,
                "margin {margin:.1e} after drifting by {hankel_distance:.1e}"
            ),
            Self::HankelDistanceUnknown => f.write_str("the drift is not a finite number"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_correlation_may_be_asked_for_and_no_other_number() {
        let auto = |tau, min_correlation| Auto {
            tau,
            min_correlation,
        };
        for end in [-1.0, 1.0] {
            assert_eq!(auto(0.0, end).validate(), Ok(()));
        }
        for bad in [-1.1, 1.1, f64::NAN] {
            let refused = auto(0.1, bad).validate().unwrap_err().to_string();
            assert!(refused.starts_with("`min_correlation` = "), "{refused}");
        }
        assert!(auto(1.0, 0.9).validate().is_err());
    }
}

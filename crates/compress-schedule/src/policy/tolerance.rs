//! A share of the sum of the spectrum.

use std::fmt;

use hsv::{GlobalBudget, Normalization, order_for_tolerance};
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::registration::nothing;
use super::rule::{Configured, Rule};
use crate::check::{Check, Proposal};
use crate::{ScheduleError, Scope};

pub(crate) const TAU: Key = Key {
    name: "tau",
    meaning: "it is the share of the sum of Hankel singular values that a cut may discard, at least 0 and below 1",
    holds: |tau| (0.0..1.0).contains(&tau),
};

/// The smallest order that keeps a share `1 - tau` of the sum of the spectrum.
///
/// Source: section 3 of `CompreSSM26` in `docs/references.bib`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Share of Σσᵢ (not of Σσᵢ²) that one cut may discard, in `[0, 1)`. `0` keeps every state.
    pub tau: f64,
}

/// A cut within the tolerance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Share of Σσᵢ that may go; of all layers together where they share a budget.
    pub tau: f64,
    /// What the share is of.
    pub scope: Scope,
}

nothing!(Keep);

impl Configured for Tolerance {
    const KEYS: &'static [Key] = &[TAU];
}

impl Rule for Tolerance {
    fn validate(&self) -> Result<(), ScheduleError> {
        TAU.check(self.tau)
    }

    fn propose(&self, check: &Check<'_>, members: &[usize]) -> Vec<Proposal> {
        let (tau, scope) = (self.tau, check.scope);
        Proposal::all(Cut { tau, scope }, orders(check, members, tau))
    }
}

/// What the tolerance leaves of these layers.
pub(super) fn orders(check: &Check<'_>, members: &[usize], tau: f64) -> Vec<usize> {
    let spectra = check.spectra(members);
    match check.scope {
        Scope::Layer => spectra
            .iter()
            .map(|hsv| order_for_tolerance(hsv, tau))
            .collect(),
        Scope::Global => {
            GlobalBudget::DiscardedShare { tau }
                .allocate(&spectra, Normalization::SumOfLayer)
                .expect("every share of a spectrum can be kept")
                .orders
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tolerance {}{}", self.tau, self.scope.beside())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_from_none_to_less_than_all_may_go() {
        assert_eq!(Tolerance { tau: 0.0 }.validate(), Ok(()));
        for tau in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            let refused = Tolerance { tau }.validate().unwrap_err().to_string();
            assert!(refused.starts_with("`tau` = "), "{refused}");
        }
    }
}

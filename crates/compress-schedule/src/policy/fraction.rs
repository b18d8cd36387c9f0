//! The same share of the states at every check.

use std::fmt;

use hsv::order_for_fraction;
use serde::{Deserialize, Serialize};

use super::key::Key;
use super::registration::nothing;
use super::rule::{Configured, Rule};
use crate::check::{Check, Proposal};
use crate::{ScheduleError, Scope};

pub(crate) const FRACTION: Key = Key {
    name: "fraction",
    meaning: "it is the share of its states that a cut takes from a layer, above 0 and below 1",
    holds: |fraction| fraction > 0.0 && fraction < 1.0,
};

/// The same share of the states at every check, whatever the spectrum says about its worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// Share of the *current* states that goes at every check, in `(0, 1)`.
    pub fraction: f64,
}

/// A cut by the fraction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Share of the states that goes.
    pub fraction: f64,
    /// What the share is of.
    pub scope: Scope,
}

nothing!(Keep);

impl Configured for Fraction {
    const KEYS: &'static [Key] = &[FRACTION];
}

impl Rule for Fraction {
    fn validate(&self) -> Result<(), ScheduleError> {
        FRACTION.check(self.fraction)
    }

    fn propose(&self, check: &Check<'_>, members: &[usize]) -> Vec<Proposal> {
        let (fraction, scope) = (self.fraction, check.scope);
        Proposal::all(Cut { fraction, scope }, orders(check, members, fraction))
    }
}

/// What the fraction leaves of these layers.
pub(super) fn orders(check: &Check<'_>, members: &[usize], fraction: f64) -> Vec<usize> {
    let keep = 1.0 - fraction;
    let spectra = check.spectra(members);
    match check.scope {
        Scope::Layer => spectra
            .iter()
            .map(|hsv| order_for_fraction(hsv, keep))
            .collect(),
        Scope::Global => {
            let states: usize = spectra.iter().map(|hsv| hsv.len()).sum();
            check.share_out(members, (keep * states as f64).round() as usize)
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fraction {}{}", self.fraction, self.scope.beside())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_nothing_nor_everything_goes() {
        for fraction in [0.0, 1.0, f64::NAN] {
            let refused = Fraction { fraction }.validate().unwrap_err().to_string();
            assert!(refused.starts_with("`fraction` = "), "{refused}");
        }
        assert_eq!(Fraction { fraction: 0.5 }.validate(), Ok(()));
    }
}

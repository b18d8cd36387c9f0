//! A fraction for as long as it does no harm.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::fraction::{self, FRACTION};
use super::key::Key;
use super::registration::nothing;
use super::rule::{Configured, Rule};
use crate::check::{Check, Proposal};
use crate::{ScheduleError, Scope};

const MAX_DROP: Key = Key {
    name: "max_drop",
    meaning: "it is the loss of validation accuracy that a cut may cause, a share from 0 to 1 (0.01 is one percent)",
    holds: |drop| (0.0..=1.0).contains(&drop),
};

/// A fraction at every check for as long as it does no harm: the trainer evaluates right before and right after,
/// hands both accuracies to [`Schedule::judge`](crate::Schedule::judge), and goes back and stops cutting when the
/// cut cost too much.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pragmatic {
    /// Share of the current states that goes at every check, in `(0, 1)`.
    pub fraction: f64,
    /// Largest fall in validation accuracy that a cut may cause, as a fraction of 1, in `[0, 1]`.
    pub max_drop: f64,
}

/// A cut on trial.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Share of the states that goes.
    pub fraction: f64,
    /// Largest fall in accuracy that lets the cut stand.
    pub max_drop: f64,
    /// What the share is of.
    pub scope: Scope,
}

nothing!(Keep);

impl Configured for Pragmatic {
    const KEYS: &'static [Key] = &[FRACTION, MAX_DROP];
}

impl Rule for Pragmatic {
    fn validate(&self) -> Result<(), ScheduleError> {
        FRACTION.check(self.fraction)?;
        MAX_DROP.check(self.max_drop)
    }

    fn propose(&self, check: &Check<'_>, members: &[usize]) -> Vec<Proposal> {
        let Self { fraction, max_drop } = *self;
        let scope = check.scope;
        let cut = Cut {
            fraction,
            max_drop,
            scope,
        };
        Proposal::all(cut, fraction::orders(check, members, fraction))
    }

    fn max_drop(&self) -> Option<f64> {
        Some(self.max_drop)
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            fraction,
            max_drop,
            scope,
        } = self;
        let beside = scope.beside();
        write!(
            f,
            "fraction {fraction} on trial, max_drop {max_drop}{beside}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_fall_in_accuracy_may_be_borne_and_no_other_number() {
        let pragmatic = |max_drop| Pragmatic {
            fraction: 0.5,
            max_drop,
        };
        for end in [0.0, 1.0] {
            assert_eq!(pragmatic(end).validate(), Ok(()));
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            let refused = pragmatic(bad).validate().unwrap_err().to_string();
            assert!(refused.starts_with("`max_drop` = "), "{refused}");
        }
        let all = Pragmatic {
            fraction: 1.0,
            max_drop: 0.1,
        };
        assert!(all.validate().is_err());
    }
}

//! How far: from the spectrum of one layer to the order worth keeping.

use serde::{Deserialize, Serialize};

use crate::ScheduleError;

/// The rule that turns a spectrum into an order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Policy {
    /// Never cut: ordinary training, the baseline of every comparison.
    None,
    /// The smallest order that keeps a share `1 - tau` of the sum of the spectrum.
    ///
    /// Source: section 3 of `CompreSSM26` in `docs/references.bib`.
    Tolerance {
        /// Share of Σσᵢ (not of Σσᵢ²) that one cut may discard, in `[0, 1)`. `0` keeps every state.
        tau: f64,
    },
}

impl Policy {
    /// Whether this policy can ever ask for a cut. One that cannot needs no checks.
    pub fn is_active(self) -> bool {
        self != Self::None
    }

    /// Checks that every field is in its range.
    ///
    /// # Errors
    /// [`ScheduleError::TauOutOfRange`].
    pub fn validate(self) -> Result<(), ScheduleError> {
        match self {
            Self::None => Ok(()),
            Self::Tolerance { tau } if (0.0..1.0).contains(&tau) => Ok(()),
            Self::Tolerance { tau } => Err(ScheduleError::TauOutOfRange { tau }),
        }
    }

    /// Number of states to keep, before any gate.
    ///
    /// `hsv` is finite, non-negative and sorted, largest first. Where nothing may be cut the answer is `hsv.len()`.
    pub fn order(self, hsv: &[f64]) -> usize {
        match self {
            Self::None => hsv.len(),
            Self::Tolerance { tau } => hsv::order_for_tolerance(hsv, tau),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_policy_keeps_every_state() {
        assert_eq!(Policy::None.order(&[1.0, 0.0]), 2);
        assert!(!Policy::None.is_active());
    }

    #[test]
    fn the_tolerance_is_a_share_of_the_sum_and_not_of_the_squares() {
        // Sum 10: keeping the first two discards 5 %. Of the squares it would be 0.2 %.
        let hsv = [7.0, 2.5, 0.25, 0.25];
        assert_eq!(Policy::Tolerance { tau: 0.06 }.order(&hsv), 2);
        assert_eq!(Policy::Tolerance { tau: 0.04 }.order(&hsv), 3);
    }

    #[test]
    fn a_share_outside_zero_to_one_is_refused() {
        for tau in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            let refused = Policy::Tolerance { tau }.validate();
            assert!(
                matches!(refused, Err(ScheduleError::TauOutOfRange { .. })),
                "tau {tau}"
            );
        }
        assert_eq!(Policy::Tolerance { tau: 0.0 }.validate(), Ok(()));
    }
}

//! How far: the rules that turn spectra into orders, and what they are measured by.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::ScheduleError;

/// The rule that turns the spectra of a check into orders.
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
    /// The same share of the states at every check, whatever the spectrum says about its worth.
    Fraction {
        /// Share of the *current* states that goes at every check, in `(0, 1)`.
        fraction: f64,
    },
    /// A size that the last check must reach, approached in equal ratios: with `k` checks left, this one included, a
    /// model of size `n` goes to `n (goal / n)^(1/k)`, so that every check drops the same share. A check that did
    /// less than planned, or could not, leaves its part to the ones after it. Where the gate rounds orders, the size is
    /// missed by what rounding adds.
    Target {
        /// The size to reach.
        budget: Budget,
    },
    /// A fraction at every check for as long as it does no harm: the trainer evaluates right before and right after,
    /// hands both accuracies to [`Schedule::judge`](crate::Schedule::judge), and goes back and stops cutting when the
    /// cut cost too much.
    Pragmatic {
        /// Share of the current states that goes at every check, in `(0, 1)`.
        fraction: f64,
        /// Largest fall in validation accuracy that a cut may cause, as a fraction of 1, in `[0, 1]`.
        max_drop: f64,
    },
    /// As [`Tolerance`](Self::Tolerance), but a layer is cut only once its ranking has settled.
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
    Auto {
        /// Share of Σσᵢ that one cut may discard, in `[0, 1)`. From one half on, what is kept may be less than the
        /// dominant directions, and the layer then never counts as settled.
        tau: f64,
        /// Smallest rank correlation with the previous snapshot, in `[-1, 1]`.
        min_correlation: f64,
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
    /// The [`ScheduleError`] named after the field.
    pub fn validate(self) -> Result<(), ScheduleError> {
        match self {
            Self::None => Ok(()),
            Self::Tolerance { tau } => validate_tau(tau),
            Self::Fraction { fraction } => validate_fraction(fraction),
            Self::Target { budget } => budget.validate(),
            Self::Pragmatic { fraction, max_drop } => {
                validate_fraction(fraction)?;
                if !(0.0..=1.0).contains(&max_drop) {
                    return Err(ScheduleError::MaxDropOutOfRange { max_drop });
                }
                Ok(())
            }
            Self::Auto {
                tau,
                min_correlation,
            } => {
                validate_tau(tau)?;
                if !(-1.0..=1.0).contains(&min_correlation) {
                    return Err(ScheduleError::MinCorrelationOutOfRange { min_correlation });
                }
                Ok(())
            }
        }
    }
}

fn validate_tau(tau: f64) -> Result<(), ScheduleError> {
    if !(0.0..1.0).contains(&tau) {
        return Err(ScheduleError::TauOutOfRange { tau });
    }
    Ok(())
}

fn validate_fraction(fraction: f64) -> Result<(), ScheduleError> {
    let inside = fraction > 0.0 && fraction < 1.0; // false for NaN
    if !inside {
        return Err(ScheduleError::DropOutOfRange { fraction });
    }
    Ok(())
}

/// A size that [`Policy::Target`] works towards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "unit", rename_all = "snake_case", deny_unknown_fields)]
pub enum Budget {
    /// A mean number of states per layer.
    States {
        /// States per layer, at least 1: all layers together may have so many times the number of layers.
        per_layer: usize,
    },
    /// A number of parameters of the whole model.
    Parameters {
        /// All parameters, those that no cut touches included; at least 1.
        total: u64,
    },
    /// A training step as fast as this.
    ///
    /// Every check is told how long a step takes now, and remembers it with the number of states. One size of model
    /// says only that time may be proportional to states; two or more give a straight line by least squares, with the
    /// time that no cut can save as its intercept. (If the line falls, noise is all there is to see, and time counts
    /// as proportional again, by the latest measurement.)
    StepTime {
        /// Milliseconds per training step, finite and positive.
        milliseconds: f64,
    },
}

impl Budget {
    /// Checks that the size is one.
    ///
    /// # Errors
    /// [`ScheduleError::EmptyBudget`], [`ScheduleError::StepTimeOutOfRange`].
    pub fn validate(self) -> Result<(), ScheduleError> {
        match self {
            Self::States { per_layer: 0 } | Self::Parameters { total: 0 } => {
                Err(ScheduleError::EmptyBudget)
            }
            Self::StepTime { milliseconds }
                if !(milliseconds > 0.0 && milliseconds.is_finite()) =>
            {
                Err(ScheduleError::StepTimeOutOfRange { milliseconds })
            }
            Self::States { .. } | Self::Parameters { .. } | Self::StepTime { .. } => Ok(()),
        }
    }
}

/// As in a sentence: `64 states per layer`, `120000 parameters`, `3.5 ms per step`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::States { per_layer } => write!(f, "{per_layer} states per layer"),
            Self::Parameters { total } => write!(f, "{total} parameters"),
            Self::StepTime { milliseconds } => write!(f, "{milliseconds} ms per step"),
        }
    }
}

/// What a policy looks at before it says how far to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every layer for itself: each meets the tolerance or loses the fraction; a target shrinks all of them alike.
    #[default]
    Layer,
    /// All layers share one budget, and a state goes from where it is worth least: singular values are compared as
    /// shares of their layer's sum ([`hsv::GlobalBudget`] with [`hsv::Normalization::SumOfLayer`]).
    Global,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ScheduleError as E;

    #[test]
    fn a_run_without_policy_is_inactive() {
        assert!(!Policy::None.is_active());
        assert!(Policy::Fraction { fraction: 0.1 }.is_active());
    }

    #[test]
    fn parameters_outside_their_range_are_refused_by_name() {
        let auto = |tau, min_correlation| Policy::Auto {
            tau,
            min_correlation,
        };
        let pragmatic = |fraction, max_drop| Policy::Pragmatic { fraction, max_drop };
        let target = |budget| Policy::Target { budget };
        let time = |milliseconds| target(Budget::StepTime { milliseconds });
        for bad in [-0.1, 1.0, f64::NAN, f64::INFINITY] {
            for policy in [Policy::Tolerance { tau: bad }, auto(bad, 0.9)] {
                let refused = policy.validate();
                assert!(
                    matches!(refused, Err(E::TauOutOfRange { .. })),
                    "{policy:?}"
                );
            }
        }
        for bad in [0.0, 1.0, f64::NAN] {
            for policy in [Policy::Fraction { fraction: bad }, pragmatic(bad, 0.1)] {
                let refused = policy.validate();
                assert!(
                    matches!(refused, Err(E::DropOutOfRange { .. })),
                    "{policy:?}"
                );
            }
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            let refused = pragmatic(0.1, bad).validate();
            assert!(matches!(refused, Err(E::MaxDropOutOfRange { .. })), "{bad}");
        }
        for bad in [-1.1, 1.1, f64::NAN] {
            let refused = auto(0.1, bad).validate();
            assert!(
                matches!(refused, Err(E::MinCorrelationOutOfRange { .. })),
                "{bad}"
            );
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = time(bad).validate();
            assert!(
                matches!(refused, Err(E::StepTimeOutOfRange { .. })),
                "{bad}"
            );
        }
        for empty in [
            Budget::States { per_layer: 0 },
            Budget::Parameters { total: 0 },
        ] {
            assert_eq!(target(empty).validate(), Err(E::EmptyBudget));
        }
    }

    #[test]
    fn the_ends_of_the_ranges_belong_to_them() {
        let good = [
            Policy::Tolerance { tau: 0.0 },
            Policy::Pragmatic {
                fraction: 0.5,
                max_drop: 0.0,
            },
            Policy::Pragmatic {
                fraction: 0.5,
                max_drop: 1.0,
            },
            Policy::Auto {
                tau: 0.0,
                min_correlation: 1.0,
            },
            Policy::Auto {
                tau: 0.0,
                min_correlation: -1.0,
            },
            Policy::Target {
                budget: Budget::States { per_layer: 1 },
            },
        ];
        for policy in good {
            assert_eq!(policy.validate(), Ok(()), "{policy:?}");
        }
    }

    #[test]
    fn a_policy_is_written_with_its_kind_and_unknown_keys_are_refused() {
        let target = Policy::Target {
            budget: Budget::StepTime { milliseconds: 2.5 },
        };
        let text = serde_json::to_string(&target).unwrap();
        assert_eq!(
            text,
            r#"{"kind":"target","budget":{"unit":"step_time","milliseconds":2.5}}"#
        );
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), target);
        for bad in [
            r#"{"kind":"fraction","fraction":0.1,"tau":0.1}"#,
            r#"{"kind":"target","budget":{"unit":"states","per_layer":8,"total":9}}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }
}

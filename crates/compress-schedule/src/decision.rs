//! What a check decided for one layer, and why.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::ScheduleError;

/// The outcome of a check for one layer. There is always exactly one, and it says why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Truncate this layer.
    Cut {
        /// Current number of states.
        from: usize,
        /// States to keep, smaller than `from`.
        to: usize,
        /// Share of Σσᵢ that goes with the cut states, in `[0, 1)`.
        discarded_share: f64,
    },
    /// Leave this layer as it is.
    Keep {
        /// Current number of states.
        state_dim: usize,
        /// Why nothing is cut.
        #[serde(flatten)]
        reason: KeepReason,
    },
}

impl Decision {
    /// Number of states the layer has once this decision is carried out.
    pub fn order(&self) -> usize {
        match *self {
            Self::Cut { to, .. } => to,
            Self::Keep { state_dim, .. } => state_dim,
        }
    }
}

/// Why a check left a layer alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// The policy asked for a cut that the gate found too small to be worth its cost.
    BelowMinDrop {
        /// Share of the states that the cut would have dropped, in `(0, 1)`.
        would_drop: f64,
        /// Share that a cut has to exceed.
        min_drop: f64,
    },
    /// The policy, or the smallest state dimension allowed, keeps every state.
    NothingToCut,
    /// Every Hankel singular value is zero: no state can be ranked above another.
    SpectrumIsZero,
    /// A Hankel singular value is NaN or infinite. The layer needs attention; cutting it would hide that.
    SpectrumNotFinite,
}

/// What a cut must achieve before it happens.
///
/// A cut costs a truncation and a changed basis; a few states less do not pay for that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Share of a layer's states that a cut must exceed, in `[0, 1)`: a cut to `r` of `n` states happens only if
    /// `r < (1 - min_drop) n`. Published: 0.05.
    pub min_drop: f64,
    /// Fewest states a layer may be left with, at least 1.
    pub min_state: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            min_drop: 0.05,
            min_state: 1,
        }
    }
}

impl Gate {
    /// Checks that both fields are in their range.
    ///
    /// # Errors
    /// [`ScheduleError::MinDropOutOfRange`], [`ScheduleError::ZeroMinState`].
    pub fn validate(self) -> Result<(), ScheduleError> {
        let min_drop = self.min_drop;
        if !(0.0..1.0).contains(&min_drop) {
            return Err(ScheduleError::MinDropOutOfRange { min_drop });
        }
        if self.min_state == 0 {
            return Err(ScheduleError::ZeroMinState);
        }
        Ok(())
    }

    /// Decides on the `order` that a policy proposes for a layer with this finite, non-zero spectrum.
    pub(crate) fn judge(self, hsv: &[f64], order: usize) -> Decision {
        let state_dim = hsv.len();
        let keep = |reason| Decision::Keep { state_dim, reason };
        let order = order.max(self.min_state);
        if order >= state_dim {
            return keep(KeepReason::NothingToCut);
        }
        let min_drop = self.min_drop;
        let large_enough = (order as f64) < (1.0 - min_drop) * state_dim as f64;
        if !large_enough {
            let would_drop = (state_dim - order) as f64 / state_dim as f64;
            return keep(KeepReason::BelowMinDrop {
                would_drop,
                min_drop,
            });
        }
        Decision::Cut {
            from: state_dim,
            to: order,
            discarded_share: discarded_share(hsv, order),
        }
    }
}

/// Share of the sum of `hsv` behind its first `order` values.
fn discarded_share(hsv: &[f64], order: usize) -> f64 {
    // In units of the largest, so that the sum of a huge spectrum is finite and that of a tiny one is not zero;
    // from the small end, so that the tail is not lost to rounding.
    let sum_from_the_small_end =
        |values: &[f64]| values.iter().rev().map(|sigma| sigma / hsv[0]).sum::<f64>();
    sum_from_the_small_end(&hsv[order..]) / sum_from_the_small_end(hsv)
}

/// As in a table of cuts: `order 256 -> 61  discarded 0.99 %`, `order 256 kept  skipped: …`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut {
                from,
                to,
                discarded_share,
            } => {
                let percent = 100.0 * discarded_share;
                write!(f, "order {from} -> {to}  discarded {percent:.2} %")
            }
            Self::Keep { state_dim, reason } => {
                write!(f, "order {state_dim} kept  skipped: {reason}")
            }
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMinDrop {
                would_drop,
                min_drop,
            } => {
                let (would, least) = (100.0 * would_drop, 100.0 * min_drop);
                write!(
                    f,
                    "would drop {would:.1} % of the states, min_drop is {least:.1} %"
                )
            }
            Self::NothingToCut => f.write_str("every state is needed"),
            Self::SpectrumIsZero => f.write_str("every Hankel singular value is zero"),
            Self::SpectrumNotFinite => f.write_str("a Hankel singular value is not finite"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(states: usize) -> Vec<f64> {
        vec![1.0; states]
    }

    #[test]
    fn a_cut_must_drop_more_than_min_drop() {
        let gate = Gate::default();
        // 5 % of 20 states is exactly one: not below 19, so it stays.
        assert_eq!(
            gate.judge(&flat(20), 19),
            Decision::Keep {
                state_dim: 20,
                reason: KeepReason::BelowMinDrop {
                    would_drop: 0.05,
                    min_drop: 0.05
                }
            }
        );
        assert!(matches!(
            gate.judge(&flat(20), 18),
            Decision::Cut {
                from: 20,
                to: 18,
                ..
            }
        ));
    }

    #[test]
    fn an_open_gate_lets_a_single_state_go() {
        let gate = Gate {
            min_drop: 0.0,
            min_state: 1,
        };
        assert_eq!(gate.judge(&flat(100), 99).order(), 99);
    }

    #[test]
    fn no_cut_goes_below_min_state() {
        let gate = Gate {
            min_drop: 0.05,
            min_state: 8,
        };
        assert_eq!(gate.judge(&flat(20), 3).order(), 8);
        let at_the_floor = gate.judge(&flat(8), 3);
        assert_eq!(
            at_the_floor,
            Decision::Keep {
                state_dim: 8,
                reason: KeepReason::NothingToCut
            }
        );
        assert_eq!(Gate::default().judge(&flat(20), 0).order(), 1);
    }

    #[test]
    fn the_discarded_share_survives_extreme_units() {
        for unit in [1e-308, 1.0, f64::MAX] {
            let hsv = [unit, unit, unit / 2.0, unit / 2.0];
            let share = discarded_share(&hsv, 2);
            // Four divisions and three additions of values of order one.
            assert!(
                (share - 1.0 / 3.0).abs() <= 8.0 * f64::EPSILON,
                "{share} for unit {unit:e}"
            );
        }
    }

    #[test]
    fn gates_outside_their_range_are_refused() {
        for min_drop in [-0.01, 1.0, f64::NAN] {
            let gate = Gate {
                min_drop,
                min_state: 1,
            };
            assert!(gate.validate().is_err(), "min_drop {min_drop}");
        }
        let nothing_left = Gate {
            min_drop: 0.05,
            min_state: 0,
        };
        assert_eq!(nothing_left.validate(), Err(ScheduleError::ZeroMinState));
    }

    #[test]
    fn a_decision_reads_as_a_line_of_the_table() {
        let cut = Decision::Cut {
            from: 256,
            to: 61,
            discarded_share: 0.0099,
        };
        assert_eq!(cut.to_string(), "order 256 -> 61  discarded 0.99 %");
        let kept = Decision::Keep {
            state_dim: 256,
            reason: KeepReason::BelowMinDrop {
                would_drop: 0.04,
                min_drop: 0.05,
            },
        };
        assert_eq!(
            kept.to_string(),
            "order 256 kept  skipped: would drop 4.0 % of the states, min_drop is 5.0 %"
        );
    }

    #[test]
    fn a_decision_survives_serialization_with_flat_fields() {
        let kept = Decision::Keep {
            state_dim: 4,
            reason: KeepReason::NothingToCut,
        };
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(
            text,
            r#"{"decision":"keep","state_dim":4,"reason":"nothing_to_cut"}"#
        );
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), kept);
    }
}

//! What a cut must achieve before it happens.

use serde::{Deserialize, Serialize};

use crate::{CutReason, Decision, KeepReason, ScheduleError};

/// What a cut must achieve before it happens.
///
/// A cut costs a truncation and a changed basis; a few states less do not pay for that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Share of a layer's states that a cut must exceed, in `[0, 1)`: a cut to `r` of `n` states happens only if
    /// `r < (1 - min_drop) n`. Published: 0.05.
    ///
    /// The last check of a target is exempt: what is left of the way to it is done however short it is.
    pub min_drop: f64,
    /// Fewest states a layer may be left with, at least 1.
    pub min_state: usize,
    /// Steps that must pass after a cut of a layer before its next one; 0 lets every check cut.
    pub cooldown: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            min_drop: 0.05,
            min_state: 1,
            cooldown: 0,
        }
    }
}

/// Whether a cut has to be worth its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It has to drop more than `min_drop`.
    Demanded,
    /// However little it drops.
    Waived,
}

impl Gate {
    /// Checks that every field is in its range.
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

    /// Fewest states that a layer of `state_dim` may be left with.
    pub(crate) fn floor(self, state_dim: usize) -> usize {
        self.min_state.min(state_dim)
    }

    /// Decides on the `order` that a policy proposes for a layer with this finite, non-zero spectrum.
    pub(crate) fn judge(
        self,
        hsv: &[f64],
        order: usize,
        reason: CutReason,
        worth: Worth,
    ) -> Decision {
        let state_dim = hsv.len();
        let keep = |reason| Decision::Keep { state_dim, reason };
        let order = order.max(self.min_state);
        if order >= state_dim {
            return keep(KeepReason::NothingToCut);
        }
        let min_drop = self.min_drop;
        let large_enough = (order as f64) < (1.0 - min_drop) * state_dim as f64;
        if worth == Worth::Demanded && !large_enough {
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
            reason,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;

    fn flat(states: usize) -> Vec<f64> {
        vec![1.0; states]
    }

    fn judge(gate: Gate, states: usize, order: usize, worth: Worth) -> Decision {
        let reason = CutReason::Fraction {
            fraction: 0.5,
            scope: Scope::Layer,
        };
        gate.judge(&flat(states), order, reason, worth)
    }

    #[test]
    fn a_cut_must_drop_more_than_min_drop() {
        let gate = Gate::default();
        // 5 % of 20 states is exactly one: not below 19, so it stays.
        assert_eq!(
            judge(gate, 20, 19, Worth::Demanded),
            Decision::Keep {
                state_dim: 20,
                reason: KeepReason::BelowMinDrop {
                    would_drop: 0.05,
                    min_drop: 0.05
                }
            }
        );
        assert!(matches!(
            judge(gate, 20, 18, Worth::Demanded),
            Decision::Cut {
                from: 20,
                to: 18,
                ..
            }
        ));
        assert_eq!(judge(gate, 20, 19, Worth::Waived).order(), 19);
    }

    #[test]
    fn an_open_gate_lets_a_single_state_go() {
        let gate = Gate {
            min_drop: 0.0,
            ..Gate::default()
        };
        assert_eq!(judge(gate, 100, 99, Worth::Demanded).order(), 99);
    }

    #[test]
    fn no_cut_goes_below_min_state() {
        let gate = Gate {
            min_state: 8,
            ..Gate::default()
        };
        for worth in [Worth::Demanded, Worth::Waived] {
            assert_eq!(judge(gate, 20, 3, worth).order(), 8);
            let at_the_floor = judge(gate, 8, 3, worth);
            assert_eq!(
                at_the_floor,
                Decision::Keep {
                    state_dim: 8,
                    reason: KeepReason::NothingToCut
                }
            );
            assert_eq!(judge(Gate::default(), 20, 0, worth).order(), 1);
        }
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
                ..Gate::default()
            };
            assert!(gate.validate().is_err(), "min_drop {min_drop}");
        }
        let nothing_left = Gate {
            min_state: 0,
            ..Gate::default()
        };
        assert_eq!(nothing_left.validate(), Err(ScheduleError::ZeroMinState));
    }
}

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
    /// What orders are rounded up to: a power of two. From `order_multiple` on an order is a multiple of it, below it a
    /// power of two; 1 takes every order as it is. A cut is judged as it is after rounding, and one that rounding leaves
    /// nothing of does not happen. Rounding goes before a target, which is missed by less than `order_multiple` states a
    /// layer.
    ///
    /// For devices that like some sizes better than others. A schedule written before there was this field has 1.
    #[serde(default = "every_order")]
    pub order_multiple: usize,
}

/// The `order_multiple` that rounds nothing.
fn every_order() -> usize {
    1
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            min_drop: 0.05,
            min_state: 1,
            cooldown: 0,
            order_multiple: every_order(),
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
    /// [`ScheduleError::MinDropOutOfRange`], [`ScheduleError::ZeroMinState`], [`ScheduleError::OrderMultiple`].
    pub fn validate(self) -> Result<(), ScheduleError> {
        let min_drop = self.min_drop;
        if !(0.0..1.0).contains(&min_drop) {
            return Err(ScheduleError::MinDropOutOfRange { min_drop });
        }
        if self.min_state == 0 {
            return Err(ScheduleError::ZeroMinState);
        }
        let order_multiple = self.order_multiple;
        if !order_multiple.is_power_of_two() {
            return Err(ScheduleError::OrderMultiple { order_multiple });
        }
        Ok(())
    }

    /// Fewest states that a layer of `state_dim` may be left with.
    pub(crate) fn floor(self, state_dim: usize) -> usize {
        self.min_state.min(state_dim)
    }

    /// The order that a layer of `state_dim` states may be cut to where a policy proposes this one; or why it is not cut.
    pub(crate) fn admitted(self, order: usize, state_dim: usize) -> Result<usize, KeepReason> {
        let order = order.max(self.min_state);
        if order >= state_dim {
            return Err(KeepReason::NothingToCut);
        }
        // A power of two is a multiple of every smaller one.
        let multiple = self.order_multiple.min(order.next_power_of_two());
        let rounded = order.next_multiple_of(multiple);
        if rounded >= state_dim {
            return Err(KeepReason::RoundedUp {
                wanted: order,
                order_multiple: self.order_multiple,
            });
        }
        Ok(rounded)
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
        let order = match self.admitted(order, state_dim) {
            Ok(order) => order,
            Err(reason) => return keep(reason),
        };
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
    use crate::policy::fraction;

    fn flat(states: usize) -> Vec<f64> {
        vec![1.0; states]
    }

    fn judge(gate: Gate, states: usize, order: usize, worth: Worth) -> Decision {
        let cut = fraction::Cut {
            fraction: 0.5,
            scope: Scope::Layer,
        };
        gate.judge(&flat(states), order, cut.into(), worth)
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
    fn orders_are_rounded_up_to_multiples_or_to_powers_of_two_below_one() {
        let gate = Gate {
            order_multiple: 64,
            ..Gate::default()
        };
        for (order, rounded) in [
            (1, 1),
            (3, 4),
            (32, 32),
            (33, 64),
            (64, 64),
            (65, 128),
            (149, 192),
            (384, 384),
        ] {
            assert_eq!(gate.admitted(order, 1000), Ok(rounded));
            assert_eq!(Gate::default().admitted(order, 1000), Ok(order));
        }
    }

    #[test]
    fn a_cut_is_judged_as_it_is_after_rounding() {
        let gate = Gate {
            order_multiple: 64,
            min_drop: 0.3,
            min_state: 10,
            ..Gate::default()
        };
        assert_eq!(judge(gate, 256, 3, Worth::Demanded).order(), 16);
        // 149 of 256 would do, 192 is a quarter less.
        let reason = KeepReason::BelowMinDrop {
            would_drop: 0.25,
            min_drop: 0.3,
        };
        let state_dim = 256;
        let kept = Decision::Keep { state_dim, reason };
        assert_eq!(judge(gate, 256, 149, Worth::Demanded), kept);
        match judge(gate, 256, 149, Worth::Waived) {
            Decision::Cut {
                to,
                discarded_share,
                ..
            } => assert_eq!((to, discarded_share), (192, 0.25)),
            kept => panic!("{kept}"),
        }
        for worth in [Worth::Demanded, Worth::Waived] {
            let reason = KeepReason::RoundedUp {
                wanted: 43,
                order_multiple: 64,
            };
            let state_dim = 64;
            let kept = Decision::Keep { state_dim, reason };
            assert_eq!(judge(gate, 64, 43, worth), kept);
        }
    }

    #[test]
    fn a_gate_from_before_orders_were_rounded_takes_them_as_they_are() {
        let saved = r#"{"min_drop":0.05,"min_state":1,"cooldown":0}"#;
        let gate: Gate = serde_json::from_str(saved).unwrap();
        assert_eq!(gate, Gate::default());
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
        for order_multiple in [0, 48] {
            let gate = Gate {
                order_multiple,
                ..Gate::default()
            };
            let refusal = ScheduleError::OrderMultiple { order_multiple };
            assert_eq!(gate.validate(), Err(refusal));
        }
    }
}

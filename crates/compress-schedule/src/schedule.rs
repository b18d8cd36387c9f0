//! The state machine: which check is next, and what each check decides.

use serde::{Deserialize, Serialize};

use crate::{Decision, Gate, KeepReason, Policy, ScheduleError, Window};

/// What a check knows about one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerSpectrum<'a> {
    /// Current number of states.
    pub state_dim: usize,
    /// Hankel singular values, largest first, one per state. Their unit does not matter: only shares are compared.
    pub hsv: &'a [f64],
}

/// When to cut and how far, for one run.
///
/// The trainer owns it, asks [`is_due`](Self::is_due) at every step, calls [`decide`](Self::decide) at a check, and
/// saves it with each checkpoint: read back, it goes on as if the run had never been broken. A checkpoint written at
/// the step of a check, before `decide`, makes the resumed run do that check; written after it, not again.
///
/// A schedule with [`Policy::None`] has no checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Schedule {
    policy: Policy,
    gate: Gate,
    /// Steps of all checks, strictly increasing.
    checks: Vec<u64>,
    /// Index in `checks` of the next one; `checks.len()` when all are done.
    next_index: usize,
}

impl Schedule {
    /// Builds the schedule of a run of `total_steps` steps. With [`Policy::None`] the window is not looked at.
    ///
    /// # Errors
    /// Anything impossible: a policy or gate out of range, a window without room for its checks.
    pub fn new(
        policy: Policy,
        gate: Gate,
        window: &Window,
        total_steps: u64,
    ) -> Result<Self, ScheduleError> {
        policy.validate()?;
        gate.validate()?;
        let checks = if policy.is_active() {
            window.check_steps(total_steps)?
        } else {
            Vec::new()
        };
        Ok(Self {
            policy,
            gate,
            checks,
            next_index: 0,
        })
    }

    /// The schedule of a run that never cuts: [`Policy::None`], for which no window is needed.
    pub fn without_checks() -> Self {
        Self {
            policy: Policy::None,
            gate: Gate::default(),
            checks: Vec::new(),
            next_index: 0,
        }
    }

    /// The rule that turns spectra into orders.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The step of the next check; `None` when all are done.
    pub fn next_check(&self) -> Option<u64> {
        self.remaining_checks().first().copied()
    }

    /// The steps of all checks still to come, in order.
    pub fn remaining_checks(&self) -> &[u64] {
        &self.checks[self.next_index..]
    }

    /// Whether a check has to happen now, after `step` optimizer steps.
    ///
    /// # Errors
    /// [`ScheduleError::MissedCheck`] if training is past a check that was never decided.
    pub fn is_due(&self, step: u64) -> Result<bool, ScheduleError> {
        match self.next_check() {
            Some(check) if step > check => Err(ScheduleError::MissedCheck { check, step }),
            next_check => Ok(next_check == Some(step)),
        }
    }

    /// Makes the check at `step`: one decision per layer, in the order of `layers`. The next check is then the
    /// following one.
    ///
    /// # Errors
    /// [`ScheduleError::NotDue`] at any other step and for a second call at the same one,
    /// [`ScheduleError::MissedCheck`] past a check, and [`ScheduleError::SpectrumLength`] or
    /// [`ScheduleError::SpectrumNotSorted`] for what is not a spectrum. The schedule is then unchanged.
    pub fn decide(
        &mut self,
        step: u64,
        layers: &[LayerSpectrum<'_>],
    ) -> Result<Vec<Decision>, ScheduleError> {
        if !self.is_due(step)? {
            return Err(ScheduleError::NotDue {
                step,
                next_check: self.next_check(),
            });
        }
        let decisions = layers
            .iter()
            .enumerate()
            .map(|(layer, spectrum)| self.decide_layer(layer, *spectrum))
            .collect::<Result<_, _>>()?;
        self.next_index += 1;
        Ok(decisions)
    }

    fn decide_layer(
        &self,
        layer: usize,
        spectrum: LayerSpectrum<'_>,
    ) -> Result<Decision, ScheduleError> {
        let LayerSpectrum { state_dim, hsv } = spectrum;
        let keep = |reason| Ok(Decision::Keep { state_dim, reason });
        if hsv.len() != state_dim {
            return Err(ScheduleError::SpectrumLength {
                layer,
                state_dim,
                values: hsv.len(),
            });
        }
        if !hsv.iter().all(|sigma| sigma.is_finite()) {
            return keep(KeepReason::SpectrumNotFinite);
        }
        if let Some(index) = first_out_of_order(hsv) {
            let value = hsv[index];
            return Err(ScheduleError::SpectrumNotSorted {
                layer,
                index,
                value,
            });
        }
        match hsv.first() {
            None => keep(KeepReason::NothingToCut),
            Some(0.0) => keep(KeepReason::SpectrumIsZero), // the largest, so all of them are
            Some(_) => Ok(self.gate.judge(hsv, self.policy.order(hsv))),
        }
    }
}

/// Index of the first value that is negative, or larger than the one before it.
fn first_out_of_order(hsv: &[f64]) -> Option<usize> {
    let mut ceiling = f64::INFINITY;
    hsv.iter().position(|&sigma| {
        let fits = (0.0..=ceiling).contains(&sigma);
        ceiling = sigma;
        !fits
    })
}

/// A schedule as it was written, before anyone has checked that it is one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    policy: Policy,
    gate: Gate,
    checks: Vec<u64>,
    next_index: usize,
}

impl TryFrom<Saved> for Schedule {
    type Error = ScheduleError;

    fn try_from(saved: Saved) -> Result<Self, ScheduleError> {
        let Saved {
            policy,
            gate,
            checks,
            next_index,
        } = saved;
        policy.validate()?;
        gate.validate()?;
        let increasing = checks.windows(2).all(|pair| pair[0] < pair[1]);
        if !increasing || next_index > checks.len() {
            return Err(ScheduleError::Inconsistent {
                next_index,
                checks: checks.len(),
            });
        }
        Ok(Self {
            policy,
            gate,
            checks,
            next_index,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Spacing, StepPoint};

    /// Checks at 10 and 20 of 100 steps.
    fn schedule() -> Schedule {
        let window = Window {
            start: StepPoint::Step(0),
            end: StepPoint::Step(20),
            spacing: Spacing::Checks(2),
        };
        Schedule::new(
            Policy::Tolerance { tau: 0.1 },
            Gate::default(),
            &window,
            100,
        )
        .unwrap()
    }

    fn layer(hsv: &[f64]) -> LayerSpectrum<'_> {
        LayerSpectrum {
            state_dim: hsv.len(),
            hsv,
        }
    }

    fn reason(decision: Decision) -> KeepReason {
        match decision {
            Decision::Keep { reason, .. } => reason,
            Decision::Cut { .. } => panic!("nothing should be cut: {decision:?}"),
        }
    }

    #[test]
    fn a_second_decision_at_the_same_step_is_an_error_and_changes_nothing() {
        let mut schedule = schedule();
        schedule.decide(10, &[]).unwrap();
        let before = schedule.clone();
        assert_eq!(
            schedule.decide(10, &[]),
            Err(ScheduleError::NotDue {
                step: 10,
                next_check: Some(20)
            })
        );
        assert_eq!(schedule, before);
    }

    #[test]
    fn a_decision_after_the_last_check_says_that_none_is_left() {
        let mut schedule = schedule();
        schedule.decide(10, &[]).unwrap();
        schedule.decide(20, &[]).unwrap();
        assert_eq!(schedule.next_check(), None);
        assert_eq!(schedule.is_due(21), Ok(false));
        assert_eq!(
            schedule.decide(21, &[]),
            Err(ScheduleError::NotDue {
                step: 21,
                next_check: None
            })
        );
    }

    #[test]
    fn a_missed_check_is_reported_by_every_question() {
        let mut schedule = schedule();
        let missed = ScheduleError::MissedCheck {
            check: 10,
            step: 11,
        };
        assert_eq!(schedule.is_due(11), Err(missed.clone()));
        assert_eq!(schedule.decide(11, &[]), Err(missed));
        // Also when the step is that of a later check.
        assert!(schedule.is_due(20).is_err());
    }

    #[test]
    fn a_poisoned_spectrum_keeps_its_layer_and_leaves_the_others_alone() {
        let healthy = [9.0, 0.5, 0.3, 0.2];
        let decisions = schedule()
            .decide(
                10,
                &[
                    layer(&[f64::NAN, 1.0]),
                    layer(&healthy),
                    layer(&[f64::INFINITY, 1.0]),
                ],
            )
            .unwrap();
        assert_eq!(reason(decisions[0]), KeepReason::SpectrumNotFinite);
        assert_eq!(decisions[1].order(), 1);
        assert_eq!(reason(decisions[2]), KeepReason::SpectrumNotFinite);
    }

    #[test]
    fn a_layer_without_any_gain_keeps_its_states() {
        let decisions = schedule().decide(10, &[layer(&[0.0, 0.0, 0.0])]).unwrap();
        assert_eq!(reason(decisions[0]), KeepReason::SpectrumIsZero);
    }

    #[test]
    fn a_layer_of_one_state_keeps_it() {
        let decisions = schedule().decide(10, &[layer(&[3.0])]).unwrap();
        assert_eq!(reason(decisions[0]), KeepReason::NothingToCut);
    }

    #[test]
    fn what_is_not_a_spectrum_is_an_error_that_names_the_layer() {
        let good = [2.0, 1.0];
        for (bad, index) in [([1.0, 2.0], 1), ([1.0, -1e-20], 1), ([-2.0, -3.0], 0)] {
            let mut schedule = schedule();
            let error = schedule.decide(10, &[layer(&good), layer(&bad)]);
            assert_eq!(
                error,
                Err(ScheduleError::SpectrumNotSorted {
                    layer: 1,
                    index,
                    value: bad[index]
                })
            );
            assert_eq!(schedule.next_check(), Some(10), "the check is still to do");
        }
        let short = LayerSpectrum {
            state_dim: 3,
            hsv: &good,
        };
        assert_eq!(
            schedule().decide(10, &[short]),
            Err(ScheduleError::SpectrumLength {
                layer: 0,
                state_dim: 3,
                values: 2
            })
        );
    }

    #[test]
    fn without_a_policy_there_are_no_checks_and_the_window_does_not_matter() {
        let impossible = Window {
            start: StepPoint::Step(9),
            end: StepPoint::Step(2),
            spacing: Spacing::Checks(0),
        };
        let none = Schedule::new(Policy::None, Gate::default(), &impossible, 5).unwrap();
        assert_eq!(none, Schedule::without_checks());
        assert_eq!(none.next_check(), None);
        assert_eq!(none.is_due(5), Ok(false));
    }

    #[test]
    fn a_saved_schedule_that_contradicts_itself_is_refused() {
        let good = serde_json::to_value(schedule()).unwrap();
        let cases = [
            ("checks", serde_json::json!([20, 10])),
            ("checks", serde_json::json!([10, 10])),
            ("next_index", serde_json::json!(3)),
            (
                "policy",
                serde_json::json!({"kind": "tolerance", "tau": 1.0}),
            ),
            (
                "gate",
                serde_json::json!({"min_drop": 0.05, "min_state": 0}),
            ),
            ("unheard_of", serde_json::json!(1)),
        ];
        for (key, value) in cases {
            let mut bad = good.clone();
            bad[key] = value;
            let read = serde_json::from_value::<Schedule>(bad.clone());
            assert!(read.is_err(), "accepted {bad}");
        }
        assert!(serde_json::from_value::<Schedule>(good).is_ok());
    }
}

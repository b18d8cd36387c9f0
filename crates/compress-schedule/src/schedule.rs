//! The state machine: which check is next, what each check decides, and what became of it.

use serde::{Deserialize, Serialize};

use crate::check::{Check, Proposal};
use crate::gate::Worth;
use crate::policy::proposals;
use crate::step_time::StepTimes;
use crate::trial::Trial;
use crate::{
    Contradiction, Decision, Gate, KeepReason, LayerSpectrum, NoCuts, Observation, ParameterCount,
    Policy, ScheduleError, Scope, Stopped, Verdict, Window,
};

/// When to cut and how far, for one run.
///
/// The trainer owns it, asks [`is_due`](Self::is_due) at every step, calls [`decide`](Self::decide) at a check, and
/// saves it with each checkpoint: read back, it goes on as if the run had never been broken. A checkpoint written at
/// the step of a check, before `decide`, makes the resumed run do that check; written after it, not again.
///
/// A decided cut that cannot be carried out is reported with [`refused`](Self::refused). With [`Pragmatic`](crate::Pragmatic)
/// every check that cuts is a trial: while [`needs_verdict`](Self::needs_verdict) says so, the next call is
/// [`judge`](Self::judge), and every question about a step is an error. A verdict to revert concerns the model, the
/// optimizer and whatever else the cut changed, but not the schedule: one read back from before the cut would try it
/// again.
///
/// A schedule with [`NoCuts`] has no checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Saved")]
pub struct Schedule {
    policy: Policy,
    scope: Scope,
    gate: Gate,
    /// Steps of all checks, strictly increasing.
    checks: Vec<u64>,
    /// Index in `checks` of the next one; `checks.len()` when all are done.
    next_index: usize,
    /// Step of the latest cut of every layer that was carried out; empty before the first check.
    last_cuts: Vec<Option<u64>>,
    /// What the checks were told, where the target is a step time.
    step_times: StepTimes,
    trial: Trial,
}

impl Schedule {
    /// Builds the schedule of a run of `total_steps` steps. With [`NoCuts`] the window is not looked at.
    ///
    /// # Errors
    /// Anything impossible: a policy or gate out of range, a target that the gate forbids, a window without room for
    /// its checks.
    pub fn new(
        policy: impl Into<Policy>,
        scope: Scope,
        gate: Gate,
        window: &Window,
        total_steps: u64,
    ) -> Result<Self, ScheduleError> {
        let policy = policy.into();
        validate(policy, gate)?;
        let checks = if policy.is_active() {
            window.check_steps(total_steps)?
        } else {
            Vec::new()
        };
        Ok(Self {
            policy,
            scope,
            gate,
            checks,
            ..Self::without_checks()
        })
    }

    /// The schedule of a run that never cuts: [`NoCuts`], for which no window is needed.
    pub fn without_checks() -> Self {
        Self {
            policy: NoCuts.into(),
            scope: Scope::default(),
            gate: Gate::default(),
            checks: Vec::new(),
            next_index: 0,
            last_cuts: Vec::new(),
            step_times: StepTimes::default(),
            trial: Trial::Idle,
        }
    }

    /// The same rules for a run that goes on from `step` by new settings: checks before it are dropped, and what
    /// earlier ones left behind is forgotten.
    pub fn restarted_at(&self, step: u64) -> Self {
        let checks = self.checks.iter().copied();
        Self {
            policy: self.policy,
            scope: self.scope,
            gate: self.gate,
            checks: checks.filter(|check| *check >= step).collect(),
            ..Self::without_checks()
        }
    }

    /// The rule that turns spectra into orders.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// What the policy looks at: each layer alone, or all together.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// The step of the next check; `None` when all are done, or none is left because a cut was reverted.
    pub fn next_check(&self) -> Option<u64> {
        self.remaining_checks().first().copied()
    }

    /// The steps of all checks still to come, in order.
    pub fn remaining_checks(&self) -> &[u64] {
        match self.trial {
            Trial::Stopped(_) => &[],
            Trial::Idle | Trial::Awaited => &self.checks[self.next_index..],
        }
    }

    /// Whether a check has to happen now, after `step` optimizer steps.
    ///
    /// # Errors
    /// [`ScheduleError::MissedCheck`] if training is past a check that was never decided,
    /// [`ScheduleError::VerdictAwaited`] while [`needs_verdict`](Self::needs_verdict).
    pub fn is_due(&self, step: u64) -> Result<bool, ScheduleError> {
        if let (Trial::Awaited, Some(step)) = (self.trial, self.latest_check()) {
            return Err(ScheduleError::VerdictAwaited { step });
        }
        match self.next_check() {
            Some(check) if step > check => Err(ScheduleError::MissedCheck { check, step }),
            next_check => Ok(next_check == Some(step)),
        }
    }

    /// Makes the check at `step`: one decision per layer, in the order of the layers observed. The next check is then
    /// the following one.
    ///
    /// A layer whose spectrum is not finite or zero, that cools down after a cut, or, with [`Auto`](crate::Auto), has not
    /// settled, keeps its states and takes no part in a budget shared by others.
    ///
    /// # Errors
    /// [`ScheduleError::NotDue`] at any other step and for a second call at the same one,
    /// [`ScheduleError::MissedCheck`] past a check, [`ScheduleError::VerdictAwaited`] before a verdict;
    /// [`ScheduleError::SpectrumLength`] or [`ScheduleError::SpectrumNotSorted`] for what is not a spectrum,
    /// [`ScheduleError::LayersChanged`] for another model than before, and what
    /// [`validate_target`](Self::validate_target) finds. The schedule is then unchanged.
    pub fn decide(
        &mut self,
        step: u64,
        observation: &Observation<'_>,
    ) -> Result<Vec<Decision>, ScheduleError> {
        if !self.is_due(step)? {
            return Err(ScheduleError::NotDue {
                step,
                next_check: self.next_check(),
            });
        }
        let layers = observation.layers;
        if self.next_index > 0 && self.last_cuts.len() != layers.len() {
            return Err(ScheduleError::LayersChanged {
                layers: layers.len(),
                expected: self.last_cuts.len(),
            });
        }
        let unusable = layers
            .iter()
            .enumerate()
            .map(|(layer, spectrum)| spectrum.unusable(layer))
            .collect::<Result<Vec<_>, _>>()?;
        let state_dims: Vec<usize> = layers.iter().map(|layer| layer.state_dim).collect();
        self.validate_target(&state_dims, observation.parameters)?;

        self.last_cuts.resize(layers.len(), None);
        if self.policy.rule().reads_step_times() {
            let states = state_dims.iter().sum();
            self.step_times.record(states, observation.step_ms);
        }
        let cooling = self.last_cuts.iter().map(|cut| self.cooldown(*cut, step));
        let barred: Vec<Option<KeepReason>> = unusable
            .into_iter()
            .zip(cooling)
            .map(|(unusable, cooling)| unusable.or(cooling))
            .collect();
        let decisions = self.gated(observation, &barred);
        for (last_cut, decision) in self.last_cuts.iter_mut().zip(&decisions) {
            if decision.is_cut() {
                *last_cut = Some(step);
            }
        }
        self.next_index += 1;
        if self.policy.rule().max_drop().is_some() && decisions.iter().any(Decision::is_cut) {
            self.trial = Trial::Awaited;
        }
        Ok(decisions)
    }

    /// What becomes of the policy's proposals at the gate.
    fn gated(&self, observation: &Observation<'_>, barred: &[Option<KeepReason>]) -> Vec<Decision> {
        let check = Check {
            scope: self.scope,
            gate: self.gate,
            checks_left: self.remaining_checks().len(),
            observation,
            step_times: &self.step_times,
        };
        let rule = self.policy.rule();
        let worth = if rule.arrives() && check.checks_left == 1 {
            Worth::Waived
        } else {
            Worth::Demanded
        };
        let proposals = proposals(rule, &check, barred);
        let decide = |(layer, proposal): (&LayerSpectrum<'_>, Proposal)| match proposal {
            Proposal::Keep(reason) => Decision::Keep {
                state_dim: layer.state_dim,
                reason,
            },
            Proposal::Order { order, reason } => self.gate.judge(layer.hsv, order, reason, worth),
        };
        observation
            .layers
            .iter()
            .zip(proposals)
            .map(decide)
            .collect()
    }

    /// Why a layer whose latest cut was then is not cut again at `step`, if it is too early.
    fn cooldown(&self, last_cut: Option<u64>, step: u64) -> Option<KeepReason> {
        let until = last_cut?.saturating_add(self.gate.cooldown);
        (step < until).then_some(KeepReason::Cooldown { until })
    }

    /// Checks that a model of these layers can meet a target in parameters. Every check does; the trainer may ask
    /// before the first step. `Ok` for every other policy.
    ///
    /// # Errors
    /// [`ScheduleError::ParameterCounts`], [`ScheduleError::ParametersOutOfReach`].
    pub fn validate_target(
        &self,
        state_dims: &[usize],
        parameters: ParameterCount<'_>,
    ) -> Result<(), ScheduleError> {
        self.policy
            .rule()
            .reachable(self.gate, state_dims, parameters)
    }

    /// Takes back the cut of a layer that the latest check decided and nobody could carry out: no cooldown starts, and
    /// a trial of which no cut remains is over. Nothing happens for a layer that was not cut, nor after a verdict to
    /// revert.
    pub fn refused(&mut self, layer: usize) {
        if self.stopped().is_some() {
            return;
        }
        let latest = self.latest_check();
        match self.last_cuts.get_mut(layer) {
            // What was there before had cooled down, or there would have been no cut; so it can be forgotten.
            Some(cut) if cut.is_some() && *cut == latest => *cut = None,
            _ => return,
        }
        if self.trial == Trial::Awaited && !self.last_cuts.contains(&latest) {
            self.trial = Trial::Idle;
        }
    }

    /// Whether the cuts of the latest check are on trial: evaluate the model, then call [`judge`](Self::judge).
    pub fn needs_verdict(&self) -> bool {
        self.trial == Trial::Awaited
    }

    /// Judges the cuts of the latest check by the validation accuracy right before and right after them, fractions
    /// of 1. If it fell by more than `max_drop`, or one of the two is NaN, the verdict is to revert, and no check is
    /// left.
    ///
    /// # Errors
    /// [`ScheduleError::NoVerdictDue`] unless [`needs_verdict`](Self::needs_verdict),
    /// [`ScheduleError::AccuracyOutOfRange`]. The schedule is then unchanged.
    pub fn judge(&mut self, before: f64, after: f64) -> Result<Verdict, ScheduleError> {
        let (Trial::Awaited, Some(max_drop), Some(step)) = (
            self.trial,
            self.policy.rule().max_drop(),
            self.latest_check(),
        ) else {
            return Err(ScheduleError::NoVerdictDue);
        };
        let verdict = Verdict::of(before, after, max_drop)?;
        self.trial = if verdict.reverted {
            Trial::Stopped(Stopped { step, verdict })
        } else {
            Trial::Idle
        };
        Ok(verdict)
    }

    /// Why no check is left before the window ends: the cut that had to be reverted. `None` as long as none was.
    pub fn stopped(&self) -> Option<Stopped> {
        match self.trial {
            Trial::Stopped(stopped) => Some(stopped),
            Trial::Idle | Trial::Awaited => None,
        }
    }

    /// The step of the check that was made last.
    fn latest_check(&self) -> Option<u64> {
        self.checks[..self.next_index].last().copied()
    }
}

/// Checks policy and gate, each for itself and against each other.
fn validate(policy: Policy, gate: Gate) -> Result<(), ScheduleError> {
    policy.validate()?;
    gate.validate()?;
    policy.rule().fits(gate)
}

/// A schedule as it was written, before anyone has checked that it is one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    policy: Policy,
    scope: Scope,
    gate: Gate,
    checks: Vec<u64>,
    next_index: usize,
    last_cuts: Vec<Option<u64>>,
    step_times: StepTimes,
    trial: Trial,
}

impl Saved {
    /// What does not fit together, if anything.
    fn contradiction(&self) -> Option<Contradiction> {
        let checks = self.checks.len();
        if !self.checks.windows(2).all(|pair| pair[0] < pair[1]) {
            return Some(Contradiction::ChecksNotIncreasing);
        }
        let next_index = self.next_index;
        let Some(done) = self.checks.get(..next_index) else {
            return Some(Contradiction::Position { next_index, checks });
        };
        for (layer, cut) in self.last_cuts.iter().enumerate() {
            if let Some(step) = cut.filter(|step| done.binary_search(step).is_err()) {
                return Some(Contradiction::CutWithoutCheck { layer, step });
            }
        }
        if done.len() < self.step_times.len() || !self.step_times.are_positive() {
            return Some(Contradiction::StepTimes);
        }
        let cut_last =
            |step: u64| done.last() == Some(&step) && self.last_cuts.contains(&Some(step));
        let on_trial = self.policy.rule().max_drop().is_some();
        let fits = match self.trial {
            Trial::Idle => true,
            Trial::Awaited => on_trial && done.last().is_some_and(|&step| cut_last(step)),
            Trial::Stopped(stopped) => {
                on_trial && stopped.verdict.reverted && cut_last(stopped.step)
            }
        };
        (!fits).then_some(Contradiction::Trial)
    }
}

impl TryFrom<Saved> for Schedule {
    type Error = ScheduleError;

    fn try_from(saved: Saved) -> Result<Self, ScheduleError> {
        validate(saved.policy, saved.gate)?;
        if let Some(what) = saved.contradiction() {
            return Err(ScheduleError::Inconsistent { what });
        }
        let Saved {
            policy,
            scope,
            gate,
            checks,
            next_index,
            last_cuts,
            step_times,
            trial,
        } = saved;
        Ok(Self {
            policy,
            scope,
            gate,
            checks,
            next_index,
            last_cuts,
            step_times,
            trial,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::target::Keep;
    use crate::{Budget, Pragmatic, Spacing, StepPoint, Target, Tolerance};

    fn schedule() -> Schedule {
        with(Tolerance { tau: 0.1 }, Gate::default())
    }

    /// Checks at 10 and 20 of 100 steps.
    fn with(policy: impl Into<Policy>, gate: Gate) -> Schedule {
        let window = Window {
            start: StepPoint::Step(0),
            end: StepPoint::Step(20),
            spacing: Spacing::Checks(2),
        };
        Schedule::new(policy, Scope::Layer, gate, &window, 100).unwrap()
    }

    fn layer(hsv: &[f64]) -> LayerSpectrum<'_> {
        LayerSpectrum {
            state_dim: hsv.len(),
            hsv,
            drift: None,
        }
    }

    fn decide(
        schedule: &mut Schedule,
        step: u64,
        layers: &[LayerSpectrum<'_>],
    ) -> Result<Vec<Decision>, ScheduleError> {
        let observation = Observation {
            layers,
            parameters: ParameterCount::default(),
            step_ms: None,
        };
        schedule.decide(step, &observation)
    }

    fn reason(decision: Decision) -> KeepReason {
        match decision {
            Decision::Keep { reason, .. } => reason,
            Decision::Cut { .. } => panic!("nothing should be cut: {decision:?}"),
        }
    }

    #[test]
    fn a_restarted_schedule_has_the_checks_that_are_left_and_no_past() {
        let mut schedule = schedule();
        decide(&mut schedule, 10, &[]).unwrap();
        let mut again = schedule.restarted_at(20);
        assert_eq!(again.remaining_checks(), [20]);
        assert_eq!(schedule.restarted_at(10).remaining_checks(), [10, 20]);
        assert_eq!(schedule.restarted_at(21).next_check(), None);
        let spectrum = [9.0, 0.1];
        let decisions = decide(&mut again, 20, &[layer(&spectrum)]);
        assert!(decisions.unwrap()[0].is_cut());
    }

    #[test]
    fn a_second_decision_at_the_same_step_is_an_error_and_changes_nothing() {
        let mut schedule = schedule();
        decide(&mut schedule, 10, &[]).unwrap();
        let before = schedule.clone();
        assert_eq!(
            decide(&mut schedule, 10, &[]),
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
        decide(&mut schedule, 10, &[]).unwrap();
        decide(&mut schedule, 20, &[]).unwrap();
        assert_eq!(schedule.next_check(), None);
        assert_eq!(schedule.is_due(21), Ok(false));
        assert_eq!(
            decide(&mut schedule, 21, &[]),
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
        assert_eq!(decide(&mut schedule, 11, &[]), Err(missed));
        // Also when the step is that of a later check.
        assert!(schedule.is_due(20).is_err());
    }

    #[test]
    fn a_poisoned_spectrum_keeps_its_layer_and_leaves_the_others_alone() {
        let healthy = [9.0, 0.5, 0.3, 0.2];
        let decisions = decide(
            &mut schedule(),
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
        let decisions = decide(&mut schedule(), 10, &[layer(&[0.0, 0.0, 0.0])]).unwrap();
        assert_eq!(reason(decisions[0]), KeepReason::SpectrumIsZero);
    }

    #[test]
    fn a_layer_of_one_state_keeps_it() {
        let decisions = decide(&mut schedule(), 10, &[layer(&[3.0])]).unwrap();
        assert_eq!(reason(decisions[0]), KeepReason::NothingToCut);
    }

    #[test]
    fn what_is_not_a_spectrum_is_an_error_that_names_the_layer() {
        let good = [2.0, 1.0];
        for (bad, index) in [([1.0, 2.0], 1), ([1.0, -1e-20], 1), ([-2.0, -3.0], 0)] {
            let mut schedule = schedule();
            let error = decide(&mut schedule, 10, &[layer(&good), layer(&bad)]);
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
            drift: None,
        };
        assert_eq!(
            decide(&mut schedule(), 10, &[short]),
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
        let none = Schedule::new(NoCuts, Scope::Layer, Gate::default(), &impossible, 5).unwrap();
        assert_eq!(none, Schedule::without_checks());
        assert_eq!(none.next_check(), None);
        assert_eq!(none.is_due(5), Ok(false));
    }

    fn target(budget: Budget) -> Target {
        Target { budget }
    }

    #[test]
    fn a_target_that_the_gate_forbids_is_refused_at_once() {
        let gate = Gate {
            min_state: 8,
            ..Gate::default()
        };
        let window = Window {
            start: StepPoint::Step(0),
            end: StepPoint::Step(20),
            spacing: Spacing::Checks(2),
        };
        let policy = target(Budget::States { per_layer: 7 });
        assert_eq!(
            Schedule::new(policy, Scope::Layer, gate, &window, 100),
            Err(ScheduleError::TargetBelowMinState {
                per_layer: 7,
                min_state: 8
            })
        );
    }

    #[test]
    fn a_target_that_no_cut_can_reach_is_an_error_before_the_first_one() {
        let mut schedule = with(target(Budget::Parameters { total: 119 }), Gate::default());
        let parameters = ParameterCount {
            fixed: 100,
            per_state: &[10, 10],
        };
        let out_of_reach = ScheduleError::ParametersOutOfReach {
            total: 119,
            fixed: 100,
            least: 120,
        };
        assert_eq!(
            schedule.validate_target(&[4, 4], parameters),
            Err(out_of_reach.clone())
        );
        let hsv = [4.0, 2.0, 1.0, 0.5];
        let observation = Observation {
            layers: &[layer(&hsv), layer(&hsv)],
            parameters,
            step_ms: None,
        };
        let untouched = schedule.clone();
        assert_eq!(schedule.decide(10, &observation), Err(out_of_reach));
        assert_eq!(
            decide(&mut schedule, 10, observation.layers),
            Err(ScheduleError::ParameterCounts {
                layers: 2,
                counts: 0
            })
        );
        assert_eq!(schedule, untouched);
        // One parameter more, and the last check leaves one state each.
        let mut schedule = with(target(Budget::Parameters { total: 120 }), Gate::default());
        schedule.decide(10, &observation).unwrap();
        let last = schedule.decide(20, &observation).unwrap();
        assert_eq!((last[0].order(), last[1].order()), (1, 1));
    }

    #[test]
    fn the_last_check_of_a_target_cuts_however_little() {
        let hsv: Vec<f64> = (0..100).map(|i| 0.5_f64.powi(i)).collect();
        let mut schedule = with(target(Budget::States { per_layer: 98 }), Gate::default());
        let first = decide(&mut schedule, 10, &[layer(&hsv)]).unwrap();
        assert!(matches!(reason(first[0]), KeepReason::BelowMinDrop { .. }));
        let last = decide(&mut schedule, 20, &[layer(&hsv)]).unwrap();
        assert_eq!(last[0].order(), 98);
    }

    #[test]
    fn a_target_that_is_met_or_unmeasured_says_so() {
        let hsv = [4.0, 2.0, 1.0, 0.5];
        let mut met = with(target(Budget::States { per_layer: 4 }), Gate::default());
        let kept = decide(&mut met, 10, &[layer(&hsv)]).unwrap();
        assert_eq!(reason(kept[0]), Keep::TargetMet.into());

        let milliseconds = 1.0;
        let mut timed = with(target(Budget::StepTime { milliseconds }), Gate::default());
        let kept = decide(&mut timed, 10, &[layer(&hsv)]).unwrap();
        assert_eq!(reason(kept[0]), Keep::StepTimeUnknown.into());
        let observation = Observation {
            layers: &[layer(&hsv)],
            parameters: ParameterCount::default(),
            step_ms: Some(2.0),
        };
        assert_eq!(timed.decide(20, &observation).unwrap()[0].order(), 2);
    }

    #[test]
    fn a_layer_that_cannot_be_cut_does_not_take_the_target_out_on_the_others() {
        let hsv: Vec<f64> = (0..64).map(|i| 0.9_f64.powi(i)).collect();
        let poisoned = [f64::NAN; 64];
        for scope in [Scope::Layer, Scope::Global] {
            let mut schedule = with(target(Budget::States { per_layer: 16 }), Gate::default());
            schedule.scope = scope;
            let layers = [layer(&hsv), layer(&poisoned), layer(&hsv)];
            let first = decide(&mut schedule, 10, &layers).unwrap();
            assert_eq!((first[0].order(), first[2].order()), (32, 32));
            let layers = [layer(&hsv[..32]), layer(&poisoned), layer(&hsv[..32])];
            let last = decide(&mut schedule, 20, &layers).unwrap();
            assert_eq!((last[0].order(), last[2].order()), (16, 16));
        }
    }

    #[test]
    fn another_number_of_layers_is_another_model() {
        let mut schedule = schedule();
        let hsv = [2.0, 1.0];
        decide(&mut schedule, 10, &[layer(&hsv), layer(&hsv)]).unwrap();
        assert_eq!(
            decide(&mut schedule, 20, &[layer(&hsv)]),
            Err(ScheduleError::LayersChanged {
                layers: 1,
                expected: 2
            })
        );
    }

    #[test]
    fn a_saved_schedule_that_contradicts_itself_is_refused() {
        use serde_json::json;
        let pragmatic = Pragmatic {
            fraction: 0.5,
            max_drop: 0.1,
        };
        let mut schedule = with(pragmatic, Gate::default());
        decide(&mut schedule, 10, &[layer(&[4.0, 3.0, 2.0, 1.0])]).unwrap();
        let good = serde_json::to_value(&schedule).unwrap();
        let verdict = |reverted: bool| json!({"before": 0.9, "after": null, "max_drop": 0.1, "reverted": reverted});
        let stopped =
            |step: u64, reverted| json!({"stopped": {"step": step, "verdict": verdict(reverted)}});
        let cases = [
            ("checks", json!([20, 10])),
            ("checks", json!([10, 10])),
            ("next_index", json!(3)),
            ("policy", json!({"kind": "tolerance", "tau": 1.0})),
            ("policy", json!({"kind": "tolerance", "tau": 0.5})), // has no trials
            (
                "gate",
                json!({"min_drop": 0.05, "min_state": 0, "cooldown": 0}),
            ),
            ("scope", json!("everywhere")),
            ("last_cuts", json!([20])),
            ("last_cuts", json!([11])),
            ("last_cuts", json!([null])), // then nothing is on trial
            ("step_times", json!([{"states": 4, "nanoseconds": 0}])),
            (
                "step_times",
                json!([{"states": 4, "nanoseconds": 9}, {"states": 2, "nanoseconds": 5}]),
            ),
            ("trial", stopped(20, true)),
            ("trial", stopped(10, false)),
            ("unheard_of", json!(1)),
        ];
        for (key, value) in cases {
            let mut bad = good.clone();
            bad[key] = value;
            let read = serde_json::from_value::<Schedule>(bad.clone());
            assert!(read.is_err(), "accepted {bad}");
        }
        let mut after_revert = good.clone();
        after_revert["trial"] = stopped(10, true);
        for good in [good, after_revert] {
            assert!(serde_json::from_value::<Schedule>(good).is_ok());
        }
    }
}

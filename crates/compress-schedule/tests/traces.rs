//! Whole runs, played through with scripted spectra.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use compress_schedule::policy::auto;
use compress_schedule::{
    Auto, Decision, Drift, Fraction, Gate, KeepReason, LayerSpectrum, Observation, ParameterCount,
    Policy, Pragmatic, Schedule, ScheduleError, Scope, Spacing, StepPoint, Tolerance, Unsettled,
    Window,
};

const STEPS: u64 = 200;

/// Checks at 25, 50, 75 and 100 of 200 steps.
fn schedule(policy: impl Into<Policy>, gate: Gate) -> Schedule {
    let window = Window {
        start: StepPoint::Step(0),
        end: StepPoint::Fraction(0.5),
        spacing: Spacing::Checks(4),
    };
    Schedule::new(policy, Scope::Layer, gate, &window, STEPS).expect("four checks fit")
}

/// A spectrum of `state_dim` values that falls by `ratio` from each to the next.
fn geometric(state_dim: usize, ratio: f64) -> Vec<f64> {
    std::iter::successors(Some(1.0), |sigma| Some(sigma * ratio))
        .take(state_dim)
        .collect()
}

fn layer(hsv: &[f64], drift: Option<Drift>) -> LayerSpectrum<'_> {
    LayerSpectrum {
        state_dim: hsv.len(),
        hsv,
        drift,
    }
}

fn observation<'a>(layers: &'a [LayerSpectrum<'a>]) -> Observation<'a> {
    Observation {
        layers,
        parameters: ParameterCount::default(),
        step_ms: None,
    }
}

/// Through a checkpoint: the schedule is written and read back.
fn resumed(schedule: &Schedule) -> Schedule {
    let saved = serde_json::to_string(schedule).expect("a schedule can be written");
    serde_json::from_str(&saved).expect("and read back")
}

/// A run in miniature: its schedule, and two layers that are nothing but a size.
#[derive(Clone)]
struct Run {
    schedule: Schedule,
    state_dims: [usize; 2],
    log: Vec<(u64, Vec<Decision>)>,
}

impl Run {
    fn new() -> Self {
        Self {
            schedule: schedule(Tolerance { tau: 0.05 }, Gate::default()),
            state_dims: [64, 64],
            log: Vec::new(),
        }
    }

    /// Layer 0 has a spectrum that falls ever faster with training, layer 1 one that hardly falls.
    fn step(&mut self, step: u64) -> Result<(), ScheduleError> {
        if !self.schedule.is_due(step)? {
            return Ok(());
        }
        let steep = geometric(self.state_dims[0], 0.95 - 0.002 * step as f64);
        let flat = geometric(self.state_dims[1], 0.999);
        let layers = [&steep, &flat].map(|hsv| layer(hsv, None));
        let decisions = self.schedule.decide(step, &observation(&layers))?;
        for (state_dim, decision) in self.state_dims.iter_mut().zip(&decisions) {
            *state_dim = decision.order();
        }
        self.log.push((step, decisions));
        Ok(())
    }

    fn resumed(&self) -> Self {
        Self {
            schedule: resumed(&self.schedule),
            ..self.clone()
        }
    }
}

fn unbroken() -> Run {
    let mut run = Run::new();
    for step in 0..=STEPS {
        run.step(step).expect("every step is asked about");
    }
    run
}

fn reason(decision: &Decision) -> KeepReason {
    match *decision {
        Decision::Keep { reason, .. } => reason,
        Decision::Cut { .. } => panic!("nothing should be cut: {decision}"),
    }
}

#[test]
fn a_run_shrinks_at_its_checks_and_says_why_it_kept_the_rest() {
    let run = unbroken();
    let steps: Vec<u64> = run.log.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [25, 50, 75, 100]);
    let orders: Vec<usize> = run.log.iter().map(|(_, d)| d[0].order()).collect();
    // Behind r of n values with ratio q lies a share (q^r - q^n) / (1 - q^n) of the sum; the first r at most 0.05:
    // q = 0.90, n = 64: r > 28.2;  q = 0.85, n = 29: r > 17.4;  q = 0.80, n = 18: r > 12.1;  q = 0.75, n = 13: r > 9.1
    assert_eq!(orders, [29, 18, 13, 10]);
    for (_, decisions) in &run.log {
        // 3 of 64 states could go, which is 4.7 %.
        let reason = reason(&decisions[1]);
        assert!(
            matches!(reason, KeepReason::BelowMinDrop { .. }),
            "{reason:?}"
        );
    }
    assert_eq!(run.state_dims, [10, 64]);
    assert_eq!(run.schedule.next_check(), None);
}

#[test]
fn a_run_resumed_anywhere_decides_as_the_unbroken_one() {
    let expected = unbroken();
    for stop in 0..=STEPS {
        let mut run = Run::new();
        for step in 0..=stop {
            run.step(step).unwrap();
        }
        let mut run = run.resumed();
        for step in stop + 1..=STEPS {
            run.step(step).unwrap();
        }
        assert_eq!(run.log, expected.log, "stopped after step {stop}");
        assert_eq!(run.schedule, expected.schedule, "stopped after step {stop}");
    }
}

#[test]
fn a_checkpoint_taken_just_before_a_check_makes_the_resumed_run_do_it() {
    let mut run = Run::new();
    for step in 0..50 {
        run.step(step).unwrap();
    }
    let mut run = run.resumed();
    assert!(run.schedule.is_due(50).unwrap());
    run.step(50).unwrap();
    assert_eq!(run.log.last().unwrap().0, 50);
}

#[test]
fn a_loop_that_only_looks_at_its_evaluations_hears_about_the_check_it_missed() {
    let mut run = Run::new();
    let outcome: Result<(), ScheduleError> =
        (0..=STEPS).step_by(20).try_for_each(|step| run.step(step));
    let expected = ScheduleError::MissedCheck {
        check: 25,
        step: 40,
    };
    assert_eq!(outcome, Err(expected));
}

/// One layer of eight states, 12 in all: the first two hold half, the last two 4 %.
const EIGHT: [f64; 8] = [4.0, 2.0, 2.0, 1.5, 1.0, 1.0, 0.25, 0.25];

fn drift(rank_correlation: f64, hankel_distance: f64) -> Option<Drift> {
    Some(Drift {
        rank_correlation: Some(rank_correlation),
        hankel_distance,
    })
}

fn not_settled(cause: Unsettled) -> KeepReason {
    auto::Keep::from(cause).into()
}

/// What automatic cutting decides at its four checks about a layer that drifts like this.
fn auto(drifts: [Option<Drift>; 4]) -> Vec<Decision> {
    let policy = Auto {
        tau: 0.05,
        min_correlation: 0.95,
    };
    let mut schedule = schedule(policy, Gate::default());
    let mut state_dim = 8;
    let mut decisions = Vec::new();
    for (step, drift) in [25, 50, 75, 100].into_iter().zip(drifts) {
        let layers = [layer(&EIGHT[..state_dim], drift)];
        let decision = schedule.decide(step, &observation(&layers)).unwrap()[0];
        schedule = resumed(&schedule);
        state_dim = decision.order();
        decisions.push(decision);
    }
    decisions
}

#[test]
fn automatic_cutting_waits_until_the_ranking_settles() {
    let decisions = auto([None, drift(0.6, 1.0), drift(0.99, 0.25), None]);
    assert_eq!(reason(&decisions[0]), auto::Keep::NoEarlierSnapshot.into());
    let moving = Unsettled::RankCorrelation {
        rank_correlation: 0.6,
        min_correlation: 0.95,
    };
    assert_eq!(reason(&decisions[1]), not_settled(moving));
    let cut = Decision::Cut {
        from: 8,
        to: 6,
        discarded_share: 0.5 / 12.0,
        reason: auto::Cut {
            tau: 0.05,
            rank_correlation: 0.99,
            margin: (2.0 - 0.25) - (0.25 + 0.25), // the second is the weakest of the dominant ones
            scope: Scope::Layer,
        }
        .into(),
    };
    assert_eq!(decisions[2], cut);
    // Six states, none of which is below 5 % of the rest: no snapshot is needed to see that.
    assert_eq!(reason(&decisions[3]), KeepReason::NothingToCut);
}

#[test]
fn automatic_cutting_never_happens_while_the_modes_trade_places() {
    for decision in auto([drift(0.94, 0.0); 4]) {
        let cause = Unsettled::RankCorrelation {
            rank_correlation: 0.94,
            min_correlation: 0.95,
        };
        assert_eq!(reason(&decision), not_settled(cause));
    }
}

#[test]
fn automatic_cutting_never_happens_while_the_drift_could_lift_a_discarded_direction() {
    // 2 - δ against 0.25 + δ.
    for decision in auto([drift(1.0, 0.875); 4]) {
        let cause = Unsettled::Margin {
            margin: 0.0,
            hankel_distance: 0.875,
        };
        assert_eq!(reason(&decision), not_settled(cause));
    }
    assert!(auto([drift(1.0, 0.8125); 4])[0].is_cut());
}

#[test]
fn automatic_cutting_does_not_take_an_unknown_drift_for_a_small_one() {
    for unknown in [f64::NAN, -1.0, f64::INFINITY] {
        let cause = Unsettled::HankelDistanceUnknown;
        for decision in auto([drift(1.0, unknown); 4]) {
            assert_eq!(reason(&decision), not_settled(cause));
        }
    }
    let undefined = Some(Drift {
        rank_correlation: None,
        hankel_distance: 0.0,
    });
    let cause = Unsettled::RankCorrelationUnknown;
    assert_eq!(reason(&auto([undefined; 4])[0]), not_settled(cause));
}

#[test]
fn a_layer_that_has_not_settled_leaves_the_shared_budget_with_its_part() {
    let window = Window {
        start: StepPoint::Step(0),
        end: StepPoint::Step(1),
        spacing: Spacing::Checks(1),
    };
    let policy = Auto {
        tau: 0.05,
        min_correlation: 0.95,
    };
    let decide = |layers: &[LayerSpectrum<'_>]| {
        let mut schedule =
            Schedule::new(policy, Scope::Global, Gate::default(), &window, 1).unwrap();
        schedule.decide(1, &observation(layers)).unwrap()
    };
    let flat = [1.0; 4];
    let still = drift(1.0, 0.0);
    // Together the layers may discard a tenth of one sum, and all of it lies at the end of the first.
    let both = decide(&[layer(&EIGHT, still), layer(&flat, still)]);
    assert_eq!((both[0].order(), both[1].order()), (6, 4));
    let tail = [1.0, 0.08];
    let shared = decide(&[layer(&tail, still), layer(&flat, still)]);
    assert_eq!(shared[0].order(), 1);
    // Without the second one only a twentieth is left, and 0.08 of 1.08 is more.
    let alone = decide(&[layer(&tail, still), layer(&[1.0, 1e-6], None)]);
    assert_eq!(alone[0].order(), 2);
    assert_eq!(reason(&alone[1]), auto::Keep::NoEarlierSnapshot.into());
}

const PRAGMATIC: Pragmatic = Pragmatic {
    fraction: 0.25,
    max_drop: 0.01,
};

/// Decides on one layer of `state_dim` states.
fn check(schedule: &mut Schedule, step: u64, state_dim: usize) -> Decision {
    let hsv = geometric(state_dim, 0.9);
    let layers = [layer(&hsv, None)];
    schedule.decide(step, &observation(&layers)).unwrap()[0]
}

#[test]
fn a_pragmatic_run_goes_on_cutting_until_a_cut_costs_too_much() {
    let mut schedule = schedule(PRAGMATIC, Gate::default());
    assert!(!schedule.needs_verdict());
    assert_eq!(check(&mut schedule, 25, 64).order(), 48);
    assert!(schedule.needs_verdict());
    let verdict = schedule.judge(0.90, 0.895).unwrap();
    assert!(!verdict.reverted && schedule.stopped().is_none());

    assert_eq!(check(&mut schedule, 50, 48).order(), 36);
    let mut schedule = resumed(&schedule);
    assert!(schedule.needs_verdict(), "the trial survives a checkpoint");
    let verdict = schedule.judge(0.91, 0.85).unwrap();
    assert!(verdict.reverted);

    let schedule = resumed(&schedule);
    let stopped = schedule.stopped().expect("a cut was reverted");
    assert_eq!((stopped.step, stopped.verdict), (50, verdict));
    assert_eq!(schedule.next_check(), None);
    assert_eq!(schedule.remaining_checks(), [0_u64; 0]);
    for step in 50..=STEPS {
        assert_eq!(schedule.is_due(step), Ok(false));
    }
}

#[test]
fn training_does_not_go_on_before_the_verdict() {
    let mut schedule = schedule(PRAGMATIC, Gate::default());
    assert_eq!(schedule.judge(0.9, 0.9), Err(ScheduleError::NoVerdictDue));
    check(&mut schedule, 25, 64);
    let awaited = ScheduleError::VerdictAwaited { step: 25 };
    assert_eq!(schedule.is_due(26), Err(awaited.clone()));
    let layers = observation(&[]);
    assert_eq!(schedule.decide(50, &layers), Err(awaited));
    assert_eq!(
        schedule.judge(90.0, 89.0),
        Err(ScheduleError::AccuracyOutOfRange { accuracy: 90.0 })
    );
    assert!(schedule.needs_verdict(), "a wrong unit is no verdict");
    schedule.judge(0.9, 0.9).unwrap();
    assert_eq!(schedule.judge(0.9, 0.9), Err(ScheduleError::NoVerdictDue));
    assert_eq!(schedule.is_due(50), Ok(true));
}

#[test]
fn a_trial_ends_with_its_last_cut() {
    let mut schedule = schedule(PRAGMATIC, Gate::default());
    let hsv = geometric(64, 0.9);
    let poisoned = [f64::NAN; 4];
    let layers = [layer(&hsv, None), layer(&poisoned, None), layer(&hsv, None)];
    schedule.decide(25, &observation(&layers)).unwrap();
    schedule.refused(0);
    assert!(schedule.needs_verdict(), "one cut is still on trial");
    schedule.refused(1); // was not cut
    schedule.refused(7); // is not there
    schedule.refused(0); // again
    assert!(schedule.needs_verdict());
    schedule.refused(2);
    assert!(!schedule.needs_verdict());
    assert_eq!(schedule.judge(0.9, 0.1), Err(ScheduleError::NoVerdictDue));
    assert_eq!(schedule.next_check(), Some(50));
}

#[test]
fn a_check_that_cuts_nothing_needs_no_verdict() {
    let mut schedule = schedule(PRAGMATIC, Gate::default());
    assert_eq!(
        reason(&check(&mut schedule, 25, 1)),
        KeepReason::NothingToCut
    );
    assert!(!schedule.needs_verdict());
}

#[test]
fn an_accuracy_that_is_not_a_number_reverts_and_survives_a_checkpoint() {
    let mut schedule = schedule(PRAGMATIC, Gate::default());
    check(&mut schedule, 25, 64);
    assert!(schedule.judge(0.9, f64::NAN).unwrap().reverted);
    let stopped = resumed(&schedule).stopped().unwrap();
    assert!(stopped.verdict.after.is_nan() && stopped.verdict.reverted);
}

#[test]
fn a_layer_that_was_cut_cools_down() {
    let gate = Gate {
        cooldown: 50,
        ..Gate::default()
    };
    let mut schedule = schedule(Fraction { fraction: 0.5 }, gate);
    assert_eq!(check(&mut schedule, 25, 64).order(), 32);
    schedule = resumed(&schedule);
    let cooling = KeepReason::Cooldown { until: 75 };
    assert_eq!(reason(&check(&mut schedule, 50, 32)), cooling);
    assert_eq!(check(&mut schedule, 75, 32).order(), 16);
    let cooling = KeepReason::Cooldown { until: 125 };
    assert_eq!(reason(&check(&mut schedule, 100, 16)), cooling);
}

#[test]
fn a_run_on_a_device_that_likes_multiples_of_64_ends_at_one_of_them_or_at_a_power_of_two() {
    let gate = Gate {
        order_multiple: 64,
        ..Gate::default()
    };
    let mut schedule = schedule(Fraction { fraction: 0.6 }, gate);
    assert_eq!(check(&mut schedule, 25, 384).order(), 192); // for 154
    schedule = resumed(&schedule);
    assert_eq!(check(&mut schedule, 50, 192).order(), 128); // for 77
    assert_eq!(check(&mut schedule, 75, 128).order(), 64); // for 51
    assert_eq!(check(&mut schedule, 100, 64).order(), 32); // for 26
}

/// As it was written before orders could be rounded.
#[test]
fn an_old_checkpoint_is_read_and_goes_on_without_rounding() {
    let mut schedule = schedule(Fraction { fraction: 0.5 }, Gate::default());
    check(&mut schedule, 25, 66);
    let mut saved = serde_json::to_value(&schedule).unwrap();
    let gate = saved["gate"].as_object_mut().unwrap();
    assert_eq!(gate.remove("order_multiple"), Some(1.into()));
    let mut old: Schedule = serde_json::from_value(saved).unwrap();
    assert_eq!(old, schedule);
    assert_eq!(check(&mut old, 50, 33).order(), 17);
}

//! Whole runs, played through with scripted spectra.

use compress_schedule::{
    Decision, Gate, KeepReason, LayerSpectrum, Policy, Schedule, ScheduleError, Spacing, StepPoint,
    Window,
};

const STEPS: u64 = 200;

/// Checks at 25, 50, 75 and 100 of 200 steps.
fn schedule() -> Schedule {
    let window = Window {
        start: StepPoint::Step(0),
        end: StepPoint::Fraction(0.5),
        spacing: Spacing::Checks(4),
    };
    let policy = Policy::Tolerance { tau: 0.05 };
    Schedule::new(policy, Gate::default(), &window, STEPS).expect("four checks fit")
}

/// A spectrum of `state_dim` values that falls by `ratio` from each to the next.
fn geometric(state_dim: usize, ratio: f64) -> Vec<f64> {
    std::iter::successors(Some(1.0), |sigma| Some(sigma * ratio))
        .take(state_dim)
        .collect()
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
            schedule: schedule(),
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
        let spectra = [&steep, &flat].map(|hsv| LayerSpectrum {
            state_dim: hsv.len(),
            hsv,
        });
        let decisions = self.schedule.decide(step, &spectra)?;
        for (state_dim, decision) in self.state_dims.iter_mut().zip(&decisions) {
            *state_dim = decision.order();
        }
        self.log.push((step, decisions));
        Ok(())
    }

    /// Through a checkpoint: the schedule is written and read back.
    fn resumed(&self) -> Self {
        let saved = serde_json::to_string(&self.schedule).expect("a schedule can be written");
        Self {
            schedule: serde_json::from_str(&saved).expect("and read back"),
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

#[test]
fn a_run_shrinks_at_its_checks_and_says_why_it_kept_the_rest() {
    let run = unbroken();
    let steps: Vec<u64> = run.log.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [25, 50, 75, 100]);
    let orders: Vec<usize> = run.log.iter().map(|(_, d)| d[0].order()).collect();
    // Behind r of n values with ratio q lies a share (q^r - q^n) / (1 - q^n) of the sum; the first r at most 0.05:
    // q = 0.90, n = 64: r > 28.2;  q = 0.85, n = 29: r > 17.4;  q = 0.80, n = 18: r > 12.1;  q = 0.75, n = 13: r > 9.1
    assert_eq!(orders, [29, 18, 13, 10]);
    for (step, decisions) in &run.log {
        let reason = match decisions[1] {
            Decision::Keep { reason, .. } => reason,
            Decision::Cut { .. } => panic!("the flat layer was cut at step {step}"),
        };
        // 3 of 64 states could go, which is 4.7 %.
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

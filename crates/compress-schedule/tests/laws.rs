//! Laws that hold for every policy in both scopes, on random spectra, windows and runs.

use compress_schedule::{
    Auto, Budget, Decision, Drift, Fraction, Gate, KeepReason, LayerSpectrum, NoCuts, Observation,
    ParameterCount, Policy, PolicyKind, Pragmatic, Schedule, Scope, Spacing, StepPoint, Target,
    Tolerance, Verdict, Window,
};
use proptest::prelude::*;
use proptest::strategy::{Union, ValueTree};

/// Every policy in the crate, with parameters in their whole range. A new policy adds one line.
fn policies() -> Vec<BoxedStrategy<Policy>> {
    let auto = |(tau, min_correlation)| Auto {
        tau,
        min_correlation,
    };
    let pragmatic = |(fraction, max_drop)| Pragmatic { fraction, max_drop };
    vec![
        all(Just(NoCuts)),
        all((0.0..1.0).prop_map(|tau| Tolerance { tau })),
        all((0.001..0.999).prop_map(|fraction| Fraction { fraction })),
        all(any_budget().prop_map(|budget| Target { budget })),
        all((0.001..0.999, 0.0..=1.0).prop_map(pragmatic)),
        all((0.0..1.0, -1.0..=1.0).prop_map(auto)),
    ]
}

fn all<P: Into<Policy> + std::fmt::Debug>(
    parameters: impl Strategy<Value = P> + 'static,
) -> BoxedStrategy<Policy> {
    parameters.prop_map_into().boxed()
}

fn any_policy() -> impl Strategy<Value = Policy> {
    Union::new(policies())
}

#[test]
fn every_policy_is_held_to_the_laws() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let listed: Vec<PolicyKind> = policies()
        .into_iter()
        .map(|policy| {
            let drawn = policy.new_tree(&mut runner).expect("nothing is filtered");
            drawn.current().kind()
        })
        .collect();
    assert_eq!(listed, PolicyKind::ALL);
}

/// Targets that any gate of [`any_gate`] and any model of [`any_script`] can have.
fn any_budget() -> impl Strategy<Value = Budget> {
    prop_oneof![
        (10_usize..60).prop_map(|per_layer| Budget::States { per_layer }),
        (1000_u64..4000).prop_map(|total| Budget::Parameters { total }),
        (0.1..20.0).prop_map(|milliseconds| Budget::StepTime { milliseconds }),
    ]
}

fn any_scope() -> impl Strategy<Value = Scope> {
    prop_oneof![Just(Scope::Layer), Just(Scope::Global)]
}

fn any_gate() -> impl Strategy<Value = Gate> {
    (0.0..0.5, 1_usize..10, 0_u64..30, any_multiple()).prop_map(
        |(min_drop, min_state, cooldown, order_multiple)| Gate {
            min_drop,
            min_state,
            cooldown,
            order_multiple,
        },
    )
}

/// Half of the time none: every order is taken as it is.
fn any_multiple() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1), (0_u32..7).prop_map(|power| 1 << power)]
}

/// Non-negative, largest first and that one positive, over many orders of magnitude, with ties and exact zeros.
fn sorted_spectrum() -> impl Strategy<Value = Vec<f64>> {
    let sigma = prop_oneof![
        4 => (-20.0..5.0_f64).prop_map(|exponent| 10.0_f64.powf(exponent)),
        1 => Just(1.0),
        1 => Just(0.0),
    ];
    prop::collection::vec(sigma, 1..64).prop_map(|mut hsv| {
        hsv[0] = hsv[0].max(1e-20);
        hsv.sort_by(|a, b| b.total_cmp(a));
        hsv
    })
}

fn several_spectra() -> impl Strategy<Value = Vec<Vec<f64>>> {
    prop::collection::vec(sorted_spectrum(), 1..5)
}

/// A layer that has all but stood still, as `Auto` likes it.
fn settled(hsv: &[f64]) -> LayerSpectrum<'_> {
    LayerSpectrum {
        state_dim: hsv.len(),
        hsv,
        drift: Some(Drift {
            rank_correlation: Some(1.0),
            hankel_distance: 1e-9 * hsv[0],
        }),
    }
}

/// Checks at `1..=checks`.
fn one_check_per_step(
    policy: impl Into<Policy>,
    scope: Scope,
    gate: Gate,
    checks: u64,
) -> Schedule {
    let window = Window {
        start: StepPoint::Step(0),
        end: StepPoint::Step(checks),
        spacing: Spacing::Checks(checks),
    };
    Schedule::new(policy, scope, gate, &window, checks).expect("the window holds its checks")
}

/// The decisions of a single check; none if the policy never checks.
fn decide(
    policy: impl Into<Policy>,
    scope: Scope,
    gate: Gate,
    layers: &[LayerSpectrum<'_>],
) -> Vec<Decision> {
    let mut schedule = one_check_per_step(policy, scope, gate, 1);
    if schedule.next_check().is_none() {
        return Vec::new();
    }
    let per_state = vec![10; layers.len()];
    let observation = Observation {
        layers,
        parameters: ParameterCount {
            fixed: 100,
            per_state: &per_state,
        },
        step_ms: Some(30.0),
    };
    let decisions = schedule.decide(1, &observation);
    decisions.expect("step 1 is due")
}

fn decide_on(
    policy: impl Into<Policy>,
    scope: Scope,
    gate: Gate,
    spectra: &[Vec<f64>],
) -> Vec<Decision> {
    let layers: Vec<LayerSpectrum<'_>> = spectra.iter().map(|hsv| settled(hsv)).collect();
    decide(policy, scope, gate, &layers)
}

/// A run that proptest made up: everything but the schedule's own choices.
#[derive(Debug, Clone)]
struct Script {
    start: u64,
    length: u64,
    checks: u64,
    /// What spectra, drifts, refusals and accuracies are drawn from.
    seed: u64,
    state_dims: Vec<usize>,
}

const STEPS: u64 = 120;

fn any_script() -> impl Strategy<Value = Script> {
    let state_dims = prop::collection::vec(1_usize..64, 1..4);
    (0_u64..50, 1_u64..50, 1_u64..20, any::<u64>(), state_dims).prop_map(
        |(start, length, checks, seed, state_dims)| Script {
            start,
            length,
            checks: checks.min(length),
            seed,
            state_dims,
        },
    )
}

/// The next number in `[0, 1)` of a stream that starts at `state`.
fn draw(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 40) as f64 / (1_u64 << 24) as f64
}

/// What one check did.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    step: u64,
    before: Vec<usize>,
    decisions: Vec<Decision>,
    refused: Vec<bool>,
    verdict: Option<Verdict>,
    after: Vec<usize>,
}

/// Plays a script. Between any two calls the schedule goes through `keep`.
fn play(
    script: &Script,
    policy: impl Into<Policy>,
    scope: Scope,
    gate: Gate,
    keep: fn(Schedule) -> Schedule,
) -> (Schedule, Vec<Event>) {
    let end = script.start + script.length;
    let window = Window {
        start: StepPoint::Step(script.start),
        end: StepPoint::Step(end),
        spacing: Spacing::Checks(script.checks),
    };
    let mut schedule = Schedule::new(policy, scope, gate, &window, STEPS).expect("checks fit");
    let mut state_dims = script.state_dims.clone();
    let mut events = Vec::new();
    for step in 0..=STEPS {
        schedule = keep(schedule);
        if !schedule.is_due(step).expect("every step is asked about") {
            continue;
        }
        let mut seed = script.seed ^ step.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let spectra: Vec<Vec<f64>> = state_dims
            .iter()
            .map(|&states| random_spectrum(&mut seed, states))
            .collect();
        let layers: Vec<LayerSpectrum<'_>> = spectra
            .iter()
            .map(|hsv| LayerSpectrum {
                state_dim: hsv.len(),
                hsv,
                drift: random_drift(&mut seed),
            })
            .collect();
        let per_state: Vec<u64> = (0..layers.len()).map(|layer| 10 + layer as u64).collect();
        let observation = Observation {
            layers: &layers,
            parameters: ParameterCount {
                fixed: 500,
                per_state: &per_state,
            },
            step_ms: (draw(&mut seed) < 0.8).then(|| 25.0 * draw(&mut seed)),
        };
        let decisions = schedule.decide(step, &observation).expect("it is due");
        schedule = keep(schedule);

        let mut after: Vec<usize> = decisions.iter().map(Decision::order).collect();
        let refused: Vec<bool> = after.iter().map(|_| draw(&mut seed) < 0.2).collect();
        for layer in (0..after.len()).filter(|&layer| refused[layer]) {
            schedule.refused(layer);
            schedule = keep(schedule);
            after[layer] = state_dims[layer];
        }
        let verdict = schedule.needs_verdict().then(|| {
            let (before, after) = (draw(&mut seed), draw(&mut seed));
            schedule.judge(before, after).expect("a verdict is due")
        });
        if verdict.is_some_and(|verdict| verdict.reverted) {
            after.clone_from(&state_dims);
        }
        let before = std::mem::replace(&mut state_dims, after.clone());
        events.push(Event {
            step,
            before,
            decisions,
            refused,
            verdict,
            after,
        });
    }
    (keep(schedule), events)
}

/// Mostly a spectrum of some slope; now and then nothing but zeros, or poison.
fn random_spectrum(seed: &mut u64, states: usize) -> Vec<f64> {
    let (kind, ratio) = (draw(seed), 0.5 + 0.5 * draw(seed));
    match kind {
        ..0.05 => vec![0.0; states],
        ..0.1 => vec![f64::NAN; states],
        _ => (0..states).map(|i| ratio.powi(i as i32)).collect(),
    }
}

fn random_drift(seed: &mut u64) -> Option<Drift> {
    let (kind, rho, distance) = (draw(seed), draw(seed), draw(seed));
    (kind > 0.2).then(|| Drift {
        rank_correlation: (kind > 0.3).then_some(2.0 * rho - 1.0),
        hankel_distance: if kind > 0.4 { 0.2 * distance } else { f64::NAN },
    })
}

fn through_a_file(schedule: Schedule) -> Schedule {
    let text = serde_json::to_string(&schedule).expect("a schedule can be written");
    serde_json::from_str(&text).expect("and read back")
}

proptest! {
    #[test]
    fn nothing_happens_outside_the_window(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), script in any_script(),
    ) {
        let (schedule, events) = play(&script, policy, scope, gate, |schedule| schedule);
        let end = script.start + script.length;
        for event in &events {
            prop_assert!(script.start < event.step && event.step <= end, "{:?}", event);
        }
        prop_assert_eq!(schedule.next_check(), None);
        let expected = if policy.is_active() { script.checks as usize } else { 0 };
        if schedule.stopped().is_none() {
            prop_assert_eq!(events.len(), expected);
        }
    }

    #[test]
    fn a_step_without_check_cannot_be_decided(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), step in 0_u64..10,
    ) {
        let window = Window {
            start: StepPoint::Step(0),
            end: StepPoint::Step(10),
            spacing: Spacing::Checks(1),
        };
        let mut schedule = Schedule::new(policy, scope, gate, &window, 20).unwrap();
        let untouched = schedule.clone();
        let hsv = [1.0, 0.0, 0.0];
        let observation = Observation {
            layers: &[settled(&hsv)],
            parameters: ParameterCount { fixed: 0, per_state: &[1] },
            step_ms: Some(1e3),
        };
        prop_assert!(schedule.decide(step, &observation).is_err());
        prop_assert_eq!(schedule, untouched);
    }

    #[test]
    fn every_layer_is_decided_on_within_the_gate(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), script in any_script(),
    ) {
        let (_, events) = play(&script, policy, scope, gate, |schedule| schedule);
        let mut last_cuts = vec![None; script.state_dims.len()];
        for (index, event) in events.iter().enumerate() {
            prop_assert_eq!(event.decisions.len(), script.state_dims.len());
            let at_target = matches!(policy, Policy::Target(_)) && index + 1 == script.checks as usize;
            for (layer, decision) in event.decisions.iter().enumerate() {
                match *decision {
                    Decision::Keep { state_dim, .. } => prop_assert_eq!(state_dim, event.before[layer]),
                    Decision::Cut { from, to, discarded_share, .. } => {
                        prop_assert_eq!(from, event.before[layer]);
                        prop_assert!(to < from && to >= gate.min_state, "{decision}");
                        prop_assert!(at_target || (to as f64) < (1.0 - gate.min_drop) * from as f64, "{decision}");
                        prop_assert!((0.0..=1.0).contains(&discarded_share), "{decision}");
                        if let Some(last) = last_cuts[layer] {
                            prop_assert!(event.step - last >= gate.cooldown, "{} after {last}", event.step);
                        }
                        if !event.refused[layer] {
                            last_cuts[layer] = Some(event.step);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_cut_ends_at_a_multiple_or_below_one_at_a_power_of_two(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), script in any_script(),
    ) {
        let (_, events) = play(&script, policy, scope, gate, |schedule| schedule);
        let multiple = gate.order_multiple;
        for decision in events.iter().flat_map(|event| &event.decisions) {
            match *decision {
                Decision::Cut { to, .. } => {
                    let fits = to.is_multiple_of(multiple) || (to < multiple && to.is_power_of_two());
                    prop_assert!(fits, "{decision}, {multiple}");
                }
                Decision::Keep { state_dim, reason: KeepReason::RoundedUp { wanted, order_multiple } } => {
                    prop_assert_eq!(order_multiple, multiple);
                    prop_assert!(wanted < state_dim && state_dim <= rounded_up(wanted, multiple), "{decision}");
                }
                Decision::Keep { .. } => {}
            }
        }
    }

    #[test]
    fn rounding_only_ever_keeps_more_and_less_than_a_multiple_of_it(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), spectra in several_spectra(),
    ) {
        // With this gate every cut passes, so that nothing but rounding tells the two checks apart.
        let open = Gate { min_drop: 0.0, cooldown: 0, ..gate };
        let exact = Gate { order_multiple: 1, ..open };
        // What has settled depends on where the cut is; where a layer has not, the others share its part.
        prop_assume!(!matches!(policy, Policy::Auto(_)));
        let (rounded, exact) = (decide_on(policy, scope, open, &spectra), decide_on(policy, scope, exact, &spectra));
        for ((rounded, exact), hsv) in rounded.iter().zip(&exact).zip(&spectra) {
            let expected = rounded_up(exact.order(), gate.order_multiple).min(hsv.len());
            prop_assert_eq!(rounded.order(), expected, "{} and {}", rounded, exact);
        }
    }

    #[test]
    fn what_was_rounded_is_not_rounded_again(gate in any_gate(), hsv in sorted_spectrum(), order in 1_usize..64) {
        let gate = Gate { min_state: 1, ..gate };
        let cut_to = |per_layer| {
            let policy = Target { budget: Budget::States { per_layer } };
            decide(policy, Scope::Layer, gate, &[settled(&hsv)])[0].order()
        };
        prop_assert_eq!(cut_to(cut_to(order)), cut_to(order));
    }

    #[test]
    fn a_refused_cut_starts_no_cooldown(
        scope in any_scope(), cooldown in 2_u64..9, hsv in sorted_spectrum(),
    ) {
        let gate = Gate { cooldown, ..Gate::default() };
        let mut schedule = one_check_per_step(Tolerance { tau: 0.5 }, scope, gate, 2);
        let observation = Observation {
            layers: &[settled(&hsv), settled(&hsv)],
            parameters: ParameterCount::default(),
            step_ms: None,
        };
        let first = schedule.decide(1, &observation).unwrap();
        schedule.refused(0);
        let second = schedule.decide(2, &observation).unwrap();
        prop_assert_eq!(second[0], first[0]);
        if first[1].is_cut() {
            let state_dim = hsv.len();
            let reason = KeepReason::Cooldown { until: 1 + cooldown };
            prop_assert_eq!(second[1], Decision::Keep { state_dim, reason });
        }
    }

    #[test]
    fn equal_inputs_give_equal_decisions(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), script in any_script(),
    ) {
        let plain: fn(Schedule) -> Schedule = |schedule| schedule;
        prop_assert_eq!(play(&script, policy, scope, gate, plain), play(&script, policy, scope, gate, plain));
    }

    #[test]
    fn a_schedule_written_and_read_between_any_two_calls_decides_alike(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), script in any_script(),
    ) {
        let unbroken = play(&script, policy, scope, gate, |schedule| schedule);
        let resumed = play(&script, policy, scope, gate, through_a_file);
        prop_assert_eq!(unbroken, resumed);
    }

    #[test]
    fn nothing_is_cut_after_a_revert(
        scope in any_scope(), gate in any_gate(), script in any_script(),
        fraction in 0.01..0.9, max_drop in 0.0..0.5,
    ) {
        let policy = Pragmatic { fraction, max_drop };
        let (schedule, events) = play(&script, policy, scope, gate, |schedule| schedule);
        let reverted = |event: &Event| event.verdict.is_some_and(|verdict| verdict.reverted);
        match events.iter().position(reverted) {
            None => prop_assert_eq!(schedule.stopped(), None),
            Some(last) => {
                prop_assert_eq!(last + 1, events.len());
                prop_assert_eq!(schedule.stopped().map(|stop| stop.step), Some(events[last].step));
                prop_assert_eq!(&events[last].after, &events[last].before);
                prop_assert_eq!(schedule.remaining_checks(), &[] as &[u64]);
            }
        }
        for event in &events {
            let carried_out = event.decisions.iter().zip(&event.refused).any(|(d, refused)| d.is_cut() && !refused);
            prop_assert_eq!(event.verdict.is_some(), carried_out, "{:?}", event);
        }
    }

    #[test]
    fn a_value_that_is_not_finite_cuts_nothing_and_leaves_the_others_judged(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), spectra in several_spectra(),
        poisoned in sorted_spectrum(), place in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(),
        poison in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ) {
        let mut poisoned = poisoned;
        let index = place.index(poisoned.len());
        poisoned[index] = poison;
        let at = at.index(spectra.len() + 1);
        let mut all = spectra.clone();
        all.insert(at, poisoned);

        let mut decisions = decide_on(policy, scope, gate, &all);
        if policy.is_active() {
            let state_dim = all[at].len();
            let reason = KeepReason::SpectrumNotFinite;
            prop_assert_eq!(decisions.remove(at), Decision::Keep { state_dim, reason });
            match policy {
                // The size of the model is what a target is about, and the poisoned layer is part of it.
                Policy::Target(_) => prop_assert_eq!(decisions.len(), spectra.len()),
                _ => prop_assert_eq!(decisions, decide_on(policy, scope, gate, &spectra)),
            }
        }
    }

    #[test]
    fn the_unit_of_the_spectra_does_not_matter(
        policy in any_policy(), scope in any_scope(), gate in any_gate(), spectra in several_spectra(), power in -30..30,
    ) {
        // A power of two scales without rounding.
        let unit = 2.0_f64.powi(power);
        let scaled: Vec<Vec<f64>> = spectra
            .iter()
            .map(|hsv| hsv.iter().map(|sigma| unit * sigma).collect())
            .collect();
        let orders = |spectra: &[Vec<f64>]| -> Vec<usize> {
            decide_on(policy, scope, gate, spectra).iter().map(Decision::order).collect()
        };
        prop_assert_eq!(orders(&scaled), orders(&spectra));
    }

    #[test]
    fn a_larger_tolerance_never_keeps_more(
        scope in any_scope(), gate in any_gate(), spectra in several_spectra(), a in 0.0..1.0, b in 0.0..1.0,
    ) {
        let decisions = |tau| decide_on(Tolerance { tau }, scope, gate, &spectra);
        for (loose, tight) in decisions(f64::max(a, b)).iter().zip(&decisions(f64::min(a, b))) {
            prop_assert!(loose.order() <= tight.order());
        }
    }

    #[test]
    fn a_larger_fraction_never_keeps_more(
        scope in any_scope(), gate in any_gate(), hsv in sorted_spectrum(), a in 0.01..0.99, b in 0.01..0.99,
    ) {
        let decisions = |fraction| decide_on(Fraction { fraction }, scope, gate, std::slice::from_ref(&hsv));
        prop_assert!(decisions(f64::max(a, b))[0].order() <= decisions(f64::min(a, b))[0].order());
    }

    #[test]
    fn the_tolerance_bounds_what_is_discarded(
        scope in any_scope(), gate in any_gate(), spectra in several_spectra(), tau in 0.0..1.0, auto in any::<bool>(),
    ) {
        let policy: Policy = match auto {
            true => Auto { tau, min_correlation: -1.0 }.into(),
            false => Tolerance { tau }.into(),
        };
        let shares: Vec<f64> = decide_on(policy, scope, gate, &spectra)
            .iter()
            .map(|decision| match decision {
                Decision::Cut { discarded_share, .. } => *discarded_share,
                Decision::Keep { .. } => 0.0,
            })
            .collect();
        // Sums of n terms, added in different orders: each is off by at most n roundings.
        let states: usize = spectra.iter().map(Vec::len).sum();
        let rounding = 4.0 * states as f64 * f64::EPSILON;
        match scope {
            Scope::Layer => prop_assert!(shares.iter().all(|share| *share <= tau + rounding), "{shares:?}"),
            Scope::Global => {
                let budget = tau * spectra.len() as f64;
                prop_assert!(shares.iter().sum::<f64>() <= budget + rounding, "{shares:?} of {budget}");
            }
        }
    }

    #[test]
    fn a_global_fraction_drops_its_share_of_all_states(
        hsv_sizes in prop::collection::vec(1_usize..64, 1..5), fraction in 0.01..0.99,
    ) {
        let spectra: Vec<Vec<f64>> = hsv_sizes.iter().map(|&n| positive_spectrum(n)).collect();
        let gate = Gate { min_drop: 0.0, ..Gate::default() };
        let decisions = decide_on(Fraction { fraction }, Scope::Global, gate, &spectra);
        let (before, after) = (hsv_sizes.iter().sum::<usize>(), total(&decisions));
        let expected = ((1.0 - fraction) * before as f64).round() as usize;
        prop_assert_eq!(after, expected.max(spectra.len()));
    }
}

/// The least number not below `order` that is a multiple of `multiple` or, below it, a power of two: found by looking.
fn rounded_up(order: usize, multiple: usize) -> usize {
    (order..)
        .find(|&n| n % multiple == 0 || (n < multiple && n.is_power_of_two()))
        .expect("multiples have no end")
}

/// Falls slowly and with ties; no zeros.
fn positive_spectrum(states: usize) -> Vec<f64> {
    (0..states).map(|i| 1.0 / (1 + i / 2) as f64).collect()
}

fn total(decisions: &[Decision]) -> usize {
    decisions.iter().map(Decision::order).sum()
}

/// A machine for which time is a base and so much per state, and a model with parameters of both kinds.
struct Machine {
    base_ms: f64,
    ms_per_state: f64,
    fixed: u64,
    per_state: Vec<u64>,
}

impl Machine {
    fn step_ms(&self, states: usize) -> f64 {
        self.base_ms + self.ms_per_state * states as f64
    }

    fn parameters(&self, state_dims: &[usize]) -> u64 {
        let of_states = self
            .per_state
            .iter()
            .zip(state_dims)
            .map(|(per, &n)| per * n as u64);
        self.fixed + of_states.sum::<u64>()
    }

    /// The state dimensions after `checks` checks on the way to a target.
    fn shrink(
        &self,
        budget: Budget,
        scope: Scope,
        gate: Gate,
        checks: u64,
        state_dims: &[usize],
    ) -> Vec<usize> {
        let mut schedule = one_check_per_step(Target { budget }, scope, gate, checks);
        let mut state_dims = state_dims.to_vec();
        for step in 1..=checks {
            let spectra: Vec<Vec<f64>> = state_dims.iter().map(|&n| positive_spectrum(n)).collect();
            let layers: Vec<LayerSpectrum<'_>> = spectra.iter().map(|hsv| settled(hsv)).collect();
            let observation = Observation {
                layers: &layers,
                parameters: ParameterCount {
                    fixed: self.fixed,
                    per_state: &self.per_state,
                },
                step_ms: Some(self.step_ms(state_dims.iter().sum())),
            };
            let decisions = schedule.decide(step, &observation).expect("it is due");
            state_dims = decisions.iter().map(Decision::order).collect();
        }
        state_dims
    }
}

fn any_machine(layers: usize) -> impl Strategy<Value = Machine> {
    let per_state = prop::collection::vec(1_u64..50, layers);
    (0.0..50.0, 0.01..1.0, 0_u64..1000, per_state).prop_map(
        |(base_ms, ms_per_state, fixed, per_state)| Machine {
            base_ms,
            ms_per_state,
            fixed,
            per_state,
        },
    )
}

fn any_model() -> impl Strategy<Value = (Vec<usize>, Machine)> {
    prop::collection::vec(1_usize..100, 1..5).prop_flat_map(|state_dims| {
        let machine = any_machine(state_dims.len());
        (Just(state_dims), machine)
    })
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            base_ms,
            ms_per_state,
            fixed,
            per_state,
        } = self;
        write!(
            f,
            "{base_ms} + {ms_per_state} n ms, {fixed} + {per_state:?} n parameters"
        )
    }
}

proptest! {
    #[test]
    fn a_target_in_states_is_met_exactly_by_the_last_check(
        (state_dims, machine) in any_model(), scope in any_scope(), checks in 1_u64..20,
        min_state in 1_usize..10, more in 0_usize..60, min_drop in 0.0..0.5,
    ) {
        let per_layer = min_state + more;
        let gate = Gate { min_drop, min_state, ..Gate::default() };
        let after = machine.shrink(Budget::States { per_layer }, scope, gate, checks, &state_dims);
        // A layer that starts below `min_state` stays as it is.
        let least: usize = state_dims.iter().map(|&n| n.min(min_state)).sum();
        let start: usize = state_dims.iter().sum();
        let expected = start.min((per_layer * state_dims.len()).max(least));
        prop_assert_eq!(after.iter().sum::<usize>(), expected);
    }

    #[test]
    fn rounding_misses_a_target_in_states_by_less_than_a_multiple_a_layer(
        (state_dims, machine) in any_model(), scope in any_scope(), checks in 1_u64..20,
        per_layer in 1_usize..60, order_multiple in any_multiple(),
    ) {
        let gate = Gate { order_multiple, ..Gate::default() };
        let after = machine.shrink(Budget::States { per_layer }, scope, gate, checks, &state_dims);
        let allowed = per_layer * state_dims.len() + (order_multiple - 1) * state_dims.len();
        prop_assert!(after.iter().sum::<usize>() <= allowed, "{after:?}");
    }

    #[test]
    fn a_target_in_parameters_is_met_and_used_up_by_the_last_check(
        (state_dims, machine) in any_model(), scope in any_scope(), checks in 1_u64..20,
        min_state in 1_usize..10, ratio in 0.0..1.0, min_drop in 0.0..0.5,
    ) {
        let gate = Gate { min_drop, min_state, ..Gate::default() };
        let smallest: Vec<usize> = state_dims.iter().map(|&n| n.min(min_state)).collect();
        let (least, most) = (machine.parameters(&smallest), machine.parameters(&state_dims));
        let goal = (least + (ratio * (most - least) as f64) as u64).max(1);
        let after = machine.shrink(Budget::Parameters { total: goal }, scope, gate, checks, &state_dims);
        let reached = machine.parameters(&after);
        prop_assert!(reached <= goal, "{reached} of {goal}");
        // One state more, and what it moves between layers by rounding, would have been too much.
        let slack: u64 = machine.per_state.iter().sum();
        prop_assert!(reached + slack >= goal, "{reached} of {goal}");
    }

    #[test]
    fn a_target_in_step_time_is_met_within_three_checks_on_an_affine_machine(
        (state_dims, machine) in any_model(), scope in any_scope(), checks in 3_u64..10,
        min_state in 1_usize..10, ratio in 0.0..1.0,
    ) {
        let gate = Gate { min_drop: 0.0, min_state, ..Gate::default() };
        let least: usize = state_dims.iter().map(|&n| n.min(min_state)).sum();
        let start: usize = state_dims.iter().sum();
        let states = least as f64 + ratio * (start - least) as f64;
        let milliseconds = machine.base_ms + machine.ms_per_state * states;
        let after = machine.shrink(Budget::StepTime { milliseconds }, scope, gate, checks, &state_dims);
        let after = after.iter().sum::<usize>() as f64;
        // Down to a whole state, and one for the rounding of times to nanoseconds and of the fit.
        prop_assert!(after <= states + 0.2 && after > states - 1.2, "{after} for {states}");
    }

    #[test]
    fn a_target_shrinks_by_about_the_same_ratio_at_every_check(
        scope in any_scope(), checks in 1_u64..8, per_layer in 16_usize..200,
    ) {
        let gate = Gate { min_drop: 0.0, ..Gate::default() };
        let machine = Machine { base_ms: 0.0, ms_per_state: 1.0, fixed: 0, per_state: vec![1; 2] };
        let policy = Target { budget: Budget::States { per_layer } };
        let mut schedule = one_check_per_step(policy, scope, gate, checks);
        let mut state_dims = vec![256, 256];
        let ratio = (per_layer as f64 / 256.0).powf(1.0 / checks as f64);
        for step in 1..=checks {
            let spectra: Vec<Vec<f64>> = state_dims.iter().map(|&n| positive_spectrum(n)).collect();
            let layers: Vec<LayerSpectrum<'_>> = spectra.iter().map(|hsv| settled(hsv)).collect();
            let parameters = ParameterCount { fixed: 0, per_state: &machine.per_state };
            let observation = Observation { layers: &layers, parameters, step_ms: None };
            let decisions = schedule.decide(step, &observation).unwrap();
            state_dims = decisions.iter().map(Decision::order).collect();
            let expected = 512.0 * ratio.powf(step as f64);
            // Each check rounds by half a state at most, and the next one aims from there; the last one is exact.
            let rounding = if step == checks { 1e-9 * expected } else { 0.5 * step as f64 };
            let reached = total(&decisions) as f64;
            prop_assert!((reached - expected).abs() <= rounding, "{reached} for {expected}");
        }
    }
}

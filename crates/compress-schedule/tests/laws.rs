//! Laws that hold for every policy, on random spectra and windows.

use compress_schedule::{
    Decision, Gate, KeepReason, LayerSpectrum, Policy, Schedule, Spacing, StepPoint, Window,
};
use proptest::prelude::*;

/// Every policy in the crate, with parameters in its whole range. A new policy adds one line.
fn any_policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::None),
        (0.0..1.0).prop_map(|tau| Policy::Tolerance { tau }),
    ]
}

fn any_gate() -> impl Strategy<Value = Gate> {
    (0.0..1.0, 1_usize..10).prop_map(|(min_drop, min_state)| Gate {
        min_drop,
        min_state,
    })
}

/// Non-negative, largest first, over many orders of magnitude, with ties and exact zeros.
fn sorted_spectrum() -> impl Strategy<Value = Vec<f64>> {
    let sigma = prop_oneof![
        4 => (-20.0..5.0_f64).prop_map(|exponent| 10.0_f64.powf(exponent)),
        1 => Just(1.0),
        1 => Just(0.0),
    ];
    prop::collection::vec(sigma, 1..64).prop_map(|mut hsv| {
        hsv.sort_by(|a, b| b.total_cmp(a));
        hsv
    })
}

/// A single check, at step 1 of 1.
fn one_check(policy: Policy, gate: Gate) -> Schedule {
    let window = Window {
        start: StepPoint::Step(0),
        end: StepPoint::Step(1),
        spacing: Spacing::Checks(1),
    };
    Schedule::new(policy, gate, &window, 1).expect("the window holds one check")
}

/// Decides on one spectrum; `None` if the policy never checks.
fn decide(policy: Policy, gate: Gate, hsv: &[f64]) -> Option<Decision> {
    let mut schedule = one_check(policy, gate);
    let layer = LayerSpectrum {
        state_dim: hsv.len(),
        hsv,
    };
    schedule.next_check()?;
    let decisions = schedule.decide(1, &[layer]);
    Some(decisions.expect("step 1 is due")[0])
}

proptest! {
    #[test]
    fn nothing_happens_outside_the_window(
        policy in any_policy(), start in 0_u64..50, length in 1_u64..50, checks in 1_u64..50,
    ) {
        prop_assume!(checks <= length);
        let end = start + length;
        let window = Window {
            start: StepPoint::Step(start),
            end: StepPoint::Step(end),
            spacing: Spacing::Checks(checks),
        };
        let mut schedule = Schedule::new(policy, Gate::default(), &window, 120).unwrap();
        let mut seen = 0;
        for step in 0..=120 {
            if schedule.is_due(step).unwrap() {
                prop_assert!(start < step && step <= end, "check at {step}, window {start}..={end}");
                schedule.decide(step, &[]).unwrap();
                seen += 1;
            }
        }
        prop_assert_eq!(seen, if policy.is_active() { checks } else { 0 });
    }

    #[test]
    fn no_decision_raises_an_order_or_empties_a_layer(
        policy in any_policy(), gate in any_gate(), hsv in sorted_spectrum(),
    ) {
        if let Some(decision) = decide(policy, gate, &hsv) {
            prop_assert!(decision.order() <= hsv.len());
            prop_assert!(decision.order() >= 1);
            if let Decision::Cut { from, to, discarded_share } = decision {
                prop_assert_eq!(from, hsv.len());
                prop_assert!(to < from && to >= gate.min_state);
                prop_assert!((to as f64) < (1.0 - gate.min_drop) * from as f64);
                prop_assert!((0.0..1.0).contains(&discarded_share));
            }
        }
    }

    #[test]
    fn equal_inputs_give_equal_decisions(
        policy in any_policy(), gate in any_gate(), hsv in sorted_spectrum(),
    ) {
        prop_assert_eq!(decide(policy, gate, &hsv), decide(policy, gate, &hsv));
    }

    #[test]
    fn a_value_that_is_not_finite_cuts_nothing(
        policy in any_policy(), gate in any_gate(), hsv in sorted_spectrum(), place in any::<prop::sample::Index>(),
        poison in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
    ) {
        let mut hsv = hsv;
        let index = place.index(hsv.len());
        hsv[index] = poison;
        if let Some(decision) = decide(policy, gate, &hsv) {
            let state_dim = hsv.len();
            prop_assert_eq!(decision, Decision::Keep { state_dim, reason: KeepReason::SpectrumNotFinite });
        }
    }

    #[test]
    fn a_larger_tolerance_never_keeps_more(
        gate in any_gate(), hsv in sorted_spectrum(), a in 0.0..1.0, b in 0.0..1.0,
    ) {
        let order = |tau| decide(Policy::Tolerance { tau }, gate, &hsv).unwrap().order();
        prop_assert!(order(f64::max(a, b)) <= order(f64::min(a, b)));
    }

    #[test]
    fn the_tolerance_bounds_the_discarded_share(hsv in sorted_spectrum(), tau in 0.0..1.0) {
        let decision = decide(Policy::Tolerance { tau }, Gate::default(), &hsv);
        if let Some(Decision::Cut { discarded_share, .. }) = decision {
            // Two sums of n terms, added in different orders: each is off by at most n roundings.
            let rounding = 4.0 * hsv.len() as f64 * f64::EPSILON;
            prop_assert!(discarded_share <= tau + rounding, "{discarded_share} > {tau}");
        }
    }

    #[test]
    fn the_unit_of_a_spectrum_does_not_matter(
        policy in any_policy(), gate in any_gate(), hsv in sorted_spectrum(), power in -30..30,
    ) {
        // A power of two scales without rounding.
        let unit = 2.0_f64.powi(power);
        let scaled: Vec<f64> = hsv.iter().map(|sigma| unit * sigma).collect();
        prop_assert_eq!(decide(policy, gate, &scaled), decide(policy, gate, &hsv));
    }
}

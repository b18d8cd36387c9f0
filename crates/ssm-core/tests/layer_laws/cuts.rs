//! What a cut costs.

use ssm_core::{Carry, Layer, Reduced, Reduction};

use crate::{
    differences::Cpu,
    parameters,
    subject::{IDLE, ROUNDING, STATE, Subject, distance, input, norm, others, output, seen},
};

/// Sums that lose terms which are zero may be added in another order.
const REORDERED: f64 = 16.0 * f32::EPSILON as f64;

/// What the output may be off by, relative to its size, where the states that went did nothing.
fn tolerance<L>(reduced: &Reduced<L>) -> f64 {
    match &reduced.carry {
        Carry::Keep(_) => REORDERED,
        Carry::Change(_) | Carry::Forget(_) => ROUNDING,
    }
}

/// Distance of two layers' outputs relative to the second's.
fn error(got: &Layer<Cpu>, want: &Layer<Cpu>) -> f64 {
    let [got, want] = [got, want].map(|layer| output(layer, &input(1)));
    distance(&got, &want) / norm(&want)
}

pub(crate) fn all_states_are_the_layer_and_every_one_matters(subject: &Subject) {
    let all: Vec<usize> = (0..STATE).collect();
    let backwards: Vec<usize> = all.iter().rev().copied().collect();
    let layer = subject.layer();
    assert_eq!(layer.state_dim(), STATE);
    let unchanged = layer.selected(&all);
    assert_eq!(parameters::of(&unchanged), parameters::of(&layer));
    assert_eq!(error(&unchanged, &layer), 0.0);
    let turned = layer.selected(&backwards);
    let error_of_turned = error(&turned, &layer);
    assert!(error_of_turned < REORDERED, "{error_of_turned:e}");
    let back = parameters::of(&turned.selected(&backwards));
    assert_eq!(back, parameters::of(&layer));
    for state in all {
        let smaller = layer.selected(&others(&[state]));
        assert_eq!(smaller.state_dim(), STATE - 1);
        let error = error(&smaller, &layer);
        assert!(error > ROUNDING, "without state {state}: {error:e}");
    }
}

pub(crate) fn a_cut_to_all_states_changes_nothing(subject: &Subject) {
    for (name, layer) in subject.forms() {
        for method in subject.methods() {
            let reduced = subject.reduced(&layer, layer.state_dim(), method);
            assert_eq!(reduced.layer.state_dim(), layer.state_dim(), "{method:?}");
            // What is below the rounding of the largest may go.
            assert!(reduced.discarded < f64::EPSILON, "{method:?}");
            let error = error(&reduced.layer, &layer);
            let allowed = match &reduced.carry {
                Carry::Keep(_) => 0.0,
                _ => ROUNDING,
            };
            assert!(error <= allowed, "{name}, {method:?}: {error:e}");
        }
    }
}

pub(crate) fn a_cut_of_idle_states_changes_nothing(subject: &Subject) {
    let silences = subject.silences().into_iter();
    for (how, method) in
        silences.flat_map(|how| subject.methods().into_iter().map(move |m| (how, m)))
    {
        let layer = subject.silenced(&IDLE, how);
        let reduced = subject.reduced(&layer, STATE - IDLE.len(), method);
        let error = error(&reduced.layer, &layer);
        assert!(
            error <= tolerance(&reduced),
            "{how:?}, {method:?}: {error:e}"
        );
        // Of a sum in f64.
        assert!(
            reduced.discarded < 1e-12,
            "{how:?}, {method:?}: {:e}",
            reduced.discarded
        );
        if let Carry::Keep(_) = reduced.carry {
            let want = layer.selected(&others(&IDLE));
            assert_eq!(
                parameters::of(&reduced.layer),
                parameters::of(&want),
                "{how:?}, {method:?}"
            );
        }
    }
}

pub(crate) fn what_a_cut_costs_is_within_its_bound(subject: &Subject) {
    let layer = subject.layer();
    let (input, want) = (input(1), output(&layer, &input(1)));
    let inputs: Vec<f64> = input.to_data().iter().collect();
    for method in subject.methods() {
        let basis = layer.rank(Some(&seen()), method).unwrap();
        let largest = basis.spectrum()[0];
        let mut share = 1.0;
        for order in 1..=STATE {
            let of_largest = subject.reduced(&layer, order, method).discarded;
            assert!(of_largest < share || order == STATE, "{method:?}, {order}");
            share = of_largest;
            let methods = [method]
                .into_iter()
                .chain(Subject::other_selections(method));
            for method in methods {
                let reduced = match subject.try_reduced(&layer, order, method) {
                    Ok(reduced) => reduced,
                    // Other states than the largest need not make a layer.
                    Err(_) if method.selection != Default::default() => continue,
                    Err(error) => panic!("{method:?} to {order}: {error}"),
                };
                let states = reduced.layer.state_dim();
                assert!((1..=order).contains(&states), "{method:?}: {states}");
                let discarded = reduced.discarded;
                assert!((0.0..1.0).contains(&discarded), "{method:?}: {discarded}");
                // Modal truncation counts energies in their place if other modes than the strongest are to stay.
                let counts_alike = method.reduction != Reduction::Modal;
                assert!(
                    !counts_alike || discarded >= of_largest * (1.0 - 1e-12),
                    "{method:?} to {order}: {discarded:e} where the largest lose {of_largest:e}"
                );
                let Some(bound) = reduced.bound else {
                    assert!(subject.linear.is_none(), "a linear system has a bound");
                    continue;
                };
                let error = distance(&output(&reduced.layer, &input), &want);
                let allowed = bound.gain * norm(&inputs) + ROUNDING * norm(&want);
                assert!(
                    error <= allowed,
                    "{method:?} to {order}: {error:e} above {allowed:e}"
                );
                assert!(order < STATE || bound.gain <= 1e-12 * largest, "{bound:?}");
                if let Some(through) = subject.linear {
                    let system = through(&reduced.layer).system;
                    let distances = system.lambda().iter().map(|l| 1.0 - l.norm());
                    let decay = distances.fold(f64::INFINITY, f64::min);
                    // A pole that is kept in f32.
                    let error = (decay - bound.decay).abs();
                    assert!(error < 4.0 * f64::from(f32::EPSILON), "{error:e}");
                }
            }
        }
    }
}

/// Which may be no layer to cut, but no share that is no number.
pub(crate) fn a_layer_that_does_nothing_loses_nothing(subject: &Subject) {
    let none = parameters::silent(&subject.layer());
    for method in subject.methods() {
        if let Ok(reduced) = subject.try_reduced(&none, STATE / 2, method) {
            assert_eq!(reduced.discarded, 0.0, "{method:?}");
        }
    }
}

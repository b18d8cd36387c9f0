//! What becomes of what an optimizer knows.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use ssm_core::{Carry, GradientKind, Layer};

use crate::{
    differences::{Cpu, gradients_of, in_f64, random},
    parameters,
    subject::{BATCH, HIDDEN, IDLE, LENGTH, STATE, Subject, distance, norm, others},
};

/// Row-major values as a tensor.
fn flat(values: &[f64]) -> Tensor<Cpu, 1> {
    let data = TensorData::new(values.to_vec(), [values.len()]);
    Tensor::from_data(data, (&Default::default(), DType::F64))
}

fn host(tensor: Tensor<Cpu, 1>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

/// Values of every parameter by its path.
type Values = BTreeMap<String, Vec<f64>>;

fn values(layer: &Layer<Cpu>) -> Values {
    let widened = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
    let all = parameters::of(layer).0.into_iter();
    all.map(|(name, tensor)| (name, widened(tensor.values)))
        .collect()
}

/// The names in it.
fn names(carry: &Carry) -> Vec<&'static str> {
    match carry {
        Carry::Keep(rows) => rows.iter().map(|rows| rows.name).collect(),
        Carry::Change(change) => change.first.iter().map(|rows| rows.name).collect(),
        Carry::Forget(names) => names.clone(),
    }
}

pub(crate) fn what_is_carried_fits_the_smaller_layer(subject: &Subject) {
    for (name, layer) in subject.forms() {
        for method in subject.methods() {
            for order in 1..=layer.state_dim() {
                let reduced = subject.reduced(&layer, order, method);
                let case = format!("{name}, {method:?} to {order}");
                let (old, new) = (values(&layer), values(&reduced.layer));
                let shapes = [&layer, &reduced.layer].map(parameters::of);
                let named = names(&reduced.carry);
                for name in &named {
                    assert!(new.contains_key(*name), "{case}: {name}");
                }
                for name in old.keys() {
                    assert!(new.contains_key(name), "{case}: {name} is gone");
                }
                for name in new.keys().filter(|name| !named.contains(&name.as_str())) {
                    let [old, new] = shapes.each_ref().map(|shapes| shapes.shape(name));
                    assert_eq!(old, new, "{case}: {name}");
                }
                match &reduced.carry {
                    Carry::Keep(rows) => {
                        let mut kept = old;
                        for rows in rows {
                            let all = kept.get_mut(rows.name).unwrap();
                            *all = host(rows.select(flat(all)));
                        }
                        assert_eq!(kept, new, "{case}");
                    }
                    Carry::Change(change) => {
                        for rows in &change.first {
                            let first = host(rows.select(flat(&old[rows.name])));
                            assert_eq!(first.len(), new[rows.name].len(), "{case}");
                        }
                        let has_maps = method.reduction.has_maps();
                        assert_eq!(change.map.is_some(), has_maps, "{case}");
                        let Some(map) = &change.map else { continue };
                        let of = |values: &Values| -> Vec<Vec<f64>> {
                            let squared = |rows: &ssm_core::KeptRows| -> Vec<f64> {
                                values[rows.name].iter().map(|v| v * v).collect()
                            };
                            change.first.iter().map(squared).collect()
                        };
                        let squares = map(GradientKind::Squared, of(&old));
                        let lengths =
                            |all: &[Vec<f64>]| all.iter().map(Vec::len).collect::<Vec<_>>();
                        assert_eq!(lengths(&squares), lengths(&of(&new)), "{case}");
                        let mut squares = squares.iter().flatten();
                        assert!(squares.all(|s| s.is_finite() && *s >= 0.0), "{case}");
                    }
                    Carry::Forget(_) => {}
                }
            }
        }
    }
}

/// Of Σ w ∘ y, w random, in `f64`.
fn gradients(layer: &Layer<Cpu>) -> Values {
    let layer = in_f64(layer);
    let [input, weights] = [1, 2].map(|seed| random(seed, [BATCH, LENGTH, HIDDEN]));
    let gradients = (layer.forward(input * 4.0) * weights).sum().backward();
    gradients_of(&layer, &gradients)
}

/// Gradients after a cut, as far as anything is known of them.
fn carried(carry: &Carry, mut gradients: Values) -> Values {
    match carry {
        Carry::Keep(rows) => {
            for rows in rows {
                let all = gradients.get_mut(rows.name).unwrap();
                *all = host(rows.select(flat(all)));
            }
        }
        Carry::Change(change) => {
            let old = change.first.iter().map(|rows| gradients.remove(rows.name));
            let old: Vec<Vec<f64>> = old.map(Option::unwrap).collect();
            if let Some(map) = &change.map {
                let names = change.first.iter().map(|rows| rows.name.to_owned());
                gradients.extend(names.zip(map(GradientKind::Gradient, old)));
            }
        }
        Carry::Forget(names) => gradients.retain(|name, _| !names.contains(&name.as_str())),
    }
    gradients
}

pub(crate) fn gradients_go_over_where_the_lost_states_did_nothing(subject: &Subject) {
    for how in subject.silences() {
        let layer = subject.silenced(&IDLE, how);
        let before = gradients(&layer);
        let lost = parameters::lost(&layer, &others(&IDLE));
        for method in subject.methods() {
            let reduced = subject.reduced(&layer, STATE - IDLE.len(), method);
            let tolerance = match &reduced.carry {
                // The same numbers, summed in f64 in another order.
                Carry::Keep(_) => 1e-10,
                // Parameters of the new basis are rounded to f32, and a state that remembers twenty steps amplifies
                // that in the gradient of its eigenvalue by as much twice.
                Carry::Change(_) | Carry::Forget(_) => 1e-3,
            };
            let after = gradients(&reduced.layer);
            let named = names(&reduced.carry);
            let carried = carried(&reduced.carry, before.clone());
            assert!(!carried.is_empty());
            for (name, mut got) in carried {
                let mut want = after[&name].clone();
                if !named.contains(&name.as_str()) {
                    // A parameter that the cut leaves as it is still has what made the lost states, without effect now.
                    for position in lost.get(&name).into_iter().flatten() {
                        (got[*position], want[*position]) = (0.0, 0.0);
                    }
                }
                let (error, size) = (distance(&got, &want), norm(&want));
                assert!(
                    error <= tolerance * size,
                    "{how:?}, {method:?}, {name}: off by {error:e} of {size:e}"
                );
            }
        }
    }
}

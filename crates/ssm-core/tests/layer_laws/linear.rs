//! Layers that are one linear system.

use burn::tensor::{DType, Tensor, TensorData};
use hsv::{DiscreteDiagonalSystem, LinearSystem, c64};
use ssm_core::{Layer, LinearLayer};

use crate::{
    differences::{Cpu, in_f64, random},
    subject::{BATCH, HIDDEN, LENGTH, ROUNDING, Subject, distance, input, norm, output},
};

/// A layer as a system, and back as a layer.
pub(crate) struct ThroughSystem {
    pub(crate) system: DiscreteDiagonalSystem,
    pub(crate) layer: Layer<Cpu>,
}

pub(crate) fn through_system<L: LinearLayer>(
    layer: &L,
    of_kind: fn(L) -> Layer<Cpu>,
) -> ThroughSystem {
    let system = layer.to_system().unwrap();
    let back = of_kind(layer.reduced(&system).unwrap());
    ThroughSystem {
        system,
        layer: back,
    }
}

/// Re(C x + D u), x ← Λ x + B u from zero, for `[length, hidden]`.
fn recurrence(system: &DiscreteDiagonalSystem, inputs: &[f64]) -> Vec<f64> {
    let (lambda, hidden) = (system.lambda(), system.inputs());
    let mut x = vec![c64::new(0.0, 0.0); lambda.len()];
    let mut outputs = Vec::with_capacity(inputs.len());
    for u in inputs.chunks_exact(hidden) {
        for (i, x) in x.iter_mut().enumerate() {
            let drive = (0..hidden).map(|j| system.input_matrix()[(i, j)] * u[j]);
            *x = lambda[i] * *x + drive.sum::<c64>();
        }
        for h in 0..hidden {
            let seen = x.iter().enumerate();
            let seen = seen.map(|(i, x)| system.output_matrix()[(h, i)] * x);
            let direct = system.feedthrough().map_or(c64::new(0.0, 0.0), |direct| {
                (0..hidden).map(|j| direct[(h, j)] * u[j]).sum()
            });
            outputs.push((seen.sum::<c64>() + direct).re);
        }
    }
    outputs
}

/// What a layer makes of a sequence beside its system: it feeds each channel through to itself alone.
fn feedthrough(layer: &Layer<Cpu>, system: &DiscreteDiagonalSystem) -> Vec<f64> {
    let unit = |channel: usize| -> Vec<f64> {
        let entries = (0..HIDDEN).map(|h| f64::from(u8::from(h == channel)));
        entries.collect()
    };
    let direct = |channel: usize| {
        let data = TensorData::new(unit(channel), [1, 1, HIDDEN]);
        let step = Tensor::from_data(data, (&Default::default(), DType::F64));
        let got = output(layer, &step);
        let beside = got.iter().zip(recurrence(system, &unit(channel)));
        let beside: Vec<f64> = beside.map(|(got, of_system)| got - of_system).collect();
        for (other, value) in beside.iter().enumerate() {
            assert!(
                other == channel || value.abs() < 1e-12,
                "channel {channel} is fed through to {other} by {value:e}"
            );
        }
        beside[channel]
    };
    (0..HIDDEN).map(direct).collect()
}

pub(crate) fn the_output_is_that_of_the_system(subject: &Subject) {
    let through = subject.linear.unwrap();
    for (name, layer) in subject.forms() {
        let layer = in_f64(&layer);
        let system = through(&layer).system;
        let direct = feedthrough(&layer, &system);
        let input = random(1, [BATCH, LENGTH, HIDDEN]);
        let inputs: Vec<f64> = input.to_data().iter().collect();
        let of_sequence = |u: &[f64]| {
            let beside = u.iter().zip(direct.iter().cycle()).map(|(u, d)| u * d);
            let of_system = recurrence(&system, u).into_iter();
            of_system
                .zip(beside)
                .map(|(y, beside)| y + beside)
                .collect::<Vec<f64>>()
        };
        let sequences = inputs.chunks_exact(LENGTH * HIDDEN);
        let want: Vec<f64> = sequences.flat_map(of_sequence).collect();
        let error = distance(&output(&layer, &input), &want) / norm(&want);
        // A few hundred operations in f64.
        assert!(error < 1e-12, "{name}: {error:e}");
    }
}

pub(crate) fn a_system_and_back_is_the_same_layer(subject: &Subject) {
    let through = subject.linear.unwrap();
    for (name, layer) in subject.forms() {
        let back = through(&layer).layer;
        let want = output(&layer, &input(1));
        let error = distance(&output(&back, &input(1)), &want) / norm(&want);
        assert!(error < ROUNDING, "{name}: {error:e}");
    }
}

//! One step at a time.

use burn::tensor::Tensor;
use ssm_core::{Layer, LayerStream};

use crate::{
    allocations,
    differences::Cpu,
    subject::{HIDDEN, LENGTH, STATE, Subject, distance, input, norm, output},
};

/// Both forms round every sum of products in an order of their own; errors of random sign grow like the root of the number
/// of terms that a state remembers.
fn tolerance() -> f64 {
    8.0 * f64::from(f32::EPSILON) * ((STATE * HIDDEN * LENGTH) as f64).sqrt()
}

/// The first sequence of an input.
fn sequence(seed: u64) -> (Tensor<Cpu, 3>, Vec<f32>) {
    let sequence = input(seed).narrow(0, 0, 1);
    let values = sequence.to_data().iter().collect();
    (sequence, values)
}

fn run(stream: &mut dyn LayerStream, inputs: &[f32]) -> Vec<f64> {
    let mut output = [0.0; HIDDEN];
    let mut all = Vec::with_capacity(inputs.len());
    for input in inputs.chunks_exact(HIDDEN) {
        stream.step(input, &mut output);
        all.extend(output.map(f64::from));
    }
    all
}

fn streams(subject: &Subject) -> impl Iterator<Item = (String, Layer<Cpu>, Box<dyn LayerStream>)> {
    let forms = subject.forms().into_iter();
    forms.map(|(name, layer)| {
        let stream = layer.stream();
        (name, layer, stream)
    })
}

pub(crate) fn a_stream_is_the_layer(subject: &Subject) {
    for (name, layer, mut stream) in streams(subject) {
        let (tensor, inputs) = sequence(1);
        let want = output(&layer, &tensor);
        let got = run(stream.as_mut(), &inputs);
        let error = distance(&got, &want) / norm(&want);
        assert!(error < tolerance(), "{name}: {error:e}");
        stream.reset();
        assert_eq!(run(stream.as_mut(), &inputs), got, "{name}, once more");
    }
}

pub(crate) fn clones_go_their_own_ways(subject: &Subject) {
    for (name, layer, mut one) in streams(subject) {
        let [(_, start), (_, first), (_, second)] = [1, 2, 3].map(sequence);
        run(one.as_mut(), &start);
        let mut other = one.clone();
        // In turns, so that what one remembers of its steps would reach the other.
        let steps = first.chunks(HIDDEN).zip(second.chunks(HIDDEN));
        let turns = steps.map(|(a, b)| (run(one.as_mut(), a), run(other.as_mut(), b)));
        let (got, got_other): (Vec<_>, Vec<_>) = turns.unzip();
        for (got, inputs) in [(got, &first), (got_other, &second)] {
            let mut alone = layer.stream();
            run(alone.as_mut(), &start);
            assert_eq!(got.concat(), run(alone.as_mut(), inputs), "{name}");
        }
    }
}

pub(crate) fn a_step_allocates_nothing(subject: &Subject) {
    for (name, _, mut stream) in streams(subject) {
        let mut output = [0.0; HIDDEN];
        // Processor features are looked up once per process, where a lookup may allocate.
        stream.step(&[0.5; HIDDEN], &mut output);
        let before = allocations::count();
        for _ in 0..100 {
            stream.step(&[0.5; HIDDEN], &mut output);
        }
        stream.reset();
        assert_eq!(allocations::count(), before, "{name}");
    }
}

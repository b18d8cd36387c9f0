//! What does one reduction of one layer cost, and which part of it?
//!
//! Layers as a linear recurrent unit starts them, cut to a quarter of their states.

use divan::{Bencher, black_box};
use hsv::{Accuracy, DiscreteDiagonalSystem, LinearSystem, Mat, c64};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() {
    divan::main();
}

const STATES: [usize; 5] = [64, 128, 256, 384, 512];

/// Poles uniform in the ring `0.9 <= |λ| <= 0.999`; rows of B of about length `√(1 - |λ|²)`.
fn layer(states: usize, inputs: usize) -> DiscreteDiagonalSystem {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut uniform = |low: f64, high: f64| low + (high - low) * rng.random::<f64>();
    let lambda: Vec<c64> = (0..states)
        .map(|_| {
            c64::from_polar(
                uniform(0.9f64.powi(2), 0.999f64.powi(2)).sqrt(),
                uniform(0.0, std::f64::consts::TAU),
            )
        })
        .collect();
    let mut entry = |variance: f64| {
        let half_width = (3.0 * variance).sqrt(); // a uniform variable of that variance
        c64::new(
            uniform(-half_width, half_width),
            uniform(-half_width, half_width),
        )
    };
    let input = Mat::from_fn(states, inputs, |i, _| {
        entry(0.5 / inputs as f64) * (1.0 - lambda[i].norm_sqr()).sqrt()
    });
    let output = Mat::from_fn(inputs, states, |_, _| entry(1.0 / states as f64));
    DiscreteDiagonalSystem::new(lambda, input, output).expect("poles are inside the ring")
}

/// Spectrum, truncation and diagonal form: all that a cut of one layer needs.
#[divan::bench(args = STATES, consts = [8, 64], sample_count = 20)]
fn whole<const INPUTS: usize>(bencher: Bencher<'_, '_>, states: usize) {
    let system = layer(states, INPUTS);
    bencher.bench_local(|| {
        let hankel = black_box(&system).hankel().expect("moderate units");
        let truncation = hankel
            .balanced_truncation(states / 4)
            .expect("a layer has that rank");
        truncation
            .diagonalize()
            .expect("a layer has separate poles")
    });
}

/// The spectrum alone: what a check that cuts nothing costs.
#[divan::bench(args = STATES, consts = [8, 64], sample_count = 20)]
fn spectrum<const INPUTS: usize>(bencher: Bencher<'_, '_>, states: usize) {
    let system = layer(states, INPUTS);
    bencher.bench_local(|| black_box(&system).hankel().expect("moderate units"));
}

/// The spectrum with small values to as many digits as large ones.
#[divan::bench(args = STATES, consts = [8, 64], sample_count = 20)]
fn spectrum_to_relative_accuracy<const INPUTS: usize>(bencher: Bencher<'_, '_>, states: usize) {
    let system = layer(states, INPUTS);
    bencher.bench_local(|| {
        black_box(&system)
            .hankel_with(Accuracy::Relative)
            .expect("moderate units")
    });
}

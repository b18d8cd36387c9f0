//! What does one reduction of one layer cost, and which part of it?
//!
//! Layers as a linear recurrent unit starts them, cut to a quarter of their states. `phases.rs` has the parts in one
//! table.

mod support;

use divan::{Bencher, black_box};
use hsv::{Accuracy, LinearSystem};
use support::layer;

fn main() {
    divan::main();
}

const STATES: [usize; 6] = [64, 128, 256, 384, 512, 1024];

/// Spectrum, truncation and diagonal form: all that a cut of one layer needs.
#[divan::bench(args = STATES, consts = [8, 64, 512], sample_count = 20, max_time = 4)]
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
#[divan::bench(args = STATES, consts = [8, 64, 512], sample_count = 20, max_time = 4)]
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

//! Cuts a random layer to the order that a tolerance allows: `cargo run -p hsv --example reduce -- 0.05`.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::error::Error;

use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64, order_for_tolerance};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const STATES: usize = 64;
const INPUTS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let tau: f64 = std::env::args()
        .nth(1)
        .map_or(Ok(0.05), |text| text.parse())?;
    let system = random_layer(7)?;
    let hankel = system.hankel()?;
    let order = order_for_tolerance(hankel.singular_values(), tau);
    let truncation = hankel.balanced_truncation(order)?;
    let reduced = truncation.diagonalize()?;

    println!(
        "order {STATES} -> {order}  discarded {:.2} %  bound {:.2e}  eigenvector condition {:.1}",
        100.0 * truncation.discarded_share(),
        truncation.h_infinity_bound(),
        reduced.eigenvector_condition,
    );
    for omega in [0.0, 0.5, 1.0, 2.0, 3.0] {
        let (full, small) = (system.transfer(omega), reduced.system.transfer(omega));
        println!(
            "omega {omega:.1}  gain {:.3e}  error {:.3e}",
            full.norm_l2(),
            (&full - &small).norm_l2()
        );
    }
    Ok(())
}

/// Poles in the ring `0.9 <= |lambda| <= 0.999`, rows of B of about length `sqrt(1 - |lambda|^2)`.
fn random_layer(seed: u64) -> Result<DiscreteDiagonalSystem, hsv::SystemError> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = |low: f64, high: f64| low + (high - low) * random.random::<f64>();
    let lambda: Vec<c64> = (0..STATES)
        .map(|_| c64::from_polar(uniform(0.9, 0.999), uniform(0.0, std::f64::consts::TAU)))
        .collect();
    let mut entry = |size: f64| c64::new(uniform(-size, size), uniform(-size, size));
    let input = Mat::from_fn(STATES, INPUTS, |i, _| {
        entry((1.0 - lambda[i].norm_sqr()).sqrt())
    });
    let output = Mat::from_fn(INPUTS, STATES, |_, _| entry(0.125));
    DiscreteDiagonalSystem::new(lambda, input, output)
}

//! What the benches measure on.

use hsv::{DiscreteDiagonalSystem, Mat, c64};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Poles uniform in the ring `0.9 <= |λ| <= 0.999`; rows of B of about length `√(1 - |λ|²)`.
pub(crate) fn layer(states: usize, inputs: usize) -> DiscreteDiagonalSystem {
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

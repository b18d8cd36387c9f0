//! Shared by the tests.

pub(crate) mod double_double;
pub(crate) mod oracle;

use hsv::{DiscreteDiagonalSystem, Mat, c64};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Frobenius norm.
pub(crate) fn frobenius(matrix: &Mat<c64>) -> f64 {
    matrix.norm_l2()
}

/// Largest singular value.
pub(crate) fn max_gain(matrix: &Mat<c64>) -> f64 {
    matrix.singular_values().unwrap()[0]
}

/// Largest entry of `left · right - I`.
pub(crate) fn distance_to_identity(left: &Mat<c64>, right: &Mat<c64>) -> f64 {
    let product = left * right;
    let identity: Mat<c64> = Mat::identity(product.nrows(), product.ncols());
    (product - identity).norm_max()
}

/// A system from closures over (state, column), as tests like to write it.
pub(crate) fn system(
    lambda: &[c64],
    inputs: usize,
    outputs: usize,
    input: impl Fn(usize, usize) -> c64,
    output: impl Fn(usize, usize) -> c64,
) -> DiscreteDiagonalSystem {
    let input = Mat::from_fn(lambda.len(), inputs, input);
    let output = Mat::from_fn(outputs, lambda.len(), |j, i| output(i, j));
    DiscreteDiagonalSystem::new(lambda.to_vec(), input, output).unwrap()
}

/// Frequencies for a sweep: a uniform grid, and clusters at the angle of every pole, each as fine as the pole is
/// close to the circle.
pub(crate) fn sweep(poles: &[c64], uniform: usize) -> Vec<f64> {
    let grid = (0..uniform).map(|k| 2.0 * std::f64::consts::PI * k as f64 / uniform as f64);
    let peaks = poles.iter().flat_map(|pole| {
        let width = (1.0 - pole.norm()).max(1e-12);
        [-3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0].map(|step| pole.arg() + step * width)
    });
    grid.chain(peaks).collect()
}

/// Uniform numbers from a seed.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.random::<f64>()
    }

    /// Both parts in `[-1, 1)`.
    pub(crate) fn complex(&mut self) -> c64 {
        c64::new(self.between(-1.0, 1.0), self.between(-1.0, 1.0))
    }
}

/// A square layer as it is initialized: poles uniform in a ring, rows of B of about length `√(1 - |λ|²)`.
pub(crate) fn random_system(
    seed: u64,
    states: usize,
    inputs: usize,
    inner: f64,
    outer: f64,
) -> DiscreteDiagonalSystem {
    let mut random = Random::new(seed);
    let lambda: Vec<c64> = (0..states)
        .map(|_| {
            let radius = random.between(inner * inner, outer * outer).sqrt();
            c64::from_polar(radius, random.between(0.0, 2.0 * std::f64::consts::PI))
        })
        .collect();
    let input = Mat::from_fn(states, inputs, |i, _| {
        random.complex() * (1.5 * (1.0 - lambda[i].norm_sqr()) / inputs as f64).sqrt()
    });
    let output = Mat::from_fn(inputs, states, |_, _| {
        random.complex() / (states as f64).sqrt()
    });
    DiscreteDiagonalSystem::new(lambda, input, output).unwrap()
}

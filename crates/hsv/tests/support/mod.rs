//! Shared by the integration tests; each uses a part of it.
#![allow(
    dead_code,
    reason = "every test binary compiles all of this and uses some"
)]

pub(crate) mod oracle;

use hsv::{DiscreteDiagonalSystem, Mat, c64};

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

//! Matrices for unit tests, from a seed.

use faer::{Mat, c64};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Both parts of every entry uniform in `[-1, 1)`, `[rows, columns]`.
pub(crate) fn random_matrix(seed: u64, rows: usize, columns: usize) -> Mat<c64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut part = || 2.0 * random.random::<f64>() - 1.0;
    Mat::from_fn(rows, columns, |_, _| c64::new(part(), part()))
}

/// A unitary matrix, `[states, states]`.
pub(crate) fn random_unitary(seed: u64, states: usize) -> Mat<c64> {
    random_matrix(seed, states, states).qr().compute_Q()
}

/// `U (diag(λ) + coupling · N) Uᴴ` with a random unitary U and a strictly upper triangular N of entries up to one:
/// dense, with known eigenvalues, and the less normal the larger `coupling`.
pub(crate) fn with_eigenvalues(seed: u64, lambda: &[c64], coupling: f64) -> Mat<c64> {
    let states = lambda.len();
    let (unitary, above) = (
        random_unitary(seed, states),
        random_matrix(!seed, states, states),
    );
    let triangular = Mat::from_fn(states, states, |i, j| match i.cmp(&j) {
        std::cmp::Ordering::Less => above[(i, j)] * coupling,
        std::cmp::Ordering::Equal => lambda[i],
        std::cmp::Ordering::Greater => c64::ZERO,
    });
    &unitary * triangular * unitary.adjoint()
}

//! What fuzzing does with the bytes it is given; the fuzz target and the replay of its corpus run the same code.
//!
//! A panic is a finding. So is a broken law of `laws.rs` or `spectra.rs`; a refusal with a typed error is right
//! unless a law says otherwise.

mod bytes;
pub(crate) mod laws;
pub(crate) mod spectra;

use bytes::Bytes;
use hsv::{
    Continuous, DenseSystem, DiagonalSystem, Discrete, Discretization, Mat, TimeDomain, c64,
    split_modes,
};
use laws::Entry;

const METHODS: [Discretization; 2] = [Discretization::ZeroOrderHold, Discretization::Bilinear];

/// Makes a system of the bytes, or a bare spectrum, and asks everything of it that can be asked.
pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.below(9);
    if kind == 8 {
        return spectra::check(&bytes.spectrum(), bytes.wild(), bytes.below(20));
    }
    let step_size = bytes.step_size();
    match kind {
        0 => {
            if let Some(system) = diagonal::<Discrete>(&mut bytes) {
                laws::diagonal(&system);
                for method in METHODS {
                    let converted = system.to_continuous(method, step_size);
                    converted.iter().for_each(laws::valid);
                }
            }
        }
        1 => {
            if let Some(system) = diagonal::<Continuous>(&mut bytes) {
                laws::diagonal(&system);
                for method in METHODS {
                    let converted = system.discretize(method, step_size);
                    converted.iter().for_each(laws::valid);
                }
            }
        }
        2 => diagonal::<Discrete>(&mut bytes)
            .iter()
            .for_each(laws::real_part),
        3 => diagonal::<Continuous>(&mut bytes)
            .iter()
            .for_each(laws::real_part),
        4 => dense::<c64, Discrete>(&mut bytes)
            .iter()
            .for_each(|system| discrete_dense(system, step_size)),
        5 => dense::<f64, Discrete>(&mut bytes)
            .iter()
            .for_each(|system| discrete_dense(system, step_size)),
        6 => dense::<c64, Continuous>(&mut bytes)
            .iter()
            .for_each(|system| continuous_dense(system, step_size)),
        _ => dense::<f64, Continuous>(&mut bytes)
            .iter()
            .for_each(|system| continuous_dense(system, step_size)),
    }
}

/// Numbers of states, inputs and outputs.
fn shape(bytes: &mut Bytes<'_>) -> [usize; 3] {
    [1 + bytes.below(8), 1 + bytes.below(4), 1 + bytes.below(4)]
}

fn diagonal<D: TimeDomain>(bytes: &mut Bytes<'_>) -> Option<DiagonalSystem<D>> {
    let [states, inputs, outputs] = shape(bytes);
    let lambda = bytes.eigenvalues::<D>(states);
    let (input, output) = (bytes.matrix(states, inputs), bytes.matrix(outputs, states));
    let split = split_modes::<D>(&lambda, &input, &output);
    split
        .iter()
        .for_each(|split| laws::mode_split(split, &lambda));
    let system = DiagonalSystem::new(lambda, input, output).ok()?;
    if bytes.below(2) == 0 {
        return Some(system);
    }
    system.with_feedthrough(bytes.matrix(outputs, inputs)).ok()
}

fn dense<T: Entry, D: TimeDomain>(bytes: &mut Bytes<'_>) -> Option<DenseSystem<T, D>> {
    let [states, inputs, outputs] = shape(bytes);
    let entries = |matrix: Mat<c64>| {
        Mat::from_fn(matrix.nrows(), matrix.ncols(), |i, j| T::of(matrix[(i, j)]))
    };
    let state = entries(bytes.state_matrix::<D>(states, T::REAL));
    let (input, output) = (
        entries(bytes.matrix(states, inputs)),
        entries(bytes.matrix(outputs, states)),
    );
    let system = DenseSystem::new(state, input, output).ok()?;
    if bytes.below(2) == 0 {
        return Some(system);
    }
    system
        .with_feedthrough(entries(bytes.matrix(outputs, inputs)))
        .ok()
}

fn discrete_dense<T: Entry>(system: &DenseSystem<T, Discrete>, step_size: f64) {
    laws::dense(system);
    laws::solved(&hsv::solve_stein, system);
    laws::solved(&hsv::solve_stein_by_doubling, system);
    for method in METHODS {
        let converted = system.to_continuous(method, step_size);
        converted.iter().for_each(laws::valid);
    }
}

fn continuous_dense<T: Entry>(system: &DenseSystem<T, Continuous>, step_size: f64) {
    laws::dense(system);
    laws::solved(&hsv::solve_lyapunov, system);
    laws::solved(&hsv::solve_lyapunov_by_doubling, system);
    for method in METHODS {
        let converted = system.discretize(method, step_size);
        converted.iter().for_each(laws::valid);
    }
}

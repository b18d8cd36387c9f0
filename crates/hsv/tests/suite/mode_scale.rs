//! How long the rows of B and the columns of C of a diagonal form are: what an optimizer that goes on from it steps on.

use crate::support::{Random, random_system, system};
use hsv::{
    DiagonalSystem, DiscreteDiagonalSystem, Discretization, LinearSystem, Mat, TimeDomain, c64,
};
use proptest::prelude::*;

/// Every way to a smaller layer whose modes are new.
const REDUCTIONS: [fn(&DiscreteDiagonalSystem) -> DiscreteDiagonalSystem; 3] = [
    |full| {
        let hankel = full.hankel().unwrap();
        let truncation = hankel.balanced_truncation(ORDER).unwrap();
        truncation.diagonalize().unwrap().system
    },
    |full| {
        let hankel = full.real_part().hankel().unwrap();
        let truncation = hankel.balanced_truncation(2 * ORDER).unwrap();
        truncation.diagonalize().unwrap().system
    },
    |full| {
        let hankel = full.hankel().unwrap();
        let reduced = hankel.singular_perturbation(ORDER).unwrap().system;
        reduced.diagonalize().unwrap().system
    },
];

const ORDER: usize = 5;

/// The same layer, with mode `i` in units of its own and everything louder by `gain`.
fn restated(full: &DiscreteDiagonalSystem, units: &[c64], gain: f64) -> DiscreteDiagonalSystem {
    system(
        full.lambda(),
        full.inputs(),
        full.outputs(),
        |i, j| full.input_matrix()[(i, j)] * units[i] * gain,
        |i, j| full.output_matrix()[(j, i)] / units[i],
    )
}

/// Lengths of the row of B and the column of C of the mode with the pole nearest to `pole`.
fn lengths(system: &DiscreteDiagonalSystem, pole: c64) -> [f64; 2] {
    let distance = |mode: &usize| (system.lambda()[*mode] - pole).norm();
    let mode = (0..system.state_dim())
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap();
    assert!(distance(&mode) < 1e-9, "another pole");
    [
        system.input_matrix().row(mode).norm_l2(),
        system.output_matrix().col(mode).norm_l2(),
    ]
}

fn assert_lengths(system: &DiscreteDiagonalSystem, pole: c64, wanted: [f64; 2]) {
    for (length, wanted) in lengths(system, pole).into_iter().zip(wanted) {
        // Gaps between singular values of a few percent and eigenvectors of condition of some tens.
        let error = (length / wanted - 1.0).abs();
        assert!(error < 1e-9, "{length} is not {wanted}");
    }
}

#[test]
fn the_scale_comes_from_the_transfer_function_and_not_from_the_units_of_the_states() {
    for seed in 0..4 {
        let full = random_system(seed, 12, 3, 0.6, 0.98);
        let mut random = Random::new(seed);
        // No powers of two, and none of them alike.
        let mut unit = || c64::from_polar(10f64.powf(random.between(-6.0, 6.0)), 1.0);
        let units: Vec<c64> = (0..12).map(|_| unit()).collect();
        for reduce in REDUCTIONS {
            let (reduced, other) = (reduce(&full), reduce(&restated(&full, &units, 1.0)));
            for &pole in reduced.lambda() {
                assert_lengths(&other, pole, lengths(&reduced, pole));
            }
        }
    }
}

#[test]
fn a_gain_goes_half_to_the_input_and_half_to_the_output() {
    let full = random_system(5, 12, 3, 0.6, 0.98);
    // Odd and even powers of two, and none.
    for gain in [1e-7, 2.0, 3.0, 4.0, 1e6] {
        let louder = restated(&full, &[c64::ONE; 12], gain);
        for reduce in REDUCTIONS {
            let (reduced, louder) = (reduce(&full), reduce(&louder));
            for &pole in reduced.lambda() {
                let wanted = lengths(&reduced, pole).map(|length| length * gain.sqrt());
                assert_lengths(&louder, pole, wanted);
            }
        }
    }
}

#[test]
fn modes_that_do_not_mix_share_their_gain_evenly_in_either_realization() {
    // Each mode has channels of its own, two in and two out in quadrature: b bᵀ = 0 and cᵀ c = 0, so that neither
    // Gramian couples it with another mode or with its own conjugate. Balancing then changes nothing but the scale.
    let lambda =
        [(0.9, 0.3), (0.2, -0.7), (-0.6, 0.5), (0.5, 0.1)].map(|(re, im)| c64::new(re, im));
    let (rows, columns) = ([3.0, 0.02, 40.0, 1e-4], [0.5, 90.0, 0.7, 1e-4]);
    let quadrature = |scale: f64, i: usize, j: usize| match j.checked_sub(2 * i) {
        Some(0) => c64::new(scale, 0.0),
        Some(1) => c64::new(0.0, scale),
        _ => c64::ZERO,
    };
    let full = system(
        &lambda,
        8,
        8,
        |i, j| quadrature(rows[i], i, j),
        |i, j| quadrature(columns[i], i, j),
    );
    let hankel = full.hankel().unwrap();
    let complex = hankel
        .balanced_truncation(3)
        .unwrap()
        .diagonalize()
        .unwrap();
    let hankel = full.real_part().hankel().unwrap();
    let real = hankel
        .balanced_truncation(6)
        .unwrap()
        .diagonalize()
        .unwrap();
    for mode in 0..3 {
        // Entries (1, i) have length √2.
        let even = (2.0 * rows[mode] * columns[mode]).sqrt();
        assert_lengths(&complex.system, lambda[mode], [even, even]);
        // Of a conjugate pair the mode above the real axis is kept.
        let (pole, upper) = (lambda[mode], lambda[mode].conj());
        let pole = if pole.im > 0.0 { pole } else { upper };
        assert_lengths(&real.system, pole, [even, even]);
    }
}

/// `V = Wᴴ T V`: eigenvectors of a truncated state matrix, in the coordinates of the truncation.
fn unit_eigenvectors<D: TimeDomain>(full: &DiagonalSystem<D>) {
    let hankel = full.hankel().unwrap();
    let order = (full.state_dim() - 1).min(hankel.numerical_rank());
    for truncation in [
        hankel.balanced_truncation(order).unwrap(),
        hankel.balancing_free_truncation(order).unwrap(),
    ] {
        let form = truncation.diagonalize().unwrap();
        let vectors: Mat<c64> = truncation.left_projection() * &form.right;
        let slack = 1e2
            * f64::EPSILON
            * truncation.left_projection().norm_l2()
            * truncation.right_projection().norm_l2();
        for vector in vectors.col_iter() {
            let length = vector.norm_l2();
            assert!((length - 1.0).abs() <= slack, "{length}");
        }
        let output = truncation.system().output_matrix() * &vectors;
        let input = &vectors * form.system.input_matrix();
        let far = |a: &Mat<c64>, b: &Mat<c64>| (a - b).norm_l2() / b.norm_l2();
        assert!(far(&output, form.system.output_matrix()) <= slack);
        let slack = slack * form.eigenvector_condition;
        assert!(far(&input, truncation.system().input_matrix()) <= slack);
    }
}

proptest! {
    #[test]
    fn eigenvectors_have_length_one_in_the_coordinates_of_the_truncation(
        seed in any::<u64>(), states in 2..9usize, inputs in 1..4usize
    ) {
        let full = random_system(seed, states, inputs, 0.5, 0.98);
        unit_eigenvectors(&full);
        unit_eigenvectors(&full.to_continuous(Discretization::Bilinear, 0.5).unwrap());
    }
}

//! Against reference values from a 600-bit computation that shares nothing with this crate.

use crate::support::max_gain;
use crate::support::oracle::{Oracle, Values};
use hsv::{LinearSystem, c64, order_for_tolerance};

const NAMES: [&str; 5] = [
    "bt_random_N4_H1",
    "bt_random_N4_H8",
    "bt_random_N16_H1",
    "bt_random_N16_H8",
    "bt_random_N64_H1",
];

fn for_each_oracle(check: impl Fn(&Oracle)) {
    for name in NAMES {
        check(&Oracle::read(name));
    }
}

/// The reference is a double rounded from 600 bits after a double-precision SVD, "a few 1e-15 of the largest"; ours
/// adds an SVD and products of factors, each at most `state · ε` = 1.4e-14 at 64 states.
const HSV_TOLERANCE: f64 = 1e-13;

#[test]
fn hankel_singular_values_agree() {
    for_each_oracle(|oracle| {
        let hankel = oracle.system().hankel().unwrap();
        let values = hankel.singular_values();
        assert_eq!(values.len(), oracle.hsv.len());
        let worst = values
            .iter()
            .zip(&oracle.hsv)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max)
            / oracle.hsv[0];
        println!(
            "{}: hsv within {worst:.1e} of the largest, rank {}",
            oracle.name,
            hankel.numerical_rank()
        );
        assert!(worst <= HSV_TOLERANCE, "{}: {worst:e}", oracle.name);
    });
}

#[test]
fn orders_for_tolerances_agree() {
    for_each_oracle(|oracle| {
        let hankel = oracle.system().hankel().unwrap();
        let order_at = |tau: f64| order_for_tolerance(hankel.singular_values(), tau);
        for (tau, &order) in &oracle.rank_at_tau {
            // The reference sits this far from the threshold; both sums together are off by far less.
            if oracle.rank_margin[tau] > HSV_TOLERANCE * oracle.hsv.len() as f64 {
                assert_eq!(
                    order_at(tau.parse().unwrap()),
                    order,
                    "{} at {tau}",
                    oracle.name
                );
            }
        }
    });
}

#[test]
fn full_transfer_functions_agree() {
    for_each_oracle(|oracle| {
        let system = oracle.system();
        for (k, &omega) in oracle.freqs.iter().enumerate() {
            let value = system.transfer(omega);
            // Each mode rounds by a few ε of its own gain ‖b‖ ‖c‖ / |z - λ|, and e^{iω} itself by ε.
            let z = c64::from_polar(1.0, omega);
            let condition: f64 = (0..system.state_dim())
                .map(|i| {
                    let gain = system.input_matrix().row(i).norm_l2()
                        * system.output_matrix().col(i).norm_l2();
                    let distance = (z - system.lambda()[i]).norm();
                    gain / distance * (1.0 + 1.0 / distance)
                })
                .sum();
            oracle
                .transfer_full
                .check(k, &value, 8.0 * f64::EPSILON * condition, &oracle.name);
        }
    });
}

#[test]
fn gramians_agree() {
    for_each_oracle(|oracle| {
        let system = oracle.system();
        let pairs = [
            (&oracle.p, system.controllability_gramian()),
            (&oracle.q, system.observability_gramian()),
        ];
        for (reference, gramian) in pairs {
            let Some(reference) = reference.as_ref().map(Values::matrix) else {
                continue;
            };
            for i in 0..gramian.nrows() {
                for j in 0..gramian.ncols() {
                    let lengths = (gramian[(i, i)].re * gramian[(j, j)].re).sqrt();
                    let error = (gramian[(i, j)] - reference[(i, j)]).norm();
                    // `input` products and one division, relative to the lengths of the two rows; the reference
                    // comes from a dense solver and is itself good to about ε of its largest entry.
                    let tolerance =
                        16.0 * f64::EPSILON * lengths + 4.0 * f64::EPSILON * reference.norm_max();
                    assert!(
                        error <= tolerance,
                        "{} ({i}, {j}): {error:e} > {tolerance:e}",
                        oracle.name
                    );
                }
            }
        }
    });
}

#[test]
fn truncations_agree() {
    for_each_oracle(|oracle| {
        let system = oracle.system();
        let hankel = system.hankel().unwrap();
        for reference in &oracle.truncations {
            let order = reference.rank;
            let truncation = hankel.balanced_truncation(order).unwrap();
            let diagonal = truncation.diagonalize().unwrap();

            // The kept subspace turns by ε σ_1 / gap, the transfer function by that times its own size, for which
            // σ_1 stands; a hundred for the constants in 64 states.
            let gap = oracle.hsv[order - 1] - oracle.hsv[order];
            let relative = 100.0 * f64::EPSILON * oracle.hsv[0] / gap;
            let (mut worst_dense, mut worst_diagonal) = (0.0f64, 0.0f64);
            for (k, &omega) in oracle.freqs.iter().enumerate() {
                let tolerance = relative * oracle.hsv[0];
                let (dense, sparse) = (
                    truncation.system().transfer(omega),
                    diagonal.system.transfer(omega),
                );
                worst_dense =
                    worst_dense.max(reference.transfer.check(k, &dense, tolerance, &oracle.name));
                let tolerance = tolerance * diagonal.eigenvector_condition.max(1.0);
                worst_diagonal = worst_diagonal.max(reference.transfer.check(
                    k,
                    &sparse,
                    tolerance,
                    &oracle.name,
                ));
            }
            println!(
                "{} order {order}: transfer within {:.1e} dense, {:.1e} diagonal of sigma_1; condition {:.1e}",
                oracle.name,
                worst_dense / oracle.hsv[0],
                worst_diagonal / oracle.hsv[0],
                diagonal.eigenvector_condition,
            );

            let worst = nearest_distances(&reference.poles(), diagonal.system.lambda());
            println!("    poles within {worst:.1e}");
            assert!(
                worst <= relative * diagonal.eigenvector_condition,
                "{} order {order}: {worst:e}",
                oracle.name
            );

            let bound = truncation.h_infinity_bound();
            let error = (bound - reference.bound_2_sum_discarded).abs();
            assert!(error <= 2.0 * HSV_TOLERANCE * oracle.hsv[0] * oracle.hsv.len() as f64);
            // Their sweep is a lower estimate of the norm, good to about 1e-8.
            assert!(reference.hinf_error <= bound * (1.0 + 1e-8));
            let difference = |omega: f64| {
                frobenius_gain(
                    &system.transfer(omega),
                    &truncation.system().transfer(omega),
                )
            };
            let gain = difference(reference.hinf_error_at_w);
            assert!(
                (gain - reference.hinf_error).abs() <= 1e-7 * reference.hinf_error,
                "{} {order}",
                oracle.name
            );
        }
    });
}

/// Largest singular value of the difference.
fn frobenius_gain(a: &hsv::Mat<c64>, b: &hsv::Mat<c64>) -> f64 {
    max_gain(&(a - b))
}

/// Largest distance from a reference pole to the pole of ours that is paired with it, closest pairs first.
fn nearest_distances(reference: &[c64], ours: &[c64]) -> f64 {
    assert_eq!(reference.len(), ours.len());
    let mut left = ours.to_vec();
    let mut worst = 0.0f64;
    for pole in reference {
        let distance = |k: &usize| (left[*k] - pole).norm();
        let nearest = (0..left.len())
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .unwrap();
        worst = worst.max(distance(&nearest));
        left.swap_remove(nearest);
    }
    worst
}

#[test]
fn a_transfer_matrix_that_is_wrong_in_one_entry_does_not_agree() {
    // The check of the checks: of a matrix a fixture holds the leading block, and of the rest only its norm and its sum.
    for_each_oracle(|oracle| {
        let value = oracle.system().transfer(oracle.freqs[0]);
        let size = value.norm_max();
        let agrees = |value: &hsv::Mat<c64>| {
            let check = || {
                oracle
                    .transfer_full
                    .check(0, value, 1e-9 * size, &oracle.name)
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_ok()
        };
        assert!(agrees(&value));
        for i in 0..value.nrows() {
            for j in 0..value.ncols() {
                let mut wrong = value.clone();
                wrong[(i, j)] += 1e-6 * size;
                assert!(!agrees(&wrong), "{} ({i}, {j})", oracle.name);
            }
        }
    });
}

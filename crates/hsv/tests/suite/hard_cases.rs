//! Hard cases by name.

use crate::support::{distance_to_identity, max_gain, random_system, sweep, system};
use hsv::{
    DiscreteDiagonalSystem, LinearSystem, Mat, ModalNorm, TruncationError, c64, order_for_tolerance,
};

fn real(value: f64) -> c64 {
    c64::new(value, 0.0)
}

/// Truncates to every order there is; each result is finite, stable and within its bound, or the error is typed.
fn exercise(system: &DiscreteDiagonalSystem) {
    let hankel = system.hankel().unwrap();
    let values = hankel.singular_values();
    assert_eq!(values.len(), system.state_dim());
    assert!(
        values
            .iter()
            .all(|sigma| sigma.is_finite() && *sigma >= 0.0)
    );
    for order in 0..=system.state_dim() + 1 {
        let Ok(truncation) = hankel.balanced_truncation(order) else {
            assert!(
                order == 0 || order > hankel.numerical_rank(),
                "order {order} of {values:?}"
            );
            continue;
        };
        assert!(truncation.poles().iter().all(|pole| pole.norm() < 1.0));
        let diagonal = truncation.diagonalize();
        // Where strong modes cancel, the rounding of each is left over, ε of its own gain.
        let gains: f64 = system.modal_scores(ModalNorm::HInfinity).iter().sum();
        let uncertain = f64::EPSILON * (1e4 * system.state_dim() as f64 * values[0] + 4.0 * gains);
        for omega in sweep(system.lambda(), 8) {
            let full = system.transfer(omega);
            let error = max_gain(&(&full - truncation.system().transfer(omega)));
            assert!(
                error <= truncation.h_infinity_bound() + uncertain,
                "order {order}: {error:e}"
            );
            if let Ok(diagonal) = &diagonal {
                let error = max_gain(&(&full - diagonal.system.transfer(omega)));
                let slack = uncertain * diagonal.eigenvector_condition;
                assert!(
                    error <= truncation.h_infinity_bound() + slack,
                    "order {order}, diagonal: {error:e}"
                );
            }
        }
    }
}

#[test]
fn a_single_state() {
    for lambda in [0.0, 0.5, -0.5, 1.0 - 1e-9, -1.0 + 1e-9] {
        let single = system(
            &[real(lambda)],
            1,
            1,
            |_, _| real(2.0),
            |_, _| c64::new(0.0, 3.0),
        );
        let expected = 6.0 / ((1.0 - lambda.abs()) * (1.0 + lambda.abs()));
        let value = single.hankel().unwrap().singular_values()[0];
        assert!(
            (value - expected).abs() <= 4.0 * f64::EPSILON * expected,
            "{value} {expected}"
        );
        exercise(&single);
    }
}

#[test]
fn all_states_kept_is_the_system_itself() {
    let layer = random_system(20, 9, 2, 0.9, 0.999);
    let hankel = layer.hankel().unwrap();
    let truncation = hankel.balanced_truncation(9).unwrap();
    assert_eq!(truncation.h_infinity_bound(), 0.0);
    assert_eq!(truncation.discarded_share(), 0.0);
    assert_eq!(truncation.poles(), layer.lambda());
    assert_eq!(*truncation.system(), layer.to_dense());
    let diagonal = truncation.diagonalize().unwrap();
    assert_eq!(diagonal.system, layer);
    assert_eq!(distance_to_identity(&diagonal.left, &diagonal.right), 0.0);
}

#[test]
fn states_without_input_or_output_have_no_share() {
    let layer = random_system(21, 10, 3, 0.5, 0.99);
    let unreached = |i: usize| i == 2 || i == 7;
    let unseen = |i: usize| i == 5;
    let masked = system(
        layer.lambda(),
        3,
        3,
        |i, j| {
            if unreached(i) {
                c64::ZERO
            } else {
                layer.input_matrix()[(i, j)]
            }
        },
        |i, j| {
            if unseen(i) {
                c64::ZERO
            } else {
                layer.output_matrix()[(j, i)]
            }
        },
    );
    let hankel = masked.hankel().unwrap();
    assert_eq!(hankel.numerical_rank(), 7);
    assert_eq!(hankel.singular_values()[7..], [0.0; 3]);

    // Cutting what is not there is exact.
    let truncation = hankel.balanced_truncation(7).unwrap();
    assert_eq!(truncation.h_infinity_bound(), 0.0);
    let scale = hankel.singular_values()[0];
    for omega in sweep(masked.lambda(), 16) {
        let error = (masked.transfer(omega) - truncation.system().transfer(omega)).norm_max();
        assert!(error <= 1e3 * f64::EPSILON * scale, "{error:e}");
    }
    let error = hankel.balanced_truncation(8).unwrap_err();
    assert_eq!(
        error,
        TruncationError::OrderAboveRank {
            requested: 8,
            rank: 7,
            states: 10
        }
    );
    exercise(&masked);
}

#[test]
fn no_input_or_no_output_at_all() {
    let layer = random_system(22, 5, 2, 0.5, 0.99);
    for (b, c) in [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)] {
        let dead = system(layer.lambda(), 2, 2, |_, _| real(b), |_, _| real(c));
        let hankel = dead.hankel().unwrap();
        assert_eq!(hankel.singular_values(), [0.0; 5]);
        assert_eq!(order_for_tolerance(hankel.singular_values(), 0.1), 5);
        let error = hankel.balanced_truncation(2).unwrap_err();
        assert_eq!(
            error,
            TruncationError::OrderAboveRank {
                requested: 2,
                rank: 0,
                states: 5
            }
        );
        assert_eq!(
            hankel
                .balanced_truncation(5)
                .unwrap()
                .diagonalize()
                .unwrap()
                .system,
            dead
        );
        assert_eq!(dead.transfer(0.3).norm_max(), 0.0);
    }
}

#[test]
fn copies_of_one_eigenvalue_are_one_state_per_input() {
    for inputs in [1, 3] {
        let lambda = vec![c64::new(0.6, -0.7); 12];
        let layer = random_system(24, 12, inputs, 0.9, 0.99);
        let copies = system(
            &lambda,
            inputs,
            inputs,
            |i, j| layer.input_matrix()[(i, j)],
            |i, j| layer.output_matrix()[(j, i)],
        );
        let hankel = copies.hankel().unwrap();
        // G = C B / (z - λ): the singular values of C B over 1 - |λ|².
        let gains = (copies.output_matrix() * copies.input_matrix())
            .singular_values()
            .unwrap();
        assert_eq!(hankel.numerical_rank(), inputs);
        for (sigma, gain) in hankel.singular_values().iter().zip(&gains) {
            let expected = gain / (1.0 - lambda[0].norm_sqr());
            assert!((sigma - expected).abs() <= 64.0 * f64::EPSILON * hankel.singular_values()[0]);
        }
        exercise(&copies);
    }
}

#[test]
fn real_eigenvalues_positive_negative_and_zero() {
    let lambda: Vec<c64> = [0.9, 0.5, 0.0, -0.3, -0.99, 0.0, 0.999].map(real).to_vec();
    let layer = random_system(25, 7, 2, 0.5, 0.9);
    exercise(&system(
        &lambda,
        2,
        2,
        |i, j| layer.input_matrix()[(i, j)],
        |i, j| layer.output_matrix()[(j, i)],
    ));
    exercise(&system(&lambda, 1, 1, |_, _| real(1.0), |_, _| real(1.0)));
    exercise(&system(
        &[c64::ZERO; 4],
        2,
        2,
        |i, j| real((i + 2 * j) as f64),
        |i, j| real((i * j) as f64 - 1.0),
    ));
}

#[test]
fn poles_at_a_billionth_of_the_circle() {
    let layer = random_system(26, 12, 2, 0.9, 0.999);
    let lambda: Vec<c64> = layer
        .lambda()
        .iter()
        .map(|z| z / z.norm() * (1.0 - 1e-9))
        .collect();
    let slow = system(
        &lambda,
        2,
        2,
        |i, j| layer.input_matrix()[(i, j)],
        |i, j| layer.output_matrix()[(j, i)],
    );
    let hankel = slow.hankel().unwrap();
    assert_eq!(hankel.numerical_rank(), 12);
    for order in [1, 5, 11] {
        let truncation = hankel.balanced_truncation(order).unwrap();
        let diagonal = truncation.diagonalize().unwrap();
        for omega in sweep(slow.lambda(), 8) {
            // A pole rounded by ε moves its peak by ε / 1e-9 of the peak.
            let slack = 4.0 * f64::EPSILON / 1e-9 * hankel.singular_values()[0];
            let error = max_gain(&(slow.transfer(omega) - diagonal.system.transfer(omega)));
            assert!(
                error <= truncation.h_infinity_bound() + slack,
                "order {order}: {error:e}"
            );
        }
    }
}

#[test]
fn units_at_both_ends_of_the_range() {
    let layer = random_system(27, 14, 3, 0.9, 0.999);
    let plain = layer.hankel().unwrap();
    let expected = plain.balanced_truncation(5).unwrap().diagonalize().unwrap();
    for (b, c) in [
        (1e-150, 1e-150),
        (1e150, 1e150),
        (1e150, 1e-150),
        (1e-150, 1e150),
        (1e-300, 1e300),
        (1e280, 1.0),
    ] {
        let scaled = system(
            layer.lambda(),
            3,
            3,
            |i, j| layer.input_matrix()[(i, j)] * b,
            |i, j| layer.output_matrix()[(j, i)] * c,
        );
        let hankel = scaled.hankel().unwrap();
        for (sigma, reference) in hankel.singular_values().iter().zip(plain.singular_values()) {
            // Rounding of b · B and c · C; nothing else may happen.
            let error = (sigma / b / c - reference).abs();
            assert!(
                error <= 64.0 * f64::EPSILON * plain.singular_values()[0],
                "{b:e} {c:e}: {error:e}"
            );
        }
        let truncation = hankel.balanced_truncation(5).unwrap();
        assert!(
            (truncation.discarded_share()
                - plain.balanced_truncation(5).unwrap().discarded_share())
            .abs()
                < 1e-13
        );
        let diagonal = truncation.diagonalize().unwrap();
        for omega in sweep(layer.lambda(), 8) {
            let dense = truncation.system().transfer(omega);
            let sparse = diagonal.system.transfer(omega);
            let reference = expected.system.transfer(omega);
            for i in 0..3 {
                for j in 0..3 {
                    for value in [dense[(i, j)], sparse[(i, j)]] {
                        // 1 / (1 - |λ|) <= 1000 roundings of a pole, gap included.
                        let error = (value / b / c - reference[(i, j)]).norm();
                        assert!(
                            error <= 1e-11 * plain.singular_values()[0],
                            "{b:e} {c:e}: {error:e}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn modes_that_cancel_leave_nothing() {
    let opposite = |i: usize, _| real(if i == 0 { 1.0 } else { -1.0 });
    let nothing = system(&[real(0.5); 2], 1, 1, |_, _| real(1.0), opposite);
    let hankel = nothing.hankel().unwrap();
    // One rounding of each mode's gain of 4/3 is all that can remain.
    assert!(
        hankel.singular_values()[0] <= 2.0 * f64::EPSILON,
        "{:?}",
        hankel.singular_values()
    );
    assert_eq!(hankel.numerical_rank(), 0);
    // A millionth apart they are a double pole, a millionth as strong as either.
    let lambda = [real(0.5), real(0.5 + 1e-6)];
    let pair = system(&lambda, 1, 1, |_, _| real(1.0), opposite);
    assert_eq!(pair.hankel().unwrap().numerical_rank(), 2);
    exercise(&pair);
}

#[test]
fn orders_that_cannot_be_had_are_refused() {
    let layer = random_system(30, 6, 2, 0.5, 0.9);
    let hankel = layer.hankel().unwrap();
    assert_eq!(
        hankel.balanced_truncation(0).unwrap_err(),
        TruncationError::OrderZero
    );
    let error = hankel.balanced_truncation(7).unwrap_err();
    assert_eq!(
        error,
        TruncationError::OrderAboveStateDim {
            requested: 7,
            states: 6
        }
    );
}

#[test]
fn a_large_layer_is_cut_to_a_tenth_within_its_bound() {
    let layer = random_system(31, 256, 8, 0.9, 0.999);
    let hankel = layer.hankel().unwrap();
    let truncation = hankel.balanced_truncation(28).unwrap();
    let diagonal = truncation.diagonalize().unwrap();
    let bound = truncation.h_infinity_bound();
    let total: f64 = hankel.singular_values().iter().sum();
    assert!((truncation.discarded_share() - bound / 2.0 / total).abs() <= 1e-12);
    for omega in sweep(&layer.lambda()[..40], 64) {
        let full = layer.transfer(omega);
        assert!(max_gain(&(&full - truncation.system().transfer(omega))) <= bound);
        assert!(max_gain(&(&full - diagonal.system.transfer(omega))) <= bound);
    }
    assert!(distance_to_identity(&diagonal.left, &diagonal.right) <= 1e-12);
}

#[test]
fn far_more_states_than_inputs() {
    // 64 states per input and more: the Gramians have a few dozen directions above rounding.
    for (states, inputs) in [(150, 2), (70, 1)] {
        let layer = random_system(34, states, inputs, 0.0, 0.95);
        let hankel = layer.hankel().unwrap();
        let rank = hankel.numerical_rank();
        assert!(rank < states, "{rank}");
        for order in [1, rank / 2, rank] {
            let truncation = hankel.balanced_truncation(order).unwrap();
            for omega in sweep(&layer.lambda()[..8], 8) {
                let error =
                    max_gain(&(layer.transfer(omega) - truncation.system().transfer(omega)));
                // The weakest kept states are known to ε of the strongest.
                let slack = 1e4 * f64::EPSILON * hankel.singular_values()[0];
                assert!(
                    error <= truncation.h_infinity_bound() + slack,
                    "{states} {order}: {error:e}"
                );
            }
        }
        assert!(hankel.balanced_truncation(rank + 1).is_err());
        assert_eq!(order_for_tolerance(hankel.singular_values(), 0.0), states);
    }
}

#[test]
fn hostile_shapes_do_not_panic() {
    let wide = random_system(32, 3, 40, 0.5, 0.99);
    exercise(&wide);
    let tall: Mat<c64> = Mat::from_fn(1, 30, |_, i| real(i as f64 - 15.0));
    let layer = random_system(33, 30, 7, 0.0, 0.9);
    let few =
        DiscreteDiagonalSystem::new(layer.lambda().to_vec(), layer.input_matrix().clone(), tall)
            .unwrap();
    let hankel = few.hankel().unwrap();
    for order in 1..=hankel.numerical_rank() {
        // Every answer is a value or a typed error.
        let _ = hankel
            .balanced_truncation(order)
            .map(|truncation| truncation.diagonalize());
    }
}

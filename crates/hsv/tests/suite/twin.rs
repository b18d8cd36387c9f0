//! Against the obvious computation in 32 digits, on systems where 16 digits are not enough for it.
#![allow(
    clippy::print_stdout,
    reason = "errors that were seen, beside those that are allowed"
)]

use crate::support::double_double::Twin;
use crate::support::{Random, random_system};
use hsv::{DiscreteDiagonalSystem, LinearSystem, c64};

/// Relative to σ_1: the twin keeps about 1e-16, ours an SVD and products of at most `state · ε` each.
fn check_spectrum(name: &str, system: &DiscreteDiagonalSystem, twin: &Twin) {
    let hankel = system.hankel().unwrap();
    let (values, expected) = (hankel.singular_values(), twin.singular_values());
    let tolerance = 2.0 * (system.state_dim() as f64 + 8.0) * f64::EPSILON * expected[0];
    let worst = values
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    println!(
        "{name}: hsv within {:.1e} of sigma_1, rank {} of {}, sigma_n / sigma_1 = {:.1e}",
        worst / expected[0],
        hankel.numerical_rank(),
        system.state_dim(),
        expected[expected.len() - 1] / expected[0],
    );
    assert!(worst <= tolerance, "{name}: {worst:e} > {tolerance:e}");
}

/// The transfer functions of truncations, dense and diagonal, on the grid and at every peak.
fn check_truncations(name: &str, system: &DiscreteDiagonalSystem, twin: &Twin, orders: &[usize]) {
    let hankel = system.hankel().unwrap();
    let values = hankel.singular_values();
    for &order in orders {
        let truncation = hankel.balanced_truncation(order).unwrap();
        let diagonal = truncation.diagonalize().unwrap();
        let omegas = crate::support::sweep(&system.lambda()[..system.state_dim().min(6)], 16);
        let points: Vec<c64> = omegas
            .iter()
            .map(|omega| c64::new(omega.cos(), omega.sin()))
            .collect();
        let expected = twin.truncated_transfer(order, &points);
        let (mut worst_dense, mut worst_diagonal) = (0.0f64, 0.0f64);
        for (k, &omega) in omegas.iter().enumerate() {
            worst_dense =
                worst_dense.max((truncation.system().transfer(omega) - &expected[k]).norm_max());
            worst_diagonal =
                worst_diagonal.max((diagonal.system.transfer(omega) - &expected[k]).norm_max());
        }
        // The space turns by ε σ_1 / gap. A pole that is rounded to ε next to the circle moves its own peak by
        // ε / (1 - |λ|) of its height, and no peak is higher than 2 Σσ <= 2 order · σ_1.
        let gap = (values[order - 1] - values[order]) / values[0];
        let margin = truncation
            .poles()
            .iter()
            .map(|pole| 1.0 - pole.norm())
            .fold(1.0, f64::min);
        let tolerance = f64::EPSILON * (100.0 / gap + 8.0 * order as f64 / margin);
        let (dense, sparse) = (worst_dense / values[0], worst_diagonal / values[0]);
        println!(
            "    order {order}: within {dense:.1e} dense, {sparse:.1e} diagonal of sigma_1 (gap {gap:.1e}, margin \
             {margin:.1e}, condition {:.1e})",
            diagonal.eigenvector_condition
        );
        assert!(
            dense <= tolerance,
            "{name} {order}: {dense:e} > {tolerance:e}"
        );
        assert!(
            sparse <= tolerance * diagonal.eigenvector_condition,
            "{name} {order}: {sparse:e}"
        );
    }
}

fn check(name: &str, system: &DiscreteDiagonalSystem, orders: &[usize]) {
    let twin = Twin::of(system);
    check_spectrum(name, system, &twin);
    check_truncations(name, system, &twin, orders);
}

#[test]
fn ordinary_layers() {
    check(
        "ring N=24 H=1",
        &random_system(1, 24, 1, 0.9, 0.999),
        &[4, 8, 16],
    );
    check(
        "ring N=24 H=8",
        &random_system(2, 24, 8, 0.9, 0.999),
        &[4, 8, 16],
    );
    check(
        "ring N=12 H=20, more inputs than states",
        &random_system(3, 12, 20, 0.9, 0.999),
        &[4, 8, 11],
    );
    check("disk N=32 H=2", &random_system(4, 32, 2, 0.0, 0.9), &[4, 8]);
}

#[test]
fn more_states_than_the_gramians_have_rank() {
    let system = random_system(5, 96, 1, 0.0, 0.95);
    let twin = Twin::of(&system);
    check_spectrum("disk N=96 H=1", &system, &twin);
    let rank = system.hankel().unwrap().numerical_rank();
    assert!((10..96).contains(&rank), "{rank}");
    check_truncations("disk N=96 H=1", &system, &twin, &[4, 10, 16]);
}

#[test]
fn poles_next_to_the_unit_circle() {
    for (seed, margin) in [(6, 1e-6), (7, 1e-9), (8, 1e-12)] {
        let mut random = Random::new(seed);
        let ring = random_system(seed, 20, 3, 0.9, 0.999);
        let lambda: Vec<c64> = (0..20)
            .map(|i| {
                if i % 4 == 0 {
                    c64::from_polar(
                        1.0 - margin * random.between(0.5, 2.0),
                        ring.lambda()[i].arg(),
                    )
                } else {
                    ring.lambda()[i]
                }
            })
            .collect();
        let system = DiscreteDiagonalSystem::new(
            lambda,
            ring.input_matrix().clone(),
            ring.output_matrix().clone(),
        )
        .unwrap();
        check(&format!("5 poles within {margin:e}"), &system, &[3, 5, 9]);
    }
}

#[test]
fn slow_poles_that_nearly_meet() {
    let mut random = Random::new(9);
    let lambda: Vec<c64> = (0..12)
        .map(|i| {
            c64::from_polar(
                1.0 - 1e-9 * random.between(0.5, 2.0),
                (i / 3) as f64 + 1e-9 * random.between(-1.0, 1.0),
            )
        })
        .collect();
    let layer = random_system(10, 12, 2, 0.9, 0.999);
    let system = DiscreteDiagonalSystem::new(
        lambda,
        layer.input_matrix().clone(),
        layer.output_matrix().clone(),
    )
    .unwrap();
    check("clusters of three at 1e-9", &system, &[4, 8]);
}

#[test]
fn repeated_eigenvalues() {
    let layer = random_system(11, 18, 2, 0.9, 0.999);
    let lambda: Vec<c64> = (0..18).map(|i| layer.lambda()[i / 3]).collect();
    let system = DiscreteDiagonalSystem::new(
        lambda,
        layer.input_matrix().clone(),
        layer.output_matrix().clone(),
    )
    .unwrap();
    check("six triples, H=2", &system, &[3, 6]);
}

#[test]
fn states_in_very_different_units() {
    let layer = random_system(12, 16, 3, 0.5, 0.99);
    let unit = |i: usize| 2f64.powi(37 * (i as i32 % 5 - 2));
    let system = crate::support::system(
        layer.lambda(),
        3,
        3,
        |i, j| layer.input_matrix()[(i, j)] * unit(i),
        |i, j| layer.output_matrix()[(j, i)] / unit(i),
    );
    check_spectrum("units 2^-74 to 2^74", &system, &Twin::of(&layer));
}

#[test]
fn strong_modes_that_cancel() {
    // Two modes a millionth apart with opposite outputs: G is their difference, a millionth of either.
    let lambda = [c64::new(0.5, 0.3), c64::new(0.5 + 1e-6, 0.3)];
    let sign = |i: usize, _| c64::new(if i == 0 { 1.0 } else { -1.0 }, 0.0);
    let pair = crate::support::system(&lambda, 1, 1, |_, _| c64::ONE, sign);
    let twin = Twin::of(&pair);
    let gain = 1.0 / (1.0 - lambda[1].norm_sqr());
    for (sigma, expected) in pair
        .hankel()
        .unwrap()
        .singular_values()
        .iter()
        .zip(twin.singular_values())
    {
        // Rounding one of the modes by ε leaves that much of its gain uncancelled.
        assert!(
            (sigma - expected).abs() <= 4.0 * f64::EPSILON * gain,
            "{sigma:e} {expected:e}"
        );
    }
}

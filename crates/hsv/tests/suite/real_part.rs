//! What the real part of a layer's output sees, truncated and brought back to a layer.

use crate::support::{Random, max_gain, random_system, system};
use hsv::{
    DiscreteDiagonalSystem, Discretization, LinearSystem, Mat, ModalNorm, RealDiagonalForm, c64,
};
use proptest::prelude::*;

fn layer() -> impl Strategy<Value = DiscreteDiagonalSystem> {
    (any::<u64>(), 1..9usize, 1..4usize, 0.0..0.95f64)
        .prop_map(|(seed, states, inputs, inner)| random_system(seed, states, inputs, inner, 0.99))
}

fn rounding(system: &DiscreteDiagonalSystem) -> f64 {
    let gains: f64 = system.modal_scores(ModalNorm::HInfinity).iter().sum();
    // |λ| <= 0.99: an eigenvalue that moves by ε moves its gain by 100 ε of it.
    1e4 * system.state_dim() as f64 * f64::EPSILON * gains
}

/// `Re(C x)` step by step, for an input that is real.
fn real_output(system: &DiscreteDiagonalSystem, input: &[Vec<f64>]) -> Vec<f64> {
    let mut state = vec![c64::ZERO; system.state_dim()];
    let mut outputs = Vec::new();
    for u in input {
        for (i, x) in state.iter_mut().enumerate() {
            let driven: c64 = u
                .iter()
                .enumerate()
                .map(|(j, &u)| system.input_matrix()[(i, j)] * u)
                .sum();
            *x = system.lambda()[i] * *x + driven;
        }
        for k in 0..system.outputs() {
            let sum: c64 = (0..state.len())
                .map(|i| system.output_matrix()[(k, i)] * state[i])
                .sum();
            outputs.push(sum.re);
        }
    }
    outputs
}

/// `A B + Ã B̃̄`: how maps that are linear over the real numbers compose.
fn composed(
    a: &Mat<c64>,
    a_conjugate: &Mat<c64>,
    b: &Mat<c64>,
    b_conjugate: &Mat<c64>,
) -> Mat<c64> {
    a * b + a_conjugate * b_conjugate.conjugate().to_owned()
}

fn back_and_forth(form: &RealDiagonalForm, tolerance: f64) {
    let modes = form.system.state_dim();
    let identity = composed(
        &form.left,
        &form.left_conjugate,
        &form.right,
        &form.right_conjugate,
    );
    let nothing = composed(
        &form.left,
        &form.left_conjugate,
        &form.right_conjugate,
        &form.right,
    );
    for i in 0..modes {
        for j in 0..modes {
            let (mut entry, mut other) = (identity[(i, j)], nothing[(i, j)]);
            if form.system.lambda()[j].im == 0.0 {
                // The state of a lone real mode is real, and only the sum of both maps acts on it.
                (entry, other) = (entry + other, c64::ZERO);
            }
            let expected = if i == j { c64::ONE } else { c64::ZERO };
            assert!(
                (entry - expected).norm() <= tolerance && other.norm() <= tolerance,
                "({i}, {j}) {entry} {other}"
            );
        }
    }
}

proptest! {
    #[test]
    fn the_written_out_system_is_the_same(layer in layer()) {
        let real = layer.real_part();
        let dense = real.to_dense();
        for omega in [-2.0, 0.0, 0.4, 3.0] {
            prop_assert!((real.transfer(omega) - dense.transfer(omega)).norm_max() <= rounding(&layer));
        }
        let (a, b) = (real.hankel().unwrap(), dense.hankel().unwrap());
        for (a, b) in a.singular_values().iter().zip(b.singular_values()) {
            prop_assert!((a - b).abs() <= rounding(&layer), "{a:e} {b:e}");
        }
    }

    #[test]
    fn a_truncated_real_system_is_a_layer_again(layer in layer(), share in 0.0..1.0f64) {
        let hankel = layer.real_part().hankel().unwrap();
        let strong = hankel.singular_values().iter().filter(|&&s| s > 1e-5 * hankel.singular_values()[0]).count();
        let order = (1 + (share * strong as f64) as usize).min(strong);
        let truncation = hankel.balanced_truncation(order).unwrap();
        let form = truncation.diagonalize().unwrap();
        let real_modes = form.system.lambda().iter().filter(|lambda| lambda.im == 0.0).count();
        if order < 2 * layer.state_dim() {
            prop_assert_eq!(2 * form.system.state_dim() - real_modes, order);
        }
        let slack = rounding(&layer) * form.eigenvector_condition;
        for omega in [-3.0, -1.0, 0.0, 0.2, 1.5] {
            let reduced = form.system.real_part().transfer(omega);
            let dense = truncation.system().transfer(omega);
            prop_assert!((&reduced - &dense).norm_max() <= slack, "{:e}", (&reduced - &dense).norm_max());
            let error = max_gain(&(layer.real_part().transfer(omega) - reduced));
            prop_assert!(error <= truncation.h_infinity_bound() + slack);
        }
        let lengths = form.left.norm_l2().max(form.left_conjugate.norm_l2())
            * form.right.norm_l2().max(form.right_conjugate.norm_l2());
        back_and_forth(&form, 64.0 * f64::EPSILON * (1.0 + lengths) * form.eigenvector_condition);
    }

    #[test]
    fn the_real_output_in_time_follows(layer in layer(), seed in any::<u64>()) {
        let hankel = layer.real_part().hankel().unwrap();
        let order = hankel.numerical_rank().min(layer.state_dim());
        let truncation = hankel.balanced_truncation(order).unwrap();
        let reduced = truncation.diagonalize().unwrap().system;
        let mut random = Random::new(seed);
        let input: Vec<Vec<f64>> = (0..60).map(|_| (0..layer.inputs()).map(|_| random.between(-1.0, 1.0)).collect()).collect();
        let energy: f64 = input.iter().flatten().map(|u| u * u).sum();
        let error: f64 = real_output(&layer, &input)
            .iter()
            .zip(real_output(&reduced, &input))
            .map(|(a, b)| (a - b).powi(2))
            .sum();
        prop_assert!(error.sqrt() <= (truncation.h_infinity_bound() + 1e3 * rounding(&layer)) * energy.sqrt());
    }
}

#[test]
fn the_real_part_needs_half_the_states_of_a_real_system_in_complex_form() {
    // Conjugate pairs with conjugate coefficients: the output is real already, and one mode of each pair says it all.
    let half = random_system(4, 4, 2, 0.5, 0.9);
    let lambda: Vec<c64> = half.lambda().iter().flat_map(|z| [*z, z.conj()]).collect();
    let paired = |z: c64, i: usize| if i.is_multiple_of(2) { z } else { z.conj() };
    let layer = system(
        &lambda,
        2,
        2,
        |i, j| paired(half.input_matrix()[(i / 2, j)], i),
        |i, j| paired(half.output_matrix()[(j, i / 2)], i),
    );
    assert_eq!(layer.hankel().unwrap().numerical_rank(), 8);
    let hankel = layer.real_part().hankel().unwrap();
    assert_eq!(hankel.numerical_rank(), 8, "{:?}", hankel.singular_values());
    let form = hankel
        .balanced_truncation(8)
        .unwrap()
        .diagonalize()
        .unwrap();
    assert_eq!(form.system.state_dim(), 4);
    for omega in [0.0, 0.5, -2.0] {
        let apart = (layer.real_part().transfer(omega) - form.system.real_part().transfer(omega))
            .norm_max();
        assert!(apart <= 1e-12 * hankel.singular_values()[0], "{apart:e}");
    }
}

#[test]
fn lone_real_modes_come_back_real() {
    let lambda = [0.9, -0.5, 0.0].map(|re| c64::new(re, 0.0));
    let layer = random_system(5, 3, 1, 0.5, 0.9);
    let real = system(
        &lambda,
        1,
        1,
        |i, j| layer.input_matrix()[(i, j)],
        |i, j| layer.output_matrix()[(j, i)],
    );
    let hankel = real.real_part().hankel().unwrap();
    let rank = hankel.numerical_rank();
    // One input and one output: of the two real states of each pole only one combination acts.
    assert_eq!(rank, 3, "{:?}", hankel.singular_values());
    let form = hankel
        .balanced_truncation(rank)
        .unwrap()
        .diagonalize()
        .unwrap();
    assert_eq!(form.system.state_dim(), 3);
    assert!(form.system.lambda().iter().all(|lambda| lambda.im == 0.0));
    for omega in [0.0, 1.0, 3.0] {
        let apart =
            (real.real_part().transfer(omega) - form.system.real_part().transfer(omega)).norm_max();
        assert!(apart <= 1e-13, "{apart:e}");
    }
}

#[test]
fn nothing_cut_is_nothing_changed() {
    let layer = random_system(6, 5, 2, 0.5, 0.9);
    let hankel = layer.real_part().hankel().unwrap();
    let form = hankel
        .balanced_truncation(10)
        .unwrap()
        .diagonalize()
        .unwrap();
    assert_eq!(form.system, layer);
    back_and_forth(&form, 0.0);
}

#[test]
fn continuous_layers_have_real_parts_too() {
    let layer = random_system(7, 5, 2, 0.5, 0.9);
    let continuous = layer.to_continuous(Discretization::Bilinear, 0.5).unwrap();
    let (a, b) = (
        layer.real_part().hankel().unwrap(),
        continuous.real_part().hankel().unwrap(),
    );
    for (a, b) in a.singular_values().iter().zip(b.singular_values()) {
        assert!((a - b).abs() <= rounding(&layer));
    }
    let truncation = b.balanced_truncation(4).unwrap();
    let reduced = truncation.diagonalize().unwrap().system;
    assert!(reduced.lambda().iter().all(|lambda| lambda.re < 0.0));
    for omega in [0.0, 1.0, -4.0] {
        let error = continuous.real_part().transfer(omega) - reduced.real_part().transfer(omega);
        assert!(max_gain(&error) <= truncation.h_infinity_bound() + rounding(&layer));
    }
}

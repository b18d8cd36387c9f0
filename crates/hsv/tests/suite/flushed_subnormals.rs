//! A caller whose thread takes subnormal numbers for zero gets the same bits as any other.
//!
//! Set for a whole process, that mode made the eigenvalues of an ordinary layer of 256 states unstable.

use hsv::{
    Accuracy, DiscreteDiagonalSystem, Discretization, LinearSystem, Mat, ModalNorm, c64,
    h_infinity_norm, h2_norm, hankel_norm, solve_lyapunov, solve_stein, solve_stein_by_doubling,
};
use subnormals::Subnormals;

/// As a layer is initialized: slow modes all around the circle, a few channels; two modes that hardly count.
fn layer(states: usize, channels: usize) -> DiscreteDiagonalSystem {
    let mut x = 0.3_f64;
    let mut draw = || {
        x = (x * 9301.0 + 0.497_11).fract();
        x
    };
    let lambda = (0..states)
        .map(|_| {
            c64::from_polar(
                (0.81 + 0.188 * draw()).sqrt(),
                std::f64::consts::TAU * draw(),
            )
        })
        .collect();
    let mut entry = |scale: f64| c64::new(scale * (draw() - 0.5), scale * (draw() - 0.5));
    let input = Mat::from_fn(states, channels, |i, _| {
        entry(if i < 2 { 1e-160 } else { 1.0 })
    });
    let output = Mat::from_fn(channels, states, |_, j| {
        entry(if j < 2 { 1e-160 } else { 1.0 })
    });
    DiscreteDiagonalSystem::new(lambda, input, output).unwrap()
}

/// Everything that is computed of a layer, as bits.
fn everything(states: usize, order: usize) -> Vec<u64> {
    let system = layer(states, 8);
    let mut values = Vec::new();
    let complex = |values: &mut Vec<f64>, m: &Mat<c64>| {
        for j in 0..m.ncols() {
            values.extend(m.col(j).iter().flat_map(|z| [z.re, z.im]));
        }
    };
    let hankel = system.hankel().unwrap();
    values.extend_from_slice(hankel.singular_values());
    let form = hankel
        .balanced_truncation(order)
        .unwrap()
        .diagonalize()
        .unwrap();
    values.extend(form.system.lambda().iter().flat_map(|z| [z.re, z.im]));
    complex(&mut values, form.system.input_matrix());
    complex(&mut values, form.system.output_matrix());
    complex(&mut values, &system.transfer(0.3));
    let real = system.real_part().hankel().unwrap();
    values.extend_from_slice(real.singular_values());
    let real = real
        .balanced_truncation(order)
        .unwrap()
        .diagonalize()
        .unwrap();
    complex(&mut values, real.system.input_matrix());
    let rest = hankel.singular_perturbation(order).unwrap();
    complex(&mut values, rest.system.output_matrix());
    values.extend(system.modal_scores(ModalNorm::H2));
    values.push(hankel_norm(&system).unwrap());
    values.push(h2_norm(&system).unwrap());
    values.push(h_infinity_norm(&system).unwrap().gain);
    complex(&mut values, &system.controllability_gramian());

    let small = layer(12, 2);
    let relative = small.hankel_with(Accuracy::Relative).unwrap();
    values.extend_from_slice(relative.singular_values());
    let dense = small.to_dense();
    values.extend_from_slice(dense.hankel().unwrap().singular_values());
    let (a, q) = (dense.state_matrix(), Mat::<c64>::identity(12, 12));
    complex(&mut values, &solve_stein(a, &q).unwrap().solution);
    complex(
        &mut values,
        &solve_stein_by_doubling(a, &q).unwrap().solution,
    );
    let continuous = dense.to_continuous(Discretization::Bilinear, 0.1).unwrap();
    let a = continuous.state_matrix();
    complex(&mut values, &solve_lyapunov(a, &q).unwrap().solution);
    values.into_iter().map(f64::to_bits).collect()
}

#[test]
fn a_thread_that_flushes_gets_the_same_bits() {
    let expected = everything(256, 96);
    let flushed = {
        let _flushed = Subnormals::flushed();
        everything(256, 96)
    };
    assert!(expected == flushed);
}

#[test]
fn a_pool_that_flushes_gets_the_same_bits() {
    let pool = |flush: bool| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .start_handler(move |_| {
                if flush {
                    std::mem::forget(Subnormals::flushed());
                }
            })
            .build()
            .unwrap()
    };
    let [expected, flushed] = [false, true].map(|flush| pool(flush).install(|| everything(96, 40)));
    assert!(expected == flushed);
}

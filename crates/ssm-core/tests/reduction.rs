//! Layer to system to smaller layer.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::f64::consts::TAU;

use burn::{
    backend::{Autodiff, Flex},
    module::Param,
    tensor::{Distribution, Tensor, TensorData, backend::Backend},
};
use hsv::{DiagonalForm, DiscreteDiagonalSystem, LinearSystem, Mat, c64};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    GradientKind, LinearLayer, Lru, LruGradient, LruInit, MapPair, SequenceLayer, StateMaps,
};

type Cpu = Autodiff<Flex>;

fn layer<B: Backend>(state: usize, hidden: usize, seed: u64) -> Lru<B> {
    let init = LruInit {
        r_min: 0.8,
        r_max: 0.99,
        max_phase: TAU,
    };
    Lru::init(
        state,
        hidden,
        init,
        &mut ChaCha8Rng::seed_from_u64(seed),
        &Default::default(),
    )
}

fn input<B: Backend>(length: usize, hidden: usize) -> Tensor<B, 3> {
    B::seed(&Default::default(), 5);
    Tensor::random(
        [2, length, hidden],
        Distribution::Normal(0.0, 1.0),
        &Default::default(),
    )
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().iter().collect()
}

fn truncate<B: Backend>(layer: &Lru<B>, order: usize) -> (DiagonalForm, f64) {
    let system = layer.to_system().unwrap();
    let truncation = system.hankel().unwrap().balanced_truncation(order).unwrap();
    (
        truncation.diagonalize().unwrap(),
        truncation.h_infinity_bound(),
    )
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

#[test]
fn the_system_of_a_layer_gives_the_layers_output() {
    let (state, hidden, length) = (6, 3, 20);
    let layer = layer::<Flex>(state, hidden, 1);
    let system = layer.to_system().unwrap();
    let u = input::<Flex>(length, hidden);
    let (got, inputs, d) = (
        values(layer.forward(u.clone())),
        values(u),
        values(layer.D.val()),
    );
    let mut x = vec![c64::new(0.0, 0.0); state];
    for k in 0..length {
        let u = &inputs[k * hidden..][..hidden];
        for (i, x) in x.iter_mut().enumerate() {
            let drive: c64 = (0..hidden)
                .map(|j| system.input_matrix()[(i, j)] * u[j])
                .sum();
            *x = system.lambda()[i] * *x + drive;
        }
        for h in 0..hidden {
            let y: c64 = (0..state)
                .map(|i| system.output_matrix()[(h, i)] * x[i])
                .sum();
            let want = y.re + d[h] * u[h];
            // f32 layer with gains of up to about ten.
            assert!(
                (got[k * hidden + h] - want).abs() < 2e-5,
                "step {k}, output {h}"
            );
        }
    }
}

#[test]
fn the_output_of_a_smaller_layer_stays_within_the_bound() {
    let (hidden, length) = (4, 400);
    let layer = layer::<Flex>(40, hidden, 2);
    let u = input::<Flex>(length, hidden);
    let full = values(layer.forward(u.clone()));
    for order in [30, 12, 3] {
        let (truncation, bound) = truncate(&layer, order);
        let small = layer.reduced(&truncation.system).unwrap();
        assert_eq!(small.state_dim(), order);
        let error: Vec<f64> = values(small.forward(u.clone()))
            .iter()
            .zip(&full)
            .map(|(a, b)| a - b)
            .collect();
        // The bound is on the complex output; its real part is no larger. Then f32 rounding of both layers.
        let allowed = bound * norm(&values(u.clone())) + 1e-4 * norm(&full);
        assert!(
            norm(&error) <= allowed,
            "order {order}: {} above {allowed}",
            norm(&error)
        );
        assert!(norm(&error) > 0.0, "truncation changes something");
    }
}

#[test]
fn a_reduced_layer_is_the_reduced_system() {
    let layer = layer::<Flex>(24, 3, 3);
    let (truncation, _) = truncate(&layer, 9);
    let small = layer
        .reduced(&truncation.system)
        .unwrap()
        .to_system()
        .unwrap();
    for omega in [0.0, 0.7, 2.9, -1.3] {
        let (got, want) = (small.transfer(omega), truncation.system.transfer(omega));
        for i in 0..3 {
            for j in 0..3 {
                // Parameters are stored in f32; a pole at distance 1e-2 amplifies their rounding a hundredfold.
                assert!((got[(i, j)] - want[(i, j)]).norm() < 1e-4);
            }
        }
    }
}

#[test]
fn the_scale_of_a_reduced_layer_is_that_of_its_map_and_not_of_its_parameters() {
    let layer = layer::<Flex>(24, 3, 3);
    // The gain moved from B to γ, from C to B, and one mode in other units than the next.
    let mut restated = layer.clone();
    let device = Default::default();
    let units: Vec<f32> = (0..24_u8).map(|i| (0.2 * f32::from(i)).exp()).collect();
    let units = Tensor::<Flex, 1>::from_floats(units.as_slice(), &device);
    let scaled = |param: &Param<Tensor<Flex, 2>>, factor: Tensor<Flex, 2>| {
        Param::from_tensor(param.val() * factor)
    };
    restated.gamma_log = Param::from_tensor(layer.gamma_log.val() + 0.7);
    let rows = units
        .clone()
        .mul_scalar((-0.7f64).exp() * 3.0)
        .unsqueeze_dim::<2>(1);
    let columns = units.recip().mul_scalar(1.0 / 3.0).unsqueeze_dim::<2>(0);
    restated.B_re = scaled(&layer.B_re, rows.clone());
    restated.B_im = scaled(&layer.B_im, rows);
    restated.C_re = scaled(&layer.C_re, columns.clone());
    restated.C_im = scaled(&layer.C_im, columns);
    let lengths = |layer: &Lru<Flex>| {
        let (truncation, _) = truncate(layer, 9);
        let system = layer
            .reduced(&truncation.system)
            .unwrap()
            .to_system()
            .unwrap();
        let mut modes: Vec<[f64; 3]> = (0..9)
            .map(|i| {
                let row = system.input_matrix().row(i).norm_l2();
                let column = system.output_matrix().col(i).norm_l2();
                [system.lambda()[i].arg(), row, column]
            })
            .collect();
        modes.sort_by(|a, b| a[0].total_cmp(&b[0]));
        modes
    };
    for (one, other) in lengths(&layer).into_iter().zip(lengths(&restated)) {
        for (a, b) in one.into_iter().zip(other) {
            // The restated parameters are rounded to f32, and a cut between close singular values amplifies that.
            assert!((a - b).abs() < 1e-3 * a.abs(), "{one:?} {other:?}");
        }
    }
}

#[test]
fn the_modes_that_stay_are_the_same_bits() {
    let mut layer = layer::<Flex>(6, 3, 8);
    // As training leaves them: a phase beyond 2π, and γ apart from √(1 - |λ|²).
    let set =
        |values: [f32; 6]| Param::from_tensor(Tensor::from_floats(values, &Default::default()));
    layer.theta_log = set([0.1, 2.3, -4.0, 1.9, 1.0, 0.7]);
    layer.gamma_log = set([-1.1, 0.3, -2.0, -7.5, 0.0, 0.1]);
    let kept = [4, 1, 3];
    let smaller = layer.selected(&kept);
    assert_eq!(smaller.state_dim(), 3);
    let rows = |values: Vec<f64>, width: usize| -> Vec<f64> {
        kept.iter()
            .flat_map(|&i| values[i * width..][..width].to_vec())
            .collect()
    };
    for (full, small) in [
        (&layer.nu_log, &smaller.nu_log),
        (&layer.theta_log, &smaller.theta_log),
        (&layer.gamma_log, &smaller.gamma_log),
    ] {
        assert_eq!(values(small.val()), rows(values(full.val()), 1));
    }
    for (full, small) in [(&layer.B_re, &smaller.B_re), (&layer.B_im, &smaller.B_im)] {
        assert_eq!(small.dims(), [3, 3]);
        assert_eq!(values(small.val()), rows(values(full.val()), 3));
    }
    for (full, small) in [(&layer.C_re, &smaller.C_re), (&layer.C_im, &smaller.C_im)] {
        assert_eq!(small.dims(), [3, 3]);
        let small = values(small.val().transpose());
        assert_eq!(small, rows(values(full.val().transpose()), 3));
    }
    assert_eq!(values(smaller.D.val()), values(layer.D.val()));
}

/// A system with these eigenvalues.
fn system(lambda: Vec<c64>) -> DiscreteDiagonalSystem {
    let n = lambda.len();
    let matrix = Mat::from_fn(n, n, |i, j| c64::new(f64::from(i == j), 0.1));
    DiscreteDiagonalSystem::new(lambda, matrix.clone(), matrix).unwrap()
}

#[test]
fn eigenvalues_on_the_real_axis_and_near_the_circle_stay_representable() {
    let lambda = [
        c64::new(0.9, 0.0),
        c64::new(-0.9, 0.0),
        c64::new(-0.9, -0.0),
        c64::new(0.5, -1e-300),
        c64::new(1.0 - 1e-12, 0.0),
        c64::new(0.0, -(1.0 - 1e-9)),
    ];
    let layer = layer::<Flex>(8, 6, 4);
    let reduced = layer.reduced(&system(lambda.to_vec())).unwrap();
    for parameter in [&reduced.nu_log, &reduced.theta_log, &reduced.gamma_log] {
        assert!(values(parameter.val()).iter().all(|v| v.is_finite()));
    }
    let back = reduced.to_system().unwrap();
    for (got, want) in back.lambda().iter().zip(&lambda) {
        // The phase is kept as an f32 logarithm of up to log 2π: about 1e-6 absolute.
        assert!((got - want).norm() < 2e-6, "{got} against {want}");
    }
}

#[test]
fn an_eigenvalue_of_zero_is_refused_and_the_layer_unchanged() {
    let layer = layer::<Flex>(3, 2, 5);
    let error = layer
        .reduced(&system(vec![c64::new(0.0, 0.0), c64::new(0.5, 0.1)]))
        .unwrap_err();
    assert!(error.to_string().contains("cannot represent"), "{error}");
}

#[test]
fn entries_beyond_f32_are_refused() {
    let layer = layer::<Flex>(3, 1, 5);
    let one = |value: f64| Mat::from_fn(1, 1, |_, _| c64::new(value, 0.0));
    let lambda = vec![c64::new(0.5, 0.1)];
    let huge = DiscreteDiagonalSystem::new(lambda, one(1.0), one(1e60)).unwrap();
    let error = layer.reduced(&huge).unwrap_err();
    assert!(error.to_string().contains("range of f32"), "{error}");
}

#[test]
fn a_nan_in_a_weight_is_refused() {
    let mut layer = layer::<Flex>(3, 2, 5);
    let mut broken = values(layer.B_im.val());
    broken[2] = f64::NAN;
    let data = TensorData::new(broken, [3, 2]).convert::<f32>();
    layer.B_im = Param::from_tensor(Tensor::from_data(data, &Default::default()));
    assert!(layer.to_system().is_err());
}

/// Gradient of a fixed functional of the output, as the optimizer sees it.
fn gradient(layer: &Lru<Cpu>) -> LruGradient {
    let u = input::<Cpu>(60, layer.D.dims()[0]);
    let grads = layer.forward(u).powf_scalar(2.0).sum().backward();
    let read = |p: &Param<Tensor<Cpu, 1>>| values(p.val().grad(&grads).unwrap());
    let read2 = |p: &Param<Tensor<Cpu, 2>>| values(p.val().grad(&grads).unwrap());
    LruGradient {
        nu_log: read(&layer.nu_log),
        theta_log: read(&layer.theta_log),
        gamma_log: read(&layer.gamma_log),
        B_re: read2(&layer.B_re),
        B_im: read2(&layer.B_im),
        C_re: read2(&layer.C_re),
        C_im: read2(&layer.C_im),
    }
}

/// A layer of seven states, two of which nothing reaches: a truncation to five changes the basis and nothing else.
fn layer_with_idle_states() -> Lru<Cpu> {
    let (state, hidden) = (7, 3);
    let mut layer = layer::<Cpu>(state, hidden, 6);
    let keep = |i: usize| f64::from(i != 2 && i != 5);
    let mask: Vec<f64> = (0..state * hidden).map(|k| keep(k / hidden)).collect();
    let mask = TensorData::new(mask, [state, hidden]).convert::<f32>();
    let mask = Tensor::<Cpu, 2>::from_data(mask, &Default::default());
    for b in [&mut layer.B_re, &mut layer.B_im] {
        *b = Param::from_tensor((b.val() * mask.clone()).detach());
    }
    layer
}

#[test]
fn a_carried_gradient_is_the_gradient_in_the_new_basis() {
    let layer = layer_with_idle_states();
    let (truncation, bound) = truncate(&layer, 5);
    assert!(bound < 1e-9);
    let maps = StateMaps::from(&truncation);
    assert_carries_the_gradient(&layer, &truncation.system, &maps);
}

#[test]
fn a_gradient_is_carried_through_conjugates_too() {
    let layer = layer_with_idle_states();
    let hankel = layer.to_system().unwrap().real_part().hankel().unwrap();
    let truncation = hankel.balanced_truncation(10).unwrap();
    assert!(truncation.h_infinity_bound() < 1e-9 * hankel.singular_values()[0]);
    // Of every pair the form keeps the mode above the real axis: some are the conjugates of the layer's own.
    let form = truncation.diagonalize().unwrap();
    let maps = StateMaps::from(&form);
    let conjugate = maps.conjugate.as_ref().unwrap();
    assert!(conjugate.right.norm_max() > 0.1 && conjugate.left.norm_max() > 0.1);
    assert!(maps.linear.right.norm_max() > 0.1 && maps.linear.left.norm_max() > 0.1);
    assert_carries_the_gradient(&layer, &form.system, &maps);
}

/// For a reduction that leaves the output as it was: the gradient carried over is the small layer's own.
fn assert_carries_the_gradient(
    layer: &Lru<Cpu>,
    reduced: &DiscreteDiagonalSystem,
    maps: &StateMaps,
) {
    let small = layer.reduced(reduced).unwrap();
    let carried = gradient(layer).after_reduction(GradientKind::Gradient, layer, &small, maps);
    let want = gradient(&small);
    for (name, got, want) in [
        ("nu_log", &carried.nu_log, &want.nu_log),
        ("theta_log", &carried.theta_log, &want.theta_log),
        ("gamma_log", &carried.gamma_log, &want.gamma_log),
        ("B_re", &carried.B_re, &want.B_re),
        ("B_im", &carried.B_im, &want.B_im),
        ("C_re", &carried.C_re, &want.C_re),
        ("C_im", &carried.C_im, &want.C_im),
    ] {
        let difference: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
        // Both sides are f32 gradients of a sum over sixty steps.
        let relative = norm(&difference) / norm(want);
        assert!(relative < 1e-3, "{name}: {relative:e}\n{got:?}\n{want:?}");
    }
}

#[test]
fn carried_squared_gradients_are_squares_where_nothing_mixes() {
    let layer = layer::<Cpu>(4, 2, 7);
    let unchanged = StateMaps {
        linear: MapPair {
            right: Mat::identity(4, 4),
            left: Mat::identity(4, 4),
        },
        conjugate: None,
    };
    let gradient = gradient(&layer);
    let square = |v: &Vec<f64>| v.iter().map(|x| x * x).collect::<Vec<f64>>();
    let squared = LruGradient {
        nu_log: square(&gradient.nu_log),
        theta_log: square(&gradient.theta_log),
        gamma_log: square(&gradient.gamma_log),
        B_re: square(&gradient.B_re),
        B_im: square(&gradient.B_im),
        C_re: square(&gradient.C_re),
        C_im: square(&gradient.C_im),
    };
    let carried = squared.after_reduction(GradientKind::Squared, &layer, &layer, &unchanged);
    // The gradient of γ is a sum over the channels, whose terms are taken to be uncorrelated.
    let (b_re, b_im) = (values(layer.B_re.val()), values(layer.B_im.val()));
    let term = |k: usize| b_re[k].powi(2) * squared.B_re[k] + b_im[k].powi(2) * squared.B_im[k];
    let gamma_log: Vec<f64> = (0..4).map(|i| term(2 * i) + term(2 * i + 1)).collect();
    for (name, got, want) in [
        ("nu_log", &carried.nu_log, &squared.nu_log),
        ("theta_log", &carried.theta_log, &squared.theta_log),
        ("gamma_log", &carried.gamma_log, &gamma_log),
        ("B_re", &carried.B_re, &squared.B_re),
        ("B_im", &carried.B_im, &squared.B_im),
        ("C_re", &carried.C_re, &squared.C_re),
        ("C_im", &carried.C_im, &squared.C_im),
    ] {
        assert_eq!(got.len(), want.len(), "{name}");
        for (a, b) in got.iter().zip(want) {
            assert!((a - b).abs() <= 1e-9 * b.abs(), "{name}: {a} against {b}");
        }
    }
}

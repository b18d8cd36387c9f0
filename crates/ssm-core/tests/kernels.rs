//! Every kernel against its twin in plain tensor operations: values and the gradient of every input.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::f64::consts::TAU;

use burn::{
    backend::{Autodiff, Flex},
    tensor::{DType, Tensor, TensorData, backend::Backend as _},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    DecayTensor, DiagonalSsmTensors, Dropout, Field, GatedUnitTensors, TrainingBackend, batch_norm,
    batch_norm_reference, diagonal_ssm, diagonal_ssm_from, diagonal_ssm_reference, gated_unit,
    gated_unit_reference, linear_scan, linear_scan_reference, normalize,
};

type Cpu = Autodiff<Flex>;

/// Random numbers in [-1, 1], the same for every precision.
fn random(rng: &mut ChaCha8Rng, len: usize) -> Vec<f64> {
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A leaf of the graph.
fn leaf<B: TrainingBackend, const D: usize>(
    values: &[f64],
    shape: [usize; D],
    dtype: DType,
) -> Tensor<B, D> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data, (&B::Device::default(), dtype)).require_grad()
}

fn values<B: burn::tensor::backend::Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().to_vec().unwrap()
}

/// Gradients of Σ w ∘ output with respect to the leaves, flattened, after the output itself.
macro_rules! output_and_gradients {
    ($output:expr, $weights:expr, [$($leaf:expr),+ $(,)?]) => {{
        let output = $output;
        let weights = Tensor::from_data($weights, (&output.device(), output.dtype()));
        let mut gradients = (output.clone() * weights).sum().backward();
        let mut all = vec![values(output)];
        // At length 1 the twin never uses λ: no gradient is a gradient of zero.
        $(all.push($leaf.grad_remove(&mut gradients).map_or_else(
            || vec![0.0; $leaf.dims().iter().product()],
            values,
        ));)+
        all
    }};
}

/// Largest difference of two vectors relative to the largest entry of the second.
fn error(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let scale = want.iter().fold(0.0_f64, |m, v| m.max(v.abs())).max(1e-30);
    got.iter()
        .zip(want)
        .fold(0.0_f64, |m, (a, b)| m.max((a - b).abs()))
        / scale
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    batch: usize,
    length: usize,
    hidden: usize,
    state: usize,
    /// Largest |λ|.
    radius: f64,
}

const SHAPES: &[Shape] = &[
    Shape {
        batch: 1,
        length: 1,
        hidden: 1,
        state: 1,
        radius: 0.9,
    },
    Shape {
        batch: 3,
        length: 5,
        hidden: 2,
        state: 3,
        radius: 0.99,
    },
    Shape {
        batch: 2,
        length: 77,
        hidden: 8,
        state: 13,
        radius: 0.999,
    },
    Shape {
        batch: 1,
        length: 700,
        hidden: 3,
        state: 28,
        radius: 1.0 - 1e-6,
    },
    // More rows than reduction pieces, more states than fit one chunk of the whole sequence.
    Shape {
        batch: 35,
        length: 130,
        hidden: 8,
        state: 256,
        radius: 0.99,
    },
    Shape {
        batch: 1,
        length: 1100,
        hidden: 1,
        state: 5,
        radius: 0.0,
    },
];

/// Output and gradients of the diagonal system, by the kernel or by the twin.
fn run_ssm<B: TrainingBackend>(shape: Shape, dtype: DType, twin: bool) -> Vec<Vec<f64>> {
    let Shape {
        batch,
        length,
        hidden,
        state,
        radius,
    } = shape;
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let magnitude: Vec<f64> = (0..state)
        .map(|_| radius * rng.random::<f64>().sqrt())
        .collect();
    let angle: Vec<f64> = (0..state).map(|_| rng.random_range(0.0..TAU)).collect();
    let part = |f: fn(f64) -> f64| {
        magnitude
            .iter()
            .zip(&angle)
            .map(|(m, a)| m * f(*a))
            .collect::<Vec<f64>>()
    };
    let u = leaf::<B, 3>(
        &random(&mut rng, batch * length * hidden),
        [batch, length, hidden],
        dtype,
    );
    let lambda =
        [f64::cos as fn(f64) -> f64, f64::sin].map(|f| leaf::<B, 1>(&part(f), [state], dtype));
    let b =
        [(); 2].map(|()| leaf::<B, 2>(&random(&mut rng, state * hidden), [state, hidden], dtype));
    let c =
        [(); 2].map(|()| leaf::<B, 2>(&random(&mut rng, hidden * state), [hidden, state], dtype));
    let d = leaf::<B, 1>(&random(&mut rng, hidden), [hidden], dtype);
    let weights = TensorData::new(
        random(&mut rng, batch * length * hidden),
        [batch, length, hidden],
    );
    let system = DiagonalSsmTensors {
        lambda: lambda.clone(),
        input_matrix: b.clone(),
        output_matrix: c.clone(),
        feedthrough: d.clone(),
    };
    let before = leaf::<B, 2>(
        &random(&mut rng, batch * 2 * state),
        [batch, 2 * state],
        dtype,
    );
    let output = match twin {
        true => diagonal_ssm_reference(u.clone(), system, Some(before.clone())),
        false => diagonal_ssm_from(u.clone(), system, Some(before.clone())).0,
    };
    output_and_gradients!(
        output,
        weights,
        [u, lambda[0], lambda[1], b[0], b[1], c[0], c[1], d, before]
    )
}

#[test]
fn the_diagonal_kernel_equals_its_twin_in_f64() {
    for &shape in SHAPES {
        let (got, want) = (
            run_ssm::<Cpu>(shape, DType::F64, false),
            run_ssm::<Cpu>(shape, DType::F64, true),
        );
        for (k, (got, want)) in got.iter().zip(&want).enumerate() {
            // Sums of up to batch * length * state terms of random sign, |λ| up to 1 - 1e-6.
            assert!(
                error(got, want) < 1e-11,
                "{shape:?}, item {k}: {:e}",
                error(got, want)
            );
        }
    }
}

#[test]
fn the_diagonal_kernel_in_f32_is_as_good_as_its_twin_in_f32() {
    for &shape in SHAPES {
        let truth = run_ssm::<Cpu>(shape, DType::F64, true);
        let plain = run_ssm::<Cpu>(shape, DType::F32, true);
        let fused = run_ssm::<Cpu>(shape, DType::F32, false);
        for (k, ((fused, plain), truth)) in fused.iter().zip(&plain).zip(&truth).enumerate() {
            // A sequential sum of `length` terms may round worse than the twin's tree of log2(length).
            let floor = f64::from(f32::EPSILON) * (8.0 + (shape.length as f64).sqrt());
            let (fused, plain) = (error(fused, truth), error(plain, truth));
            assert!(
                fused <= 2.0 * plain + floor,
                "{shape:?}, item {k}: {fused:e} against {plain:e}"
            );
        }
    }
}

#[test]
fn the_diagonal_kernel_accepts_views_and_untracked_inputs() {
    let shape = Shape {
        batch: 4,
        length: 33,
        hidden: 3,
        state: 6,
        radius: 0.95,
    };
    let device = Default::default();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let plain = |rng: &mut ChaCha8Rng, n: usize, m: usize| {
        let data = TensorData::new(random(rng, n * m), [m, n]);
        // Transposed: not contiguous, and not tracked.
        Tensor::<Cpu, 2>::from_data(data, (&device, DType::F64)).transpose()
    };
    let Shape {
        batch,
        length,
        hidden,
        state,
        ..
    } = shape;
    let c = leaf::<Cpu, 2>(
        &random(&mut rng, hidden * state),
        [hidden, state],
        DType::F64,
    );
    let lambda = plain(&mut rng, state, 2) * 0.6;
    let system = DiagonalSsmTensors {
        lambda: [0, 1].map(|k| lambda.clone().slice([0..state, k..k + 1]).reshape([state])),
        input_matrix: [(); 2].map(|()| plain(&mut rng, state, hidden)),
        output_matrix: [c.clone(), plain(&mut rng, hidden, state)],
        feedthrough: plain(&mut rng, hidden, 1).reshape([hidden]),
    };
    let u = plain(&mut rng, length * hidden, batch).reshape([batch, length, hidden]);
    let u = u.swap_dims(0, 1).swap_dims(0, 1);
    let weights = TensorData::new(
        random(&mut rng, batch * length * hidden),
        [batch, length, hidden],
    );
    let got = output_and_gradients!(
        diagonal_ssm(u.clone(), system.clone()),
        weights.clone(),
        [c]
    );
    let want = output_and_gradients!(diagonal_ssm_reference(u, system, None), weights, [c]);
    for (got, want) in got.iter().zip(&want) {
        assert!(error(got, want) < 1e-12);
    }
}

#[test]
fn batch_normalization_equals_its_twin() {
    // Two rows would be normalized to ±1 whatever they are: a gradient of rounding errors.
    for (batch, length, hidden) in [(1, 3, 1), (3, 7, 5), (50, 40, 8)] {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let input: Vec<f64> = random(&mut rng, batch * length * hidden)
                .iter()
                .map(|x| 3.0 + 2.0 * x)
                .collect();
            let x = leaf::<Cpu, 3>(&input, [batch, length, hidden], dtype);
            let weights = TensorData::new(random(&mut rng, input.len()), [batch, length, hidden]);
            let (output, mean, variance) = batch_norm(x.clone(), 1e-5);
            let mut got = output_and_gradients!(output, weights.clone(), [x]);
            got.extend([values(mean), values(variance)]);
            let (output, mean, variance) = batch_norm_reference(x.clone(), 1e-5);
            let mut want = output_and_gradients!(output, weights, [x]);
            want.extend([values(mean), values(variance)]);
            for (got, want) in got.iter().zip(&want) {
                // f32: the gradient is a difference of terms about (input / deviation)² times larger.
                assert!(
                    error(got, want) < tolerance,
                    "{dtype:?} {:e}",
                    error(got, want)
                );
            }
        }
    }
}

#[test]
fn the_gated_unit_equals_its_twin_with_and_without_dropout() {
    for (batch, length, hidden) in [(1, 1, 1), (2, 9, 3), (5, 300, 8), (1, 70, 96)] {
        for dropout in [
            None,
            Some(Dropout {
                probability: 0.3,
                seed: 0xfeed_5eed_1234,
            }),
        ] {
            for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-5)] {
                let mut rng = ChaCha8Rng::seed_from_u64(6);
                let shape = [batch, length, hidden];
                let len = batch * length * hidden;
                let scaled: Vec<f64> = random(&mut rng, len).iter().map(|x| 4.0 * x).collect();
                let x = leaf::<Cpu, 3>(&scaled, shape, dtype);
                let skip = leaf::<Cpu, 3>(&random(&mut rng, len), shape, dtype);
                let w = [(); 2].map(|()| {
                    leaf::<Cpu, 2>(&random(&mut rng, hidden * hidden), [hidden, hidden], dtype)
                });
                let b =
                    [(); 2].map(|()| leaf::<Cpu, 1>(&random(&mut rng, hidden), [hidden], dtype));
                let weights = TensorData::new(random(&mut rng, len), shape);
                let tensors = GatedUnitTensors {
                    weights: w.clone(),
                    biases: b.clone(),
                };
                let got = output_and_gradients!(
                    gated_unit(x.clone(), skip.clone(), tensors.clone(), dropout),
                    weights.clone(),
                    [x, skip, w[0], w[1], b[0], b[1]]
                );
                let want = output_and_gradients!(
                    gated_unit_reference(x.clone(), skip.clone(), tensors, dropout),
                    weights,
                    [x, skip, w[0], w[1], b[0], b[1]]
                );
                for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                    let e = error(got, want);
                    assert!(e < tolerance, "{shape:?} {dtype:?} item {k}: {e:e}");
                }
            }
        }
    }
}

#[test]
fn kernels_repeat_bit_for_bit_whatever_the_number_of_threads() {
    let shape = SHAPES[4];
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap()
            .install(|| run_ssm::<Cpu>(shape, DType::F32, false))
    };
    assert_eq!(run(1), run(3));
    Cpu::sync(&Default::default()).unwrap();
}

#[test]
fn normalization_by_given_statistics_equals_its_twin() {
    let device = Default::default();
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let [batch, length, hidden] = [3, 50, 7];
    let plain = |values: Vec<f64>| {
        Tensor::<Flex, 1>::from_data(TensorData::new(values, [hidden]), (&device, DType::F64))
    };
    let mean = plain(random(&mut rng, hidden));
    let variance = plain(random(&mut rng, hidden)).square();
    let data = TensorData::new(
        random(&mut rng, batch * length * hidden),
        [batch, length, hidden],
    );
    let x = Tensor::<Flex, 3>::from_data(data, (&device, DType::F64));
    let got = normalize(x.clone(), mean.clone(), variance.clone(), 1e-5);
    let want = (x - mean.unsqueeze()) / (variance + 1e-5).sqrt().unsqueeze();
    assert!(error(&values(got), &values(want)) < 1e-14);
}

#[test]
fn a_scan_equals_its_twin() {
    for field in [Field::Real, Field::Complex] {
        for (batch, length, width) in [(1, 1, 2), (3, 7, 4), (2, 65, 26)] {
            for per_step in [false, true] {
                let mut rng = ChaCha8Rng::seed_from_u64(9);
                let b = random(&mut rng, batch * length * width);
                let input = leaf::<Cpu, 3>(&b, [batch, length, width], DType::F64);
                let before = random(&mut rng, batch * width);
                let before = leaf::<Cpu, 2>(&before, [batch, width], DType::F64);
                // |a| stays below 1: both planes of a complex factor are at most 0.7.
                let scaled = |v: Vec<f64>| v.iter().map(|x| 0.7 * x).collect::<Vec<f64>>();
                let a = scaled(random(&mut rng, batch * length * width));
                let every = leaf::<Cpu, 3>(&a, [batch, length, width], DType::F64);
                let constant = leaf::<Cpu, 1>(&a[..width], [width], DType::F64);
                let decay = || match per_step {
                    true => DecayTensor::PerStep(every.clone()),
                    false => DecayTensor::Constant(constant.clone()),
                };
                let weights = random(&mut rng, batch * length * width);
                let weights = TensorData::new(weights, [batch, length, width]);
                let got = output_and_gradients!(
                    linear_scan(decay(), input.clone(), Some(before.clone()), field),
                    weights.clone(),
                    [input, before, every, constant]
                );
                let want = output_and_gradients!(
                    linear_scan_reference(decay(), input.clone(), Some(before.clone()), field),
                    weights,
                    [input, before, every, constant]
                );
                for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                    // Sums of at most 65 bounded terms in f64.
                    assert!(error(got, want) < 1e-13, "{field:?} item {k}");
                }
            }
        }
    }
}

//! Kernels in `f32` never work on subnormal numbers, whatever comes in, and leave a caller's mode as it was.
//!
//! On Intel's processors an operation on such a number takes 150 cycles. x86-64 processors report that one was an operand:
//! that report, on every thread, is what is looked at here. Elsewhere these tests can only pass.
#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData, ops::FloatTensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    Decay, DiagonalSsm, Dropout, Field, GatedUnit, Kernels, LinearScan, Lru, LruInit,
    SelectiveScan, Ssd,
};
use subnormals::{Subnormals, forget_operands, met_operand};

/// Whether any thread met a subnormal number in `work`.
fn reports(work: impl FnOnce() + Send) -> bool {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = pool.build().unwrap();
    pool.broadcast(|_| forget_operands());
    pool.install(work);
    pool.broadcast(|_| met_operand()).contains(&Some(true))
}

type Primitive = FloatTensor<Flex>;

/// A source of numbers of which a third is subnormal, and a third so small that their products are.
struct Draw(ChaCha8Rng);

impl Draw {
    fn new() -> Self {
        Self(ChaCha8Rng::seed_from_u64(0))
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Primitive {
        self.scaled(shape, [1e-40, 1e-21, 1.0])
    }

    fn scaled<const D: usize>(&mut self, shape: [usize; D], scales: [f32; 3]) -> Primitive {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| scales[self.0.random_range(0..3)] * self.0.random_range(-1.0_f32..1.0))
            .collect();
        let data = TensorData::new(values, shape);
        Tensor::<Flex, D>::from_data(data, &Default::default())
            .into_primitive()
            .tensor()
    }

    /// Rates and poles: negative or below one in modulus, and fast enough for states to die out.
    fn rates<const D: usize>(&mut self, shape: [usize; D]) -> Primitive {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| -self.0.random_range(0.01_f32..0.6))
            .collect();
        let data = TensorData::new(values, shape);
        Tensor::<Flex, D>::from_data(data, &Default::default())
            .into_primitive()
            .tensor()
    }
}

/// Fails with the name of a kernel that met one.
fn check(name: &str, work: impl FnOnce() + Send) {
    assert!(!reports(work), "{name} worked on subnormal numbers");
}

#[test]
fn the_diagonal_map_meets_none() {
    // Narrow and wide; many sequences, and one long one in chunks side by side.
    for [batch, length, hidden, state] in [
        [5, 200, 8, 40],
        [9, 100, 96, 40],
        [1, 3000, 8, 40],
        [1, 1500, 96, 40],
    ] {
        let mut draw = Draw::new();
        let input = draw.tensor([batch, length, hidden]);
        let gradient = draw.tensor([batch, length, hidden]);
        let system = DiagonalSsm {
            lambda_re: draw.rates([state]),
            lambda_im: draw.rates([state]),
            input_re: draw.tensor([state, hidden]),
            input_im: draw.tensor([state, hidden]),
            output_re: draw.tensor([hidden, state]),
            output_im: draw.tensor([hidden, state]),
            feedthrough: draw.tensor([hidden]),
        };
        let initial = draw.tensor([batch, 2 * state]);
        let case = format!("{batch} x {length} x {hidden}, {state} states");
        check(&format!("the diagonal map of {case}"), || {
            let forward = Flex::diagonal_ssm_forward(&input, &system, &initial);
            Flex::diagonal_ssm_backward(&input, &system, &forward.chunk_states, &gradient);
        });
    }
}

#[test]
fn scans_meet_none() {
    for (field, per_step) in [(Field::Real, true), (Field::Complex, false)] {
        let mut draw = Draw::new();
        let scan = LinearScan {
            decay: match per_step {
                true => Decay::PerStep(draw.rates([3, 90, 10])),
                false => Decay::Constant(draw.rates([10])),
            },
            input: draw.tensor([3, 90, 10]),
            initial_state: draw.tensor([3, 10]),
            field,
        };
        let gradient = draw.tensor([3, 90, 10]);
        check("the scan", || {
            let states = Flex::linear_scan_forward(&scan);
            Flex::linear_scan_backward(&scan, &states, &gradient);
        });
    }
    let (batch, length, channels, state) = (3, 130, 40, 9);
    let mut draw = Draw::new();
    let scan = SelectiveScan {
        input: draw.tensor([batch, length, channels]),
        step: draw.scaled([batch, length, channels], [1.0, 30.0, 90.0]),
        decay: draw.rates([channels, state]),
        input_vector: draw.tensor([batch, length, state]),
        output_vector: draw.tensor([batch, length, state]),
        feedthrough: draw.tensor([channels]),
        gate: draw.scaled([batch, length, channels], [1e-40, 1.0, 90.0]),
    };
    let gradient = draw.tensor([batch, length, channels]);
    check("the selective scan", || {
        let forward = Flex::selective_scan_forward(&scan);
        Flex::selective_scan_backward(&scan, &forward.chunk_states, &gradient);
    });
    let (heads, width) = (4, 8);
    let map = Ssd {
        input: draw.tensor([batch, length, heads, width]),
        step: draw.scaled([batch, length, heads], [1e-40, 1.0, 90.0]),
        decay: draw.rates([heads]),
        input_vector: draw.tensor([batch, length, state]),
        output_vector: draw.tensor([batch, length, state]),
        feedthrough: draw.tensor([heads]),
        groups: 1,
    };
    let gradient = draw.tensor([batch, length, heads, width]);
    check("the map of Mamba-2", || {
        let forward = Flex::ssd_forward(&map).unwrap();
        Flex::ssd_backward(&map, &forward.chunk_states, &gradient);
    });
}

#[test]
fn pointwise_kernels_and_products_meet_none() {
    for hidden in [8, 96] {
        let mut draw = Draw::new();
        let shape = [6, 70, hidden];
        let (input, skip, gradient) = (draw.tensor(shape), draw.tensor(shape), draw.tensor(shape));
        let unit = GatedUnit {
            value_weight: draw.tensor([hidden, hidden]),
            value_bias: draw.tensor([hidden]),
            gate_weight: draw.tensor([hidden, hidden]),
            gate_bias: draw.tensor([hidden]),
        };
        let dropout = Some(Dropout {
            probability: 0.1,
            seed: 3,
        });
        check("the gated unit", || {
            let forward = Flex::gated_unit_forward(&input, &skip, &unit, dropout);
            let branches = forward.branches.as_ref();
            Flex::gated_unit_backward(&input, &unit, dropout, branches, &gradient);
        });
        // Where GELU and its slope fade out.
        let large = draw.scaled(shape, [3.0, 12.0, 100.0]);
        check("the gated unit of large inputs", || {
            let forward = Flex::gated_unit_forward(&large, &skip, &unit, None);
            let branches = forward.branches.as_ref();
            Flex::gated_unit_backward(&large, &unit, None, branches, &gradient);
        });
        check("batch normalization", || {
            let normalized = Flex::batch_norm_forward(&input, 1e-5);
            let (output, variance) = (&normalized.output, &normalized.variance);
            Flex::batch_norm_backward(output, variance, 1e-5, &gradient);
        });
        let (mean, variance) = (draw.tensor([hidden]), draw.scaled([hidden], [0.0; 3]));
        check("normalization by given statistics", || {
            Flex::normalize_forward(input.clone(), mean, variance, 1e-5);
        });
        let weight = draw.tensor([hidden]);
        check("normalization by the root mean square", || {
            Flex::rms_norm_forward(&input, Some(&skip), &weight, 1e-5);
            Flex::rms_norm_backward(&input, Some(&skip), &weight, 1e-5, &gradient);
        });
        check("the mean over time", || {
            Flex::mean_over_time_forward(input.clone());
        });
        let of_mean = draw.tensor([6, hidden]);
        check("the gradient of the mean over time", || {
            Flex::mean_over_time_backward(of_mean, 784);
        });
        let (taps, bias) = (draw.tensor([hidden, 4]), draw.tensor([hidden]));
        check("the causal convolution", || {
            Flex::causal_conv_forward(&input, &taps, &bias);
            Flex::causal_conv_backward(&input, &taps, &bias, &gradient);
        });
        let (rows, outputs) = (draw.tensor([420, hidden]), 24);
        let (weight, bias) = (draw.tensor([outputs, hidden]), draw.tensor([outputs]));
        let gradient = draw.tensor([420, outputs]);
        check("the affine map", || {
            Flex::affine_forward(&rows, &weight, Some(&bias));
            Flex::affine_backward(&rows, &weight, &gradient, [true, true]);
        });
    }
}

#[test]
fn a_stream_meets_none_and_leaves_the_callers_mode_alone() {
    let mut layer = stream(16);
    let mut output = [0.0; 4];
    let mut steps = |values: [f32; 4], count: usize| {
        for _ in 0..count {
            layer.step(&values, &mut output);
        }
        output
    };
    let half = || std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5);
    steps([1.0, -1.0, 0.5, 0.0], 3);
    forget_operands();
    // Through all magnitudes, down to nothing.
    let faded = steps([0.0; 4], 40_000);
    assert_ne!(met_operand(), Some(true));
    // Next to nothing: where one of two products that cancel each other is flushed, a state may circle there for good.
    assert!(
        faded.iter().all(|y| y.abs() < 1e3 * f32::MIN_POSITIVE),
        "{faded:?}"
    );
    assert!(half() > 0.0);
    let _flushed = Subnormals::flushed();
    steps([1.0, 0.0, 0.0, 0.0], 2);
    assert_eq!(half() == 0.0, subnormals::CAN_FLUSH);
}

fn stream(states: usize) -> ssm_core::LruStream {
    let init = LruInit {
        r_min: 0.9,
        r_max: 0.99,
        max_phase: 6.0,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let layer = Lru::<Flex>::init(states, 4, init, &mut rng, &Default::default());
    layer.stream()
}

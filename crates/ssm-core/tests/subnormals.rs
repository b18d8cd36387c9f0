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
    Decay, Dropout, Field, Kernel, Lru, LruInit, Operation, Recorded, Tensors,
    operations::{
        Affine, BatchNorm, CausalConv, DiagonalSsm, GatedUnit, LinearScan, MeanOverTime, Normalize,
        RmsNorm, SelectiveScan, Ssd,
    },
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

/// Fails with the name of what met one.
fn check(name: &str, work: impl FnOnce() + Send) {
    assert!(!reports(work), "{name} worked on subnormal numbers");
}

/// Checks both passes of an operation, the second from this gradient.
fn check_both<O: Operation<N>, const N: usize>(
    name: &str,
    inputs: [Primitive; N],
    settings: O::Settings,
    gradient: Primitive,
) where
    Flex: Kernel<O, N>,
{
    check(name, || {
        let (outputs, way_back) = Recorded::<O, Flex, N>::run(inputs, settings);
        way_back.backward(gradient, [true; N]);
        drop(outputs.into_vec());
    });
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
        let inputs = [
            input,
            draw.rates([state]),
            draw.rates([state]),
            draw.tensor([state, hidden]),
            draw.tensor([state, hidden]),
            draw.tensor([hidden, state]),
            draw.tensor([hidden, state]),
            draw.tensor([hidden]),
            draw.tensor([batch, 2 * state]),
        ];
        let case = format!("the diagonal map of {batch} x {length} x {hidden}, {state} states");
        check_both::<DiagonalSsm, 9>(&case, inputs, (), gradient);
    }
}

#[test]
fn scans_meet_none() {
    for (field, per_step) in [(Field::Real, true), (Field::Complex, false)] {
        let mut draw = Draw::new();
        let (decay, kind) = match per_step {
            true => (draw.rates([3, 90, 10]), Decay::PerStep(())),
            false => (draw.rates([10]), Decay::Constant(())),
        };
        let inputs = [decay, draw.tensor([3, 90, 10]), draw.tensor([3, 10])];
        let gradient = draw.tensor([3, 90, 10]);
        check_both::<LinearScan, 3>("the scan", inputs, (kind, field), gradient);
    }
    let (batch, length, channels, state) = (3, 130, 40, 9);
    let mut draw = Draw::new();
    let inputs = [
        draw.tensor([batch, length, channels]),
        draw.scaled([batch, length, channels], [1.0, 30.0, 90.0]),
        draw.rates([channels, state]),
        draw.tensor([batch, length, state]),
        draw.tensor([batch, length, state]),
        draw.tensor([channels]),
        draw.scaled([batch, length, channels], [1e-40, 1.0, 90.0]),
    ];
    let gradient = draw.tensor([batch, length, channels]);
    check_both::<SelectiveScan, 7>("the selective scan", inputs, (), gradient);
    let (heads, width) = (4, 8);
    let inputs = [
        draw.tensor([batch, length, heads, width]),
        draw.scaled([batch, length, heads], [1e-40, 1.0, 90.0]),
        draw.rates([heads]),
        draw.tensor([batch, length, state]),
        draw.tensor([batch, length, state]),
        draw.tensor([heads]),
    ];
    let gradient = draw.tensor([batch, length, heads, width]);
    check_both::<Ssd, 6>("the map of Mamba-2", inputs, 1, gradient);
}

#[test]
fn pointwise_kernels_and_products_meet_none() {
    for hidden in [8, 96] {
        let mut draw = Draw::new();
        let shape = [6, 70, hidden];
        let (input, skip, gradient) = (draw.tensor(shape), draw.tensor(shape), draw.tensor(shape));
        let weights = [
            draw.tensor([hidden, hidden]),
            draw.tensor([hidden]),
            draw.tensor([hidden, hidden]),
            draw.tensor([hidden]),
        ];
        let dropout = Some(Dropout {
            probability: 0.1,
            seed: 3,
        });
        let unit = |input: Primitive| {
            let [value_weight, value_bias, gate_weight, gate_bias] = weights.clone();
            let skip = skip.clone();
            [
                input,
                skip,
                value_weight,
                value_bias,
                gate_weight,
                gate_bias,
            ]
        };
        // Where GELU and its slope fade out.
        let large = draw.scaled(shape, [3.0, 12.0, 100.0]);
        for (what, input, dropout) in [
            ("the gated unit", input.clone(), dropout),
            ("the gated unit of large inputs", large, None),
        ] {
            check_both::<GatedUnit, 6>(what, unit(input), dropout, gradient.clone());
        }
        let inputs = [input.clone()];
        check_both::<BatchNorm, 1>("batch normalization", inputs, 1e-5, gradient.clone());
        let (mean, variance) = (draw.tensor([hidden]), draw.scaled([hidden], [0.0; 3]));
        let inputs = [input.clone(), mean, variance];
        check("normalization by given statistics", || {
            Recorded::<Normalize, Flex, 3>::run(inputs, 1e-5);
        });
        let weight = draw.tensor([hidden]);
        let inputs = [input.clone(), weight, skip.clone()];
        let what = "normalization by the root mean square";
        check_both::<RmsNorm, 3>(what, inputs, 1e-5, gradient.clone());
        let (inputs, of_mean) = ([input.clone()], draw.tensor([6, hidden]));
        check_both::<MeanOverTime, 1>("the mean over time", inputs, (), of_mean);
        let inputs = [input, draw.tensor([hidden, 4]), draw.tensor([hidden])];
        check_both::<CausalConv, 3>("the causal convolution", inputs, (), gradient);
        let (rows, outputs) = (draw.tensor([420, hidden]), 24);
        let inputs = [rows, draw.tensor([outputs, hidden]), draw.tensor([outputs])];
        let gradient = draw.tensor([420, outputs]);
        check_both::<Affine, 3>("the affine map", inputs, (), gradient);
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

fn stream(states: usize) -> ssm_core::DiagonalStream {
    let init = LruInit {
        r_min: 0.9,
        r_max: 0.99,
        max_phase: 6.0,
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let layer = Lru::<Flex>::init(states, 4, init, &mut rng, &Default::default());
    layer.stream()
}

//! The scan and the dropout mask on Vulkan against one-step-after-the-other twins.
//!
//! Needs a Vulkan device and fails without one; Mesa's llvmpipe will do (Debian: `mesa-vulkan-drivers`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::{
    backend::Wgpu,
    tensor::{
        DType, Tensor, TensorData, TensorPrimitive, backend::Backend as BurnBackend,
        ops::FloatTensor,
    },
};
use burn_cubecl::CubeBackend;
use cubecl::wgpu::WgpuRuntime;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::{
    Decay, Dropout, Field, Kernels, Recorded, Run,
    operations::{DropoutFactors, LinearScan},
    probe_wgpu,
};

type Fused = Wgpu;
type Plain = CubeBackend<WgpuRuntime, f32, i32, u32>;

fn device<B: BurnBackend>() -> B::Device {
    if let Err(missing) = probe_wgpu() {
        panic!("these tests need a Vulkan device: {missing}");
    }
    B::Device::default()
}

/// One scan and the gradient of a loss that weighs all its states, in numbers that `f32` holds.
#[derive(Clone)]
struct Case {
    field: Field,
    per_step: bool,
    batch: usize,
    length: usize,
    /// Numbers per step: twice the states of a complex scan.
    width: usize,
    decay: Vec<f64>,
    input: Vec<f64>,
    initial: Vec<f64>,
    weights: Vec<f64>,
}

/// States and gradients.
struct Results {
    states: Vec<f64>,
    decay: Vec<f64>,
    input: Vec<f64>,
    initial: Vec<f64>,
}

impl Case {
    /// Decays have absolute value `radius`; the real ones alternate in sign.
    fn new(
        rng: &mut impl Rng,
        field: Field,
        per_step: bool,
        [batch, length, states]: [usize; 3],
        radius: impl Fn(&mut dyn FnMut() -> f64) -> f64,
    ) -> Self {
        let mut uniform = || rng.random_range(-1.0..1.0_f64);
        let width = match field {
            Field::Real => states,
            Field::Complex => 2 * states,
        };
        let rows = if per_step { batch * length } else { 1 };
        let mut decay = vec![0.0; rows * width];
        for row in decay.chunks_mut(width) {
            for n in 0..states {
                let radius = radius(&mut uniform);
                let angle = 3.0 * uniform();
                match field {
                    Field::Real => row[n] = radius.copysign(angle),
                    Field::Complex => {
                        (row[n], row[states + n]) = (radius * angle.cos(), radius * angle.sin());
                    }
                }
            }
        }
        let mut draw = |len: usize| (0..len).map(|_| uniform()).map(single).collect();
        let case = Self {
            field,
            per_step,
            batch,
            length,
            width,
            decay: vec![],
            input: draw(batch * length * width),
            initial: draw(batch * width),
            weights: draw(batch * length * width),
        };
        Self {
            decay: decay.into_iter().map(single).collect(),
            ..case
        }
    }

    fn states(&self) -> usize {
        match self.field {
            Field::Real => self.width,
            Field::Complex => self.width / 2,
        }
    }

    /// Both parts of state `n` in a row; the second is zero in a real scan.
    fn pair(&self, row: &[f64], n: usize) -> [f64; 2] {
        match self.field {
            Field::Real => [row[n], 0.0],
            Field::Complex => [row[n], row[self.states() + n]],
        }
    }

    fn put(&self, row: &mut [f64], n: usize, value: [f64; 2]) {
        row[n] = value[0];
        if self.field == Field::Complex {
            row[self.states() + n] = value[1];
        }
    }

    /// One step after the other, every sum and product rounded by `round`.
    fn sequential(&self, round: impl Fn(f64) -> f64) -> Results {
        let times = |x: [f64; 2], y: [f64; 2]| {
            [
                round(round(x[0] * y[0]) - round(x[1] * y[1])),
                round(round(x[0] * y[1]) + round(x[1] * y[0])),
            ]
        };
        let plus = |x: [f64; 2], y: [f64; 2]| [round(x[0] + y[0]), round(x[1] + y[1])];
        let conjugate = |x: [f64; 2]| [x[0], -x[1]];
        let width = self.width;
        let mut results = Results {
            states: vec![0.0; self.input.len()],
            decay: vec![0.0; self.decay.len()],
            input: vec![0.0; self.input.len()],
            initial: vec![0.0; self.initial.len()],
        };
        for b in 0..self.batch {
            let initial_row = b * width..(b + 1) * width;
            for n in 0..self.states() {
                let initial = self.pair(&self.initial[initial_row.clone()], n);
                let rows: Vec<_> = (b * self.length..(b + 1) * self.length)
                    .map(|row| row * width..(row + 1) * width)
                    .collect();
                let decay_row = |k: usize| {
                    if self.per_step {
                        rows[k].clone()
                    } else {
                        0..width
                    }
                };
                let mut state = initial;
                for (k, row) in rows.iter().enumerate() {
                    let a = self.pair(&self.decay[decay_row(k)], n);
                    state = plus(times(a, state), self.pair(&self.input[row.clone()], n));
                    self.put(&mut results.states[row.clone()], n, state);
                }
                let mut carry = [0.0; 2];
                for (k, row) in rows.iter().enumerate().rev() {
                    let a = self.pair(&self.decay[decay_row(k)], n);
                    let adjoint = plus(self.pair(&self.weights[row.clone()], n), carry);
                    self.put(&mut results.input[row.clone()], n, adjoint);
                    let previous = match k {
                        0 => initial,
                        _ => self.pair(&results.states[rows[k - 1].clone()], n),
                    };
                    let part = times(adjoint, conjugate(previous));
                    let sum = plus(self.pair(&results.decay[decay_row(k)], n), part);
                    self.put(&mut results.decay[decay_row(k)], n, sum);
                    carry = times(conjugate(a), adjoint);
                }
                self.put(&mut results.initial[initial_row.clone()], n, carry);
            }
        }
        results
    }

    /// The kernels of a backend. `strided` hands over the same tensors as views whose memory is in another order.
    fn on_device<B: Kernels>(&self, strided: bool) -> Results {
        let device = device::<B>();
        let shape = [self.batch, self.length, self.width];
        let sequence = |values: &[f64]| upload::<B, 3>(values, shape, strided, &device);
        let (decay, kind) = match self.per_step {
            true => (sequence(&self.decay), Decay::PerStep(())),
            false => {
                let decay = upload::<B, 1>(&self.decay, [self.width], false, &device);
                (decay, Decay::Constant(()))
            }
        };
        let before = [self.batch, self.width];
        let inputs = [
            decay,
            sequence(&self.input),
            upload::<B, 2>(&self.initial, before, strided, &device),
        ];
        let ([states], way_back) = Recorded::<LinearScan, B, 3>::run(inputs, (kind, self.field));
        let gradients = way_back.backward(sequence(&self.weights), [true; 3]);
        let [decay, input, initial] = gradients.map(Option::unwrap);
        Results {
            decay: match self.per_step {
                true => download::<B, 3>(decay, shape),
                false => download::<B, 1>(decay, [self.width]),
            },
            states: download::<B, 3>(states, shape),
            input: download::<B, 3>(input, shape),
            initial: download::<B, 2>(initial, before),
        }
    }

    fn check<B: Kernels>(&self, strided: bool) {
        let (truth, plain) = (self.sequential(|x| x), self.sequential(single));
        let got = self.on_device::<B>(strided);
        let Self {
            field,
            per_step,
            batch,
            length,
            width,
            ..
        } = self;
        let case = format!("{field:?}, per step {per_step}, [{batch}, {length}, {width}]");
        for (name, part) in Results::PARTS {
            let (truth, plain, got) = (part(&truth), part(&plain), part(&got));
            assert_eq!(got.len(), truth.len(), "{name} of {case}");
            let largest = truth.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            // The order of sums differs from the plain one's: as wrong as that is usual, twice is not. The plain one may
            // be lucky: one complex product and sum, four roundings of the largest value, is still allowed.
            let allowed = 2.0 * error(plain, truth) + 4.0 * f64::from(f32::EPSILON) * largest;
            let found = error(got, truth);
            assert!(
                found <= allowed,
                "{name} of {case}: {found:e} > {allowed:e}"
            );
        }
    }
}

impl Results {
    #[allow(clippy::type_complexity, reason = "a table")]
    const PARTS: [(&str, fn(&Self) -> &[f64]); 4] = [
        ("states", |r| &r.states),
        ("decay gradient", |r| &r.decay),
        ("input gradient", |r| &r.input),
        ("initial state gradient", |r| &r.initial),
    ];
}

fn single(x: f64) -> f64 {
    f64::from(x as f32)
}

/// Largest deviation; NaN where there is one.
fn error(got: &[f64], truth: &[f64]) -> f64 {
    let deviations = got
        .iter()
        .zip(truth)
        .map(|(got, truth)| (got - truth).abs());
    deviations.fold(0.0, |max, d| if d <= max { max } else { d })
}

fn upload<B: BurnBackend, const D: usize>(
    values: &[f64],
    shape: [usize; D],
    strided: bool,
    device: &B::Device,
) -> FloatTensor<B> {
    let tensor = Tensor::<B, D>::from_data(TensorData::new(values.to_vec(), shape), device);
    let tensor = if strided {
        // A copy with first and last axis exchanged in memory, exchanged back as a view.
        let exchanged = tensor.swap_dims(0, D - 1).into_data();
        Tensor::from_data(exchanged, device).swap_dims(0, D - 1)
    } else {
        tensor
    };
    tensor.into_primitive().tensor()
}

fn download<B: BurnBackend, const D: usize>(tensor: FloatTensor<B>, shape: [usize; D]) -> Vec<f64> {
    let tensor = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(tensor));
    assert_eq!(tensor.dims(), shape);
    tensor.into_data().iter::<f64>().collect()
}

/// Decays of every absolute value up to one.
fn mixed(uniform: &mut dyn FnMut() -> f64) -> f64 {
    uniform().abs().sqrt()
}

/// |a| = 1 - 1e-6.
fn slow(_: &mut dyn FnMut() -> f64) -> f64 {
    1.0 - 1e-6
}

fn every_kind(
    seed: u64,
    shape: [usize; 3],
    radius: fn(&mut dyn FnMut() -> f64) -> f64,
) -> impl Iterator<Item = Case> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let kinds = [Field::Real, Field::Complex]
        .into_iter()
        .flat_map(|field| [(field, false), (field, true)]);
    kinds.map(move |(field, per_step)| Case::new(&mut rng, field, per_step, shape, radius))
}

#[test]
fn scans_of_any_shape_equal_the_sequential_one() {
    // One step, one state, one row; chunks of 32 steps cut evenly, off by one and not at all; many rows.
    let shapes = [
        [1, 1, 1],
        [3, 1, 5],
        [1, 2, 1],
        [1, 31, 4],
        [2, 32, 3],
        [1, 33, 1],
        [2, 64, 7],
        [3, 65, 33],
        [4, 100, 2],
        [2, 777, 5],
        [70, 40, 1],
    ];
    for (seed, shape) in shapes.into_iter().enumerate() {
        for case in every_kind(seed as u64, shape, mixed) {
            case.check::<Plain>(false);
            case.check::<Fused>(false);
        }
    }
}

#[test]
fn strided_views_are_read_as_what_they_show() {
    for case in every_kind(100, [3, 70, 4], mixed) {
        case.check::<Plain>(true);
        case.check::<Fused>(true);
    }
}

#[test]
fn long_sequences_neither_overflow_nor_drift() {
    for shape in [[1, 65_536, 1], [2, 20_000, 3]] {
        for radius in [mixed, slow] {
            for case in every_kind(200, shape, radius) {
                case.check::<Fused>(false);
            }
        }
    }
}

#[test]
fn a_batch_that_fills_the_device_is_scanned_in_one_chunk() {
    // 2^18 states: no summaries, and more threads than one axis of the launch grid takes cubes.
    for case in every_kind(300, [1 << 10, 3, 1 << 8], mixed) {
        case.check::<Plain>(false);
    }
}

/// Two operations of the same name and shapes: what the stream caches for one must not run for the other.
#[test]
fn scans_mix_with_fused_operations_and_with_each_other() {
    let device = device::<Fused>();
    let cases: Vec<_> = every_kind(400, [2, 50, 4], mixed).collect();
    for _ in 0..3 {
        for case in cases.iter().filter(|case| !case.per_step) {
            let as_real = Case {
                field: Field::Real,
                ..case.clone()
            };
            for case in [case, &as_real] {
                let shape = [case.batch, case.length, case.width];
                let input = upload::<Fused, 3>(&case.input, shape, false, &device);
                let input = Tensor::<Fused, 3>::from_primitive(TensorPrimitive::Float(input));
                let half = input.clone() * 0.5;
                let before = [case.batch, case.width];
                let inputs = [
                    upload::<Fused, 1>(&case.decay, [case.width], false, &device),
                    (half.clone() + half).into_primitive().tensor(),
                    upload::<Fused, 2>(&case.initial, before, false, &device),
                ];
                let kind = (Decay::Constant(()), case.field);
                let [states] = <Fused as Run<LinearScan, 3>>::run(inputs, &kind);
                let states = Tensor::<Fused, 3>::from_primitive(TensorPrimitive::Float(states));
                let result = (states * 2.0 - input).into_primitive().tensor();
                let want: Vec<f64> = std::iter::zip(case.sequential(|x| x).states, &case.input)
                    .map(|(state, input)| 2.0 * state - input)
                    .collect();
                let found = error(&download::<Fused, 3>(result, shape), &want);
                // States stay below 50, fifty steps of at most one; a handful of roundings each.
                assert!(found < 1e-4, "{:?}: {found:e}", case.field);
            }
        }
    }
}

#[test]
fn a_scan_repeats_bit_by_bit() {
    for case in every_kind(500, [3, 500, 9], mixed) {
        let (first, second) = (
            case.on_device::<Fused>(false),
            case.on_device::<Fused>(false),
        );
        for (name, part) in Results::PARTS {
            assert_eq!(part(&first), part(&second), "{name}");
        }
    }
}

#[test]
fn the_dropout_mask_is_the_one_of_the_cpu_bit_by_bit() {
    fn check<B: Kernels>(dropout: Dropout, shape: [usize; 3]) {
        let device = device::<B>();
        let like = Tensor::<B, 3>::zeros(shape, (&device, DType::F32));
        let like = like.into_primitive().tensor();
        let [factors] = <B as Run<DropoutFactors, 1>>::run([like], &dropout);
        let factors = download::<B, 3>(factors, shape);
        for (position, got) in factors.into_iter().enumerate() {
            let want = f64::from(dropout.factor(position));
            assert!(
                got == want,
                "position {position} of {dropout:?}: {got} instead of {want}"
            );
        }
    }
    for (probability, seed) in [(0.0, 1), (0.1, 0xdead_beef_0123_4567), (0.9, u64::MAX)] {
        let dropout = Dropout { probability, seed };
        for shape in [[1, 1, 1], [3, 50, 7], [5, 1000, 40]] {
            check::<Plain>(dropout, shape);
            check::<Fused>(dropout, shape);
        }
    }
}

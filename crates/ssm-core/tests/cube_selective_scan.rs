//! The selective scan on Vulkan against the CPU's kernel in `f64`, which the suite of all backends holds to its twin.
//!
//! Needs a Vulkan device and fails without one; Mesa's llvmpipe will do (Debian: `mesa-vulkan-drivers`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::{
    backend::{Flex, Wgpu},
    tensor::{
        DType, Tensor, TensorData, TensorPrimitive, backend::Backend as BurnBackend,
        ops::FloatTensor,
    },
};
use burn_cubecl::CubeBackend;
use cubecl::wgpu::WgpuRuntime;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssm_core::{Kernels, Recorded, Run, operations::SelectiveScan, probe_wgpu};

type Fused = Wgpu;
type Plain = CubeBackend<WgpuRuntime, f32, i32, u32>;

fn device<B: BurnBackend>() -> B::Device {
    if let Err(missing) = probe_wgpu() {
        panic!("these tests need a Vulkan device: {missing}");
    }
    B::Device::default()
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    length: usize,
    channels: usize,
    state: usize,
}

impl Sizes {
    fn wide(&self) -> [usize; 3] {
        [self.batch, self.length, self.channels]
    }

    fn vector(&self) -> [usize; 3] {
        [self.batch, self.length, self.state]
    }

    fn matrix(&self) -> [usize; 2] {
        [self.channels, self.state]
    }
}

/// A scan and the gradient of a loss that weighs all its outputs, in numbers that `f32` holds.
#[derive(Clone)]
struct Case {
    sizes: Sizes,
    /// In the order of the inputs of [`SelectiveScan`].
    parts: [Vec<f64>; 7],
    weights: Vec<f64>,
}

/// The output, then the gradients in the order of the inputs of [`SelectiveScan`].
type Results = [Vec<f64>; 8];

const NAMES: [&str; 8] = ["output", "u", "step", "A", "B", "C", "D", "z"];

/// Whether tensors are views whose memory is in another order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Contiguous,
    Strided,
}

impl Case {
    /// Steps around softplus(`step_offset`), rates of -1, -2, ... as at initialization, the slowest close to nothing.
    fn new(seed: u64, [batch, length, channels, state]: [usize; 4], step_offset: f64) -> Self {
        let sizes = Sizes {
            batch,
            length,
            channels,
            state,
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |len: usize, scale: f64, offset: f64| -> Vec<f64> {
            (0..len)
                .map(|_| single(offset + scale * rng.random_range(-1.0..1.0_f64)))
                .collect()
        };
        let (wide, vector) = (batch * length * channels, batch * length * state);
        let rates = (0..channels * state).map(|i| single(-((i % state) as f64) - 1e-3));
        Self {
            sizes,
            parts: [
                draw(wide, 1.0, 0.0),
                draw(wide, 2.0, step_offset),
                rates.collect(),
                draw(vector, 1.0, 0.0),
                draw(vector, 1.0, 0.0),
                draw(channels, 1.0, 0.0),
                draw(wide, 3.0, 0.0),
            ],
            weights: draw(wide, 1.0, 0.0),
        }
    }

    fn scan<B: BurnBackend>(
        &self,
        dtype: DType,
        layout: Layout,
        device: &B::Device,
    ) -> [FloatTensor<B>; 7] {
        let (wide, vector) = (self.sizes.wide(), self.sizes.vector());
        let [u, step, a, b, c, d, z] = &self.parts;
        let upload = |values: &[f64], shape| upload::<B, 3>(values, shape, dtype, layout, device);
        [
            upload(u, wide),
            upload(step, wide),
            self::upload::<B, 2>(a, self.sizes.matrix(), dtype, layout, device),
            upload(b, vector),
            upload(c, vector),
            self::upload::<B, 1>(d, [self.sizes.channels], dtype, layout, device),
            upload(z, wide),
        ]
    }

    fn on<B: Kernels>(&self, dtype: DType, layout: Layout, device: &B::Device) -> Results {
        let (wide, vector) = (self.sizes.wide(), self.sizes.vector());
        let scan = self.scan::<B>(dtype, layout, device);
        let weights = upload::<B, 3>(&self.weights, wide, dtype, layout, device);
        let ([output, _], way_back) = Recorded::<SelectiveScan, B, 7>::run(scan, ());
        let gradients = way_back.backward(weights, [true; 7]);
        let [u, step, a, b, c, d, z] = gradients.map(Option::unwrap);
        [
            download::<B, 3>(output, wide),
            download::<B, 3>(u, wide),
            download::<B, 3>(step, wide),
            download::<B, 2>(a, self.sizes.matrix()),
            download::<B, 3>(b, vector),
            download::<B, 3>(c, vector),
            download::<B, 1>(d, [self.sizes.channels]),
            download::<B, 3>(z, wide),
        ]
    }

    fn on_cpu(&self, dtype: DType) -> Results {
        self.on::<Flex>(dtype, Layout::Contiguous, &Default::default())
    }

    fn check<B: Kernels>(&self, layout: Layout) {
        let (truth, plain) = (self.on_cpu(DType::F64), self.on_cpu(DType::F32));
        let got = self.on::<B>(DType::F32, layout, &device::<B>());
        let Sizes {
            batch,
            length,
            channels,
            state,
        } = self.sizes;
        // Errors of random sign in the longest sums; the CPU's may be lucky. As in the suite of all backends.
        let terms = batch * length * channels.max(state);
        let floor = f64::from(f32::EPSILON) * (8.0 + (terms as f64).sqrt());
        for (i, name) in NAMES.into_iter().enumerate() {
            let largest = truth[i].iter().fold(1e-30_f64, |max, x| max.max(x.abs()));
            let allowed = 2.0 * error(&plain[i], &truth[i]) + floor * largest;
            let found = error(&got[i], &truth[i]);
            assert!(
                found <= allowed,
                "{name} of {:?}, {layout:?}: {found:e} > {allowed:e}",
                self.sizes
            );
        }
    }
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
    dtype: DType,
    layout: Layout,
    device: &B::Device,
) -> FloatTensor<B> {
    let data = TensorData::new(values.to_vec(), shape);
    let tensor = Tensor::<B, D>::from_data(data, (device, dtype));
    let tensor = match layout {
        Layout::Contiguous => tensor,
        // A copy with first and last axis exchanged in memory, exchanged back as a view.
        Layout::Strided => {
            let exchanged = tensor.swap_dims(0, D - 1).into_data();
            Tensor::from_data(exchanged, (device, dtype)).swap_dims(0, D - 1)
        }
    };
    tensor.into_primitive().tensor()
}

fn download<B: BurnBackend, const D: usize>(tensor: FloatTensor<B>, shape: [usize; D]) -> Vec<f64> {
    let tensor = Tensor::<B, D>::from_primitive(TensorPrimitive::Float(tensor));
    assert_eq!(tensor.dims(), shape);
    tensor.into_data().iter::<f64>().collect()
}

#[test]
fn scans_of_any_shape_equal_the_one_of_the_cpu() {
    // One step, channel, state and row; chunks of 16 steps and groups of 64 channels cut evenly and off by one; more
    // chunks than are loaded ahead; many states.
    let shapes = [
        [1, 1, 1, 1],
        [2, 15, 3, 2],
        [1, 16, 64, 1],
        [3, 17, 65, 5],
        [1, 127, 63, 3],
        [2, 128, 4, 7],
        [1, 129, 130, 2],
        [2, 33, 2, 256],
        [40, 20, 1, 1],
    ];
    for (seed, shape) in shapes.into_iter().enumerate() {
        for step_offset in [-4.0, 1.0] {
            let case = Case::new(seed as u64, shape, step_offset);
            case.check::<Plain>(Layout::Contiguous);
            case.check::<Fused>(Layout::Contiguous);
        }
    }
}

#[test]
fn strided_views_are_read_as_what_they_show() {
    let case = Case::new(100, [3, 35, 4, 5], -1.0);
    case.check::<Plain>(Layout::Strided);
    case.check::<Fused>(Layout::Strided);
}

/// From steps after which nothing is left of a state to ones after which all of it is.
#[test]
fn long_sequences_neither_overflow_nor_drift() {
    for step_offset in [30.0, -4.0, -14.0] {
        Case::new(200, [1, 20_000, 2, 3], step_offset).check::<Fused>(Layout::Contiguous);
    }
}

/// log(1 + e^x) is e^x for x far below zero, and so is its slope: digit by digit, not only beside the largest one.
#[test]
fn the_smallest_steps_keep_their_digits() {
    let sizes = [1, 40, 3, 1];
    let mut case = Case::new(300, sizes, -40.0);
    // One step of a state that starts from nothing, seen as it is: the skip is off, and each step its own row.
    case.sizes.batch = 40;
    case.sizes.length = 1;
    case.parts[5].fill(0.0);
    let [truth, got] = [
        case.on_cpu(DType::F64),
        case.on::<Fused>(DType::F32, Layout::Contiguous, &device::<Fused>()),
    ];
    for (name, i) in [("output", 0), ("step gradient", 2)] {
        for (got, truth) in got[i].iter().zip(&truth[i]) {
            // The exponential of -40 that a shader computes from powers of two is off by 40 roundings.
            let allowed = 64.0 * f64::from(f32::EPSILON) * truth.abs();
            assert!((got - truth).abs() <= allowed, "{name}: {got:e}, {truth:e}");
        }
    }
}

/// Two operations of the same name and shapes between others: what the stream caches for one must not run for the other.
#[test]
fn scans_mix_with_fused_operations() {
    let device = device::<Fused>();
    for seed in 400..403 {
        let case = Case::new(seed, [2, 30, 4, 3], 0.0);
        let mut scan = case.scan::<Fused>(DType::F32, Layout::Contiguous, &device);
        let half =
            Tensor::<Fused, 3>::from_primitive(TensorPrimitive::Float(scan[0].clone())) * 0.5;
        scan[0] = (half.clone() + half).into_primitive().tensor();
        let input = Tensor::from_primitive(TensorPrimitive::Float(scan[0].clone()));
        let [output, _] = <Fused as Run<SelectiveScan, 7>>::run(scan, &());
        let output = Tensor::<Fused, 3>::from_primitive(TensorPrimitive::Float(output));
        let result = (output * 2.0 - input).into_primitive().tensor();
        let want: Vec<f64> = std::iter::zip(&case.on_cpu(DType::F64)[0], &case.parts[0])
            .map(|(output, input)| 2.0 * output - input)
            .collect();
        let found = error(&download::<Fused, 3>(result, case.sizes.wide()), &want);
        // Outputs stay below 100; a handful of roundings each.
        assert!(found < 1e-4, "{found:e}");
    }
}

#[test]
fn a_scan_repeats_bit_by_bit() {
    let case = Case::new(500, [2, 100, 70, 6], -2.0);
    let run = || case.on::<Fused>(DType::F32, Layout::Contiguous, &device::<Fused>());
    let (first, second) = (run(), run());
    for (i, name) in NAMES.into_iter().enumerate() {
        assert_eq!(first[i], second[i], "{name}");
    }
}

//! How fast are the kernels, and how far are they from what the machine could do?
//!
//! One table per operation, by shape and number of states: measured times beside the time that arithmetic and memory
//! alone would take at rates measured in the same run. `docs/performance.md` says how to read it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table, or why there is none, is what this program is for"
)]

mod diagonal_ssm;
mod linear_scan;
mod machine;
mod selective_scan;
mod stream;
mod timing;

use std::time::Duration;

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor, ops::FloatTensor};
use clap::{Parser, ValueEnum};
use machine::Machine;
use ssm_core::Kernels;

/// As `compressm` runs: outputs of many megabytes come from pages that are mapped already.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(
    name = "kernels",
    about = "Speed of the kernels, by shape and number of states"
)]
struct Options {
    /// What to time.
    #[arg(long, default_value = "diagonal-ssm")]
    op: Operation,
    /// What the tensors run on.
    #[arg(long, default_value = "cpu")]
    backend: BackendKind,
    /// Only shapes whose name contains one of these.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    filter: Vec<String>,
    /// Numbers of states, instead of those that the operation usually has.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    states: Vec<usize>,
    /// Seconds that one measurement is repeated for.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Operation {
    /// The diagonal state space map, fused.
    DiagonalSsm,
    /// The plain scan.
    LinearScan,
    /// The selective scan.
    SelectiveScan,
    /// One step of a stream, on one thread.
    Stream,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BackendKind {
    Cpu,
    #[cfg(feature = "wgpu")]
    Wgpu,
    #[cfg(feature = "cuda")]
    Cuda,
    #[cfg(feature = "libtorch")]
    Libtorch,
}

impl Options {
    fn budget(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Those of an operation's shapes that are asked for.
    fn shapes<'a>(&self, all: &'a [Shape]) -> impl Iterator<Item = &'a Shape> {
        let chosen = |shape: &&Shape| {
            self.filter.is_empty() || self.filter.iter().any(|text| shape.name.contains(text))
        };
        all.iter().filter(chosen)
    }

    /// The numbers of states that are asked for, or else an operation's own.
    fn states<'a>(&'a self, usual: &'a [usize]) -> &'a [usize] {
        match self.states.is_empty() {
            true => usual,
            false => &self.states,
        }
    }
}

/// Sizes of a layer's input.
struct Shape {
    name: &'static str,
    batch: usize,
    length: usize,
    hidden: usize,
}

const fn shape(name: &'static str, batch: usize, length: usize, hidden: usize) -> Shape {
    Shape {
        name,
        batch,
        length,
        hidden,
    }
}

/// Shapes of the linear operations.
const SHAPES: [Shape; 7] = [
    shape("smnist", 50, 784, 8),
    shape("mid", 16, 1024, 64),
    shape("scifar-4", 4, 1024, 512),
    shape("scifar-16", 16, 1024, 512),
    shape("scifar-50", 50, 1024, 512),
    shape("long", 1, 65536, 128),
    shape("long-8", 1, 65536, 8),
];

/// Numbers of states of the linear operations.
const STATES: [usize; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];

impl Shape {
    fn steps(&self) -> f64 {
        (self.batch * self.length) as f64
    }
}

fn main() {
    let options = Options::parse();
    match options.backend {
        BackendKind::Cpu => on_processor::<Flex>(&options, &Default::default()),
        #[cfg(feature = "wgpu")]
        BackendKind::Wgpu => {
            require(ssm_core::probe_wgpu());
            on_device::<burn::backend::Wgpu>(&options, &Default::default());
        }
        #[cfg(feature = "cuda")]
        BackendKind::Cuda => {
            require(ssm_core::probe_cuda());
            on_device::<burn::backend::Cuda>(&options, &Default::default());
        }
        #[cfg(feature = "libtorch")]
        BackendKind::Libtorch => match ssm_core::libtorch_device() {
            device @ burn::backend::libtorch::LibTorchDevice::Cpu => {
                on_processor::<burn::backend::LibTorch>(&options, &device)
            }
            device => on_device::<burn::backend::LibTorch>(&options, &device),
        },
    }
}

/// Ends the program with one line where the device is missing.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn require(device: Result<(), ssm_core::DeviceError>) {
    if let Err(missing) = device {
        eprintln!("{missing}");
        std::process::exit(2);
    }
}

fn on_processor<B: Kernels>(options: &Options, device: &B::Device) {
    println!(
        "processor vectors: {}; threads: {}",
        machine::simd_level(),
        rayon::current_num_threads()
    );
    measure::<B>(options, device, Machine::processor::<B>(device));
}

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "libtorch"))]
fn on_device<B: Kernels>(options: &Options, device: &B::Device) {
    println!("device: {device:?}, {}", B::name(device));
    measure::<B>(options, device, Machine::device::<B>(device));
}

fn measure<B: Kernels>(options: &Options, device: &B::Device, machine: Machine) {
    println!("{machine}");
    match options.op {
        Operation::DiagonalSsm => diagonal_ssm::table::<B>(options, device, machine),
        Operation::LinearScan => linear_scan::table::<B>(options, device, machine),
        Operation::SelectiveScan => selective_scan::table::<B>(options, device, machine),
        Operation::Stream => stream::table(options),
    }
}

/// Measured time beside its limit: the columns that [`MEASURED`] heads.
fn measured(machine: Machine, seconds: f64, flops: f64, bytes: f64) -> String {
    let limit = machine.limit(flops, bytes);
    format!(
        "{:12.3}{:10.1}{:10.3}{:8.1}",
        1e3 * seconds,
        flops / seconds / 1e9,
        1e3 * limit,
        100.0 * limit / seconds
    )
}

const MEASURED: &str = "          ms   GFLOP/s     limit   share";

/// Uniform in [-`bound`, `bound`].
fn random<B: Kernels, const D: usize>(
    shape: [usize; D],
    bound: f64,
    device: &B::Device,
) -> FloatTensor<B> {
    let values = Tensor::<B, D>::random(shape, Distribution::Uniform(-bound, bound), device);
    values.into_primitive().tensor()
}

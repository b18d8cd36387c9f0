//! How fast is the diagonal state space map, and how far is it from what the machine could do?
//!
//! One table by shape and number of states: forward, and forward with backward, each beside the time that arithmetic
//! and memory alone would take at rates measured in the same run. `docs/performance.md` says how to read it.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

mod support;

use std::time::Duration;

use burn::backend::Flex;
use burn::tensor::{Distribution, Tensor, ops::FloatTensor};
use clap::{Parser, ValueEnum};
use ssm_core::{DiagonalSsm, Kernels};
use support::machine::{Machine, simd_level};
use support::timing::median;

/// As `compressm` runs: outputs of many megabytes come from pages that are mapped already.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(
    name = "kernels",
    about = "Speed of the kernels, by shape and number of states"
)]
struct Options {
    /// What the tensors run on.
    #[arg(long, default_value = "cpu")]
    backend: BackendKind,
    /// Only shapes whose name contains one of these.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    filter: Vec<String>,
    /// Numbers of states.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "N",
        default_value = "8,16,32,64,128,256,512,1024"
    )]
    states: Vec<usize>,
    /// Seconds that one measurement is repeated for.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BackendKind {
    Cpu,
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

const SHAPES: [Shape; 6] = [
    shape("smnist", 50, 784, 8),
    shape("mid", 16, 1024, 64),
    shape("scifar-4", 4, 1024, 512),
    shape("scifar-16", 16, 1024, 512),
    shape("scifar-50", 50, 1024, 512),
    shape("long", 1, 65536, 128),
];

impl Shape {
    fn dims(&self) -> [usize; 3] {
        [self.batch, self.length, self.hidden]
    }

    fn steps(&self) -> f64 {
        (self.batch * self.length) as f64
    }

    /// Per step, two complex-by-real products (8NH) and the scan (8N).
    fn forward_flops(&self, states: usize) -> f64 {
        let (n, h) = (states as f64, self.hidden as f64);
        self.steps() * (8.0 * n * h + 8.0 * n)
    }

    /// Per step, the states again (4NH + 8N), the adjoint states (4NH + 8N), and the gradients of Λ (8N), u, B and C
    /// (4NH each).
    fn backward_flops(&self, states: usize) -> f64 {
        let (n, h) = (states as f64, self.hidden as f64);
        self.steps() * (20.0 * n * h + 24.0 * n)
    }

    /// Bytes of one tensor of the input's shape.
    fn bytes(&self) -> f64 {
        self.steps() * (self.hidden * size_of::<f32>()) as f64
    }
}

fn main() {
    let options = Options::parse();
    match options.backend {
        BackendKind::Cpu => {
            let device = Default::default();
            println!(
                "processor vectors: {}; threads: {}",
                simd_level(),
                rayon::current_num_threads()
            );
            table::<Flex>(&options, &device, Machine::processor::<Flex>(&device));
        }
    }
}

fn table<B: Kernels>(options: &Options, device: &B::Device, machine: Machine) {
    println!("{machine}");
    println!(
        "median ms; limit: the longer of arithmetic and memory at these rates; share: limit / measured, in %\n\
         \n{:>38}   {:-^39}   {:-^39}",
        "", " forward ", " forward and backward "
    );
    println!(
        "{:10}{:>4}{:>7}{:>6}{:>6}{}{}     MB",
        "shape",
        "B",
        "L",
        "H",
        "N",
        measured_header(),
        measured_header()
    );
    let chosen = |shape: &&Shape| {
        options.filter.is_empty() || options.filter.iter().any(|text| shape.name.contains(text))
    };
    for shape in SHAPES.iter().filter(chosen) {
        for &states in &options.states {
            println!("{}", row::<B>(options, device, machine, shape, states));
        }
    }
}

fn measured_header() -> String {
    format!("{:>12}{:>10}{:>10}{:>8}", "ms", "GFLOP/s", "limit", "share")
}

fn row<B: Kernels>(
    options: &Options,
    device: &B::Device,
    machine: Machine,
    shape: &Shape,
    states: usize,
) -> String {
    let budget = Duration::from_secs_f64(options.seconds);
    let input = random::<B, 3>(shape.dims(), 1.0, device);
    let output_gradient = random::<B, 3>(shape.dims(), 1.0, device);
    let system = system::<B>(states, shape.hidden, device);
    let initial_state = random::<B, 2>([shape.batch, 2 * states], 1.0, device);

    let forward = || B::diagonal_ssm_forward(&input, &system, &initial_state);
    let forward_seconds = median::<B, _>(device, budget, forward);
    let both = || {
        let forward = forward();
        let chunk_states = &forward.chunk_states;
        let gradients = B::diagonal_ssm_backward(&input, &system, chunk_states, &output_gradient);
        (forward.result, gradients)
    };
    let both_seconds = median::<B, _>(device, budget, both);

    // u and y forward; u, the gradient of y and the gradient of u backward.
    let (forward_bytes, both_bytes) = (2.0 * shape.bytes(), 5.0 * shape.bytes());
    let forward_flops = shape.forward_flops(states);
    let both_flops = forward_flops + shape.backward_flops(states);
    format!(
        "{:10}{:4}{:7}{:6}{:6}{}{}{:7.1}",
        shape.name,
        shape.batch,
        shape.length,
        shape.hidden,
        states,
        measured(machine, forward_seconds, forward_flops, forward_bytes),
        measured(machine, both_seconds, both_flops, both_bytes),
        both_bytes / 1e6
    )
}

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

fn random<B: Kernels, const D: usize>(
    shape: [usize; D],
    bound: f64,
    device: &B::Device,
) -> FloatTensor<B> {
    let values = Tensor::<B, D>::random(shape, Distribution::Uniform(-bound, bound), device);
    values.into_primitive().tensor()
}

/// Poles inside the unit circle, entries so small that no state grows beyond 1.
fn system<B: Kernels>(
    states: usize,
    hidden: usize,
    device: &B::Device,
) -> DiagonalSsm<FloatTensor<B>> {
    let entry = 1.0 / (hidden as f64).sqrt();
    DiagonalSsm {
        lambda_re: random::<B, 1>([states], 0.7, device),
        lambda_im: random::<B, 1>([states], 0.7, device),
        input_re: random::<B, 2>([states, hidden], entry, device),
        input_im: random::<B, 2>([states, hidden], entry, device),
        output_re: random::<B, 2>([hidden, states], entry, device),
        output_im: random::<B, 2>([hidden, states], entry, device),
        feedthrough: random::<B, 1>([hidden], 1.0, device),
    }
}

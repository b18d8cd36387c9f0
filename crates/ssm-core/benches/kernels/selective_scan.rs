//! The selective scan: bound by vector arithmetic, above all by its exponentials.

use burn::tensor::{Distribution, Tensor, ops::FloatTensor};
use ssm_core::{Kernels, Recorded, Run, operations::SelectiveScan};

use crate::machine::{EXPONENTIAL_FLOPS, Machine};
use crate::timing::median;
use crate::{Options, Shape, random, shape};

/// Shapes of this operation; `hidden` is the number of channels.
const SHAPES: [Shape; 4] = [
    shape("narrow", 4, 512, 256),
    shape("narrow-long", 1, 4096, 256),
    shape("wide", 4, 512, 1024),
    shape("wide-long", 1, 4096, 1024),
];

/// Numbers of states unless others are asked for: those of models, and what cuts leave of them.
const STATES: [usize; 5] = [8, 12, 16, 64, 128];

/// What the operation needs of every state of a channel at every step.
struct Work {
    /// 2^(Δ A), the product with it.
    exponentials: f64,
    /// Other products and multiply-adds, one instruction each.
    multiply_adds: f64,
    /// The operations in those: one for a product, two for a multiply-add.
    other_flops: f64,
}

/// Δu B (a product), h = a h + ·, y += C h.
const FORWARD: Work = Work {
    exponentials: 1.0,
    multiply_adds: 3.0,
    other_flops: 5.0,
};

/// The forward pass; the states and decays once more (an exponential, a product, a multiply-add); the adjoint state
/// C g + carry and what it hands on, a · (a product); its shares of the gradients of Δu, B and C; the gradient of Δ A (a
/// product) and its shares of those of Δ and A.
const BOTH: Work = Work {
    exponentials: 2.0,
    multiply_adds: 13.0,
    other_flops: 22.0,
};

impl Work {
    fn flops(&self) -> f64 {
        self.exponentials * EXPONENTIAL_FLOPS + self.other_flops
    }
}

pub(crate) fn table<B: Kernels>(options: &Options, device: &B::Device, machine: Machine) {
    println!(
        "median ms; ns: of one state of a channel at one step; GFLOP/s: an exponential, its argument with it, counts as \
         {EXPONENTIAL_FLOPS}; limit: the longer of arithmetic on vectors and memory at these rates; share: limit / \
         measured, in %"
    );
    match machine.vectors {
        Some(vectors) => println!("{vectors}"),
        None => println!("no vector rates of this device: no limit"),
    }
    println!(
        "\n{:>36}  {:-^46}  {:-^46}",
        "", " forward ", " forward and backward "
    );
    println!(
        "{:13}{:>4}{:>7}{:>6}{:>6}{MEASURED}{MEASURED}     MB",
        "shape", "B", "L", "D", "N"
    );
    for shape in options.shapes(&SHAPES) {
        for &states in options.states(&STATES) {
            println!("{}", row::<B>(options, device, machine, shape, states));
        }
    }
}

const MEASURED: &str = "          ms      ns   GFLOP/s     limit   share";

fn row<B: Kernels>(
    options: &Options,
    device: &B::Device,
    machine: Machine,
    shape: &Shape,
    states: usize,
) -> String {
    let dims = [shape.batch, shape.length, shape.hidden];
    let scan = scan::<B>(shape, states, device);
    let output_gradient = random::<B, 3>(dims, 1.0, device);
    let forward = || <B as Run<SelectiveScan, 7>>::run(scan.clone(), &());
    let forward_seconds = median::<B, _>(device, options.budget(), forward);
    let both = || {
        let ([output, _], way_back) = Recorded::<SelectiveScan, B, 7>::run(scan.clone(), ());
        (
            output,
            way_back.backward(output_gradient.clone(), [true; 7]),
        )
    };
    let both_seconds = median::<B, _>(device, options.budget(), both);

    // Once each: u, Δ, z and y forward; u, Δ, z, the gradient of y and three gradients backward. B and C forward; they and
    // their gradients backward.
    let size = size_of::<f32>() as f64;
    let bytes = |per_channel: f64, per_state: f64| {
        shape.steps() * size * (per_channel * shape.hidden as f64 + per_state * states as f64)
    };
    let (forward_bytes, both_bytes) = (bytes(4.0, 2.0), bytes(11.0, 6.0));
    let elements = shape.steps() * (shape.hidden * states) as f64;
    format!(
        "{:13}{:4}{:7}{:6}{:6}{}{}{:7.1}",
        shape.name,
        shape.batch,
        shape.length,
        shape.hidden,
        states,
        measured(machine, &FORWARD, elements, forward_bytes, forward_seconds),
        measured(machine, &BOTH, elements, both_bytes, both_seconds),
        both_bytes / 1e6
    )
}

/// Measured time beside its limit: the columns that [`MEASURED`] heads.
fn measured(machine: Machine, work: &Work, elements: f64, bytes: f64, seconds: f64) -> String {
    let time = format!(
        "{:12.3}{:8.3}{:10.1}",
        1e3 * seconds,
        1e9 * seconds / elements,
        elements * work.flops() / seconds / 1e9
    );
    let Some(vectors) = machine.vectors else {
        return format!("{time}{:>10}{:>8}", "-", "-");
    };
    let arithmetic = elements * work.exponentials / vectors.exponential_rate
        + elements * work.multiply_adds / vectors.multiply_add_rate;
    let limit = arithmetic.max(bytes / machine.copy_rate);
    format!("{time}{:10.3}{:8.1}", 1e3 * limit, 100.0 * limit / seconds)
}

/// Rates between -16 and -1, as models begin with.
fn scan<B: Kernels>(shape: &Shape, states: usize, device: &B::Device) -> [FloatTensor<B>; 7] {
    let width = [shape.batch, shape.length, shape.hidden];
    let vector = [shape.batch, shape.length, states];
    let rates = Distribution::Uniform(-16.0, -1.0);
    let decay = Tensor::<B, 2>::random([shape.hidden, states], rates, device);
    [
        random::<B, 3>(width, 1.0, device),
        random::<B, 3>(width, 4.0, device),
        decay.into_primitive().tensor(),
        random::<B, 3>(vector, 1.0, device),
        random::<B, 3>(vector, 1.0, device),
        random::<B, 1>([shape.hidden], 1.0, device),
        random::<B, 3>(width, 1.0, device),
    ]
}

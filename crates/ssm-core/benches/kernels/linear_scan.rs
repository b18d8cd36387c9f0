//! The plain scan, whose states go to memory: bound by it.

use ssm_core::{Decay, Field, Kernels, Recorded, Run, operations::LinearScan};

use crate::machine::Machine;
use crate::timing::median;
use crate::{MEASURED, Options, SHAPES, STATES, Shape, measured, random};

/// States beyond this many elements would not leave room for their gradients.
const MOST_ELEMENTS: f64 = 1e8;

pub(crate) fn table<B: Kernels>(options: &Options, device: &B::Device, machine: Machine) {
    println!(
        "complex states; median ms; limit: the longer of arithmetic and memory at these rates; share: limit / measured, in %\n\
         \n{:>35}  {:-^38}  {:-^38}",
        "", " forward ", " forward and backward "
    );
    println!(
        "{:10}{:>4}{:>7}{:>6}{:>8}{MEASURED}{MEASURED}     MB",
        "shape", "B", "L", "N", "decay"
    );
    for shape in options.shapes(&SHAPES) {
        for &states in options.states(&STATES) {
            if shape.steps() * 2.0 * states as f64 > MOST_ELEMENTS {
                continue;
            }
            for per_step in [false, true] {
                let row = row::<B>(options, device, machine, shape, states, per_step);
                println!("{row}");
            }
        }
    }
}

fn row<B: Kernels>(
    options: &Options,
    device: &B::Device,
    machine: Machine,
    shape: &Shape,
    states: usize,
    per_step: bool,
) -> String {
    let width = 2 * states;
    let dims = [shape.batch, shape.length, width];
    let (decay, kind) = match per_step {
        true => (random::<B, 3>(dims, 0.7, device), Decay::PerStep(())),
        false => (random::<B, 1>([width], 0.7, device), Decay::Constant(())),
    };
    let kind = (kind, Field::Complex);
    let scan = [
        decay,
        random::<B, 3>(dims, 1.0, device),
        random::<B, 2>([shape.batch, width], 1.0, device),
    ];
    let output_gradient = random::<B, 3>(dims, 1.0, device);
    let forward = || <B as Run<LinearScan, 3>>::run(scan.clone(), &kind);
    let forward_seconds = median::<B, _>(device, options.budget(), forward);
    let both = || {
        let (all, way_back) = Recorded::<LinearScan, B, 3>::run(scan.clone(), kind.clone());
        (all, way_back.backward(output_gradient.clone(), [true; 3]))
    };
    let both_seconds = median::<B, _>(device, options.budget(), both);

    // Input and states forward; states, their gradient and the input's backward; a decay per step is read twice and its
    // gradient written.
    let tensor_bytes = shape.steps() * (width * size_of::<f32>()) as f64;
    let (forward_tensors, both_tensors) = if per_step { (3.0, 8.0) } else { (2.0, 5.0) };
    // A complex multiplication and addition forward; that and the gradient of the decay backward.
    let flops = shape.steps() * 8.0 * states as f64;
    format!(
        "{:10}{:4}{:7}{:6}{:>8}{}{}{:7.1}",
        shape.name,
        shape.batch,
        shape.length,
        states,
        if per_step { "step" } else { "one" },
        measured(
            machine,
            forward_seconds,
            flops,
            forward_tensors * tensor_bytes
        ),
        measured(
            machine,
            both_seconds,
            3.0 * flops,
            both_tensors * tensor_bytes
        ),
        both_tensors * tensor_bytes / 1e6
    )
}

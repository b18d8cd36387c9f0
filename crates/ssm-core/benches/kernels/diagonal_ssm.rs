//! The fused diagonal state space map.

use burn::tensor::ops::FloatTensor;
use ssm_core::{Kernels, Recorded, Run, operations::DiagonalSsm};

use crate::machine::Machine;
use crate::timing::median;
use crate::{MEASURED, Options, SHAPES, STATES, Shape, measured, random};

/// Per step, two complex-by-real products (8NH) and the scan (8N).
fn forward_flops(shape: &Shape, states: usize) -> f64 {
    let (n, h) = (states as f64, shape.hidden as f64);
    shape.steps() * (8.0 * n * h + 8.0 * n)
}

/// Per step, the states again (4NH + 8N), the adjoint states (4NH + 8N), and the gradients of Λ (8N), u, B and C (4NH
/// each).
fn backward_flops(shape: &Shape, states: usize) -> f64 {
    let (n, h) = (states as f64, shape.hidden as f64);
    shape.steps() * (20.0 * n * h + 24.0 * n)
}

pub(crate) fn table<B: Kernels>(options: &Options, device: &B::Device, machine: Machine) {
    println!(
        "median ms; limit: the longer of arithmetic and memory at these rates; share: limit / measured, in %\n\
         \n{:>33}  {:-^38}  {:-^38}",
        "", " forward ", " forward and backward "
    );
    println!(
        "{:10}{:>4}{:>7}{:>6}{:>6}{MEASURED}{MEASURED}     MB",
        "shape", "B", "L", "H", "N"
    );
    for shape in options.shapes(&SHAPES) {
        for &states in options.states(&STATES) {
            println!("{}", row::<B>(options, device, machine, shape, states));
        }
    }
}

fn row<B: Kernels>(
    options: &Options,
    device: &B::Device,
    machine: Machine,
    shape: &Shape,
    states: usize,
) -> String {
    let dims = [shape.batch, shape.length, shape.hidden];
    let inputs = inputs::<B>(shape, states, device);
    let output_gradient = random::<B, 3>(dims, 1.0, device);

    let forward = || <B as Run<DiagonalSsm, 9>>::run(inputs.clone(), &());
    let forward_seconds = median::<B, _>(device, options.budget(), forward);
    let both = || {
        let (outputs, way_back) = Recorded::<DiagonalSsm, B, 9>::run(inputs.clone(), ());
        (
            outputs,
            way_back.backward(output_gradient.clone(), [true; 9]),
        )
    };
    let both_seconds = median::<B, _>(device, options.budget(), both);

    // u and y forward; u, the gradient of y and the gradient of u backward.
    let tensor_bytes = shape.steps() * (shape.hidden * size_of::<f32>()) as f64;
    let (forward_bytes, both_bytes) = (2.0 * tensor_bytes, 5.0 * tensor_bytes);
    let forward_flops = forward_flops(shape, states);
    let both_flops = forward_flops + backward_flops(shape, states);
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

/// Poles inside the unit circle, entries so small that no state grows far beyond 1.
fn inputs<B: Kernels>(shape: &Shape, states: usize, device: &B::Device) -> [FloatTensor<B>; 9] {
    let hidden = shape.hidden;
    let entry = 1.0 / (hidden as f64).sqrt();
    let lambda = || random::<B, 1>([states], 0.7, device);
    let matrix = |dims| random::<B, 2>(dims, entry, device);
    [
        random::<B, 3>([shape.batch, shape.length, hidden], 1.0, device),
        lambda(),
        lambda(),
        matrix([states, hidden]),
        matrix([states, hidden]),
        matrix([hidden, states]),
        matrix([hidden, states]),
        random::<B, 1>([hidden], 1.0, device),
        random::<B, 2>([shape.batch, 2 * states], 1.0, device),
    ]
}

//! What one training step spends in each operation, at the sMNIST shape (batch 50, length 784, hidden 8).

use burn::{
    backend::{Autodiff, Flex},
    tensor::{Distribution, Tensor},
};
use divan::Bencher;
use ssm_core::{
    DiagonalSsmTensors, Dropout, GatedUnitTensors, batch_norm, diagonal_ssm, gated_unit,
};

type Cpu = Autodiff<Flex>;

const SHAPE: [usize; 3] = [50, 784, 8];

fn main() {
    divan::main();
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Cpu, D> {
    Tensor::random(shape, Distribution::Uniform(-0.5, 0.5), &Default::default())
}

fn system(state: usize) -> DiagonalSsmTensors<Cpu> {
    let hidden = SHAPE[2];
    DiagonalSsmTensors {
        lambda: [(); 2].map(|()| random([state]).require_grad()),
        input_matrix: [(); 2].map(|()| random([state, hidden]).require_grad()),
        output_matrix: [(); 2].map(|()| random([hidden, state]).require_grad()),
        feedthrough: random([hidden]).require_grad(),
    }
}

#[divan::bench(args = [256, 128, 47, 28, 13])]
fn diagonal_ssm_forward(bencher: Bencher<'_, '_>, state: usize) {
    let (input, system) = (random(SHAPE), system(state));
    bencher.bench_local(|| diagonal_ssm(input.clone(), system.clone()));
}

#[divan::bench(args = [256, 128, 47, 28, 13])]
fn diagonal_ssm_forward_backward(bencher: Bencher<'_, '_>, state: usize) {
    let (input, system) = (random(SHAPE).require_grad(), system(state));
    bencher.bench_local(|| diagonal_ssm(input.clone(), system.clone()).sum().backward());
}

#[divan::bench]
fn batch_norm_forward_backward(bencher: Bencher<'_, '_>) {
    let input = random(SHAPE).require_grad();
    bencher.bench_local(|| batch_norm(input.clone(), 1e-5).0.sum().backward());
}

#[divan::bench]
fn gated_unit_forward_backward(bencher: Bencher<'_, '_>) {
    let (input, skip) = (random(SHAPE).require_grad(), random(SHAPE));
    let hidden = SHAPE[2];
    let weights = GatedUnitTensors {
        weights: [(); 2].map(|()| random([hidden, hidden]).require_grad()),
        biases: [(); 2].map(|()| random([hidden]).require_grad()),
    };
    let dropout = Some(Dropout {
        probability: 0.1,
        seed: 1,
    });
    bencher.bench_local(|| {
        gated_unit(input.clone(), skip.clone(), weights.clone(), dropout)
            .sum()
            .backward()
    });
}

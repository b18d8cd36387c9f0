//! The kernels of every backend that is compiled in, by the suite that all of them must pass.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]
// The suite is a library to the backends: what one of them leaves out, another uses.
#![allow(unreachable_pub, reason = "modules of a test program have no outside")]

mod suite;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Distribution, Tensor, backend::Backend};
use ssm_core::{
    DiagonalSsmTensors, Dropout, GatedUnitTensors, batch_norm, diagonal_ssm, gated_unit,
};
use suite::{Cpu, Effort, suite_on};

const IN_BOTH_PRECISIONS: Effort = Effort {
    cases: 30,
    dtypes: &[DType::F32, DType::F64],
    product_error: 0.0,
    missing: || None,
};

suite_on!(flex, Autodiff<Flex>, IN_BOTH_PRECISIONS);

#[cfg(feature = "libtorch")]
suite_on!(
    libtorch,
    Autodiff<burn::backend::LibTorch>,
    IN_BOTH_PRECISIONS
);

// The fused backend, on whatever adapter there is, if only a processor that plays one: slow and without `f64`.
#[cfg(feature = "wgpu")]
suite_on!(
    wgpu,
    Autodiff<burn::backend::Wgpu>,
    Effort {
        cases: 8,
        dtypes: &[DType::F32],
        product_error: 0.0,
        missing: || ssm_core::probe_wgpu()
            .err()
            .map(|reason| reason.to_string()),
    }
);

// Products of `f32` run as TF32: each of the two factors is rounded to 11 significant bits, off by 2⁻¹¹ at most.
#[cfg(feature = "cuda")]
suite_on!(
    cuda,
    Autodiff<burn::backend::Cuda>,
    Effort {
        cases: 30,
        dtypes: &[DType::F32],
        product_error: 2.0_f64.powi(-10),
        missing: || ssm_core::probe_cuda()
            .err()
            .map(|reason| reason.to_string()),
    }
);

#[test]
fn maps_of_mamba2_may_have_one_channel_and_one_state() {
    suite::ssd::one_channel_and_one_state_are_sizes_too::<Autodiff<Flex>>(IN_BOTH_PRECISIONS);
}

#[test]
fn the_loops_equal_the_tensor_twin() {
    suite::diagonal_ssm::the_loops_equal_the_tensor_twin();
}

#[test]
fn cpu_kernels_repeat_bit_for_bit_whatever_the_number_of_threads() {
    let step = || {
        Cpu::seed(&Default::default(), 4);
        let (batch, length, hidden, state) = (35, 130, 8, 256);
        let input = random([batch, length, hidden]);
        let lambda = [(); 2].map(|()| random([state]));
        let input_matrix = [(); 2].map(|()| random([state, hidden]));
        let output_matrix = [(); 2].map(|()| random([hidden, state]));
        let weights = [(); 2].map(|()| random([hidden, hidden]));
        let biases = [(); 2].map(|()| random([hidden]));
        let system = DiagonalSsmTensors {
            lambda: lambda.clone(),
            input_matrix: input_matrix.clone(),
            output_matrix: output_matrix.clone(),
            feedthrough: random([hidden]),
        };
        let unit = GatedUnitTensors {
            weights: weights.clone(),
            biases,
        };
        let dropout = Dropout {
            probability: 0.1,
            seed: 1,
        };
        let (normalized, ..) = batch_norm(input.clone(), 1e-5);
        let mapped = diagonal_ssm(normalized, system);
        let output = gated_unit(mapped, input.clone(), unit, Some(dropout));
        let mut gradients = output.clone().square().sum().backward();
        let mut all = vec![
            bits(output),
            bits(input.grad_remove(&mut gradients).unwrap()),
        ];
        all.extend(lambda.map(|t| bits(t.grad_remove(&mut gradients).unwrap())));
        for matrix in input_matrix.into_iter().chain(output_matrix).chain(weights) {
            all.push(bits(matrix.grad_remove(&mut gradients).unwrap()));
        }
        all
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(step)
    };
    assert_eq!(run(1), run(3));
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Cpu, D> {
    let values = Distribution::Uniform(-0.5, 0.5);
    Tensor::random(shape, values, &Default::default()).require_grad()
}

fn bits<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<u32> {
    tensor.into_data().iter::<f32>().map(f32::to_bits).collect()
}

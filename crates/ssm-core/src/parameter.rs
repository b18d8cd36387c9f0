//! Parameters from numbers: seeded initialization, and moving values in and out of tensors.

use burn::{
    module::{Param, ParamId},
    tensor::{Tensor, TensorData, backend::Backend},
};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};

/// A trainable parameter from row-major values.
pub(crate) fn parameter<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::initialized(ParamId::new(), tensor.require_grad())
}

/// A parameter that no optimizer changes (running statistics).
pub(crate) fn constant<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &B::Device,
) -> Param<Tensor<B, D>> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    Param::initialized(ParamId::new(), tensor).set_require_grad(false)
}

/// Values of a parameter in row-major order.
pub(crate) fn values<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> Vec<f64> {
    tensor.to_data().iter::<f64>().collect()
}

/// `len` draws from N(0, `deviation`²).
pub(crate) fn normal(rng: &mut ChaCha8Rng, len: usize, deviation: f64) -> Vec<f32> {
    (0..len)
        .map(|_| {
            let z: f64 = StandardNormal.sample(rng);
            (deviation * z) as f32
        })
        .collect()
}

/// `len` draws from U(-`bound`, `bound`).
pub(crate) fn uniform(rng: &mut ChaCha8Rng, len: usize, bound: f64) -> Vec<f32> {
    let distribution = Uniform::new(-bound, bound).expect("bounds are finite and ordered");
    (0..len).map(|_| distribution.sample(rng) as f32).collect()
}

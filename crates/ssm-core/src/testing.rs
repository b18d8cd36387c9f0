//! What the unit tests of several modules share.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend, ops::FloatTensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Numbers in [-1, 1] in f64, the same on every backend.
pub(crate) fn random<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let data = TensorData::new(values, shape);
    Tensor::from_data(data, (&B::Device::default(), DType::F64))
}

fn values<B: Backend>(primitive: &FloatTensor<B>) -> (Vec<usize>, Vec<f64>) {
    let data = burn::tensor::read_sync(B::float_into_data(primitive.clone()));
    let data = data.expect("the values can be read");
    (data.shape.as_slice().to_vec(), data.iter::<f64>().collect())
}

/// Equal shapes, and values that differ by rounding in f64 only: sums of a few thousand terms of order 1.
#[track_caller]
pub(crate) fn assert_close<B: Backend>(got: &FloatTensor<B>, want: &FloatTensor<B>) {
    let ((got_shape, got), (want_shape, want)) = (values::<B>(got), values::<B>(want));
    assert_eq!(got_shape, want_shape);
    let scale = want.iter().fold(1.0_f64, |m, v| m.max(v.abs()));
    for (position, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!(
            (got - want).abs() <= 1e-12 * scale,
            "position {position}: {got} against {want}"
        );
    }
}

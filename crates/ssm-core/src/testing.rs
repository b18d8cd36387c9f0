//! What the unit tests of several modules share.

use burn::{
    backend::Flex,
    tensor::{DType, Tensor, TensorData, TensorMetadata, backend::Backend, ops::FloatTensor},
};
use burn_flex::FlexTensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::operation::{ByHand, Kernel, Operation, Pullback, Run, Tensors};

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

/// The tensor operations of an operation make of these inputs what its native kernel does: the first `outputs` of the
/// outputs, and the gradients if the backward pass of both is written by hand.
#[track_caller]
pub(crate) fn assert_composed_equals_native<O: Operation<N>, const N: usize>(
    inputs: [FlexTensor; N],
    settings: O::Settings,
    gradient: FlexTensor,
    outputs: usize,
) where
    Flex: Kernel<O, N>,
{
    let back = |outputs: &O::Outputs<FlexTensor>| Pullback {
        saved: O::save(inputs.clone(), outputs),
        gradient: gradient.clone(),
        shapes: inputs.each_ref().map(FlexTensor::shape),
        wanted: [true; N],
    };
    let got = O::forward::<Flex>(inputs.clone(), &settings);
    let want = Flex::run(inputs.clone(), &settings);
    if O::BACKWARD == ByHand::Everywhere {
        let got = O::backward::<Flex>(back(&got), &settings);
        let want = <Flex as Kernel<O, N>>::backward(back(&want), &settings);
        for (got, want) in got.iter().zip(&want) {
            match (got, want) {
                (Some(got), Some(want)) => assert_close::<Flex>(got, want),
                _ => panic!("every gradient was wanted"),
            }
        }
    }
    for (got, want) in got.into_vec().iter().zip(&want.into_vec()).take(outputs) {
        assert_close::<Flex>(got, want);
    }
}

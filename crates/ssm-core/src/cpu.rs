//! What the native CPU kernels share: element types, matrix products on slices, and access to the storage of Flex
//! tensors.

mod product;
mod real;
mod tile;

use std::marker::PhantomData;

use burn::tensor::{Bytes, Shape, TensorMetadata};
use burn_flex::{FlexTensor, Layout};

pub(crate) use product::{Destination, MatrixRef, Products, product};
pub(crate) use real::Real;
pub(crate) use tile::tiled_product;

/// Runs a loop compiled for the widest vectors that this processor has, chosen at run time.
///
/// The closure is called as `FnMut` on purpose: calling it as `FnOnce` goes through a shim that the compiler may leave
/// out of line, and compiled for the baseline.
#[inline(always)]
pub(crate) fn vectorized<R>(body: impl FnMut() -> R) -> R {
    struct Body<F>(F);

    impl<R, F: FnMut() -> R> pulp::NullaryFnOnce for Body<F> {
        type Output = R;

        #[inline(always)]
        fn call(mut self) -> R {
            (self.0)()
        }
    }

    pulp::Arch::new().dispatch(Body(body))
}

/// Elements of a vector of this processor.
pub(crate) fn register_lanes<T: Real>() -> usize {
    struct Lanes<T>(PhantomData<T>);

    impl<T: Real> pulp::WithSimd for Lanes<T> {
        type Output = usize;

        fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
            T::lanes::<S>()
        }
    }

    pulp::Arch::new().dispatch(Lanes::<T>(PhantomData))
}

/// Wraps a row-major buffer as a Flex tensor.
pub(crate) fn tensor<T: Real, const D: usize>(data: Vec<T>, shape: [usize; D]) -> FlexTensor {
    debug_assert_eq!(data.len(), shape.iter().product::<usize>());
    FlexTensor::new(
        Bytes::from_elems(data),
        Layout::contiguous(Shape::from(shape)),
        T::dtype(),
    )
}

/// Dimensions of a tensor whose rank the caller knows.
pub(crate) fn dims<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor
        .shape()
        .as_slice()
        .try_into()
        .expect("the public operations fix every rank")
}

/// How many pieces a reduction over rows is cut into. Fixed, so that sums are taken in the same order
/// whatever the number of threads: a run repeats bit for bit.
pub(crate) const REDUCTION_PIECES: usize = 16;

/// Adds `part` to `total` element by element.
pub(crate) fn add_assign<T: Real>(total: &mut [T], part: &[T]) {
    for (t, p) in total.iter_mut().zip(part) {
        *t += *p;
    }
}

//! What the native CPU kernels share: element types, matrix products on slices, and access to the storage of Flex
//! tensors.

mod dot;
mod product;
mod real;
mod tile;
mod transpose;

use std::{hint::black_box, marker::PhantomData, mem::MaybeUninit};

use burn::tensor::{Bytes, Shape, TensorMetadata};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

pub(crate) use dot::{dot, sum};
pub(crate) use product::{Destination, MatrixRef, Products, product, product_into};
pub(crate) use real::Real;
pub(crate) use tile::tiled_product;
pub(crate) use transpose::transposed;

/// Runs a piece of a kernel's work, compiled for the widest vectors that this processor has, chosen at run time, and in the
/// [mode](Real::subnormals) of its element type: `f32` with subnormal numbers flushed, since they would slow it down several
/// times over on some processors.
///
/// Every thread comes through here for every piece that it is handed. The piece must not hand out work of its own: while it
/// waits for that, its thread might take up somebody else's work in `f64`.
#[inline(always)]
pub(crate) fn dispatch<T: Real, W: pulp::WithSimd>(work: W) -> W::Output {
    let _mode = T::subnormals();
    pulp::Arch::new().dispatch(work)
}

/// Runs a loop as [`dispatch`] does.
///
/// The closure is called as `FnMut` on purpose: calling it as `FnOnce` goes through a shim that the compiler may leave
/// out of line, and compiled for the baseline.
#[inline(always)]
pub(crate) fn vectorized<T: Real, R>(body: impl FnMut() -> R) -> R {
    struct Body<F>(F);

    impl<R, F: FnMut() -> R> pulp::WithSimd for Body<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }

    dispatch::<T, _>(Body(body))
}

/// Runs an inner loop as a function of its own, which the compiler cannot take back into the code around it: where that
/// calls anything, it would load the constants of the loop again for every element.
#[inline(always)]
pub(crate) fn outlined<S: pulp::Simd, W: pulp::WithSimd>(simd: S, work: W) -> W::Output {
    black_box::<fn(S, W) -> W::Output>(|simd, work| simd.vectorize(work))(simd, work)
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

/// Zeros, written by all threads: one alone would take longer for it than a kernel does for its work.
pub(crate) fn zeros<T: Real>(len: usize) -> Vec<T> {
    let mut zeros: Vec<T> = Vec::with_capacity(len);
    zeros.spare_capacity_mut()[..len]
        .par_chunks_mut(COPIED_AT_ONCE)
        .for_each(|part| part.fill(MaybeUninit::new(T::ZERO)));
    // SAFETY: there is capacity for `len` elements, and the loop wrote every one of them.
    unsafe { zeros.set_len(len) };
    zeros
}

/// Zeros, for what adds to what it finds.
#[inline(always)]
pub(crate) fn zeroed<T: Real>(memory: &mut [MaybeUninit<T>]) -> &mut [T] {
    memory.fill(MaybeUninit::new(T::ZERO));
    // SAFETY: the line above wrote every element.
    unsafe { memory.assume_init_mut() }
}

/// Elements that a thread copies, adds or zeroes at a time, at least: enough to be worth handing out.
pub(crate) const COPIED_AT_ONCE: usize = 1 << 14;

/// Asks for the cache line at an address that will be read or written soon, where the processor has an instruction for it
/// that Rust knows. Any address will do.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it neither faults nor changes what a program sees.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
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
pub(crate) const REDUCTION_PIECES: usize = 32;

/// Elements of one of the pieces that rows of `width` elements are cut into.
pub(crate) fn piece_len(elements: usize, width: usize) -> usize {
    (elements / width).div_ceil(REDUCTION_PIECES).max(1) * width
}

/// Elements, about, of as many rows as a loop should work on at once: long enough to vectorize well even where rows are
/// short, and to stay in the first cache.
const TILE: usize = 512;

/// Whole rows of `width` elements that a loop works on at once, in elements.
pub(crate) fn tile_len(width: usize) -> usize {
    TILE.div_ceil(width) * width
}

/// Adds up the rows in `tile`.
pub(crate) fn sum_of_rows<T: Real>(tile: &[T], width: usize) -> Vec<T> {
    let mut sum = vec![T::ZERO; width];
    vectorized::<T, _>(
        #[inline(always)]
        || {
            for row in tile.chunks_exact(width) {
                add_assign(&mut sum, row);
            }
        },
    );
    sum
}

/// Sum of `count` parts of equal length, one after the other in `parts`.
pub(crate) fn sum_of_parts<T: Real>(mut parts: Vec<T>, count: usize) -> Vec<T> {
    let len = parts.len() / count;
    if count > 1 {
        let (total, others) = parts.split_at_mut(len);
        total
            .par_chunks_mut(COPIED_AT_ONCE)
            .enumerate()
            .for_each(|(index, total)| {
                for part in others.chunks_exact(len) {
                    accumulate(total, &part[index * COPIED_AT_ONCE..]);
                }
            });
        parts.truncate(len);
    }
    parts
}

/// Adds `part` to `total` element by element, as a piece of work of its own.
pub(crate) fn accumulate<T: Real>(total: &mut [T], part: &[T]) {
    vectorized::<T, _>(
        #[inline(always)]
        || add_assign(total, part),
    );
}

/// Adds `part` to `total` element by element, within a piece of work.
#[inline(always)]
pub(crate) fn add_assign<T: Real>(total: &mut [T], part: &[T]) {
    for (t, p) in total.iter_mut().zip(part) {
        *t += *p;
    }
}

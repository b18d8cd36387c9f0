//! What the native CPU kernels share: element types, matrix products on slices, and access to the
//! storage of Flex tensors.

use std::{
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, Neg, Sub},
};

use burn::tensor::{Bytes, Shape, TensorMetadata};
use burn_flex::{FlexTensor, Layout};

/// Element type of the native kernels: `f32` in training, `f64` where tests need the digits.
pub(crate) trait Real:
    burn::tensor::Element
    + bytemuck::Pod
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + PartialOrd
    + Sum
    + Send
    + Sync
{
    const ZERO: Self;
    const ONE: Self;

    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn into_f64(self) -> f64;
    fn exp(self) -> Self;

    /// Logistic function 1 / (1 + e^-x).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }

    fn from_f64(value: f64) -> Self {
        value
    }

    fn into_f64(self) -> f64 {
        self
    }

    fn exp(self) -> Self {
        f64::exp(self)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn into_f64(self) -> f64 {
        f64::from(self)
    }

    /// e^x without a library call, so that loops over it vectorize; within 2 units in the last place
    /// on [-87, 88], saturating outside (to about 1e-38 and 2e38), NaN for NaN.
    ///
    /// Range reduction by log 2 in two parts and the degree-5 minimax polynomial of Cephes `expf`.
    #[inline(always)]
    fn exp(self) -> Self {
        const LOG2_E: f32 = std::f32::consts::LOG2_E;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // 1.5 * 2^23: adding it rounds to the nearest integer in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;

        // Not `clamp`: comparisons in this order keep NaN.
        let x = if self > 88.0 { 88.0 } else { self };
        let x = if x < -87.0 { -87.0 } else { x };
        let shifted = x * LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN2_HIGH) - n * LN2_LOW;
        let mut p = 1.987_569_1e-4;
        p = p * r + 1.398_199_9e-3;
        p = p * r + 8.333_452e-3;
        p = p * r + 4.166_579_6e-2;
        p = p * r + 1.666_666_5e-1;
        p = p * r + 5e-1;
        let e = p * r * r + r + 1.0;
        // The integer sits in the low bits of `shifted`; its bias wraps away in the shift.
        let scale = f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23));
        e * scale
    }
}

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

/// A row-major matrix on a slice, read-only, possibly seen transposed.
#[derive(Clone, Copy)]
pub(crate) struct MatrixRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> MatrixRef<'a, T> {
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert!(data.len() >= rows * cols, "the slice holds the matrix");
        Self {
            data,
            rows,
            cols,
            row_stride: cols,
            col_stride: 1,
        }
    }

    pub(crate) fn transpose(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// What a product does with what its destination holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    Overwrite,
    Accumulate,
}

/// `dst (+)= lhs * rhs` on one thread; `dst` is row-major `[lhs.rows, rhs.cols]`.
pub(crate) fn product<T: Real>(
    dst: &mut [T],
    mode: Destination,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    let (m, n, k) = (lhs.rows, rhs.cols, lhs.cols);
    assert_eq!(k, rhs.rows, "inner dimensions agree");
    assert!(dst.len() >= m * n, "the destination holds the product");
    // SAFETY: the assertions here and in `MatrixRef::new` keep every access inside its slice, `dst`
    // is borrowed exclusively, and `T` is f32 or f64, which gemm dispatches on.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            mode == Destination::Accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectorizable_exponential_is_within_two_ulps() {
        let mut x = -87.0_f32;
        while x < 88.0 {
            let (got, want) = (Real::exp(x), f64::from(x).exp());
            let ulps = ((f64::from(got) - want) / (want * f64::from(f32::EPSILON))).abs();
            assert!(ulps <= 2.0, "exp({x}) = {got}, want {want}: {ulps} ulps");
            x += 0.000_37 * (1.0 + x.abs());
        }
    }

    #[test]
    fn the_vectorizable_exponential_saturates_and_keeps_nan() {
        assert!(Real::exp(f32::NAN).is_nan());
        assert!(Real::exp(f32::NEG_INFINITY) < 1e-37);
        assert!(Real::exp(f32::INFINITY).is_finite());
        assert_eq!(f32::INFINITY.sigmoid(), 1.0);
    }

    #[test]
    fn a_product_with_transposes_matches_the_sum() {
        let lhs: Vec<f64> = (0..6).map(f64::from).collect();
        let rhs: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.5 - 2.0).collect();
        // lhs^T [3, 2] * rhs^T [2, 6]
        let (a, b) = (MatrixRef::new(&lhs, 2, 3), MatrixRef::new(&rhs, 6, 2));
        let mut dst = vec![1.0; 18];
        product(
            &mut dst,
            Destination::Accumulate,
            a.transpose(),
            b.transpose(),
        );
        for i in 0..3 {
            for j in 0..6 {
                let want: f64 = 1.0 + (0..2).map(|k| lhs[k * 3 + i] * rhs[j * 2 + k]).sum::<f64>();
                assert!((dst[i * 6 + j] - want).abs() < 1e-12);
            }
        }
    }
}

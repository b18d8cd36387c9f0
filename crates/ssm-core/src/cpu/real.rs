//! Element types of the native kernels, and their vectors.

use std::{
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, Neg, Sub},
};

use pulp::{MemMask, Simd};
use subnormals::Subnormals;

/// Element type of the native kernels: `f32` in training, `f64` where tests need the digits.
pub trait Real:
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

    /// How kernels compute in it: `f32`, the precision of training, with subnormal numbers taken for zero, `f64`, which
    /// tests compare with, as IEEE 754 has it.
    fn subnormals() -> Subnormals;

    /// As many elements as a register of `S` holds.
    type Lanes<S: Simd>: Copy;

    /// Which of them a masked access touches.
    type Mask<S: Simd>: Copy;

    /// Elements in [`Lanes`](Self::Lanes).
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Lanes<S>>() / size_of::<Self>()
    }

    fn splat<S: Simd>(simd: S, value: Self) -> Self::Lanes<S>;

    fn add_lanes<S: Simd>(simd: S, a: Self::Lanes<S>, b: Self::Lanes<S>) -> Self::Lanes<S>;

    /// a b + c, with one rounding where the processor can.
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Lanes<S>,
        b: Self::Lanes<S>,
        c: Self::Lanes<S>,
    ) -> Self::Lanes<S>;

    /// c - a b, likewise.
    fn negate_mul_add<S: Simd>(
        simd: S,
        a: Self::Lanes<S>,
        b: Self::Lanes<S>,
        c: Self::Lanes<S>,
    ) -> Self::Lanes<S>;

    /// The first `count` elements.
    fn first<S: Simd>(simd: S, count: usize) -> Self::Mask<S>;

    /// # Safety
    /// The elements of the mask behind `from` may be read.
    unsafe fn load_masked<S: Simd>(
        simd: S,
        mask: Self::Mask<S>,
        from: *const Self,
    ) -> Self::Lanes<S>;

    /// # Safety
    /// The elements of the mask behind `to` may be written.
    unsafe fn store_masked<S: Simd>(
        simd: S,
        mask: Self::Mask<S>,
        to: *mut Self,
        value: Self::Lanes<S>,
    );

    fn from_f32(value: f32) -> Self;
    fn from_f64(value: f64) -> Self;
    fn into_f64(self) -> f64;

    /// self b + c, with one rounding in code compiled for vectors: every instruction set that `pulp` knows vectors of has
    /// such an instruction. Without it, it would be a library call.
    #[inline(always)]
    fn fused<S: Simd>(self, b: Self, c: Self) -> Self {
        match Self::lanes::<S>() {
            1 => self * b + c,
            _ => self.mul_add_one(b, c),
        }
    }

    /// self b + c with one rounding.
    fn mul_add_one(self, b: Self, c: Self) -> Self;

    /// e^x in code compiled for `S`.
    fn exp<S: Simd>(self) -> Self;

    /// Logistic function 1 / (1 + e^-x).
    #[inline(always)]
    fn sigmoid<S: Simd>(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp::<S>())
    }

    /// 2^x for x of zero or less, in code compiled for `S`.
    fn exp2_of_negative<S: Simd>(self) -> Self;

    /// log(1 + x) for x in [0, 1], in code compiled for `S`.
    fn ln_1p_of_share<S: Simd>(self) -> Self;

    /// log(1 + e^x), without overflow and without loss for large negative x.
    #[inline(always)]
    fn softplus<S: Simd>(self) -> Self {
        let (positive, modulus) = match self > Self::ZERO {
            true => (self, self),
            false => (Self::ZERO, -self),
        };
        positive + (-modulus).exp::<S>().ln_1p_of_share::<S>()
    }

    /// [`softplus`](Self::softplus) and its derivative, the logistic function, from one exponential.
    #[inline(always)]
    fn softplus_with_slope<S: Simd>(self) -> (Self, Self) {
        let (positive, modulus) = match self > Self::ZERO {
            true => (self, self),
            false => (Self::ZERO, -self),
        };
        let e = (-modulus).exp::<S>();
        let numerator = match self > Self::ZERO {
            true => Self::ONE,
            false => e,
        };
        (
            positive + e.ln_1p_of_share::<S>(),
            numerator / (Self::ONE + e),
        )
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline]
    fn subnormals() -> Subnormals {
        Subnormals::kept()
    }

    type Lanes<S: Simd> = S::f64s;
    type Mask<S: Simd> = MemMask<S::m64s>;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f64s {
        simd.splat_f64s(value)
    }

    #[inline(always)]
    fn add_lanes<S: Simd>(simd: S, a: S::f64s, b: S::f64s) -> S::f64s {
        simd.add_f64s(a, b)
    }

    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }

    #[inline(always)]
    fn negate_mul_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.negate_mul_add_e_f64s(a, b, c)
    }

    #[inline(always)]
    fn first<S: Simd>(simd: S, count: usize) -> MemMask<S::m64s> {
        // From the bare mask: with it pulp inlines a masked instruction instead of a jump into a table.
        MemMask::new(simd.mask_between_m64s(0, count as u64).mask())
    }

    #[inline(always)]
    unsafe fn load_masked<S: Simd>(simd: S, mask: MemMask<S::m64s>, from: *const Self) -> S::f64s {
        // SAFETY: the caller's.
        unsafe { simd.mask_load_ptr_f64s(mask, from) }
    }

    #[inline(always)]
    unsafe fn store_masked<S: Simd>(
        simd: S,
        mask: MemMask<S::m64s>,
        to: *mut Self,
        value: S::f64s,
    ) {
        // SAFETY: the caller's.
        unsafe { simd.mask_store_ptr_f64s(mask, to, value) }
    }

    fn from_f32(value: f32) -> Self {
        f64::from(value)
    }

    fn from_f64(value: f64) -> Self {
        value
    }

    fn into_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add_one(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    fn exp<S: Simd>(self) -> Self {
        f64::exp(self)
    }

    fn exp2_of_negative<S: Simd>(self) -> Self {
        f64::exp2(self)
    }

    fn ln_1p_of_share<S: Simd>(self) -> Self {
        f64::ln_1p(self)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline]
    fn subnormals() -> Subnormals {
        Subnormals::flushed()
    }

    type Lanes<S: Simd> = S::f32s;
    type Mask<S: Simd> = MemMask<S::m32s>;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Self) -> S::f32s {
        simd.splat_f32s(value)
    }

    #[inline(always)]
    fn add_lanes<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> S::f32s {
        simd.add_f32s(a, b)
    }

    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn negate_mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.negate_mul_add_e_f32s(a, b, c)
    }

    #[inline(always)]
    fn first<S: Simd>(simd: S, count: usize) -> MemMask<S::m32s> {
        // From the bare mask: with it pulp inlines a masked instruction instead of a jump into a table.
        MemMask::new(simd.mask_between_m32s(0, count as u32).mask())
    }

    #[inline(always)]
    unsafe fn load_masked<S: Simd>(simd: S, mask: MemMask<S::m32s>, from: *const Self) -> S::f32s {
        // SAFETY: the caller's.
        unsafe { simd.mask_load_ptr_f32s(mask, from) }
    }

    #[inline(always)]
    unsafe fn store_masked<S: Simd>(
        simd: S,
        mask: MemMask<S::m32s>,
        to: *mut Self,
        value: S::f32s,
    ) {
        // SAFETY: the caller's.
        unsafe { simd.mask_store_ptr_f32s(mask, to, value) }
    }

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

    #[inline(always)]
    fn mul_add_one(self, b: Self, c: Self) -> Self {
        self.mul_add(b, c)
    }

    /// e^x without a library call, so that loops over it vectorize; within 2 units in the last place
    /// on [-87, 88], saturating outside (to about 1e-38 and 2e38), NaN for NaN.
    ///
    /// Range reduction by log 2 in two parts and the degree-5 minimax polynomial of Cephes `expf`.
    #[inline(always)]
    fn exp<S: Simd>(self) -> Self {
        const LOG2_E: f32 = std::f32::consts::LOG2_E;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // 1.5 * 2^23: adding it rounds to the nearest integer in the low mantissa bits.
        const ROUND: f32 = 12_582_912.0;

        // Not `clamp`: comparisons in this order keep NaN.
        let x = if self > 88.0 { 88.0 } else { self };
        let x = if x < -87.0 { -87.0 } else { x };
        let shifted = x.fused::<S>(LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = n.fused::<S>(-LN2_LOW, n.fused::<S>(-LN2_HIGH, x));
        let mut p = 1.987_569_1e-4_f32;
        p = p.fused::<S>(r, 1.398_199_9e-3);
        p = p.fused::<S>(r, 8.333_452e-3);
        p = p.fused::<S>(r, 4.166_579_6e-2);
        p = p.fused::<S>(r, 1.666_666_5e-1);
        p = p.fused::<S>(r, 5e-1);
        let e = p.fused::<S>(r * r, r) + 1.0;
        // The integer sits in the low bits of `shifted`; its bias wraps away in the shift.
        let scale = f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23));
        e * scale
    }

    /// Within 2 units in the last place down to 2^-126, which it stays at; NaN for NaN. Fewer operations than
    /// [`exp`](Self::exp): no range above, and a reduction that is exact.
    ///
    /// The Taylor polynomial of degree 7 without its last term, whose share the others take over (economized to an error of
    /// 2e-9).
    #[inline(always)]
    fn exp2_of_negative<S: Simd>(self) -> Self {
        const ROUND: f32 = 12_582_912.0;
        let x = if self < -126.0 { -126.0 } else { self };
        let shifted = x + ROUND;
        let r = x - (shifted - ROUND);
        let mut p = 1.540_353e-4_f32;
        for c in [
            1.340_029e-3_f32,
            9.618_129e-3,
            5.550_327_4e-2,
            2.402_265e-1,
            6.931_472e-1,
            1.0,
        ] {
            p = p.fused::<S>(r, c);
        }
        let scale = f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23));
        p * scale
    }

    /// As 2 artanh(s) with s = x / (2 + x) at most 1/3: the first term of its series that is left out is 1.4e-9 of the
    /// sum.
    #[inline(always)]
    fn ln_1p_of_share<S: Simd>(self) -> Self {
        let s = self / (self + 2.0);
        let square = s * s;
        let mut p = 1.0 / 15.0_f32;
        for odd in [13.0_f32, 11.0, 9.0, 7.0, 5.0, 3.0] {
            p = p.fused::<S>(square, 1.0 / odd);
        }
        let twice = s + s;
        (p * square).fused::<S>(twice, twice)
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, WithSimd};

    use super::*;

    struct LargestError(f64);

    impl WithSimd for &mut LargestError {
        type Output = ();

        fn with_simd<S: Simd>(self, _: S) {
            let mut x = -87.0_f32;
            while x < 88.0 {
                let (got, want) = (Real::exp::<S>(x), f64::from(x).exp());
                let ulps = ((f64::from(got) - want) / (want * f64::from(f32::EPSILON))).abs();
                self.0 = self.0.max(ulps);
                x += 0.000_37 * (1.0 + x.abs());
            }
        }
    }

    #[test]
    fn the_vectorizable_exponential_is_within_two_ulps() {
        let (mut vectors, mut scalar) = (LargestError(0.0), LargestError(0.0));
        pulp::Arch::new().dispatch(&mut vectors);
        WithSimd::with_simd(&mut scalar, Scalar);
        assert!(vectors.0 <= 2.0, "{} ulps", vectors.0);
        assert!(scalar.0 <= 2.0, "{} ulps", scalar.0);
    }

    #[test]
    fn the_power_of_two_is_within_two_ulps() {
        let mut x = -126.0_f32;
        while x <= 0.0 {
            let (got, want) = (x.exp2_of_negative::<Scalar>(), f64::from(x).exp2());
            let ulps = ((f64::from(got) - want) / (want * f64::from(f32::EPSILON))).abs();
            assert!(ulps <= 2.0, "{x}: {ulps} ulps");
            x += 0.001_7;
        }
        assert_eq!(0.0_f32.exp2_of_negative::<Scalar>(), 1.0);
        assert!(f32::NEG_INFINITY.exp2_of_negative::<Scalar>() < 2e-38);
        assert!(f32::NAN.exp2_of_negative::<Scalar>().is_nan());
    }

    #[test]
    fn softplus_and_its_slope_keep_their_digits_on_both_sides_of_zero() {
        let mut x = -87.0_f32;
        while x < 100.0 {
            let (got, want) = (x.softplus::<Scalar>(), f64::from(x).exp().ln_1p());
            let error = (f64::from(got) - want).abs();
            assert!(
                error <= 3.0 * f64::from(f32::EPSILON) * want,
                "{x}: {got:e} for {want:e}"
            );
            let (same, slope) = x.softplus_with_slope::<Scalar>();
            assert_eq!(same, got);
            // An exponential within 2 units, a sum and a quotient.
            let (slope, want) = (f64::from(slope), 1.0 / (1.0 + f64::from(-x).exp()));
            let error = (slope - want).abs();
            assert!(
                error <= 3.0 * f64::from(f32::EPSILON) * want,
                "{x}: {slope:e} for {want:e}"
            );
            x += 0.013;
        }
        let (value, slope) = f32::NAN.softplus_with_slope::<Scalar>();
        assert!(f32::NAN.softplus::<Scalar>().is_nan() && value.is_nan() && slope.is_nan());
        assert_eq!(f32::INFINITY.softplus::<Scalar>(), f32::INFINITY);
    }

    #[test]
    fn the_vectorizable_exponential_saturates_and_keeps_nan() {
        assert!(Real::exp::<Scalar>(f32::NAN).is_nan());
        assert!(Real::exp::<Scalar>(f32::NEG_INFINITY) < 1e-37);
        assert!(Real::exp::<Scalar>(f32::INFINITY).is_finite());
        assert_eq!(f32::INFINITY.sigmoid::<Scalar>(), 1.0);
    }
}

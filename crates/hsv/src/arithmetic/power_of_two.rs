//! Scaling by powers of two: exact, so that units of 1e-150 or 1e150 cost nothing in precision.

use faer::c64;

use crate::arithmetic::unit_disk::reciprocal;

/// Of the binary format of `f64`.
const MANTISSA_BITS: i32 = 52;
const BIAS: i32 = 1023;

/// Exponent `k` with `2^k <= |x| < 2^(k + 1)`; `None` at zero. `x` must be finite.
pub(crate) fn exponent(x: f64) -> Option<i32> {
    let biased = |x: f64| ((x.to_bits() >> MANTISSA_BITS) & 0x7ff) as i32;
    if x == 0.0 {
        None
    } else if biased(x) == 0 {
        // A subnormal number has its exponent in the position of its first bit.
        Some(biased(x * power(MANTISSA_BITS + 1)) - BIAS - (MANTISSA_BITS + 1))
    } else {
        Some(biased(x) - BIAS)
    }
}

/// `x * 2^k` for any `k`, also where `2^k` alone is no `f64`. Overflows to an infinity, never to NaN.
pub(crate) fn scale(x: f64, k: i32) -> f64 {
    if k.unsigned_abs() <= 1000 {
        return x * power(k);
    }
    // Three factors span every exponent from the smallest subnormal to the largest number and back.
    let k = k.clamp(-2200, 2200);
    let first = k.clamp(-1000, 1000);
    let second = (k - first).clamp(-1000, 1000);
    x * power(first) * power(second) * power(k - first - second)
}

/// `2^k` for the exponents of normal numbers.
fn power(k: i32) -> f64 {
    f64::from_bits(((BIAS + k) as u64) << MANTISSA_BITS)
}

/// [`scale`] of both parts.
pub(crate) fn scale_complex(z: c64, k: i32) -> c64 {
    c64::new(scale(z.re, k), scale(z.im, k))
}

/// `1 / z` wherever it is representable, zero or infinite where it is not.
pub(crate) fn reciprocal_of_any(z: c64) -> c64 {
    let k = vector_exponent([z]).unwrap_or(0);
    scale_complex(reciprocal(scale_complex(z, -k)), -k)
}

/// Exponent of the largest part of a vector; `None` if all of it is zero.
pub(crate) fn vector_exponent(entries: impl IntoIterator<Item = c64>) -> Option<i32> {
    let largest = entries
        .into_iter()
        .fold(0.0f64, |largest, z| largest.max(z.re.abs()).max(z.im.abs()));
    exponent(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_cover_subnormal_numbers() {
        assert_eq!(exponent(0.0), None);
        assert_eq!(exponent(1.0), Some(0));
        assert_eq!(exponent(-0.75), Some(-1));
        assert_eq!(exponent(f64::MIN_POSITIVE), Some(-1022));
        assert_eq!(exponent(f64::MIN_POSITIVE / 4.0), Some(-1024));
        assert_eq!(exponent(f64::from_bits(1)), Some(-1074));
        assert_eq!(exponent(f64::MAX), Some(1023));
    }

    #[test]
    fn scaling_there_and_back_changes_nothing() {
        for x in [1.0, -0.1, 3e-300, 7e300, f64::from_bits(3)] {
            let k = exponent(x).unwrap();
            let mantissa = scale(x, -k);
            assert!((1.0..2.0).contains(&mantissa.abs()));
            assert_eq!(scale(mantissa, k), x);
        }
        assert_eq!(scale(1.0, 5000), f64::INFINITY);
        assert_eq!(scale(1.0, -5000), 0.0);
        assert_eq!(scale(0.0, 5000), 0.0);
    }
}

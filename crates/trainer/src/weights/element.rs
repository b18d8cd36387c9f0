//! Stored numbers, in any precision that weights are published in, as `f32`.

use half::{bf16, f16};
use safetensors::Dtype;

/// Values as `f32`, exactly but for `F64`, which is rounded; `None` for a type that holds no real numbers.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    match dtype {
        Dtype::F32 => Some(map_words(bytes, f32::from_le_bytes)),
        Dtype::F64 => Some(map_words(bytes, |word| f64::from_le_bytes(word) as f32)),
        Dtype::F16 => Some(map_words(bytes, |word| f16::from_le_bytes(word).to_f32())),
        Dtype::BF16 => Some(map_words(bytes, |word| bf16::from_le_bytes(word).to_f32())),
        _ => None,
    }
}

pub(crate) fn map_words<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|word| f(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(dtype: Dtype, bytes: &[u8]) -> f32 {
        to_f32(dtype, bytes).unwrap()[0]
    }

    #[test]
    fn every_precision_keeps_its_values() {
        for (bits, want) in [
            (0x3c00_u16, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
        ] {
            assert_eq!(one(Dtype::F16, &bits.to_le_bytes()), want);
        }
        for bits in [0x3f80_u16, 0xc2f7, 0x0001, 0x7f80] {
            let wide = f32::from_bits(u32::from(bits) << 16);
            assert_eq!(one(Dtype::BF16, &bits.to_le_bytes()), wide);
        }
        // Every bit of an f32, those of a subnormal and of minus zero as well.
        for bits in [0x3eaa_aaab_u32, 0x8000_0000, 1] {
            assert_eq!(one(Dtype::F32, &bits.to_le_bytes()).to_bits(), bits);
        }
        assert_eq!(one(Dtype::F64, &0.1_f64.to_le_bytes()), 0.1);
        assert!(one(Dtype::F16, &0x7e00_u16.to_le_bytes()).is_nan());
        assert!(to_f32(Dtype::I64, &[0; 8]).is_none());
    }
}

//! Dropout masks as a pure function of a seed and a position.
//!
//! A counter-based mask needs no memory between forward and backward, does not depend on the number of
//! threads, and a resumed run draws the masks the unbroken run would have drawn.

#[cfg(feature = "cube")]
mod cube;

#[cfg(feature = "cube")]
use burn::tensor::{DType, Shape};
use burn::tensor::{TensorData, TensorMetadata, ops::FloatTensor};
use rayon::prelude::*;

#[cfg(feature = "cube")]
use crate::operation::OnCube;
use crate::{
    backend::Backend,
    cpu::vectorized,
    operation::{ByHand, Operation},
};

/// Which elements to drop: each one independently with `probability`, by a hash of `seed` and its position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of dropping an element, in `[0, 1)`. What stays is scaled by 1 / (1 - probability).
    pub probability: f64,
    /// Stream of the mask; two places of a model must not share one.
    pub seed: u64,
}

impl Dropout {
    /// The same probability with another, independent stream.
    pub fn stream(self, index: u64) -> Self {
        let mut z = self.seed ^ (index.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Finalizer of SplitMix64.
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self {
            seed: z ^ (z >> 31),
            ..self
        }
    }

    /// Factor of the element at `position` in row-major order: 0, or 1 / (1 - probability).
    #[inline(always)]
    pub fn factor(&self, position: usize) -> f32 {
        self.mask().factor(position as u32)
    }

    /// Factors of the first `len` positions.
    pub(crate) fn factors(&self, len: usize) -> Vec<f32> {
        const PIECE: usize = 1 << 14;
        let mask = self.mask();
        let mut factors = vec![0.0; len];
        factors
            .par_chunks_mut(PIECE)
            .enumerate()
            .for_each(|(piece, factors)| {
                let start = (piece * PIECE) as u32;
                vectorized::<f32, _>(
                    #[inline(always)]
                    || {
                        for (position, factor) in (start..).zip(factors.iter_mut()) {
                            *factor = mask.factor(position);
                        }
                    },
                );
            });
        factors
    }

    /// The mask with its constants worked out, for inner loops.
    #[inline(always)]
    pub(crate) fn mask(&self) -> Mask {
        Mask {
            low: self.seed as u32,
            high: (self.seed >> 32) as u32,
            threshold: (self.probability * 4_294_967_296.0) as u32,
            scale: (1.0 / (1.0 - self.probability)) as f32,
        }
    }
}

/// A factor for every element of a tensor like the input, in row-major order: bit for bit [`Dropout::factor`].
#[derive(Clone, Copy, Debug)]
pub struct DropoutFactors;

impl Operation<1> for DropoutFactors {
    const NAME: &'static str = "dropout_factors";
    const BACKWARD: ByHand = ByHand::Nowhere;

    type Settings = Dropout;
    type Outputs<T> = [T; 1];
    type Saved<T> = [T; 0];

    fn save<T: Clone>(_: [T; 1], _: &[T; 1]) -> [T; 0] {
        []
    }

    /// Worked out on the host and sent to the device.
    fn forward<B: Backend>([like]: [FloatTensor<B>; 1], dropout: &Dropout) -> [FloatTensor<B>; 1] {
        let shape = like.shape();
        let factors = dropout.factors(shape.num_elements());
        let data = TensorData::new(factors, shape).convert_dtype(like.dtype());
        [B::float_from_data(data, &B::float_device(&like))]
    }

    #[cfg(feature = "cube")]
    fn cube_outputs([like]: &[Shape; 1], dtype: DType, _: &Dropout) -> Option<[(Shape, DType); 1]> {
        Some([(like.clone(), dtype)])
    }

    #[cfg(feature = "cube")]
    fn cube_forward<B: OnCube>(
        [like]: [FloatTensor<B>; 1],
        dropout: &Dropout,
    ) -> [FloatTensor<B>; 1] {
        [cube::factors(*dropout, &like)]
    }
}

/// Worked-out constants of a [`Dropout`].
#[derive(Clone, Copy)]
pub(crate) struct Mask {
    pub(crate) low: u32,
    pub(crate) high: u32,
    pub(crate) threshold: u32,
    pub(crate) scale: f32,
}

impl Mask {
    /// 32-bit integer hash in three multiply-xorshift rounds (constants of Wellons' `triple32`), so that a
    /// loop over positions vectorizes.
    #[inline(always)]
    pub(crate) fn factor(&self, position: u32) -> f32 {
        let mut x = position ^ self.low;
        x ^= x >> 17;
        x = x.wrapping_mul(0xed5a_d4bb);
        x = x.wrapping_add(self.high);
        x ^= x >> 11;
        x = x.wrapping_mul(0xac4c_1b51);
        x ^= x >> 15;
        x = x.wrapping_mul(0x3184_8bab);
        x ^= x >> 14;
        if x < self.threshold { 0.0 } else { self.scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let dropout = Dropout {
            probability: 0.1,
            seed: 7,
        };
        let n = 1_000_000;
        let sum: f64 = (0..n).map(|i| f64::from(dropout.factor(i))).sum();
        // Standard error of the mean is sqrt(p / (1 - p) / n) = 3.3e-4; five of them.
        assert!((sum / n as f64 - 1.0).abs() < 1.7e-3);
    }

    #[test]
    fn all_factors_at_once_are_the_factors_one_by_one() {
        let dropout = Dropout {
            probability: 0.4,
            seed: 0xdead_beef_0123,
        };
        // Not a multiple of the piece that a thread works on.
        let all = dropout.factors(40_001);
        assert!((0..all.len()).all(|i| all[i] == dropout.factor(i)));
    }

    #[test]
    fn streams_and_neighbors_are_uncorrelated() {
        let dropout = Dropout {
            probability: 0.5,
            seed: 3,
        };
        let (a, b) = (dropout.stream(0), dropout.stream(1));
        let n = 200_000;
        let agree = |f: &dyn Fn(usize) -> bool| (0..n).filter(|&i| f(i)).count() as f64 / n as f64;
        // Five standard errors of a fair coin over n draws: 5.6e-3.
        let streams = agree(&|i| (a.factor(i) > 0.0) == (b.factor(i) > 0.0));
        let neighbors = agree(&|i| (a.factor(i) > 0.0) == (a.factor(i + 1) > 0.0));
        assert!((streams - 0.5).abs() < 5.6e-3, "{streams}");
        assert!((neighbors - 0.5).abs() < 5.6e-3, "{neighbors}");
    }
}

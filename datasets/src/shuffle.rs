//! Random orders that depend on a seed and a position alone, never on what was drawn before.
//!
//! The bounded draw and the Fisher-Yates loop are written out here rather than taken from a library: a resumed run
//! must see the order the interrupted one saw, and library shuffles may change between releases. The ChaCha8 word
//! stream itself is fixed by its specification.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a random stream is for. Streams of one seed and different purposes share no words.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    EpochOrder = 1,
    ValidationSplit = 2,
    DigitsTrain = 3,
    DigitsTest = 4,
    SelectiveCopyTrain = 5,
    SelectiveCopyTest = 6,
}

/// The order in which epoch `epoch` visits the `len` examples of a split: a permutation of `0..len`.
///
/// A function of its arguments alone, the same on every machine, so a resumed run continues its epoch without any
/// stored random state. O(`len`) time.
///
/// # Panics
/// If `len` does not fit in `u32`; no [`SequenceSet`](crate::SequenceSet) is that long.
///
/// # Examples
/// ```
/// let order = datasets::epoch_order(5, 7, 0);
/// let mut sorted = order.clone();
/// sorted.sort();
/// assert_eq!(sorted, [0, 1, 2, 3, 4]);
/// assert_eq!(order, datasets::epoch_order(5, 7, 0));
/// assert_ne!(datasets::epoch_order(100, 7, 0), datasets::epoch_order(100, 7, 1));
/// ```
pub fn epoch_order(len: usize, seed: u64, epoch: u64) -> Vec<u32> {
    permutation(len, &mut stream(seed, Purpose::EpochOrder, epoch))
}

/// An independent ChaCha8 stream for each (seed, purpose, index).
pub(crate) fn stream(seed: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

/// A uniformly random permutation of `0..len`.
pub(crate) fn permutation(len: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let len = u32::try_from(len).expect("a split holds fewer than 2^32 examples");
    let mut order: Vec<u32> = (0..len).collect();
    for last in (1..len).rev() {
        order.swap(last as usize, below(last + 1, rng) as usize);
    }
    order
}

/// A uniform draw from `0..bound`.
pub(crate) fn below(bound: u32, rng: &mut ChaCha8Rng) -> u32 {
    // Lemire (2019): the high half of a 32 x 32 bit product, rejecting the few low halves that would bias it.
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(bound);
        if product as u32 >= threshold {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_epoch_order_is_a_permutation(len in 0_usize..300, seed: u64, epoch: u64) {
            let mut order = epoch_order(len, seed, epoch);
            prop_assert_eq!(&order, &epoch_order(len, seed, epoch));
            order.sort_unstable();
            prop_assert!(order.into_iter().eq(0..len as u32));
        }

        #[test]
        fn a_bounded_draw_stays_below_its_bound(bound in 1_u32.., seed: u64) {
            prop_assert!(below(bound, &mut stream(seed, Purpose::EpochOrder, 0)) < bound);
        }
    }

    #[test]
    fn epochs_seeds_and_purposes_give_different_orders() {
        let base = epoch_order(1000, 1, 1);
        assert_ne!(base, epoch_order(1000, 1, 2));
        assert_ne!(base, epoch_order(1000, 2, 1));
        assert_ne!(
            base,
            permutation(1000, &mut stream(1, Purpose::ValidationSplit, 1))
        );
    }

    /// A resumed run relies on this order: a change here breaks every stored checkpoint's epoch.
    #[test]
    fn the_order_of_seed_7_epoch_3_never_changes() {
        assert_eq!(epoch_order(10, 7, 3), GOLDEN);
    }
    const GOLDEN: [u32; 10] = [8, 0, 1, 4, 2, 7, 5, 6, 3, 9];

    #[test]
    fn every_example_takes_every_place_about_equally_often() {
        const LEN: usize = 5;
        const EPOCHS: u64 = 5000;
        let mut counts = [[0.0_f64; LEN]; LEN];
        for epoch in 0..EPOCHS {
            for (place, example) in epoch_order(LEN, 0, epoch).into_iter().enumerate() {
                counts[place][example as usize] += 1.0;
            }
        }
        // A count is binomial with p = 1/5: mean 1000, standard deviation 28; 5 of them for 25 cells.
        for count in counts.into_iter().flatten() {
            assert!((count - 1000.0).abs() < 5.0 * 28.3, "{counts:?}");
        }
    }
}

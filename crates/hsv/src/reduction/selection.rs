//! Which balanced states stay.

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

/// Which of the balanced states a truncation keeps. Anything but [`Largest`](Self::Largest) is there to be compared
/// with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Selection {
    /// Those with the largest Hankel singular values: balanced truncation.
    #[default]
    Largest,
    /// Those with the smallest ones that still stand above rounding.
    Smallest,
    /// A uniform draw of those that stand above rounding, equal for equal seeds.
    Random {
        /// Seed of the draw.
        seed: u64,
    },
}

impl Selection {
    /// `order` of the first `rank` states, those that stand above rounding, in increasing position.
    ///
    /// # Panics
    /// If `order` is greater than `rank`.
    pub fn states(self, rank: usize, order: usize) -> Vec<usize> {
        match self {
            Self::Largest => (0..order).collect(),
            Self::Smallest => (rank - order..rank).collect(),
            Self::Random { seed } => {
                let mut states =
                    sample(&mut ChaCha8Rng::seed_from_u64(seed), rank, order).into_vec();
                states.sort_unstable();
                states
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_sorted_without_repetition_and_repeats_for_its_seed() {
        for seed in 0..20 {
            let states = Selection::Random { seed }.states(12, 5);
            assert_eq!(states.len(), 5);
            assert!(states.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(states.iter().all(|&state| state < 12));
            assert_eq!(states, Selection::Random { seed }.states(12, 5));
        }
        let draws: Vec<_> = (0..20)
            .map(|seed| Selection::Random { seed }.states(12, 5))
            .collect();
        assert!(draws.iter().any(|draw| *draw != draws[0]));
    }

    #[test]
    fn the_ends_of_the_spectrum_are_where_they_should_be() {
        assert_eq!(Selection::Largest.states(5, 2), [0, 1]);
        assert_eq!(Selection::Smallest.states(5, 2), [3, 4]);
        assert_eq!(Selection::Smallest.states(5, 5), [0, 1, 2, 3, 4]);
    }
}

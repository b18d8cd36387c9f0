//! How sets are divided.

use super::SequenceSet;
use crate::error::{DatasetError, Part};
use crate::shuffle::{Purpose, permutation, stream};

impl SequenceSet {
    /// The first `len` examples, or all if there are fewer.
    pub fn first(&self, len: usize) -> Self {
        self.subset(&self.members[..len.min(self.len())])
    }

    /// Divides the set at random into `(train, validation)`.
    ///
    /// Every example lands in exactly one part; validation gets `fraction` of them, rounded to the nearest number.
    /// Equal seeds give equal parts. A fraction of exactly 0 asks for an empty validation set and gets one.
    ///
    /// # Errors
    /// [`DatasetError::ValidationFraction`] if `fraction` is not in `[0, 1)`, [`DatasetError::EmptySplit`] if
    /// rounding would leave either part empty otherwise.
    pub fn split_validation(&self, fraction: f64, seed: u64) -> Result<(Self, Self), DatasetError> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(DatasetError::ValidationFraction { seen: fraction });
        }
        let validation = (self.len() as f64 * fraction).round() as usize;
        let empty = |part| DatasetError::EmptySplit {
            part,
            available: self.len(),
            fraction,
        };
        if validation == self.len() {
            return Err(empty(Part::Train));
        }
        if validation == 0 && fraction > 0.0 {
            return Err(empty(Part::Validation));
        }
        let order = permutation(self.len(), &mut stream(seed, Purpose::ValidationSplit, 0));
        let members: Vec<u32> = order
            .into_iter()
            .map(|index| self.members[index as usize])
            .collect();
        let (validation, train) = members.split_at(validation);
        Ok((self.subset(train), self.subset(validation)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence_set::testing::numbered;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_split_loses_and_repeats_no_example(len in 2_usize..60, fraction in 0.0..1.0, seed: u64) {
            let all = numbered(len);
            let Ok((train, validation)) = all.split_validation(fraction, seed) else {
                let rounded = (len as f64 * fraction).round() as usize;
                prop_assert!(rounded == 0 || rounded == len);
                return Ok(());
            };
            prop_assert_eq!(validation.len(), (len as f64 * fraction).round() as usize);
            let mut seen: Vec<u8> = [train, validation].iter()
                .flat_map(|part| (0..part.len()).map(|index| part.bytes(index)[0])).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq((0..len).map(|index| 4 * index as u8)));
        }
    }

    #[test]
    fn a_split_repeats_for_its_seed_and_changes_with_it() {
        let firsts = |seed| {
            let (_, validation) = numbered(50).split_validation(0.5, seed).unwrap();
            (0..25)
                .map(|index| validation.bytes(index)[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(firsts(1), firsts(1));
        assert_ne!(firsts(1), firsts(2));
    }

    #[test]
    fn no_validation_is_given_only_when_asked_for() {
        let (train, validation) = numbered(10).split_validation(0.0, 0).unwrap();
        assert_eq!((train.len(), validation.len()), (10, 0));
        let error = numbered(10).split_validation(0.04, 0).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::EmptySplit {
                    part: Part::Validation,
                    available: 10,
                    ..
                }
            ),
            "{error}"
        );
        let error = numbered(10).split_validation(0.96, 0).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::EmptySplit {
                    part: Part::Train,
                    available: 10,
                    ..
                }
            ),
            "{error}"
        );
        let error = numbered(0).split_validation(0.0, 0).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::EmptySplit {
                    part: Part::Train,
                    available: 0,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_fraction_outside_its_range_is_refused() {
        for fraction in [-0.1, 1.0, 7.0, f64::NAN, f64::INFINITY] {
            let error = numbered(10).split_validation(fraction, 0).unwrap_err();
            assert!(
                matches!(error, DatasetError::ValidationFraction { .. }),
                "{fraction}: {error}"
            );
        }
    }
}

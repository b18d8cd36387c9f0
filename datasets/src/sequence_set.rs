//! Labeled sequences in memory, and how they are divided.

use std::fmt;
use std::sync::Arc;

use crate::error::{DatasetError, Part};
use crate::shuffle::{Purpose, permutation, stream};

/// The size that every example of a data set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Steps of a sequence.
    pub length: usize,
    /// Values at each step.
    pub channels: usize,
    /// Labels are in `0..classes`.
    pub classes: usize,
}

impl Shape {
    /// Values in one example: `length * channels`.
    pub fn values(&self) -> usize {
        self.length * self.channels
    }
}

/// Labeled sequences of one shape, stored as bytes and read as `f32` in `[0, 1]`.
///
/// A byte `b` is read as `b / 255`. Sets cut from one another share their storage, so a clone or a split copies no
/// example.
///
/// # Shapes
/// An example is `[length, channels]`, row-major: all channels of step 0, then of step 1, and so on.
///
/// # Examples
/// ```
/// use datasets::{SequenceSet, Shape};
///
/// let shape = Shape { length: 2, channels: 1, classes: 3 };
/// let set = SequenceSet::new(shape, vec![0, 255, 51, 0], vec![2, 0])?;
/// let mut example = [0.0; 2];
/// set.write_example(0, &mut example);
/// assert_eq!((set.len(), set.label(0), example), (2, 2, [0.0, 1.0]));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
#[derive(Clone)]
pub struct SequenceSet {
    shape: Shape,
    stored: Arc<Stored>,
    /// The stored examples that belong to this set, in its order.
    members: Arc<[u32]>,
}

struct Stored {
    bytes: Vec<u8>,
    labels: Vec<u8>,
}

impl SequenceSet {
    /// A set of `labels.len()` examples, `bytes` being `[example, length, channels]`.
    ///
    /// # Errors
    /// [`DatasetError::ExampleBytes`] if the bytes are not as many as the labels and the shape ask for,
    /// [`DatasetError::LabelOutOfRange`] for the first label that is not below `shape.classes`.
    ///
    /// # Panics
    /// If there are 2³² examples or more.
    pub fn new(shape: Shape, bytes: Vec<u8>, labels: Vec<u8>) -> Result<Self, DatasetError> {
        if labels.len().checked_mul(shape.values()) != Some(bytes.len()) {
            return Err(DatasetError::ExampleBytes {
                bytes: bytes.len(),
                examples: labels.len(),
                per_example: shape.values(),
            });
        }
        if let Some(index) = labels
            .iter()
            .position(|label| usize::from(*label) >= shape.classes)
        {
            let (label, classes) = (labels[index].into(), shape.classes);
            return Err(DatasetError::LabelOutOfRange {
                index,
                label,
                classes,
            });
        }
        let len = u32::try_from(labels.len()).expect("a set holds fewer than 2^32 examples");
        Ok(Self {
            shape,
            stored: Arc::new(Stored { bytes, labels }),
            members: (0..len).collect(),
        })
    }

    /// The size of every example.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Class of example `index`, in `0..classes`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn label(&self, index: usize) -> usize {
        self.stored.labels[self.member(index)].into()
    }

    /// Example `index` as stored, `[length, channels]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn bytes(&self, index: usize) -> &[u8] {
        let start = self.member(index) * self.shape.values();
        &self.stored.bytes[start..start + self.shape.values()]
    }

    /// Writes example `index` to `out`, `[length, channels]`, as values in `[0, 1]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len), or `out` is not [`Shape::values`] long.
    pub fn write_example(&self, index: usize, out: &mut [f32]) {
        let bytes = self.bytes(index);
        assert_eq!(out.len(), bytes.len(), "`out` must hold one example");
        for (value, byte) in out.iter_mut().zip(bytes) {
            *value = f32::from(*byte) / 255.0;
        }
    }

    /// Number of examples of each class, `[classes]`.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.shape.classes];
        for index in 0..self.len() {
            counts[self.label(index)] += 1;
        }
        counts
    }

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

    fn member(&self, index: usize) -> usize {
        self.members[index] as usize
    }

    fn subset(&self, members: &[u32]) -> Self {
        Self {
            shape: self.shape,
            stored: Arc::clone(&self.stored),
            members: members.into(),
        }
    }
}

/// Shape and length; the examples themselves would fill the screen.
impl fmt::Debug for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SequenceSet")
            .field("shape", &self.shape)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape {
        length: 2,
        channels: 2,
        classes: 5,
    };

    /// Example `i` holds the bytes `4 i .. 4 i + 4` (modulo 256) and has label `i % 5`.
    fn numbered(len: usize) -> SequenceSet {
        let bytes = (0..len * SHAPE.values()).map(|value| value as u8).collect();
        SequenceSet::new(
            SHAPE,
            bytes,
            (0..len).map(|index| (index % 5) as u8).collect(),
        )
        .unwrap()
    }

    #[test]
    fn examples_keep_their_bytes_and_labels() {
        let set = numbered(7);
        assert_eq!(
            (set.len(), set.bytes(3), set.label(6)),
            (7, &[12, 13, 14, 15][..], 1)
        );
        let mut out = [f32::NAN; 4];
        set.write_example(0, &mut out);
        assert_eq!(out, [0.0, 1.0 / 255.0, 2.0 / 255.0, 3.0 / 255.0]);
        assert_eq!(set.class_counts(), [2, 2, 1, 1, 1]);
        assert_eq!((set.first(2).len(), set.first(99).len()), (2, 7));
    }

    #[test]
    fn bytes_and_labels_that_do_not_fit_are_refused() {
        let error = SequenceSet::new(SHAPE, vec![0; 7], vec![0; 2]).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::ExampleBytes {
                    bytes: 7,
                    examples: 2,
                    per_example: 4
                }
            ),
            "{error}"
        );
        let error = SequenceSet::new(SHAPE, vec![0; 8], vec![4, 5]).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::LabelOutOfRange {
                    index: 1,
                    label: 5,
                    classes: 5
                }
            ),
            "{error}"
        );
    }

    #[test]
    #[should_panic(expected = "`out` must hold one example")]
    fn an_output_of_another_size_is_a_bug_of_the_caller() {
        numbered(1).write_example(0, &mut [0.0; 3]);
    }

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

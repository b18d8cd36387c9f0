//! Labeled sequences in memory, and how they are divided.

use std::fmt;
use std::sync::Arc;

use crate::error::{DatasetError, Part};
use crate::shape::{Content, Shape, Target};
use crate::shuffle::{Purpose, permutation, stream};

/// Labeled sequences of one shape, stored as bytes.
///
/// Bytes are read as `f32` in `[0, 1]` by [`write_example`](Self::write_example) or as tokens by
/// [`write_tokens`](Self::write_tokens), as [`Shape::content`] says. An example may be shorter than the shape's
/// length; it is stored without padding, and padded at its end when it is written out. Sets cut from one another share
/// their storage, so a clone or a split copies no example.
///
/// # Shapes
/// An example is `[length, channels]`, row-major: all channels of step 0, then of step 1, and so on.
///
/// # Examples
/// Values, with a class for each example:
/// ```
/// use datasets::{Content, SequenceSet, Shape, Target};
///
/// let (content, target) = (Content::Values, Target::Class);
/// let shape = Shape { length: 2, channels: 1, classes: 3, content, target };
/// let set = SequenceSet::new(shape, vec![0, 255, 51, 0], vec![2, 0])?;
/// let mut example = [0.0; 2];
/// set.write_example(0, &mut example);
/// assert_eq!((set.len(), set.label(0), example), (2, 2, [0.0, 1.0]));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
/// Tokens, two of them and then one:
/// ```
/// # use datasets::{Content, SequenceSet, Shape, Target};
/// let (content, target) = (Content::Tokens { vocabulary: 9 }, Target::Class);
/// let shape = Shape { length: 2, channels: 1, classes: 3, content, target };
/// let set = SequenceSet::with_lengths(shape, vec![5, 8, 7], &[2, 1], vec![2, 0])?;
/// let mut example = [-1; 2];
/// set.write_tokens(1, &mut example);
/// assert_eq!((set.length(1), set.bytes(1), example), (1, &[7][..], [7, 0]));
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
    /// One example behind the other, without gaps.
    bytes: Vec<u8>,
    /// Where each example starts in `bytes`, and where the last one ends.
    starts: Vec<usize>,
    /// `Shape::labels` of each example.
    labels: Vec<u8>,
}

impl SequenceSet {
    /// A set of examples that all have the full length, `bytes` being `[example, length, channels]` and `labels`
    /// `[example, Shape::labels]`.
    ///
    /// # Errors
    /// As [`with_lengths`](Self::with_lengths).
    ///
    /// # Panics
    /// If there are 2³² examples or more.
    pub fn new(shape: Shape, bytes: Vec<u8>, labels: Vec<u8>) -> Result<Self, DatasetError> {
        shape.check()?;
        let examples = labels.len() / shape.labels();
        Self::with_lengths(shape, bytes, &vec![shape.length; examples], labels)
    }

    /// A set of `lengths.len()` examples, one behind the other in `bytes`, example `i` being `[lengths[i], channels]`.
    /// `labels` is `[example, Shape::labels]`.
    ///
    /// # Errors
    /// - for the shape: [`DatasetError::Vocabulary`], [`DatasetError::TokenChannels`], [`DatasetError::TargetSteps`];
    /// - for the number of labels or bytes: [`DatasetError::LabelCount`], [`DatasetError::ExampleBytes`];
    /// - for the first example that is wrong: [`DatasetError::EmptyExample`] if it has no step,
    ///   [`DatasetError::ExampleTooLong`] if it has more than `shape.length`, [`DatasetError::ExampleTooShort`] if it
    ///   has fewer although the target is [`Target::LastSteps`], [`DatasetError::TokenOutOfRange`],
    ///   [`DatasetError::LabelOutOfRange`].
    ///
    /// # Panics
    /// If there are 2³² examples or more.
    pub fn with_lengths(
        shape: Shape,
        bytes: Vec<u8>,
        lengths: &[usize],
        labels: Vec<u8>,
    ) -> Result<Self, DatasetError> {
        shape.check()?;
        let examples = lengths.len();
        if examples.checked_mul(shape.labels()) != Some(labels.len()) {
            return Err(DatasetError::LabelCount {
                labels: labels.len(),
                examples,
                per_example: shape.labels(),
            });
        }
        let starts = starts(&shape, lengths)?;
        let expected = starts[examples];
        if bytes.len() != expected {
            return Err(DatasetError::ExampleBytes {
                bytes: bytes.len(),
                examples,
                expected,
            });
        }
        check_tokens(&shape, &bytes, &starts)?;
        check_labels(&shape, &labels)?;
        let len = u32::try_from(examples).expect("a set holds fewer than 2^32 examples");
        Ok(Self {
            shape,
            stored: Arc::new(Stored {
                bytes,
                starts,
                labels,
            }),
            members: (0..len).collect(),
        })
    }

    /// The size of the longest example there may be, and what the examples are.
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

    /// Steps of example `index`, 1 to `shape.length`, not counting padding.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn length(&self, index: usize) -> usize {
        self.bytes(index).len() / self.shape.channels
    }

    /// Class of example `index`, in `0..classes`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len), or the target is not [`Target::Class`].
    pub fn label(&self, index: usize) -> usize {
        assert_eq!(
            self.shape.target,
            Target::Class,
            "`label` is for one class per example; these examples have `labels`"
        );
        self.labels(index)[0].into()
    }

    /// Labels of example `index`, each in `0..classes`: its class, or the classes at its last steps, in order.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn labels(&self, index: usize) -> &[u8] {
        let count = self.shape.labels();
        let start = self.member(index) * count;
        &self.stored.labels[start..start + count]
    }

    /// Example `index` as stored, `[length(index), channels]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn bytes(&self, index: usize) -> &[u8] {
        let member = self.member(index);
        &self.stored.bytes[self.stored.starts[member]..self.stored.starts[member + 1]]
    }

    /// Writes example `index` to `out`, `[steps, channels]`, as values in `[0, 1]`; 0 behind its end.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len), `out` has fewer steps than the example or a part of one, or the
    /// content is not [`Content::Values`].
    pub fn write_example(&self, index: usize, out: &mut [f32]) {
        assert_eq!(
            self.shape.content,
            Content::Values,
            "`write_example` is for values; this set has tokens, for `write_tokens`"
        );
        self.write(index, out, |byte| f32::from(byte) / 255.0);
    }

    /// Writes example `index` to `out`, `[steps]`, as tokens in `0..vocabulary`; token 0 behind its end.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len), `out` has fewer steps than the example, or the content is not
    /// [`Content::Tokens`].
    pub fn write_tokens(&self, index: usize, out: &mut [i32]) {
        assert!(
            matches!(self.shape.content, Content::Tokens { .. }),
            "`write_tokens` is for tokens; this set has values, for `write_example`"
        );
        self.write(index, out, i32::from);
    }

    /// Number of labels of each class, `[classes]`.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.shape.classes];
        for label in (0..self.len()).flat_map(|index| self.labels(index)) {
            counts[usize::from(*label)] += 1;
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

    fn write<T: Default + Clone>(&self, index: usize, out: &mut [T], read: impl Fn(u8) -> T) {
        let bytes = self.bytes(index);
        assert!(
            out.len() >= bytes.len() && out.len().is_multiple_of(self.shape.channels),
            "`out` must hold the example, step by step"
        );
        let (steps, padding) = out.split_at_mut(bytes.len());
        for (value, byte) in steps.iter_mut().zip(bytes) {
            *value = read(*byte);
        }
        padding.fill(T::default());
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

/// Where examples of these lengths start when they lie one behind the other, and where the last one ends, in bytes.
fn starts(shape: &Shape, lengths: &[usize]) -> Result<Vec<usize>, DatasetError> {
    let mut end = 0_usize;
    let mut starts = Vec::with_capacity(lengths.len() + 1);
    starts.push(end);
    for (index, &seen) in lengths.iter().enumerate() {
        let length = shape.length;
        if seen == 0 || shape.channels == 0 {
            return Err(DatasetError::EmptyExample { index });
        }
        if seen > length {
            return Err(DatasetError::ExampleTooLong {
                index,
                seen,
                length,
            });
        }
        if seen < length && shape.target != Target::Class {
            return Err(DatasetError::ExampleTooShort {
                index,
                seen,
                length,
            });
        }
        // What does not fit in memory cannot equal the number of bytes given, and is refused for that.
        end = end.saturating_add(seen.saturating_mul(shape.channels));
        starts.push(end);
    }
    Ok(starts)
}

fn check_tokens(shape: &Shape, bytes: &[u8], starts: &[usize]) -> Result<(), DatasetError> {
    let Content::Tokens { vocabulary } = shape.content else {
        return Ok(());
    };
    match bytes
        .iter()
        .position(|token| usize::from(*token) >= vocabulary)
    {
        Some(position) => {
            let index = starts.partition_point(|start| *start <= position) - 1;
            Err(DatasetError::TokenOutOfRange {
                index,
                step: position - starts[index],
                token: bytes[position],
                vocabulary,
            })
        }
        None => Ok(()),
    }
}

fn check_labels(shape: &Shape, labels: &[u8]) -> Result<(), DatasetError> {
    let classes = shape.classes;
    match labels
        .iter()
        .position(|label| usize::from(*label) >= classes)
    {
        Some(position) => Err(DatasetError::LabelOutOfRange {
            index: position / shape.labels(),
            label: labels[position].into(),
            classes,
        }),
        None => Ok(()),
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
        content: Content::Values,
        target: Target::Class,
    };
    const TOKENS: Shape = Shape {
        length: 3,
        channels: 1,
        content: Content::Tokens { vocabulary: 8 },
        ..SHAPE
    };
    const COPIES: Shape = Shape {
        target: Target::LastSteps { count: 2 },
        ..TOKENS
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
                    expected: 8
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
    fn short_examples_are_padded_at_their_end() {
        let set = SequenceSet::with_lengths(SHAPE, vec![255; 6], &[1, 2], vec![0, 1]).unwrap();
        let mut out = [f32::NAN; 4];
        set.write_example(0, &mut out);
        assert_eq!((set.length(0), out), (1, [1.0, 1.0, 0.0, 0.0]));
        set.write_example(1, &mut out);
        assert_eq!((set.length(1), out), (2, [1.0; 4]));
    }

    #[test]
    fn labels_of_several_steps_stay_with_their_example() {
        let set = SequenceSet::new(COPIES, vec![1, 2, 3, 4, 5, 6], vec![0, 1, 4, 1]).unwrap();
        assert_eq!(
            (set.len(), set.labels(0), set.labels(1)),
            (2, &[0, 1][..], &[4, 1][..])
        );
        assert_eq!(set.class_counts(), [1, 2, 0, 0, 1]);
        let (train, validation) = set.split_validation(0.5, 0).unwrap();
        for part in [train, validation] {
            let expected: &[u8] = if part.bytes(0)[0] == 1 {
                &[0, 1]
            } else {
                &[4, 1]
            };
            assert_eq!(part.labels(0), expected);
        }
    }

    /// The error of a set of tokens with these bytes, lengths and labels.
    fn refusal(shape: Shape, bytes: &[u8], lengths: &[usize], labels: &[u8]) -> DatasetError {
        SequenceSet::with_lengths(shape, bytes.into(), lengths, labels.into()).unwrap_err()
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        let error = refusal(TOKENS, &[1, 2], &[1, 0, 1], &[0; 3]);
        assert!(
            matches!(error, DatasetError::EmptyExample { index: 1 }),
            "{error}"
        );
        let error = refusal(TOKENS, &[1; 5], &[1, 4], &[0; 2]);
        assert!(
            matches!(
                error,
                DatasetError::ExampleTooLong {
                    index: 1,
                    seen: 4,
                    length: 3
                }
            ),
            "{error}"
        );
        let error = refusal(COPIES, &[1; 5], &[3, 2], &[0; 4]);
        assert!(
            matches!(
                error,
                DatasetError::ExampleTooShort {
                    index: 1,
                    seen: 2,
                    length: 3
                }
            ),
            "{error}"
        );
        let error = refusal(TOKENS, &[1; 5], &[3, 3], &[0; 2]);
        assert!(
            matches!(
                error,
                DatasetError::ExampleBytes {
                    bytes: 5,
                    examples: 2,
                    expected: 6
                }
            ),
            "{error}"
        );
        for empty in [
            Shape { length: 0, ..SHAPE },
            Shape {
                channels: 0,
                ..SHAPE
            },
        ] {
            let error = SequenceSet::new(empty, vec![], vec![0]).unwrap_err();
            assert!(
                matches!(error, DatasetError::EmptyExample { index: 0 }),
                "{error}"
            );
        }
        let vast = Shape {
            length: usize::MAX,
            ..SHAPE
        };
        let error = SequenceSet::new(vast, vec![0; 4], vec![0; 2]).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::ExampleBytes {
                    expected: usize::MAX,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn tokens_and_labels_that_cannot_be_are_named_with_their_place() {
        let error = refusal(TOKENS, &[1, 2, 7, 0, 8], &[2, 1, 2], &[0; 3]);
        assert!(
            matches!(
                error,
                DatasetError::TokenOutOfRange {
                    index: 2,
                    step: 1,
                    token: 8,
                    vocabulary: 8
                }
            ),
            "{error}"
        );
        let error = refusal(COPIES, &[1; 6], &[3, 3], &[0, 0, 0, 9]);
        assert!(
            matches!(
                error,
                DatasetError::LabelOutOfRange {
                    index: 1,
                    label: 9,
                    classes: 5
                }
            ),
            "{error}"
        );
        for labels in [&[0; 3][..], &[0; 6]] {
            let error = refusal(COPIES, &[1; 6], &[3, 3], labels);
            assert!(
                matches!(
                    error,
                    DatasetError::LabelCount {
                        examples: 2,
                        per_example: 2,
                        ..
                    }
                ),
                "{error}"
            );
        }
        let error = SequenceSet::new(COPIES, vec![1; 3], vec![0; 3]).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::LabelCount {
                    labels: 3,
                    examples: 1,
                    per_example: 2
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_shape_that_cannot_be_is_refused_before_anything_else() {
        let target = Target::LastSteps { count: 0 };
        let error = SequenceSet::new(Shape { target, ..SHAPE }, vec![], vec![]).unwrap_err();
        assert!(
            matches!(error, DatasetError::TargetSteps { count: 0, .. }),
            "{error}"
        );
    }

    #[test]
    #[should_panic(expected = "this set has tokens")]
    fn reading_tokens_as_values_is_a_bug_of_the_caller() {
        let set = SequenceSet::new(TOKENS, vec![1; 3], vec![0]).unwrap();
        set.write_example(0, &mut [0.0; 3]);
    }

    #[test]
    #[should_panic(expected = "this set has values")]
    fn reading_values_as_tokens_is_a_bug_of_the_caller() {
        numbered(1).write_tokens(0, &mut [0; 4]);
    }

    #[test]
    #[should_panic(expected = "these examples have `labels`")]
    fn asking_for_the_one_label_of_several_is_a_bug_of_the_caller() {
        let set = SequenceSet::new(COPIES, vec![1; 3], vec![0; 2]).unwrap();
        set.label(0);
    }

    #[test]
    #[should_panic(expected = "`out` must hold the example")]
    fn an_output_that_is_too_small_is_a_bug_of_the_caller() {
        numbered(1).write_example(0, &mut [0.0; 3]);
    }

    /// Lengths of up to 20 examples of at most `TOKENS.length` steps, and as many tokens as they need.
    fn ragged() -> impl Strategy<Value = (Vec<usize>, Vec<u8>)> {
        prop::collection::vec(1..=TOKENS.length, 0..20).prop_flat_map(|lengths| {
            let total = lengths.iter().sum::<usize>();
            (Just(lengths), prop::collection::vec(0_u8..8, total))
        })
    }

    proptest! {
        #[test]
        fn examples_of_any_length_come_back_in_their_order((lengths, tokens) in ragged()) {
            let labels: Vec<u8> = (0..lengths.len()).map(|index| (index % 5) as u8).collect();
            let set = SequenceSet::with_lengths(TOKENS, tokens.clone(), &lengths, labels).unwrap();
            prop_assert_eq!(set.len(), lengths.len());
            let stored: Vec<u8> = (0..set.len()).flat_map(|index| set.bytes(index).to_vec()).collect();
            prop_assert_eq!(stored, tokens);
            for (index, length) in lengths.into_iter().enumerate() {
                let mut out = [-1; TOKENS.length];
                set.write_tokens(index, &mut out);
                let (steps, padding) = out.split_at(set.length(index));
                prop_assert_eq!((set.length(index), set.label(index)), (length, index % 5));
                prop_assert!(steps.iter().copied().eq(set.bytes(index).iter().map(|token| i32::from(*token))));
                prop_assert!(padding.iter().all(|token| *token == 0));
            }
        }

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

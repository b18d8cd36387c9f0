//! Labeled sequences in memory.

mod check;
mod split;
mod steps;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::DatasetError;
use crate::shape::{Content, Shape, Target};
pub use steps::{Steps, StepsOf};

/// Labeled sequences of one shape, or pairs of them, stored in as few bytes as their [`Steps`] need.
///
/// They are read as `f32` by [`write_example`](Self::write_example) or as tokens by
/// [`write_tokens`](Self::write_tokens), as [`Shape::content`] says. A sequence may be shorter than the shape's length;
/// it is stored without padding, and padded at its end when it is written out. Sets cut from one another share their
/// storage, so a clone or a split copies no example.
///
/// An example of a set of pairs has two sequences. What reads steps reads the first one; [`second`](Self::second) is
/// the same set, in the same storage, where it reads the second one.
///
/// # Shapes
/// A sequence is `[length, channels]`, row-major: all channels of step 0, then of step 1, and so on.
///
/// # Examples
/// Values, with a class for each example:
/// ```
/// use datasets::{Content, SequenceSet, Shape, Target};
///
/// let (content, target) = (Content::Values, Target::Class);
/// let shape = Shape { sequences: 1, length: 2, channels: 1, classes: 3, content, target };
/// let set = SequenceSet::new(shape, vec![0_u8, 255, 51, 0], vec![2, 0])?;
/// let mut example = [0.0; 2];
/// set.write_example(0, &mut example);
/// assert_eq!((set.len(), set.label(0), example), (2, 2, [0.0, 1.0]));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
/// Tokens, two of them and then one:
/// ```
/// # use datasets::{Content, SequenceSet, Shape, StepsOf, Target};
/// let (content, target) = (Content::Tokens { vocabulary: 999 }, Target::Class);
/// let shape = Shape { sequences: 1, length: 2, channels: 1, classes: 3, content, target };
/// let set = SequenceSet::with_lengths(shape, vec![5_u16, 800, 7], &[2, 1], vec![2, 0])?;
/// let mut example = [-1; 2];
/// set.write_tokens(1, &mut example);
/// assert_eq!((set.length(1), set.steps(1), example), (1, StepsOf::Words(&[7]), [7, 0]));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
/// The same tokens as one pair:
/// ```
/// # use datasets::{Content, SequenceSet, Shape, StepsOf, Target};
/// # let (content, target) = (Content::Tokens { vocabulary: 999 }, Target::Class);
/// let shape = Shape { sequences: 2, length: 2, channels: 1, classes: 3, content, target };
/// let set = SequenceSet::with_lengths(shape, vec![5_u16, 800, 7], &[2, 1], vec![2])?;
/// let second = set.second().expect("pairs");
/// assert_eq!((set.len(), set.length(0), second.steps(0)), (1, 2, StepsOf::Words(&[7])));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
#[derive(Clone)]
pub struct SequenceSet {
    shape: Shape,
    stored: Arc<Stored>,
    /// The stored examples that belong to this set, in its order.
    members: Arc<[u32]>,
    /// Which of an example's sequences is read.
    sequence: usize,
}

struct Stored {
    /// One sequence behind the other, without gaps; those of an example are neighbors.
    steps: Steps,
    /// Where each sequence starts in `steps`, and where the last one ends.
    starts: Vec<usize>,
    /// `Shape::labels` of each example.
    labels: Vec<u16>,
}

impl SequenceSet {
    /// A set of examples that all have the full length, `steps` being `[example, sequence, length, channels]` and
    /// `labels` `[example, Shape::labels]`.
    ///
    /// # Errors
    /// As [`with_lengths`](Self::with_lengths).
    ///
    /// # Panics
    /// If there are 2³² examples or more.
    pub fn new(
        shape: Shape,
        steps: impl Into<Steps>,
        labels: Vec<u16>,
    ) -> Result<Self, DatasetError> {
        shape.check()?;
        let sequences = labels.len() / shape.labels() * shape.sequences;
        Self::with_lengths(shape, steps, &vec![shape.length; sequences], labels)
    }

    /// A set of sequences one behind the other in `steps`, sequence `i` being `[lengths[i], channels]`. `lengths` is
    /// `[example, sequence]` and `labels` `[example, Shape::labels]`.
    ///
    /// # Errors
    /// - for the shape: [`DatasetError::Sequences`], [`DatasetError::Vocabulary`], [`DatasetError::TokenChannels`],
    ///   [`DatasetError::TargetSteps`], [`DatasetError::TargetOfPairs`];
    /// - for steps stored as what they are not: [`DatasetError::TokensAsFloats`], [`DatasetError::ValuesAsWords`];
    /// - for their number or that of the labels: [`DatasetError::LabelCount`], [`DatasetError::StepCount`];
    /// - for the first example that is wrong: [`DatasetError::EmptyExample`] if it has a sequence without a step,
    ///   [`DatasetError::ExampleTooLong`] if it has one of more than `shape.length`, [`DatasetError::ExampleTooShort`]
    ///   if it has fewer although the target is [`Target::LastSteps`], [`DatasetError::TokenOutOfRange`],
    ///   [`DatasetError::NotFinite`], [`DatasetError::LabelOutOfRange`].
    ///
    /// # Panics
    /// If there are 2³² examples or more.
    pub fn with_lengths(
        shape: Shape,
        steps: impl Into<Steps>,
        lengths: &[usize],
        labels: Vec<u16>,
    ) -> Result<Self, DatasetError> {
        let steps = steps.into();
        let starts = check::all(&shape, &steps, lengths, &labels)?;
        let examples = lengths.len() / shape.sequences;
        let len = u32::try_from(examples).expect("a set holds fewer than 2^32 examples");
        Ok(Self {
            shape,
            stored: Arc::new(Stored {
                steps,
                starts,
                labels,
            }),
            members: (0..len).collect(),
            sequence: 0,
        })
    }

    /// Of a set of pairs, the same examples where the second sequence of each is read; `None` of any other set.
    pub fn second(&self) -> Option<Self> {
        (self.shape.sequences == 2).then(|| Self {
            sequence: 1,
            ..self.clone()
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
        self.range(index).len() / self.shape.channels
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
    pub fn labels(&self, index: usize) -> &[u16] {
        let count = self.shape.labels();
        let start = self.member(index) * count;
        &self.stored.labels[start..start + count]
    }

    /// Example `index` as stored, `[length(index), channels]`.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn steps(&self, index: usize) -> StepsOf<'_> {
        self.stored.steps.slice(self.range(index))
    }

    /// As [`steps`](Self::steps), of a set that is stored as bytes.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len), or the steps are stored otherwise.
    pub fn bytes(&self, index: usize) -> &[u8] {
        match self.steps(index) {
            StepsOf::Bytes(bytes) => bytes,
            StepsOf::Words(_) | StepsOf::Floats(_) => panic!("this set is not stored as bytes"),
        }
    }

    /// Writes example `index` to `out`, `[steps, channels]`, as values; 0 behind its end.
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
        match self.steps(index) {
            StepsOf::Bytes(bytes) => self.write(bytes, out, |byte| f32::from(byte) / 255.0),
            StepsOf::Floats(floats) => self.write(floats, out, |value| value),
            StepsOf::Words(_) => unreachable!("values are not stored as words"),
        }
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
        match self.steps(index) {
            StepsOf::Bytes(bytes) => self.write(bytes, out, i32::from),
            StepsOf::Words(words) => self.write(words, out, i32::from),
            StepsOf::Floats(_) => unreachable!("tokens are not stored as floats"),
        }
    }

    /// Number of labels of each class, `[classes]`.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.shape.classes];
        for label in (0..self.len()).flat_map(|index| self.labels(index)) {
            counts[usize::from(*label)] += 1;
        }
        counts
    }

    fn write<S: Copy, T: Default + Clone>(
        &self,
        stored: &[S],
        out: &mut [T],
        read: impl Fn(S) -> T,
    ) {
        assert!(
            out.len() >= stored.len() && out.len().is_multiple_of(self.shape.channels),
            "`out` must hold the example, step by step"
        );
        let (steps, padding) = out.split_at_mut(stored.len());
        for (value, stored) in steps.iter_mut().zip(stored) {
            *value = read(*stored);
        }
        padding.fill(T::default());
    }

    /// Where the steps of example `index` are stored.
    fn range(&self, index: usize) -> Range<usize> {
        let sequence = self.member(index) * self.shape.sequences + self.sequence;
        self.stored.starts[sequence]..self.stored.starts[sequence + 1]
    }

    fn member(&self, index: usize) -> usize {
        self.members[index] as usize
    }

    fn subset(&self, members: &[u32]) -> Self {
        Self {
            stored: Arc::clone(&self.stored),
            members: members.into(),
            ..*self
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

/// Small sets to test with.
#[cfg(test)]
mod testing {
    use super::*;

    pub(super) const SHAPE: Shape = Shape {
        sequences: 1,
        length: 2,
        channels: 2,
        classes: 5,
        content: Content::Values,
        target: Target::Class,
    };

    pub(super) const TOKENS: Shape = Shape {
        length: 3,
        channels: 1,
        content: Content::Tokens { vocabulary: 8 },
        ..SHAPE
    };
    pub(super) const COPIES: Shape = Shape {
        target: Target::LastSteps { count: 2 },
        ..TOKENS
    };

    /// Example `i` holds the bytes `4 i .. 4 i + 4` (modulo 256) and has label `i % 5`.
    pub(super) fn numbered(len: usize) -> SequenceSet {
        let bytes: Vec<u8> = (0..len * SHAPE.values()).map(|value| value as u8).collect();
        SequenceSet::new(
            SHAPE,
            bytes,
            (0..len).map(|index| (index % 5) as u16).collect(),
        )
        .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{COPIES, SHAPE, TOKENS, numbered};
    use super::*;
    use proptest::prelude::*;

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
        let error = SequenceSet::new(SHAPE, vec![0_u8; 7], vec![0; 2]).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::StepCount {
                    seen: 7,
                    examples: 2,
                    expected: 8
                }
            ),
            "{error}"
        );
        let error = SequenceSet::new(SHAPE, vec![0_u8; 8], vec![4, 5]).unwrap_err();
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
        let set = SequenceSet::with_lengths(SHAPE, vec![255_u8; 6], &[1, 2], vec![0, 1]).unwrap();
        let mut out = [f32::NAN; 4];
        set.write_example(0, &mut out);
        assert_eq!((set.length(0), out), (1, [1.0, 1.0, 0.0, 0.0]));
        set.write_example(1, &mut out);
        assert_eq!((set.length(1), out), (2, [1.0; 4]));
    }

    #[test]
    fn labels_of_several_steps_stay_with_their_example() {
        let set = SequenceSet::new(COPIES, vec![1_u8, 2, 3, 4, 5, 6], vec![0, 1, 4, 1]).unwrap();
        assert_eq!(
            (set.len(), set.labels(0), set.labels(1)),
            (2, &[0, 1][..], &[4, 1][..])
        );
        assert_eq!(set.class_counts(), [1, 2, 0, 0, 1]);
        let (train, validation) = set.split_validation(0.5, 0).unwrap();
        for part in [train, validation] {
            let expected: &[u16] = if part.bytes(0)[0] == 1 {
                &[0, 1]
            } else {
                &[4, 1]
            };
            assert_eq!(part.labels(0), expected);
        }
    }

    #[test]
    fn pairs_are_two_views_of_the_same_examples() {
        let shape = Shape {
            sequences: 2,
            ..TOKENS
        };
        let tokens = vec![1_u8, 2, 3, 4, 5, 6, 7];
        let set = SequenceSet::with_lengths(shape, tokens, &[1, 2, 3, 1], vec![3, 4]).unwrap();
        let second = set.second().unwrap();
        assert_eq!((set.len(), second.len()), (2, 2));
        assert_eq!((set.bytes(0), second.bytes(0)), (&[1][..], &[2, 3][..]));
        assert_eq!((set.bytes(1), second.bytes(1)), (&[4, 5, 6][..], &[7][..]));
        assert_eq!((set.label(1), second.label(1)), (4, 4));
        // Whatever is done to the one can be done to the other.
        let (train, validation) = set.split_validation(0.5, 3).unwrap();
        for part in [train, validation] {
            let first = part.bytes(0)[0];
            let expected = if first == 1 { 2 } else { 7 };
            assert_eq!(part.second().unwrap().bytes(0)[0], expected);
        }
        assert!(numbered(1).second().is_none());
    }

    #[test]
    fn values_and_tokens_of_every_width_are_read_alike() {
        let floats = SequenceSet::new(SHAPE, vec![-1.5_f32, 0.0, 3.0, 1e30], vec![0]).unwrap();
        let mut out = [f32::NAN; 6];
        floats.write_example(0, &mut out);
        assert_eq!(out, [-1.5, 0.0, 3.0, 1e30, 0.0, 0.0]);
        let content = Content::Tokens { vocabulary: 65_536 };
        let words = vec![0_u16, 65_535, 256];
        let words = SequenceSet::new(Shape { content, ..TOKENS }, words, vec![0]).unwrap();
        let mut out = [-1; 4];
        words.write_tokens(0, &mut out);
        assert_eq!(out, [0, 65_535, 256, 0]);
    }

    #[test]
    #[should_panic(expected = "not stored as bytes")]
    fn reading_floats_as_bytes_is_a_bug_of_the_caller() {
        let floats = SequenceSet::new(SHAPE, vec![0.5_f32; 4], vec![0]).unwrap();
        floats.bytes(0);
    }

    #[test]
    #[should_panic(expected = "this set has tokens")]
    fn reading_tokens_as_values_is_a_bug_of_the_caller() {
        let set = SequenceSet::new(TOKENS, vec![1_u8; 3], vec![0]).unwrap();
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
        let set = SequenceSet::new(COPIES, vec![1_u8; 3], vec![0; 2]).unwrap();
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
            let labels: Vec<u16> = (0..lengths.len()).map(|index| (index % 5) as u16).collect();
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

    }
}

//! What the examples of a data set look like: their size, what their bytes mean, what is to be told about them.

use crate::error::DatasetError;

/// Tokens are stored as words of 16 bits, so there are at most this many.
const LARGEST_VOCABULARY: usize = 1 << 16;

/// Size, content and target of the examples of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Sequences of an example: 1, or 2 for a pair that is labeled together.
    pub sequences: usize,
    /// Steps of the longest sequence there may be.
    pub length: usize,
    /// Values at each step; 1 for tokens.
    pub channels: usize,
    /// Labels are in `0..classes`.
    pub classes: usize,
    /// What an example holds at each step.
    pub content: Content,
    /// Where an example has its labels.
    pub target: Target,
}

/// What an example holds at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// `channels` numbers: in `[0, 1]` where they are stored as bytes, of which `b` stands for `b / 255`, and any finite
    /// ones where they are stored as `f32`.
    Values,
    /// One symbol out of a finite alphabet, stored as its number.
    Tokens {
        /// Tokens are in `0..vocabulary`, 1 to 65,536 of them. Token 0 also fills up what is behind a short example.
        vocabulary: usize,
    },
}

/// Where an example has its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One class for the whole example.
    Class,
    /// A class at each of the last `count` steps. Such examples all have the full length, so that the labels of a batch
    /// stand at the same steps. Pairs have no such labels.
    LastSteps {
        /// Labels of an example, 1 to `length`.
        count: usize,
    },
}

impl Shape {
    /// Values, or tokens, in a sequence of the greatest length: `length * channels`.
    pub fn values(&self) -> usize {
        self.length * self.channels
    }

    /// Labels of one example: 1, or the `count` of [`Target::LastSteps`].
    pub fn labels(&self) -> usize {
        match self.target {
            Target::Class => 1,
            Target::LastSteps { count } => count,
        }
    }

    /// Whether there can be examples of this shape.
    pub(crate) fn check(&self) -> Result<(), DatasetError> {
        if !(1..=2).contains(&self.sequences) {
            return Err(DatasetError::Sequences {
                seen: self.sequences,
            });
        }
        if let Content::Tokens { vocabulary } = self.content {
            if !(1..=LARGEST_VOCABULARY).contains(&vocabulary) {
                return Err(DatasetError::Vocabulary {
                    seen: vocabulary,
                    limit: LARGEST_VOCABULARY,
                });
            }
            if self.channels != 1 {
                return Err(DatasetError::TokenChannels {
                    seen: self.channels,
                });
            }
        }
        match self.target {
            Target::LastSteps { .. } if self.sequences == 2 => Err(DatasetError::TargetOfPairs),
            Target::LastSteps { count } if !(1..=self.length).contains(&count) => {
                Err(DatasetError::TargetSteps {
                    count,
                    length: self.length,
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Shape = Shape {
        sequences: 1,
        length: 3,
        channels: 1,
        classes: 2,
        content: Content::Tokens { vocabulary: 256 },
        target: Target::LastSteps { count: 3 },
    };

    #[test]
    fn a_shape_counts_its_values_and_labels() {
        let values = Shape {
            channels: 2,
            content: Content::Values,
            target: Target::Class,
            ..BYTES
        };
        assert_eq!((values.values(), values.labels()), (6, 1));
        assert_eq!((BYTES.values(), BYTES.labels()), (3, 3));
        assert!(values.check().is_ok() && BYTES.check().is_ok());
    }

    #[test]
    fn a_vocabulary_that_cannot_be_stored_is_refused() {
        for vocabulary in [0, 65_537] {
            let content = Content::Tokens { vocabulary };
            let error = Shape { content, ..BYTES }.check().unwrap_err();
            assert!(
                matches!(error, DatasetError::Vocabulary { seen, limit: 65_536 } if seen == vocabulary),
                "{error}"
            );
        }
    }

    #[test]
    fn an_example_is_a_sequence_or_a_pair_with_a_class() {
        for sequences in [0, 3] {
            let error = Shape { sequences, ..BYTES }.check().unwrap_err();
            assert!(
                matches!(error, DatasetError::Sequences { seen } if seen == sequences),
                "{error}"
            );
        }
        let pairs = Shape {
            sequences: 2,
            ..BYTES
        };
        let error = pairs.check().unwrap_err();
        assert!(matches!(error, DatasetError::TargetOfPairs), "{error}");
        let target = Target::Class;
        assert!(Shape { target, ..pairs }.check().is_ok());
    }

    #[test]
    fn a_step_holds_one_token() {
        for channels in [0, 2] {
            let error = Shape { channels, ..BYTES }.check().unwrap_err();
            assert!(
                matches!(error, DatasetError::TokenChannels { seen } if seen == channels),
                "{error}"
            );
        }
    }

    #[test]
    fn labels_at_no_step_or_at_more_than_there_are_are_refused() {
        for wrong in [0, 4] {
            let target = Target::LastSteps { count: wrong };
            let error = Shape { target, ..BYTES }.check().unwrap_err();
            assert!(
                matches!(error, DatasetError::TargetSteps { count, length: 3 } if count == wrong),
                "{error}"
            );
        }
    }
}

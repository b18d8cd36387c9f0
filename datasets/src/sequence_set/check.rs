//! Sets that cannot be: what is refused when one is made.

use super::steps::{Steps, outside};
use crate::error::DatasetError;
use crate::shape::{Content, Shape, Target};

/// Checks everything that a set is made of. Returns where each sequence starts, and where the last one ends.
pub(super) fn all(
    shape: &Shape,
    steps: &Steps,
    lengths: &[usize],
    labels: &[u16],
) -> Result<Vec<usize>, DatasetError> {
    shape.check()?;
    steps.check_kind(shape)?;
    let examples = lengths.len() / shape.sequences;
    let whole = lengths.len().is_multiple_of(shape.sequences);
    if !whole || examples.checked_mul(shape.labels()) != Some(labels.len()) {
        return Err(DatasetError::LabelCount {
            labels: labels.len(),
            examples,
            per_example: shape.labels(),
        });
    }
    let starts = starts(shape, lengths)?;
    let expected = starts[lengths.len()];
    if steps.len() != expected {
        return Err(DatasetError::StepCount {
            seen: steps.len(),
            examples,
            expected,
        });
    }
    check_tokens(shape, steps, &starts)?;
    check_values(shape, steps, &starts)?;
    check_labels(shape, labels)?;
    Ok(starts)
}

/// Where sequences of these lengths start when they lie one behind the other, and where the last one ends.
fn starts(shape: &Shape, lengths: &[usize]) -> Result<Vec<usize>, DatasetError> {
    let mut end = 0_usize;
    let mut starts = Vec::with_capacity(lengths.len() + 1);
    starts.push(end);
    for (sequence, &seen) in lengths.iter().enumerate() {
        let (index, length) = (sequence / shape.sequences, shape.length);
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
        // What does not fit in memory cannot equal the number of steps given, and is refused for that.
        end = end.saturating_add(seen.saturating_mul(shape.channels));
        starts.push(end);
    }
    Ok(starts)
}

fn check_tokens(shape: &Shape, steps: &Steps, starts: &[usize]) -> Result<(), DatasetError> {
    let Content::Tokens { vocabulary } = shape.content else {
        return Ok(());
    };
    match steps.token_outside(vocabulary) {
        Some((position, token)) => {
            let (index, step) = place(shape, starts, position);
            Err(DatasetError::TokenOutOfRange {
                index,
                step,
                token,
                vocabulary,
            })
        }
        None => Ok(()),
    }
}

fn check_values(shape: &Shape, steps: &Steps, starts: &[usize]) -> Result<(), DatasetError> {
    match steps.not_finite() {
        Some(position) => {
            let (index, step) = place(shape, starts, position);
            Err(DatasetError::NotFinite { index, step })
        }
        None => Ok(()),
    }
}

/// Example, and step in its sequence, of a position in the storage.
fn place(shape: &Shape, starts: &[usize], position: usize) -> (usize, usize) {
    let sequence = starts.partition_point(|start| *start <= position) - 1;
    let step = (position - starts[sequence]) / shape.channels;
    (sequence / shape.sequences, step)
}

fn check_labels(shape: &Shape, labels: &[u16]) -> Result<(), DatasetError> {
    match outside(labels, shape.classes) {
        Some((position, label)) => Err(DatasetError::LabelOutOfRange {
            index: position / shape.labels(),
            label,
            classes: shape.classes,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence_set::SequenceSet;
    use crate::sequence_set::testing::{COPIES, SHAPE, TOKENS};

    /// Pairs of sequences of tokens, of up to three steps.
    const PAIRS: Shape = Shape {
        sequences: 2,
        ..TOKENS
    };

    /// The error of a set of tokens with these bytes, lengths and labels.
    fn refusal(shape: Shape, bytes: &[u8], lengths: &[usize], labels: &[u16]) -> DatasetError {
        SequenceSet::with_lengths(shape, bytes.to_vec(), lengths, labels.to_vec()).unwrap_err()
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
                DatasetError::StepCount {
                    seen: 5,
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
            let error = SequenceSet::new(empty, Vec::<u8>::new(), vec![0]).unwrap_err();
            assert!(
                matches!(error, DatasetError::EmptyExample { index: 0 }),
                "{error}"
            );
        }
        let vast = Shape {
            length: usize::MAX,
            ..SHAPE
        };
        let error = SequenceSet::new(vast, vec![0_u8; 4], vec![0; 2]).unwrap_err();
        assert!(
            matches!(
                error,
                DatasetError::StepCount {
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
        let error = SequenceSet::new(COPIES, vec![1_u8; 3], vec![0; 3]).unwrap_err();
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
        let error =
            SequenceSet::new(Shape { target, ..SHAPE }, Vec::<u8>::new(), vec![]).unwrap_err();
        assert!(
            matches!(error, DatasetError::TargetSteps { count: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_pair_has_both_sequences_and_its_faults_are_its_own() {
        let error = refusal(PAIRS, &[1; 3], &[1, 1, 1], &[0]);
        assert!(matches!(error, DatasetError::LabelCount { .. }), "{error}");
        let error = refusal(PAIRS, &[1; 3], &[1, 1, 1, 0], &[0; 2]);
        assert!(
            matches!(error, DatasetError::EmptyExample { index: 1 }),
            "{error}"
        );
        let error = refusal(PAIRS, &[1, 2, 3, 4, 5, 9], &[1, 1, 1, 3], &[0; 2]);
        assert!(
            matches!(
                error,
                DatasetError::TokenOutOfRange {
                    index: 1,
                    step: 2,
                    token: 9,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn steps_are_stored_as_what_they_are() {
        let error = SequenceSet::new(TOKENS, vec![1.0_f32; 3], vec![0]).unwrap_err();
        assert!(matches!(error, DatasetError::TokensAsFloats), "{error}");
        let error = SequenceSet::new(SHAPE, vec![1_u16; 4], vec![0]).unwrap_err();
        assert!(matches!(error, DatasetError::ValuesAsWords), "{error}");
    }

    #[test]
    fn a_value_that_is_no_number_is_named_with_its_place() {
        let mut values = vec![0.5_f32; 8];
        values[7] = f32::NAN;
        let error = SequenceSet::new(SHAPE, values, vec![0; 2]).unwrap_err();
        assert!(
            matches!(error, DatasetError::NotFinite { index: 1, step: 1 }),
            "{error}"
        );
    }

    #[test]
    fn a_token_beyond_a_byte_is_looked_at_as_a_whole() {
        let content = Content::Tokens { vocabulary: 300 };
        let error = SequenceSet::new(Shape { content, ..TOKENS }, vec![1, 299, 300_u16], vec![0]);
        assert!(
            matches!(
                error,
                Err(DatasetError::TokenOutOfRange {
                    index: 0,
                    step: 2,
                    token: 300,
                    vocabulary: 300
                })
            ),
            "{error:?}"
        );
    }
}

//! From examples to batches of tensors.

mod order;

use std::iter;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use datasets::{Content, SequenceSet, Shape, Target};
use ssm_core::{Readout, Sequences};

pub use order::BatchOrder;

/// Examples as tensors.
#[derive(Debug, Clone)]
pub struct Batch<B: Backend> {
    /// `[sequences, length, channels]`, or `[sequences, length]` of tokens. Of pairs, the first sequences of all examples
    /// and behind them the second ones, as a [model](ssm_core::Model) of pairs reads them.
    pub input: Sequences<B>,
    /// Steps of each sequence that are no padding.
    pub lengths: Vec<usize>,
    /// Where the answers are that the labels are compared with.
    pub readout: Readout<B>,
    /// Class of every answer, `[examples * answers]`: those of the first example, then those of the second.
    pub labels: Tensor<B, 1, Int>,
}

impl<B: Backend> Batch<B> {
    /// Number of labels: what loss and accuracy of the batch are means over.
    pub fn answers(&self) -> usize {
        self.labels.dims()[0]
    }
}

/// Batches of varying length end at a multiple of this many steps.
///
/// A GPU compiles and tunes kernels for every shape it meets, and memory is reused in blocks of the same size: a few
/// lengths cost less than as many as there are longest examples. Padding to the next multiple wastes little.
const LENGTH_STEP: usize = 64;

/// Puts the examples with these indices on the device, padded to the length of the longest or a little more.
pub fn batch<B: Backend>(
    set: &SequenceSet,
    indices: impl IntoIterator<Item = usize>,
    device: &B::Device,
) -> Batch<B> {
    let indices: Vec<usize> = indices.into_iter().collect();
    let labels: Vec<i32> = indices
        .iter()
        .flat_map(|index| set.labels(*index))
        .map(|label| i32::from(*label))
        .collect();
    let count = labels.len();
    let second = set.second();
    let of_each: Vec<_> = iter::once(set)
        .chain(&second)
        .flat_map(|set| indices.iter().map(move |index| (set, *index)))
        .collect();
    let lengths: Vec<usize> = of_each
        .iter()
        .map(|(set, index)| set.length(*index))
        .collect();
    let length = padded_length(&lengths, set.shape().length);
    Batch {
        input: sequences(set.shape(), &of_each, length, device),
        readout: match set.shape().target {
            Target::Class => mean(&lengths, length, device),
            Target::LastSteps { count } => Readout::LastSteps(count),
        },
        lengths,
        labels: Tensor::from_data(TensorData::new(labels, [count]), device),
    }
}

/// The longest of these lengths, rounded up, but not beyond the longest there may be.
fn padded_length(lengths: &[usize], limit: usize) -> usize {
    let longest = lengths.iter().copied().max().unwrap_or(limit);
    longest.next_multiple_of(LENGTH_STEP).min(limit)
}

/// Sequences `(set, example)`, all of this shape, padded to this length.
fn sequences<B: Backend>(
    shape: Shape,
    of_each: &[(&SequenceSet, usize)],
    length: usize,
    device: &B::Device,
) -> Sequences<B> {
    let (count, channels) = (of_each.len(), shape.channels);
    match shape.content {
        Content::Values => {
            let row = length * channels;
            let mut values = vec![0.0_f32; count * row];
            for ((set, index), out) in of_each.iter().zip(values.chunks_exact_mut(row)) {
                set.write_example(*index, out);
            }
            let data = TensorData::new(values, [count, length, channels]);
            Sequences::Features(Tensor::from_data(data, device))
        }
        Content::Tokens { .. } => {
            let mut tokens = vec![0_i32; count * length];
            for ((set, index), out) in of_each.iter().zip(tokens.chunks_exact_mut(length)) {
                set.write_tokens(*index, out);
            }
            let data = TensorData::new(tokens, [count, length]);
            Sequences::Tokens(Tensor::from_data(data, device))
        }
    }
}

/// The mean over the steps of every sequence, without its padding.
fn mean<B: Backend>(lengths: &[usize], length: usize, device: &B::Device) -> Readout<B> {
    if lengths.iter().all(|own| *own == length) {
        return Readout::Mean;
    }
    let mut weights = vec![0.0_f32; lengths.len() * length];
    for (own, row) in lengths.iter().zip(weights.chunks_exact_mut(length)) {
        row[..*own].fill(1.0 / *own as f32);
    }
    let data = TensorData::new(weights, [lengths.len(), length]);
    Readout::WeightedMean(Tensor::from_data(data, device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    const TEXTS: Shape = Shape {
        sequences: 1,
        length: 200,
        channels: 1,
        classes: 3,
        content: Content::Tokens { vocabulary: 9 },
        target: Target::Class,
    };

    /// Texts of these lengths, each of one token: 1, 2 and so on.
    fn texts(lengths: &[usize]) -> SequenceSet {
        let tokens = (1..).zip(lengths);
        let tokens = tokens.flat_map(|(token, length)| vec![token; *length]);
        let tokens: Vec<u8> = tokens.collect();
        let labels = (0..lengths.len()).map(|index| (index % 3) as u16).collect();
        SequenceSet::with_lengths(TEXTS, tokens, lengths, labels).unwrap()
    }

    fn of(set: &SequenceSet, indices: impl IntoIterator<Item = usize>) -> Batch<Flex> {
        batch(set, indices, &Default::default())
    }

    fn tokens_of(input: &Sequences<Flex>) -> Tensor<Flex, 2, Int> {
        match input {
            Sequences::Tokens(tokens) => tokens.clone(),
            Sequences::Features(_) => panic!("the set holds tokens"),
        }
    }

    fn integers<const D: usize>(tensor: Tensor<Flex, D, Int>) -> Vec<i64> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn a_batch_is_padded_to_its_longest_text_and_the_padding_has_no_weight() {
        let set = texts(&[5, 70, 200, 128]);
        for (indices, length) in [
            (vec![0, 0], 64),
            (vec![1, 0], 128),
            (vec![3, 0], 128),
            (vec![0, 2], 200),
        ] {
            let batch = of(&set, indices.clone());
            assert_eq!(tokens_of(&batch.input).dims(), [2, length]);
            let tokens = integers(tokens_of(&batch.input));
            let Readout::WeightedMean(weights) = &batch.readout else {
                panic!("{:?}", batch.readout);
            };
            assert_eq!(weights.dims(), [2, length]);
            let weights: Vec<f32> = weights.to_data().iter().collect();
            for (row, index) in indices.into_iter().enumerate() {
                let own = set.length(index);
                for step in 0..length {
                    let (token, weight) = match step < own {
                        true => (index as i64 + 1, 1.0 / own as f32),
                        false => (0, 0.0),
                    };
                    assert_eq!(tokens[row * length + step], token);
                    assert_eq!(weights[row * length + step], weight);
                }
            }
        }
    }

    #[test]
    fn texts_without_padding_need_no_weights() {
        let set = texts(&[128, 128, 200, 3]);
        for indices in [[0, 1], [2, 2]] {
            assert!(matches!(of(&set, indices).readout, Readout::Mean));
        }
        assert!(!matches!(of(&set, [0, 2]).readout, Readout::Mean));
    }

    #[test]
    fn labels_at_the_last_steps_stand_in_the_order_of_their_examples() {
        let shape = Shape {
            length: 4,
            target: Target::LastSteps { count: 2 },
            ..TEXTS
        };
        let set = SequenceSet::new(shape, vec![1_u8; 12], vec![0, 1, 2, 0, 1, 2]).unwrap();
        let batch = of(&set, [2, 0]);
        assert!(matches!(batch.readout, Readout::LastSteps(2)));
        assert_eq!(
            (integers(batch.labels.clone()), batch.answers()),
            (vec![1, 2, 0, 1], 4)
        );
    }

    #[test]
    fn values_come_with_all_their_channels() {
        let shape = Shape {
            length: 2,
            channels: 2,
            content: Content::Values,
            ..TEXTS
        };
        let set = SequenceSet::new(shape, vec![0_u8, 255, 51, 0], vec![2]).unwrap();
        let Sequences::Features(values) = of(&set, [0]).input else {
            panic!("the set holds values")
        };
        assert_eq!(values.dims(), [1, 2, 2]);
        let values: Vec<f32> = values.into_data().iter().collect();
        assert_eq!(values, [0.0, 1.0, 0.2, 0.0]);
    }

    #[test]
    fn the_second_sequences_of_pairs_stand_behind_the_first_ones() {
        let shape = Shape {
            sequences: 2,
            content: Content::Tokens { vocabulary: 999 },
            ..TEXTS
        };
        let (lengths, tokens) = ([3, 70, 5, 130], vec![500_u16; 208]);
        let set = SequenceSet::with_lengths(shape, tokens, &lengths, vec![1, 2]).unwrap();
        let batch = of(&set, [1, 0]);
        assert_eq!(batch.lengths, [5, 3, 130, 70]);
        assert_eq!(tokens_of(&batch.input).dims(), [4, 192]);
        let sums = integers(tokens_of(&batch.input).sum_dim(1));
        assert_eq!(sums, [5, 3, 130, 70].map(|length| 500 * length));
        assert_eq!(
            (integers(batch.labels.clone()), batch.answers()),
            (vec![2, 1], 2)
        );
        assert!(matches!(batch.readout, Readout::WeightedMean(_)));
    }
}

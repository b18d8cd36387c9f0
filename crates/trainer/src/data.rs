//! From data sets to batches of tensors.

use std::path::PathBuf;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use datasets::{Content, Dataset, DatasetError, LoadOptions, SequenceSet, Target, epoch_order};
use ssm_core::{Readout, Sequences};

use crate::config::Config;
use crate::seeds::{Purpose, derive};

/// Loads the data set that a configuration names. Its files are looked for in `data.dir`, then in the folder that
/// `COMPRESSM_DATA_DIR` names.
pub fn load(config: &Config) -> Result<Dataset, DatasetError> {
    let data = &config.data;
    data.load(&LoadOptions {
        data_dir: data.dir.clone().or_else(datasets::data_dir_from_env),
        validation_fraction: data.validation_fraction,
        seed: derive(config.training.seed, Purpose::Split),
    })
}

/// The folder that `data fetch` writes to when nobody names one.
pub fn fetch_dir(flag: Option<PathBuf>) -> PathBuf {
    flag.or_else(datasets::data_dir_from_env)
        .unwrap_or_else(|| PathBuf::from("data"))
}

/// Examples as tensors.
#[derive(Debug, Clone)]
pub struct Batch<B: Backend> {
    /// `[batch, length, channels]`, or `[batch, length]` of tokens.
    pub input: Sequences<B>,
    /// Where the answers are that the labels are compared with.
    pub readout: Readout<B>,
    /// The second sequence of every example, of a set of pairs.
    pub second: Option<Second<B>>,
    /// Class of every answer, `[batch * answers]`: those of the first example, then those of the second.
    pub labels: Tensor<B, 1, Int>,
}

/// The second sequences of pairs.
#[derive(Debug, Clone)]
pub struct Second<B: Backend> {
    /// As [`Batch::input`], padded to a length of its own.
    pub input: Sequences<B>,
    /// As [`Batch::readout`].
    pub readout: Readout<B>,
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
    let (input, readout) = padded(set, &indices, device);
    let second = set.second().map(|second| {
        let (input, readout) = padded(&second, &indices, device);
        Second { input, readout }
    });
    Batch {
        input,
        readout,
        second,
        labels: Tensor::from_data(TensorData::new(labels, [count]), device),
    }
}

/// The sequences of these examples, and where the answers of each are.
fn padded<B: Backend>(
    set: &SequenceSet,
    indices: &[usize],
    device: &B::Device,
) -> (Sequences<B>, Readout<B>) {
    let lengths: Vec<usize> = indices.iter().map(|index| set.length(*index)).collect();
    let length = padded_length(&lengths, set.shape().length);
    let readout = match set.shape().target {
        Target::Class => mean(&lengths, length, device),
        Target::LastSteps { count } => Readout::LastSteps(count),
    };
    (sequences(set, indices, length, device), readout)
}

/// The longest of these lengths, rounded up, but not beyond the longest there may be.
fn padded_length(lengths: &[usize], limit: usize) -> usize {
    let longest = lengths.iter().copied().max().unwrap_or(limit);
    longest.next_multiple_of(LENGTH_STEP).min(limit)
}

fn sequences<B: Backend>(
    set: &SequenceSet,
    indices: &[usize],
    length: usize,
    device: &B::Device,
) -> Sequences<B> {
    let (count, channels) = (indices.len(), set.shape().channels);
    match set.shape().content {
        Content::Values => {
            let row = length * channels;
            let mut values = vec![0.0_f32; count * row];
            for (index, example) in indices.iter().zip(values.chunks_exact_mut(row)) {
                set.write_example(*index, example);
            }
            let data = TensorData::new(values, [count, length, channels]);
            Sequences::Features(Tensor::from_data(data, device))
        }
        Content::Tokens { .. } => {
            let mut tokens = vec![0_i32; count * length];
            for (index, example) in indices.iter().zip(tokens.chunks_exact_mut(length)) {
                set.write_tokens(*index, example);
            }
            let data = TensorData::new(tokens, [count, length]);
            Sequences::Tokens(Tensor::from_data(data, device))
        }
    }
}

/// The mean over the steps of every example, without its padding.
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

/// The examples of every training step: epochs of whole batches, each in an order of its own.
///
/// A step of this order is one batch; an update that is made of several batches takes as many of its steps.
///
/// A pure function of seed and step, so that a resumed run needs no position and no random state.
#[derive(Debug)]
pub struct BatchOrder {
    examples: usize,
    batch_size: usize,
    seed: u64,
    epoch: u64,
    order: Vec<u32>,
}

impl BatchOrder {
    /// For a set of `examples`, at least `batch_size` many.
    pub fn new(examples: usize, batch_size: usize, seed: u64) -> Self {
        assert!(
            (1..=examples).contains(&batch_size),
            "the caller checks that a batch can be filled"
        );
        let seed = derive(seed, Purpose::Order);
        Self {
            examples,
            batch_size,
            seed,
            epoch: 0,
            order: epoch_order(examples, seed, 0),
        }
    }

    /// Indices of the examples of step `step`, counted from 0.
    pub fn step(&mut self, step: u64) -> impl ExactSizeIterator<Item = usize> + '_ {
        let per_epoch = (self.examples / self.batch_size) as u64;
        let epoch = step / per_epoch;
        if epoch != self.epoch {
            self.epoch = epoch;
            self.order = epoch_order(self.examples, self.seed, epoch);
        }
        let start = (step % per_epoch) as usize * self.batch_size;
        self.order[start..start + self.batch_size]
            .iter()
            .map(|index| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use datasets::Shape;
    use datasets::selective_copy::SelectiveCopyOptions;

    #[test]
    fn the_options_of_the_table_reach_the_data_set() {
        let mut config = Config::default();
        config.data.dataset = "selective-copy".to_owned();
        config.data.selective_copy = SelectiveCopyOptions {
            length: 20,
            copies: 3,
            vocabulary: 7,
            train_examples: 30,
            test_examples: 5,
            seed: 0,
        };
        let set = load(&config).unwrap();
        let shape = Shape {
            sequences: 1,
            length: 20,
            channels: 1,
            classes: 7,
            content: Content::Tokens { vocabulary: 7 },
            target: Target::LastSteps { count: 3 },
        };
        assert_eq!(set.shape, shape);
        assert_eq!(
            (set.train.len(), set.validation.len(), set.test.len()),
            (27, 3, 5)
        );
    }

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
    fn pairs_come_as_two_inputs_each_padded_to_its_own_length() {
        let shape = Shape {
            sequences: 2,
            content: Content::Tokens { vocabulary: 999 },
            ..TEXTS
        };
        let (lengths, tokens) = ([3, 70, 5, 130], vec![500_u16; 208]);
        let set = SequenceSet::with_lengths(shape, tokens, &lengths, vec![1, 2]).unwrap();
        let batch = of(&set, [1, 0]);
        let second = batch.second.clone().unwrap();
        assert_eq!(
            (tokens_of(&batch.input).dims(), batch.answers()),
            ([2, 64], 2)
        );
        assert_eq!(tokens_of(&second.input).dims(), [2, 192]);
        let sum = |input| integers(tokens_of(input)).iter().sum::<i64>();
        assert_eq!(
            (sum(&batch.input), sum(&second.input)),
            (8 * 500, 200 * 500)
        );
        assert!(matches!(second.readout, Readout::WeightedMean(_)));
        assert!(of(&texts(&[3]), [0]).second.is_none());
    }

    #[test]
    fn an_epoch_visits_no_example_twice_and_any_step_can_be_asked_for() {
        let mut order = BatchOrder::new(103, 10, 4);
        let mut seen: Vec<usize> = (0..10)
            .flat_map(|step| order.step(step).collect::<Vec<_>>())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100);
        let later: Vec<usize> = order.step(57).collect();
        let _ = order.step(3).count();
        assert_eq!(order.step(57).collect::<Vec<_>>(), later);
        assert_eq!(
            BatchOrder::new(103, 10, 4).step(57).collect::<Vec<_>>(),
            later
        );
    }
}

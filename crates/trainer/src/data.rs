//! From data sets to batches of tensors.

use std::path::PathBuf;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use datasets::{Dataset, DatasetError, LoadOptions, SequenceSet, epoch_order};
use ssm_core::Sequences;

use crate::config::Config;
use crate::seeds::{Purpose, derive};

/// Loads the data set that a configuration names. Its files are looked for in `data.dir`, then in the folder that
/// `COMPRESSM_DATA_DIR` names.
pub fn load(config: &Config) -> Result<Dataset, DatasetError> {
    let data = &config.data;
    datasets::load(
        &data.dataset,
        &LoadOptions {
            data_dir: data.dir.clone().or_else(datasets::data_dir_from_env),
            validation_fraction: data.validation_fraction,
            seed: derive(config.training.seed, Purpose::Split),
            ..LoadOptions::default()
        },
    )
}

/// The folder that `data fetch` writes to when nobody names one.
pub fn fetch_dir(flag: Option<PathBuf>) -> PathBuf {
    flag.or_else(datasets::data_dir_from_env)
        .unwrap_or_else(|| PathBuf::from("data"))
}

/// Examples as tensors.
#[derive(Debug, Clone)]
pub struct Batch<B: Backend> {
    /// `[batch, length, channels]`.
    pub input: Sequences<B>,
    /// Class of every example, `[batch]`.
    pub labels: Tensor<B, 1, Int>,
}

/// Puts the examples with these indices on the device.
pub fn batch<B: Backend>(
    set: &SequenceSet,
    indices: impl ExactSizeIterator<Item = usize>,
    device: &B::Device,
) -> Batch<B> {
    let (shape, count) = (set.shape(), indices.len());
    let mut values = vec![0.0_f32; count * shape.values()];
    let mut labels = Vec::with_capacity(count);
    for (index, example) in indices.zip(values.chunks_exact_mut(shape.values())) {
        set.write_example(index, example);
        labels.push(set.label(index) as i32);
    }
    let values = TensorData::new(values, [count, shape.length, shape.channels]);
    Batch {
        input: Sequences::Features(Tensor::from_data(values, device)),
        labels: Tensor::from_data(TensorData::new(labels, [count]), device),
    }
}

/// The examples of every training step: epochs of whole batches, each in an order of its own.
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

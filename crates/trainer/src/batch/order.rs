//! Which examples a batch is made of.

use datasets::epoch_order;

use crate::seeds::{Purpose, derive};

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

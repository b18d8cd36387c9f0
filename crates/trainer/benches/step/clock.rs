//! Measuring: medians of times, memory, and random tensors to measure on.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Distribution, Tensor};
use ssm_core::{Dropout, Kernel, Model, Operation, Recorded, TrainingBackend};
use trainer::batch::{Batch, BatchOrder, batch};
use trainer::gradients::NamedGradients;
use trainer::objective::cross_entropy;
use trainer::optimizer::{AdamW, AdamWConfig, LearningRates};
use trainer::step::train_step;

use datasets::SequenceSet;

const RATES: LearningRates = LearningRates {
    main: 4e-4,
    recurrent: 1e-4,
};

/// A line of Linux's account of this process, in MiB; NaN elsewhere.
pub fn resident_mib(line: &str) -> f64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let value = status.lines().find_map(|text| text.strip_prefix(line))?;
            value.split_whitespace().next()?.parse::<f64>().ok()
        })
        .map_or(f64::NAN, |kib| kib / 1024.0)
}

/// Times work on a device. Times are median seconds.
pub struct Clock<B: TrainingBackend> {
    pub device: B::Device,
    budget: Duration,
}

impl<B: TrainingBackend> Clock<B> {
    /// `seconds` for a whole step, a third of it for each of its parts.
    pub fn new(device: B::Device, seconds: f64) -> Self {
        let budget = Duration::from_secs_f64(seconds);
        Self { device, budget }
    }

    /// The step that a run repeats.
    pub fn step(&self, model: Model<B>, set: &SequenceSet, size: usize, dropout: bool) -> f64 {
        let (mut model, mut optimizer) = (model, optimizer());
        let (mut next, mut step) = (self.batches(set, size), 0);
        self.median(self.budget, || {
            step += 1;
            let dropout = dropout.then(|| DROPOUT.stream(step));
            train_step(&mut model, &mut optimizer, next(), dropout, RATES)
        })
    }

    /// Step after step of one training, without dropout.
    pub fn stepper(
        &self,
        mut model: Model<B>,
        set: &SequenceSet,
        size: usize,
        rates: LearningRates,
    ) -> impl FnMut() {
        let (mut optimizer, mut next) = (optimizer(), self.batches(set, size));
        move || {
            train_step(&mut model, &mut optimizer, next(), None, rates);
        }
    }

    /// Of work that takes about as long every time.
    pub fn median_of(&self, work: impl FnMut()) -> f64 {
        self.median(self.budget, work)
    }

    /// AdamW and the running statistics, on gradients that are not timed.
    pub fn optimizer(&self, model: Model<B>, set: &SequenceSet, size: usize) -> f64 {
        let (mut model, mut optimizer) = (model, optimizer());
        let mut next = self.batches(set, size);
        let mut times: Vec<Duration> = (0..6)
            .map(|_| {
                let batch = next();
                let (logits, statistics) = model.forward_train(batch.input, batch.readout, None);
                let gradients = cross_entropy(logits, batch.labels).backward();
                self.time(|| {
                    let gradients = NamedGradients::take(&model, gradients);
                    model = optimizer.step(RATES, model.clone(), gradients);
                    model.update_statistics(statistics.clone());
                })
            })
            .skip(1) // the first makes the moments
            .collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    }

    /// Batch after batch, as a run has them.
    pub fn batches(&self, set: &SequenceSet, size: usize) -> impl FnMut() -> Batch<B> {
        let mut order = BatchOrder::new(set.len(), size, 1);
        let mut step = 0;
        move || {
            step += 1;
            batch(set, order.step(step), &self.device)
        }
    }

    pub fn random<const D: usize>(&self, dims: [usize; D]) -> Tensor<B::Inner, D> {
        Tensor::random(dims, Distribution::Uniform(-0.5, 0.5), &self.device)
    }

    pub fn primitive<const D: usize>(&self, dims: [usize; D]) -> FloatTensor<B::Inner> {
        self.random(dims).into_primitive().tensor()
    }

    /// Forward and backward of an operation, of random gradients. Not numbers where the backend has no backward pass for it.
    pub fn operation<O: Operation<N>, const N: usize>(
        &self,
        inputs: [FloatTensor<B::Inner>; N],
        settings: O::Settings,
        gradient: FloatTensor<B::Inner>,
        wanted: [bool; N],
    ) -> [f64; 2]
    where
        B::Inner: Kernel<O, N>,
    {
        if !B::Inner::has_backward(&inputs) {
            return [f64::NAN; 2];
        }
        let run = || Recorded::<O, B::Inner, N>::run(inputs.clone(), settings.clone());
        let forward = self.part(run);
        let (_, way_back) = run();
        let backward = self.part(|| way_back.clone().backward(gradient.clone(), wanted));
        [forward, backward]
    }

    pub fn part<T>(&self, work: impl FnMut() -> T) -> f64 {
        self.median(self.budget / 3, work)
    }

    /// After one run that warms up, at least three and at most a hundred for about `budget`.
    fn median<T>(&self, budget: Duration, mut work: impl FnMut() -> T) -> f64 {
        self.time(&mut work);
        let mut times = vec![self.time(&mut work)];
        let more = (budget.as_secs_f64() / times[0].as_secs_f64()) as usize;
        times.extend((0..more.clamp(2, 99)).map(|_| self.time(&mut work)));
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    }

    fn time<T>(&self, work: impl FnOnce() -> T) -> Duration {
        let start = Instant::now();
        black_box(work());
        B::sync(&self.device).unwrap();
        start.elapsed()
    }
}

pub const DROPOUT: Dropout = Dropout {
    probability: 0.1,
    seed: 7,
};

/// Bytes that are as good as random.
pub fn bytes(count: usize) -> impl Iterator<Item = u8> {
    (0..count).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8)
}

fn optimizer<B: TrainingBackend>() -> AdamW<B> {
    AdamW::new(AdamWConfig { weight_decay: 0.05 })
}

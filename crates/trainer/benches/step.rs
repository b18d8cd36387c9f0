//! What does a whole training step cost, and where does it go?
//!
//! One table: the step that a run repeats, and each of its parts timed alone on the same sizes, forward and backward.
//! Every row runs in a process of its own, so that its peak memory is its own. `docs/performance.md` says how to read
//! it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what this program is for"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a measurement stops at the first thing that is not as it should be"
)]

use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Distribution, Tensor};
use clap::Parser;
use datasets::{Content, SequenceSet, Shape as ExampleShape, Target};
use ssm_core::{
    Classifier, ClassifierConfig, DiagonalSsm, Dropout, Encoder, GatedUnit, Kernels, LruInit,
    Model, Readout, TrainingBackend,
};
use trainer::backend::{Job, dispatch};
use trainer::config::BackendKind;
use trainer::data::{BatchOrder, batch};
use trainer::evaluate::cross_entropy;
use trainer::optimizer::{AdamW, AdamWConfig, LearningRates};
use trainer::step::train_step;

/// As in `compressm`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(
    name = "step",
    about = "Time and memory of a whole training step, by part"
)]
struct Options {
    /// What the tensors run on.
    #[arg(long, default_value = "cpu", value_parser = backend_kind)]
    backend: BackendKind,
    /// Only shapes whose name contains one of these.
    #[arg(long, value_delimiter = ',', value_name = "TEXT")]
    filter: Vec<String>,
    /// Only these numbers of states.
    #[arg(long, value_delimiter = ',', value_name = "N")]
    states: Vec<usize>,
    /// Seconds that the whole step is repeated for; every part a third of it.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Measure in this process and print rows without a header.
    #[arg(long, hide = true)]
    rows_only: bool,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn backend_kind(word: &str) -> Result<BackendKind, serde_json::Error> {
    serde_json::from_value(word.into())
}

/// A model and what it trains on.
struct Shape {
    name: &'static str,
    batch: usize,
    length: usize,
    channels: usize,
    hidden: usize,
    blocks: usize,
    /// Numbers of states, and milliseconds of the published JAX code on another machine of two cores.
    published: &'static [(usize, f64)],
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "smnist",
        batch: 50,
        length: 784,
        channels: 1,
        hidden: 8,
        blocks: 1,
        published: &[
            (256, 547.0),
            (128, 287.0),
            (47, 97.0),
            (28, 49.0),
            (13, 25.0),
        ],
    },
    Shape {
        name: "mid",
        batch: 16,
        length: 1024,
        channels: 1,
        hidden: 64,
        blocks: 2,
        published: &[(128, 383.0), (64, 191.0), (32, 123.0), (16, 99.0)],
    },
    Shape {
        name: "scifar",
        batch: 4,
        length: 1024,
        channels: 3,
        hidden: 512,
        blocks: 6,
        published: &[(384, 2566.0), (96, 1206.0), (26, 906.0)],
    },
];

const CLASSES: usize = 10;

const DROPOUT: Dropout = Dropout {
    probability: 0.1,
    seed: 7,
};

const RATES: LearningRates = LearningRates {
    main: 4e-4,
    recurrent: 1e-4,
};

fn main() -> ExitCode {
    trainer::allocator::keep_freed_memory();
    let options = Options::parse();
    if !options.rows_only {
        println!(
            "median ms of a training step and of its parts alone, forward and backward, all blocks; threads: {}",
            rayon::current_num_threads()
        );
        println!(
            "JAX: the published code on another machine of two cores; MiB: most memory in use during the steps, \
             and before the first"
        );
        println!(
            "{:8}{:>5} |{:>9}{:>9}{:>7} |{:>7}{:>9}{:>8}{:>9}{:>9}{:>8}{:>7}{:>7}{:>8} |{:>7}{:>7}",
            "shape",
            "N",
            "total",
            "JAX",
            "ratio",
            "data",
            "encoder",
            "norm",
            "rec fwd",
            "rec bwd",
            "gated",
            "head",
            "optim",
            "other",
            "MiB",
            "before"
        );
    }
    let chosen_shape = |shape: &&Shape| {
        options.filter.is_empty() || options.filter.iter().any(|text| shape.name.contains(text))
    };
    for shape in SHAPES.iter().filter(chosen_shape) {
        for &(states, published) in shape.published {
            if !options.states.is_empty() && !options.states.contains(&states) {
                continue;
            }
            if options.rows_only {
                let row = Row {
                    options: &options,
                    shape,
                    states,
                    published,
                };
                match dispatch(options.backend, row) {
                    Ok(row) => println!("{row}"),
                    Err(refusal) => {
                        eprintln!("{refusal}");
                        return ExitCode::from(2);
                    }
                }
            } else if !measure_apart(&options, shape, states) {
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs this program again for one row; whether it could.
fn measure_apart(options: &Options, shape: &Shape, states: usize) -> bool {
    let backend = options.backend.to_string();
    Command::new(std::env::current_exe().unwrap())
        .args(["--rows-only", "--backend", &backend])
        .args(["--filter", shape.name, "--states", &states.to_string()])
        .args(["--seconds", &options.seconds.to_string()])
        .status()
        .unwrap()
        .success()
}

struct Row<'a> {
    options: &'a Options,
    shape: &'a Shape,
    states: usize,
    published: f64,
}

impl Job for Row<'_> {
    type Output = String;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> String {
        let bench = Bench::<B>::new(
            self.shape,
            self.states,
            self.options.seconds,
            device.clone(),
        );
        bench.row(self.published)
    }
}

/// A line of Linux's account of this process, in MiB; NaN elsewhere.
fn resident_mib(line: &str) -> f64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let value = status.lines().find_map(|text| text.strip_prefix(line))?;
            value.split_whitespace().next()?.parse::<f64>().ok()
        })
        .map_or(f64::NAN, |kib| kib / 1024.0)
}

/// One row of the table. Times are median seconds.
struct Bench<'a, B: TrainingBackend> {
    shape: &'a Shape,
    states: usize,
    budget: Duration,
    device: B::Device,
    model: Classifier<B>,
    examples: SequenceSet,
}

impl<'a, B: TrainingBackend> Bench<'a, B> {
    fn new(shape: &'a Shape, states: usize, seconds: f64, device: B::Device) -> Self {
        let config = ClassifierConfig {
            encoder: Encoder::Linear {
                channels: shape.channels,
            },
            hidden_dim: shape.hidden,
            state_dims: vec![states; shape.blocks],
            classes: CLASSES,
        };
        let init = LruInit {
            r_min: 0.9,
            r_max: 0.999,
            max_phase: std::f64::consts::TAU,
        };
        let example = ExampleShape {
            length: shape.length,
            channels: shape.channels,
            classes: CLASSES,
            content: Content::Values,
            target: Target::Class,
        };
        // Two batches, of bytes that are as good as random.
        let count = 2 * shape.batch;
        let bytes = (0..count * example.values())
            .map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let labels = (0..count).map(|i| (i % CLASSES) as u8).collect();
        Self {
            shape,
            states,
            budget: Duration::from_secs_f64(seconds),
            model: Classifier::init(&config, init, 1, &device),
            examples: SequenceSet::new(example, bytes, labels).unwrap(),
            device,
        }
    }

    fn row(&self, published: f64) -> String {
        let before = resident_mib("VmRSS:");
        let total = self.total();
        let peak = resident_mib("VmHWM:");
        let [recurrence_forward, recurrence_backward] = self.recurrence();
        let blocks = self.shape.blocks as f64;
        let parts = [
            self.data(),
            self.encoder(),
            blocks * self.norm(),
            blocks * recurrence_forward,
            blocks * recurrence_backward,
            blocks * self.gated_unit(),
            self.head(),
            self.optimizer(),
        ];
        let other = total - parts.iter().sum::<f64>();
        let [
            data,
            encoder,
            norm,
            forward,
            backward,
            gated,
            head,
            optimizer,
        ] = parts.map(|seconds| 1e3 * seconds);
        format!(
            "{:8}{:5} |{:9.2}{published:9.0}{:7.1} |{data:7.2}{encoder:9.2}{norm:8.2}{forward:9.2}{backward:9.2}\
             {gated:8.2}{head:7.2}{optimizer:7.2}{:8.2} |{peak:7.0}{before:7.0}",
            self.shape.name,
            self.states,
            1e3 * total,
            published / (1e3 * total),
            1e3 * other
        )
    }

    /// Batch after batch, as a run has them.
    fn batches(&self) -> impl FnMut() -> trainer::data::Batch<B> {
        let mut order = BatchOrder::new(self.examples.len(), self.shape.batch, 1);
        let mut step = 0;
        move || {
            step += 1;
            batch(&self.examples, order.step(step), &self.device)
        }
    }

    fn total(&self) -> f64 {
        let (mut model, mut optimizer) = (Model::Lru(self.model.clone()), optimizer());
        let (mut next, mut step) = (self.batches(), 0);
        self.median(self.budget, || {
            step += 1;
            let dropout = Some(DROPOUT.stream(step));
            train_step(&mut model, &mut optimizer, next(), dropout, RATES)
        })
    }

    fn data(&self) -> f64 {
        let mut next = self.batches();
        self.part(&mut next)
    }

    /// With the loss that its gradient comes from, less that loss alone.
    fn encoder(&self) -> f64 {
        let batch = self.batches()();
        let weights = Tensor::<B, 3>::from_inner(self.random(self.dims()));
        let loss = |output: Tensor<B, 3>| (output * weights.clone()).sum().backward();
        let with = self.part(|| loss(self.model.encode(batch.input.clone())));
        let features = Tensor::<B, 3>::from_inner(self.random(self.dims())).require_grad();
        with - self.part(|| loss(features.clone()))
    }

    fn norm(&self) -> f64 {
        let (input, gradient) = (self.random_primitive(), self.random_primitive());
        self.part(|| {
            let normalized = B::Inner::batch_norm_forward(&input, 1e-5);
            let (output, variance) = (&normalized.output, &normalized.variance);
            B::Inner::batch_norm_backward(output, variance, 1e-5, &gradient)
        })
    }

    /// Forward and backward.
    fn recurrence(&self) -> [f64; 2] {
        let (n, h) = (self.states, self.shape.hidden);
        let (input, gradient) = (self.random_primitive(), self.random_primitive());
        let system = DiagonalSsm {
            lambda_re: self.primitive([n]),
            lambda_im: self.primitive([n]),
            input_re: self.primitive([n, h]),
            input_im: self.primitive([n, h]),
            output_re: self.primitive([h, n]),
            output_im: self.primitive([h, n]),
            feedthrough: self.primitive([h]),
        };
        let initial_state = self.primitive([self.shape.batch, 2 * n]);
        let run = || B::Inner::diagonal_ssm_forward(&input, &system, &initial_state);
        let forward = self.part(run);
        let states = run().chunk_states;
        let backward =
            self.part(|| B::Inner::diagonal_ssm_backward(&input, &system, &states, &gradient));
        [forward, backward]
    }

    fn gated_unit(&self) -> f64 {
        let h = self.shape.hidden;
        let (input, skip) = (self.random_primitive(), self.random_primitive());
        let gradient = self.random_primitive();
        let weights = GatedUnit {
            value_weight: self.primitive([h, h]),
            value_bias: self.primitive([h]),
            gate_weight: self.primitive([h, h]),
            gate_bias: self.primitive([h]),
        };
        self.part(|| {
            let forward = B::Inner::gated_unit_forward(&input, &skip, &weights, Some(DROPOUT));
            let branches = forward.branches.as_ref();
            let gradients =
                B::Inner::gated_unit_backward(&input, &weights, Some(DROPOUT), branches, &gradient);
            (forward.output, gradients)
        })
    }

    /// Mean over time, head and cross-entropy.
    fn head(&self) -> f64 {
        let features = Tensor::<B, 3>::from_inner(self.random(self.dims())).require_grad();
        let labels = self.batches()().labels;
        self.part(|| {
            let logits = self.model.head(features.clone(), Readout::Mean);
            cross_entropy(logits, labels.clone()).backward()
        })
    }

    /// AdamW and the running statistics, on gradients that are not timed.
    fn optimizer(&self) -> f64 {
        let (mut model, mut optimizer) = (Model::Lru(self.model.clone()), optimizer());
        let mut next = self.batches();
        let mut times: Vec<Duration> = (0..6)
            .map(|_| {
                let batch = next();
                let (logits, statistics) = model.forward_train(batch.input, batch.readout, None);
                let mut gradients = cross_entropy(logits, batch.labels).backward();
                self.time(|| {
                    model = optimizer.step(RATES, model.clone(), &mut gradients);
                    model.update_statistics(statistics.clone());
                })
            })
            .skip(1) // the first makes the moments
            .collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    }

    fn dims(&self) -> [usize; 3] {
        [self.shape.batch, self.shape.length, self.shape.hidden]
    }

    fn random<const D: usize>(&self, dims: [usize; D]) -> Tensor<B::Inner, D> {
        Tensor::random(dims, Distribution::Uniform(-0.5, 0.5), &self.device)
    }

    fn primitive<const D: usize>(&self, dims: [usize; D]) -> FloatTensor<B::Inner> {
        self.random(dims).into_primitive().tensor()
    }

    /// Of the shape of a block's input.
    fn random_primitive(&self) -> FloatTensor<B::Inner> {
        self.primitive(self.dims())
    }

    fn part<T>(&self, work: impl FnMut() -> T) -> f64 {
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

fn optimizer<B: TrainingBackend>() -> AdamW<B> {
    AdamW::new(AdamWConfig { weight_decay: 0.05 })
}

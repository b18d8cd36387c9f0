//! Models of Linear Recurrent Units, beside the published code.

use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;
use datasets::{Content, SequenceSet, Shape as ExampleShape, Target};
use ssm_core::operations::{BatchNorm, DiagonalSsm, GatedUnit};
use ssm_core::{
    Architecture, Encoder, Head, LayerSettings, LruInit, Model, Readout, TrainingBackend, read_out,
};
use trainer::backend::Job;
use trainer::batch::Batch;
use trainer::objective::cross_entropy;

use crate::clock::{Clock, DROPOUT, bytes, resident_mib};

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

pub fn header() -> String {
    format!(
        "JAX: the published code on another machine of two cores\n\
         {:8}{:>5} |{:>9}{:>9}{:>7} |{:>7}{:>9}{:>8}{:>9}{:>9}{:>8}{:>7}{:>7}{:>8} |{:>7}{:>7}",
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
    )
}

pub struct Row {
    shape: &'static Shape,
    states: usize,
    published: f64,
    seconds: f64,
}

pub fn rows(seconds: f64) -> impl Iterator<Item = Row> {
    SHAPES.iter().flat_map(move |shape| {
        shape.published.iter().map(move |&(states, published)| Row {
            shape,
            states,
            published,
            seconds,
        })
    })
}

impl crate::Row for Row {
    fn shape(&self) -> &'static str {
        self.shape.name
    }

    fn states(&self) -> usize {
        self.states
    }
}

impl Job for Row {
    type Output = String;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> String {
        let clock = Clock::<B>::new(device.clone(), self.seconds);
        Bench::new(self.shape, self.states, clock).row(self.published)
    }
}

/// One row of the table. Times are median seconds.
struct Bench<'a, B: TrainingBackend> {
    shape: &'a Shape,
    states: usize,
    clock: Clock<B>,
    model: Model<B>,
    examples: SequenceSet,
}

impl<'a, B: TrainingBackend> Bench<'a, B> {
    fn new(shape: &'a Shape, states: usize, clock: Clock<B>) -> Self {
        let architecture = Architecture {
            encoder: Encoder::Linear {
                channels: shape.channels,
            },
            hidden_dim: shape.hidden,
            state_dims: vec![states; shape.blocks],
            layer: LayerSettings::Lru(LruInit {
                max_phase: std::f64::consts::TAU,
                ..LruInit::default()
            }),
            head: Head::Classes { classes: CLASSES },
        };
        let example = ExampleShape {
            sequences: 1,
            length: shape.length,
            channels: shape.channels,
            classes: CLASSES,
            content: Content::Values,
            target: Target::Class,
        };
        // Two batches, of bytes that are as good as random.
        let count = 2 * shape.batch;
        let bytes: Vec<u8> = bytes(count * example.values()).collect();
        let labels = (0..count).map(|i| (i % CLASSES) as u16).collect();
        Self {
            shape,
            states,
            model: Model::init(&architecture, 1, &clock.device),
            examples: SequenceSet::new(example, bytes, labels).unwrap(),
            clock,
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

    fn total(&self) -> f64 {
        let model = self.model.clone();
        self.clock
            .step(model, &self.examples, self.shape.batch, true)
    }

    fn batches(&self) -> impl FnMut() -> Batch<B> {
        self.clock.batches(&self.examples, self.shape.batch)
    }

    fn data(&self) -> f64 {
        let mut next = self.batches();
        self.clock.part(&mut next)
    }

    /// With the loss that its gradient comes from, less that loss alone.
    fn encoder(&self) -> f64 {
        let batch = self.batches()();
        let weights = Tensor::<B, 3>::from_inner(self.clock.random(self.dims()));
        let loss = |output: Tensor<B, 3>| (output * weights.clone()).sum().backward();
        let with = self
            .clock
            .part(|| loss(self.model.encoder.forward(batch.input.clone())));
        let features = Tensor::<B, 3>::from_inner(self.clock.random(self.dims())).require_grad();
        with - self.clock.part(|| loss(features.clone()))
    }

    fn norm(&self) -> f64 {
        let (input, gradient) = (self.random_primitive(), self.random_primitive());
        let times = self
            .clock
            .operation::<BatchNorm, 1>([input], 1e-5, gradient, [true]);
        times.iter().sum()
    }

    /// Forward and backward.
    fn recurrence(&self) -> [f64; 2] {
        let (n, h) = (self.states, self.shape.hidden);
        let (input, gradient) = (self.random_primitive(), self.random_primitive());
        let inputs = [
            input,
            self.clock.primitive([n]),
            self.clock.primitive([n]),
            self.clock.primitive([n, h]),
            self.clock.primitive([n, h]),
            self.clock.primitive([h, n]),
            self.clock.primitive([h, n]),
            self.clock.primitive([h]),
            self.clock.primitive([self.shape.batch, 2 * n]),
        ];
        self.clock
            .operation::<DiagonalSsm, 9>(inputs, (), gradient, [true; 9])
    }

    fn gated_unit(&self) -> f64 {
        let h = self.shape.hidden;
        let (input, skip) = (self.random_primitive(), self.random_primitive());
        let gradient = self.random_primitive();
        let inputs = [
            input,
            skip,
            self.clock.primitive([h, h]),
            self.clock.primitive([h]),
            self.clock.primitive([h, h]),
            self.clock.primitive([h]),
        ];
        let dropout = Some(DROPOUT);
        let times = self
            .clock
            .operation::<GatedUnit, 6>(inputs, dropout, gradient, [true; 6]);
        times.iter().sum()
    }

    /// Mean over time, head and cross-entropy.
    fn head(&self) -> f64 {
        let features = Tensor::<B, 3>::from_inner(self.clock.random(self.dims())).require_grad();
        let labels = self.batches()().labels;
        self.clock.part(|| {
            let logits = self.model.logits(read_out(features.clone(), Readout::Mean));
            cross_entropy(logits, labels.clone()).backward()
        })
    }

    fn optimizer(&self) -> f64 {
        let model = self.model.clone();
        self.clock
            .optimizer(model, &self.examples, self.shape.batch)
    }

    fn dims(&self) -> [usize; 3] {
        [self.shape.batch, self.shape.length, self.shape.hidden]
    }

    /// Of the shape of a block's input.
    fn random_primitive(&self) -> FloatTensor<B::Inner> {
        self.clock.primitive(self.dims())
    }
}

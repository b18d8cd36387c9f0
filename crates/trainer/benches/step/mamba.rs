//! Mamba models, whose steps a cut of the states makes faster.

use burn::tensor::ops::FloatTensor;
use burn::tensor::{Int, Tensor};
use datasets::{Content, SequenceSet, Shape as ExampleShape, Target};
use ssm_core::operations::{Affine, CausalConv, RmsNorm, SelectiveScan, Ssd};
use ssm_core::{
    Architecture, DualSettings, Encoder, Head, LayerSettings, Model, SelectiveSettings,
    TrainingBackend,
};
use trainer::backend::Job;

use crate::clock::{Clock, bytes, resident_mib};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Mamba,
    Mamba2,
}

/// A model of bytes and what it trains on.
struct Shape {
    name: &'static str,
    kind: Kind,
    batch: usize,
    length: usize,
    hidden: usize,
    blocks: usize,
}

/// As in `configs/mamba_selective_copy.toml` and, with the length cut, `configs/mamba_imdb.toml`.
const SHAPES: [Shape; 4] = [
    copying("mamba-copy", Kind::Mamba),
    reviews("mamba-imdb", Kind::Mamba),
    copying("mamba2-copy", Kind::Mamba2),
    reviews("mamba2-imdb", Kind::Mamba2),
];

const fn copying(name: &'static str, kind: Kind) -> Shape {
    Shape {
        name,
        kind,
        batch: 32,
        length: 72,
        hidden: 64,
        blocks: 2,
    }
}

const fn reviews(name: &'static str, kind: Kind) -> Shape {
    Shape {
        batch: 16,
        length: 1024,
        ..copying(name, kind)
    }
}

/// Before and after a cut as published, and between.
const STATES: [usize; 4] = [128, 64, 16, 12];

const VOCABULARY: usize = 256;
const TAPS: usize = 4;
const CLASSES: usize = 2;
/// Channels of a head of Mamba-2.
const WIDTH: usize = 64;

pub fn header() -> String {
    format!(
        "{:12}{:>5} |{:>9} |{:>9}{:>9}{:>8}{:>8}{:>8}{:>7}{:>8} |{:>7}{:>7}",
        "shape",
        "N",
        "total",
        "scan fwd",
        "scan bwd",
        "maps",
        "conv",
        "norm",
        "optim",
        "other",
        "MiB",
        "before"
    )
}

pub struct Row {
    shape: &'static Shape,
    states: usize,
    seconds: f64,
}

pub fn rows(seconds: f64) -> impl Iterator<Item = Row> {
    SHAPES.iter().flat_map(move |shape| {
        STATES.iter().map(move |&states| Row {
            shape,
            states,
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
        Bench {
            shape: self.shape,
            states: self.states,
            clock,
        }
        .row()
    }
}

/// One row of the table. Times are median seconds.
struct Bench<'a, B: TrainingBackend> {
    shape: &'a Shape,
    states: usize,
    clock: Clock<B>,
}

impl<B: TrainingBackend> Bench<'_, B> {
    fn row(&self) -> String {
        let (model, examples) = (self.model(), self.examples());
        let (clock, size) = (&self.clock, self.shape.batch);
        let before = resident_mib("VmRSS:");
        let total = clock.step(model.clone(), &examples, size, false);
        let peak = resident_mib("VmHWM:");
        let blocks = self.shape.blocks as f64;
        let [scan_forward, scan_backward] = self.scan();
        let parts = [
            blocks * scan_forward,
            blocks * scan_backward,
            blocks * self.maps(),
            blocks * self.conv(),
            // One more behind the last block.
            blocks * self.norms() + self.norm(self.shape.hidden, false),
            clock.optimizer(model, &examples, size),
        ];
        let other = total - parts.iter().sum::<f64>();
        let [forward, backward, maps, conv, norm, optimizer] = parts.map(|seconds| 1e3 * seconds);
        format!(
            "{:12}{:5} |{:9.2} |{forward:9.2}{backward:9.2}{maps:8.2}{conv:8.2}{norm:8.2}{optimizer:7.2}{:8.2} \
             |{peak:7.0}{before:7.0}",
            self.shape.name,
            self.states,
            1e3 * total,
            1e3 * other
        )
    }

    fn channels(&self) -> usize {
        2 * self.shape.hidden
    }

    fn step_rank(&self) -> usize {
        self.shape.hidden.div_ceil(16)
    }

    fn heads(&self) -> usize {
        self.channels() / WIDTH
    }

    fn model(&self) -> Model<B> {
        let expand = self.channels() / self.shape.hidden;
        let architecture = Architecture {
            encoder: Encoder::Embedding {
                vocabulary: VOCABULARY,
            },
            hidden_dim: self.shape.hidden,
            state_dims: vec![self.states; self.shape.blocks],
            layer: match self.shape.kind {
                Kind::Mamba => LayerSettings::Mamba(SelectiveSettings {
                    expand,
                    conv_kernel: TAPS,
                    dt_rank: Some(self.step_rank()),
                }),
                Kind::Mamba2 => LayerSettings::Mamba2(DualSettings {
                    expand,
                    conv_kernel: TAPS,
                    head_dim: WIDTH,
                }),
            },
            head: Head::Classes { classes: CLASSES },
        };
        Model::init(&architecture, 1, &self.clock.device)
    }

    /// Two batches.
    fn examples(&self) -> SequenceSet {
        let example = ExampleShape {
            sequences: 1,
            length: self.shape.length,
            channels: 1,
            classes: CLASSES,
            content: Content::Tokens {
                vocabulary: VOCABULARY,
            },
            target: Target::Class,
        };
        let count = 2 * self.shape.batch;
        let bytes: Vec<u8> = bytes(count * self.shape.length).collect();
        let labels = (0..count).map(|i| (i % CLASSES) as u16).collect();
        SequenceSet::new(example, bytes, labels).unwrap()
    }

    /// Forward and backward.
    fn scan(&self) -> [f64; 2] {
        match self.shape.kind {
            Kind::Mamba => self.selective_scan(),
            Kind::Mamba2 => self.ssd(),
        }
    }

    fn selective_scan(&self) -> [f64; 2] {
        let (n, channels) = (self.states, self.channels());
        let (batch, length) = (self.shape.batch, self.shape.length);
        // -1 to -N, as a model starts.
        let rates = Tensor::<B::Inner, 1, Int>::arange(1..n as i64 + 1, &self.clock.device);
        let decay: Tensor<B::Inner, 2> = rates.float().neg().unsqueeze().repeat_dim(0, channels);
        let inputs = [
            self.wide(),
            self.wide(),
            decay.into_primitive().tensor(),
            self.clock.primitive([batch, length, n]),
            self.clock.primitive([batch, length, n]),
            self.clock.primitive([channels]),
            self.wide(),
        ];
        let gradient = self.wide();
        self.clock
            .operation::<SelectiveScan, 7>(inputs, (), gradient, [true; 7])
    }

    /// Not a number where the backend makes the map of tensor operations.
    fn ssd(&self) -> [f64; 2] {
        let (n, heads) = (self.states, self.heads());
        let (batch, length) = (self.shape.batch, self.shape.length);
        let positive = |dims: [usize; 3]| self.clock.random(dims).abs();
        let inputs = [
            self.clock.primitive([batch, length, heads, WIDTH]),
            positive([batch, length, heads]).into_primitive().tensor(),
            positive([1, 1, heads])
                .neg()
                .reshape([heads])
                .into_primitive()
                .tensor(),
            self.clock.primitive([batch, length, n]),
            self.clock.primitive([batch, length, n]),
            self.clock.primitive([heads]),
        ];
        let gradient = self.clock.primitive([batch, length, heads, WIDTH]);
        self.clock
            .operation::<Ssd, 6>(inputs, 1, gradient, [true; 6])
    }

    /// All projections of a block, and the map to its step sizes.
    fn maps(&self) -> f64 {
        let (hidden, channels, rank) = (self.shape.hidden, self.channels(), self.step_rank());
        let shapes: &[[usize; 2]] = match self.shape.kind {
            Kind::Mamba => &[
                [channels, hidden], // the input
                [channels, hidden], // the gate
                [rank, channels],
                [channels, rank],
                [self.states, channels], // B
                [self.states, channels], // C
                [hidden, channels],
            ],
            Kind::Mamba2 => &[
                [channels, hidden],     // the input
                [channels, hidden],     // the gate
                [self.states, hidden],  // B
                [self.states, hidden],  // C
                [self.heads(), hidden], // the steps
                [hidden, channels],
            ],
        };
        let rows = self.shape.batch * self.shape.length;
        let time = |[outputs, inputs]: &[usize; 2]| {
            let weight = self.clock.primitive([*outputs, *inputs]);
            let input = self.clock.primitive([rows, *inputs]);
            let gradient = self.clock.primitive([rows, *outputs]);
            let both = [input, weight];
            let times = self
                .clock
                .operation::<Affine, 2>(both, (), gradient, [true; 2]);
            times.iter().sum::<f64>()
        };
        shapes.iter().map(time).sum()
    }

    fn conv(&self) -> f64 {
        let channels = match self.shape.kind {
            Kind::Mamba => self.channels(),
            Kind::Mamba2 => self.channels() + 2 * self.states,
        };
        let dims = [self.shape.batch, self.shape.length, channels];
        let [input, gradient] = [(); 2].map(|()| self.clock.primitive(dims));
        let weight = self.clock.primitive([channels, TAPS]);
        let bias = self.clock.primitive([channels]);
        let inputs = [input, weight, bias];
        let times = self
            .clock
            .operation::<CausalConv, 3>(inputs, (), gradient, [true; 3]);
        times.iter().sum()
    }

    /// In front of a block, and of Mamba-2 the gated one within it as well.
    fn norms(&self) -> f64 {
        self.norm(self.shape.hidden, false)
            + match self.shape.kind {
                Kind::Mamba => 0.0,
                Kind::Mamba2 => self.norm(self.channels(), true),
            }
    }

    fn norm(&self, channels: usize, gated: bool) -> f64 {
        let dims = [self.shape.batch, self.shape.length, channels];
        let [input, gate, gradient] = [(); 3].map(|()| self.clock.primitive(dims));
        let weight = self.clock.primitive([channels]);
        let times = match gated {
            false => {
                let inputs = [input, weight];
                self.clock
                    .operation::<RmsNorm, 2>(inputs, 1e-5, gradient, [true; 2])
            }
            true => {
                let inputs = [input, weight, gate];
                self.clock
                    .operation::<RmsNorm, 3>(inputs, 1e-5, gradient, [true; 3])
            }
        };
        times.iter().sum()
    }

    /// Of the shape of what goes through a mixer.
    fn wide(&self) -> FloatTensor<B::Inner> {
        let channels = self.channels();
        self.clock
            .primitive([self.shape.batch, self.shape.length, channels])
    }
}

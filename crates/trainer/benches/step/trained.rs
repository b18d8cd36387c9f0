//! Steps on real examples with weights that have learned, beside steps on noise with weights that have not; and beside
//! another program.
//!
//! States that have learned to decay, and gradients of examples that are answered well, are small numbers that noise does
//! not make. A processor that is slow on subnormal numbers shows it here.

use std::process::{Child, Command, Stdio};

use datasets::digits::DigitsOptions;
use datasets::selective_copy::SelectiveCopyOptions;
use datasets::{Content, Dataset, Digits, LoadOptions, SelectiveCopy, SequenceSet, Source, Target};
use ssm_core::{
    Architecture, Encoder, Head, LayerSettings, LruInit, Model, SelectiveSettings, TrainingBackend,
};
use trainer::backend::Job;
use trainer::optimizer::LearningRates;

use crate::clock::{Clock, bytes};

/// As `configs/quickstart.toml` and `configs/mamba_selective_copy.toml` have them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Digits,
    SelectiveCopy,
}

/// Steps before the first that is timed, and their learning rate.
const LEARNED: usize = 200;
const RATES: LearningRates = LearningRates {
    main: 2e-3,
    recurrent: 2e-3,
};

/// Examples that are learned from.
const EXAMPLES: usize = 4000;

pub fn header() -> String {
    format!(
        "noise: random bytes and first weights; learned: examples, {LEARNED} steps on; busy: the same while another process \
         keeps a core busy\n\
         {:15}{:>5} |{:>9}{:>9}{:>7} |{:>9}{:>7}",
        "examples", "N", "noise", "learned", "ratio", "busy", "ratio"
    )
}

pub struct Row {
    task: Task,
    states: usize,
    seconds: f64,
}

pub fn rows(seconds: f64) -> impl Iterator<Item = Row> {
    [
        (Task::Digits, 256),
        (Task::Digits, 28),
        (Task::SelectiveCopy, 128),
        (Task::SelectiveCopy, 12),
    ]
    .into_iter()
    .map(move |(task, states)| Row {
        task,
        states,
        seconds,
    })
}

impl crate::Row for Row {
    fn shape(&self) -> &'static str {
        match self.task {
            Task::Digits => "digits",
            Task::SelectiveCopy => "selective-copy",
        }
    }

    fn states(&self) -> usize {
        self.states
    }
}

impl Job for Row {
    type Output = String;

    fn run<B: TrainingBackend>(self, device: &B::Device) -> String {
        let clock = Clock::<B>::new(device.clone(), self.seconds);
        let examples = self.examples().train;
        let shape = examples.shape();
        // As many bytes as there are, each as good as random, within the vocabulary.
        let values = match shape.content {
            Content::Values => 256,
            Content::Tokens { vocabulary } => vocabulary,
        };
        let noise = bytes(2 * self.batch() * shape.values());
        let noise: Vec<u8> = noise
            .map(|byte| (usize::from(byte) % values) as u8)
            .collect();
        let labels = (0..2 * self.batch() * shape.labels())
            .map(|i| (i % shape.classes) as u16)
            .collect();
        let noise = SequenceSet::new(shape, noise, labels).unwrap();
        let stepper = |set| clock.stepper(self.model::<B>(shape, device), set, self.batch(), RATES);
        let of_noise = clock.median_of(stepper(&noise));
        let mut trained = stepper(&examples);
        (0..LEARNED).for_each(|_| trained());
        let learned = clock.median_of(&mut trained);
        let busy = {
            let _other = BusyProcess::start();
            clock.median_of(&mut trained)
        };
        format!(
            "{:15}{:5} |{:9.2}{:9.2}{:7.2} |{:9.2}{:7.2}",
            crate::Row::shape(&self),
            self.states,
            1e3 * of_noise,
            1e3 * learned,
            learned / of_noise,
            1e3 * busy,
            busy / learned,
        )
    }
}

impl Row {
    fn batch(&self) -> usize {
        match self.task {
            Task::Digits => 50,
            Task::SelectiveCopy => 32,
        }
    }

    fn examples(&self) -> Dataset {
        let how = LoadOptions::default();
        let set = match self.task {
            Task::Digits => {
                let options = DigitsOptions {
                    train_examples: EXAMPLES,
                    test_examples: 1,
                    seed: 0,
                };
                Digits::load(&options, &how)
            }
            Task::SelectiveCopy => {
                let options = SelectiveCopyOptions {
                    length: 64,
                    copies: 8,
                    train_examples: EXAMPLES,
                    test_examples: 1,
                    ..SelectiveCopyOptions::default()
                };
                SelectiveCopy::load(&options, &how)
            }
        };
        set.unwrap()
    }

    fn model<B: TrainingBackend>(&self, shape: datasets::Shape, device: &B::Device) -> Model<B> {
        let architecture = match (shape.content, shape.target) {
            (Content::Values, _) => Architecture {
                encoder: Encoder::Linear {
                    channels: shape.channels,
                },
                hidden_dim: 8,
                state_dims: vec![self.states],
                layer: LayerSettings::Lru(LruInit {
                    max_phase: std::f64::consts::TAU,
                    ..LruInit::default()
                }),
                head: Head::Classes {
                    classes: shape.classes,
                },
            },
            (Content::Tokens { vocabulary }, Target::LastSteps { .. }) => Architecture {
                encoder: Encoder::Embedding { vocabulary },
                hidden_dim: 64,
                state_dims: vec![self.states; 2],
                layer: LayerSettings::Mamba(SelectiveSettings::default()),
                head: Head::Tokens { tied: false },
            },
            (Content::Tokens { .. }, Target::Class) => unreachable!("not one of the tasks"),
        };
        Model::init(&architecture, 1, device)
    }
}

/// What keeps a core busy until it is dropped: this program, doing nothing as fast as it can.
struct BusyProcess(Child);

impl BusyProcess {
    fn start() -> Self {
        let program = std::env::current_exe().unwrap();
        let child = Command::new(program)
            .arg(crate::BUSY_FLAG)
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for BusyProcess {
    fn drop(&mut self) {
        // It may be gone already, if somebody ended it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

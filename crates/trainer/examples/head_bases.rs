//! What a trained Mamba-2 loses with states, by how they are chosen:
//! `cargo run --release -p trainer --example head_bases -- runs/DIR`.
//!
//! Gramians and scores come from training examples, errors from test examples. Every layer by itself is tried on the
//! input that it has in the uncut model; logits and accuracy are of the model with all of its layers cut.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::PathBuf;

use anyhow::{Context, bail};
use burn::backend::Flex;
use burn::tensor::{ElementConversion, Tensor};
use clap::Parser;
use hsv::BalanceError;
use ssm_core::{DualMixer, GramianEstimate, HeadBasis, HeadGramians, Layer, Model};
use trainer::batch::{Batch, batch};
use trainer::data;
use trainer::evaluate::correct;
use trainer::run_dir::RunDir;
use trainer::weights::read_model;

/// Error against order of a trained Mamba-2, for every choice of states.
#[derive(Parser)]
struct Arguments {
    /// Folder of a run with `model.kind = "mamba2"`; its best weights are read.
    run: PathBuf,
    /// Orders to try.
    #[arg(long, value_delimiter = ',', default_value = "2,4,8,16,32")]
    orders: Vec<usize>,
    /// Training examples that Gramians are from, and test examples that errors are from.
    #[arg(long, default_value_t = 64)]
    examples: usize,
    /// Folder with the data set's files, if it has any.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// How states are chosen.
#[derive(Clone, Copy)]
enum Choice {
    /// The first directions of a basis of every head's own.
    Basis(HeadBasis),
    /// State indices with the largest scores.
    Axes,
}

const CHOICES: [(&str, Choice); 4] = [
    ("balanced", Choice::Basis(HeadBasis::Balanced)),
    ("keys", Choice::Basis(HeadBasis::Keys)),
    ("queries", Choice::Basis(HeadBasis::Queries)),
    ("axes", Choice::Axes),
];

/// A layer's mixer and what its states are chosen by.
struct Trial {
    mixer: DualMixer<Flex>,
    gramians: Vec<HeadGramians>,
    /// State indices, largest score first.
    ranking: Vec<usize>,
    /// What it is tried on, `[batch, length, hidden]`.
    input: Tensor<Flex, 3>,
}

impl Trial {
    fn cut(&self, choice: Choice, order: usize) -> Result<DualMixer<Flex>, BalanceError> {
        Ok(match choice {
            Choice::Basis(basis) => {
                let heads = self.gramians.iter();
                let projections = heads
                    .map(|head| Ok(head.in_basis(basis)?.projections(order)))
                    .collect::<Result<Vec<_>, BalanceError>>()?;
                self.mixer.balanced(&projections)
            }
            Choice::Axes => self.mixer.selected(&self.ranking[..order]),
        })
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (run, mut config) = RunDir::open(&arguments.run)?;
    config.data.dir = arguments.data_dir.or(config.data.dir);
    let device = Default::default();
    let model = Model::<Flex>::from_tensors(read_model(&run.best_weights())?, &device)?;
    let sets = data::load(&config)?;
    let calibration = 0..arguments.examples.min(sets.train.len());
    let lengths: Vec<usize> = calibration.clone().map(|i| sets.train.length(i)).collect();
    let calibration = batch(&sets.train, calibration, &device);
    let tested = 0..arguments.examples.min(sets.test.len());
    let tested: Batch<Flex> = batch(&sets.test, tested, &device);

    let inputs = model.layer_inputs(calibration.input);
    let tried = model.layer_inputs(tested.input.clone());
    let mut layers = Vec::new();
    for ((block, input), tried) in model.blocks.iter().zip(inputs).zip(tried) {
        let Layer::Mamba2(mixer) = &block.layer else {
            bail!("the model of this run is no Mamba-2");
        };
        let scores = mixer.state_scores(input.clone(), &lengths, GramianEstimate::Empirical);
        let mut ranking: Vec<usize> = (0..scores.len()).collect();
        ranking.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
        layers.push(Trial {
            mixer: mixer.clone(),
            gramians: mixer.head_gramians(input, &lengths),
            ranking,
            input: tried,
        });
    }
    let states = model.state_dims().into_iter().min();
    let states = states.context("a model has layers")?;

    let titles = CHOICES.map(|(name, _)| format!("{name:>10}")).concat();
    let answers = tested.answers() as f64;
    let logits = |model: &Model<Flex>| model.forward(tested.input.clone(), tested.readout.clone());
    let accuracy = |logits: Tensor<Flex, 2>| {
        let right: i64 = correct(logits, tested.labels.clone()).into_scalar().elem();
        100.0 * right as f64 / answers
    };
    let whole = logits(&model);
    println!(
        "{}: {:?} states, accuracy {:.2} % on {} test examples; relative errors",
        run.best_weights().display(),
        model.state_dims(),
        accuracy(whole.clone()),
        arguments.examples,
    );
    println!("\n{:>6}  {:18}{titles}", "order", "");
    for order in arguments
        .orders
        .into_iter()
        .filter(|order| *order <= states)
    {
        let cut = |(_, choice): (&str, Choice)| -> Result<Vec<_>, BalanceError> {
            layers
                .iter()
                .map(|layer| layer.cut(choice, order))
                .collect()
        };
        let mixers = CHOICES
            .into_iter()
            .map(cut)
            .collect::<Result<Vec<_>, _>>()?;
        let row = |name: &str, values: Vec<String>| {
            let values: String = values.iter().map(|value| format!("{value:>10}")).collect();
            println!("{order:>6}  {name:18}{values}");
        };
        for (index, layer) in layers.iter().enumerate() {
            let full = layer.mixer.forward(layer.input.clone());
            let error = |mixers: &Vec<DualMixer<Flex>>| {
                let output = mixers[index].forward(layer.input.clone());
                format!("{:.2e}", relative_error(output, full.clone()))
            };
            row(
                &format!("mixer {index}"),
                mixers.iter().map(error).collect(),
            );
        }
        let (mut errors, mut accuracies) = (Vec::new(), Vec::new());
        for mixers in mixers {
            let mut smaller = model.clone();
            for (block, mixer) in smaller.blocks.iter_mut().zip(mixers) {
                block.layer = Layer::Mamba2(mixer);
            }
            let found = logits(&smaller);
            errors.push(format!(
                "{:.2e}",
                relative_error(found.clone(), whole.clone())
            ));
            accuracies.push(format!("{:.2}", accuracy(found)));
        }
        row("logits", errors);
        row("accuracy, %", accuracies);
    }
    Ok(())
}

/// ‖found - right‖ / ‖right‖ over all elements.
fn relative_error<const D: usize>(found: Tensor<Flex, D>, right: Tensor<Flex, D>) -> f64 {
    let square = |x: Tensor<Flex, D>| f64::from(x.square().sum().into_scalar());
    (square(found - right.clone()) / square(right)).sqrt()
}

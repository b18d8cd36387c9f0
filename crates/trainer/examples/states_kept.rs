//! What a model is worth with the share of its states that a cut leaves, by kind of layer:
//! `cargo run --release -p trainer --example states_kept -- --csv states.csv --svg states.svg`.
//!
//! One run for each kind, number of states and seed, in a folder of its own; what is there already is not run again, and
//! what was broken off goes on. The numbers go to a table, their means and extremes to a plot.
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Parser;
use plotters::prelude::*;
use trainer::config::Config;
use trainer::summary::Summary;
use trainer::train::{Ending, resume, train};

/// Accuracy against states kept, for several kinds of layers.
#[derive(Parser)]
struct Arguments {
    /// Settings of all runs.
    #[arg(long, default_value = "configs/small/states_kept.toml")]
    config: PathBuf,
    /// A setting that overrules the file's; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Kinds of layers.
    #[arg(long, value_delimiter = ',', default_value = "lru,s5,s4d")]
    kinds: Vec<String>,
    /// Numbers of states to come to; `model.state_dim` itself is a run without cuts.
    #[arg(long, value_delimiter = ',', default_value = "64,16,8,4,2")]
    states: Vec<usize>,
    /// Seeds.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
    seeds: Vec<u64>,
    /// Folder with the data set's files, if it has any.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Folder of the runs.
    #[arg(long, default_value = "runs/states_kept")]
    output: PathBuf,
    /// The table to write.
    #[arg(long)]
    csv: PathBuf,
    /// The plot to write.
    #[arg(long)]
    svg: PathBuf,
}

/// Told apart by those who see no red or no green, too.
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];

/// One run.
struct Outcome {
    kind: String,
    seed: u64,
    summary: Summary,
}

impl Outcome {
    fn states(&self) -> usize {
        self.summary.final_state_dims.iter().sum()
    }

    /// Share of the states that is left.
    fn share(&self) -> f64 {
        let before: usize = self.summary.initial_state_dims.iter().sum();
        self.states() as f64 / before as f64
    }

    fn percent(&self) -> f64 {
        100.0 * self.summary.test_accuracy
    }
}

impl Arguments {
    fn run(&self, kind: &str, states: usize, seed: u64) -> anyhow::Result<Summary> {
        let folder = self.output.join(format!("{kind}-{states}-{seed}"));
        if let Ok(text) = fs::read_to_string(folder.join("summary.json")) {
            return Ok(serde_json::from_str(&text)?);
        }
        let ending = match folder.exists() {
            true => resume(&folder, self.data_dir.clone(), true)?,
            false => {
                let of_kind = [
                    format!("model.kind={kind}"),
                    format!("training.seed={seed}"),
                ];
                let with = |cut: String| {
                    let sets = self.sets.iter().chain(&of_kind).cloned();
                    Config::load(Some(&self.config), &sets.chain([cut]).collect::<Vec<_>>())
                };
                let mut config = with(format!("compress.target_states={states}"))?;
                if config.model.state_dim == states {
                    config = with("compress.policy=none".to_owned())?;
                }
                config.data.dir.clone_from(&self.data_dir);
                train(&config, &folder, true)?
            }
        };
        match ending {
            Ending::Finished(summary) => Ok(*summary),
            Ending::Interrupted { .. } => bail!("interrupted; the same command goes on"),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut outcomes = Vec::new();
    for seed in &arguments.seeds {
        for kind in &arguments.kinds {
            for states in &arguments.states {
                let summary = arguments.run(kind, *states, *seed)?;
                let outcome = Outcome {
                    kind: kind.clone(),
                    seed: *seed,
                    summary,
                };
                let (kept, percent) = (outcome.states(), outcome.percent());
                println!("{kind:>6} seed {seed}: {kept:3} states, {percent:5.2} %");
                outcomes.push(outcome);
                // What there is, should it be broken off.
                write_table(&arguments.csv, &outcomes)?;
            }
        }
    }
    plot(&arguments.svg, &arguments.kinds, &outcomes)
}

fn write_table(path: &Path, outcomes: &[Outcome]) -> anyhow::Result<()> {
    let mut text = String::from(
        "dataset,kind,seed,states,parameters,validation_percent,test_percent,step_ms_first,step_ms_last,seconds\n",
    );
    for outcome in outcomes {
        let Outcome {
            kind,
            seed,
            summary,
        } = outcome;
        text += &format!(
            "{},{kind},{seed},{},{},{:.2},{:.2},{:.2},{:.2},{:.1}\n",
            summary.dataset,
            outcome.states(),
            summary.final_parameters,
            100.0 * summary.best_val_accuracy,
            outcome.percent(),
            summary.median_step_ms_first,
            summary.median_step_ms_last,
            summary.train_seconds,
        );
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Mean and extremes of the test accuracy of each kind, by share of the states.
fn plot(path: &Path, kinds: &[String], outcomes: &[Outcome]) -> anyhow::Result<()> {
    let smallest = outcomes.iter().map(Outcome::share).fold(1.0, f64::min);
    let dataset = outcomes.first().map_or("", |first| &first.summary.dataset);
    let area = SVGBackend::new(path, (720, 440)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d(smallest.log2() - 0.3..0.3, 0.0..100.0)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("states kept, %")
        .y_desc(format!("test accuracy on {dataset}, %"))
        .x_label_formatter(&|octaves| format!("{:.1}", 100.0 * octaves.exp2()))
        .y_label_formatter(&|percent| format!("{percent:.0}"))
        .draw()?;
    for (index, kind) in kinds.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let points = spread(outcomes.iter().filter(|outcome| outcome.kind == *kind));
        let means = points
            .iter()
            .map(|(share, mean, _)| (share.log2(), *mean))
            .collect();
        let style = color.stroke_width(2);
        chart
            .draw_series([PathElement::<(f64, f64)>::new::<Vec<_>, _>(means, style)])?
            .label(kind)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
        // Beside one another, where the extremes of several kinds are alike.
        let aside = 0.03 * index as f64;
        chart.draw_series(points.iter().map(|(share, _, [low, high])| {
            let x = share.log2() + aside;
            PathElement::new([(x, *low), (x, *high)], style)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

/// For each share of the states: mean and extremes of the accuracy.
fn spread<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> Vec<(f64, f64, [f64; 2])> {
    let mut by_share = BTreeMap::<u64, Vec<f64>>::new();
    for outcome in outcomes {
        let share = outcome.share().to_bits();
        by_share.entry(share).or_default().push(outcome.percent());
    }
    let point = |(share, percents): (u64, Vec<f64>)| {
        let mean = percents.iter().sum::<f64>() / percents.len() as f64;
        let low = percents.iter().copied().fold(f64::INFINITY, f64::min);
        let high = percents.iter().copied().fold(0.0, f64::max);
        (f64::from_bits(share), mean, [low, high])
    };
    by_share.into_iter().map(point).collect()
}

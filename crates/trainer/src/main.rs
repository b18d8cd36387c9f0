//! `compressm`: trains, evaluates and analyzes state space models that shrink while they train.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{ArgGroup, Args, Parser, Subcommand};
use time::OffsetDateTime;
use time::macros::format_description;
use trainer::analyze::{analyze_checkpoint, analyze_system};
use trainer::config::{BackendKind, Config};
use trainer::predict::Passage;
use trainer::train::TrainError;
use trainer::{
    allocator, checkpoint, data, evaluate, events, files, history, interrupt, predict, train,
    weights,
};

/// Every tensor operation allocates its result, often a megabyte or more; the system's allocator maps and unmaps such
/// pages each time, which costs a fifth of a small model's training step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Train state space models that shrink while they train.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Show no progress and no events.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model, cutting its states on the way.
    Train(RunArgs),
    /// Evaluate a run's best weights since its last cut on its validation and test sets.
    Eval(EvalArgs),
    /// List the checkpoints of a run, and check their files.
    Checkpoints(CheckpointsArgs),
    /// Take a run back to a checkpoint, such as the one before a cut, and go on from there.
    Revert(RevertArgs),
    /// Write a run's report, one HTML file with plots, to its folder.
    Report(ReportArgs),
    /// Print Hankel singular values, orders and reduced systems.
    Analyze(AnalyzeArgs),
    /// Run a model from a weights file on inputs from a file.
    Predict(PredictArgs),
    /// Write the weights of a run or checkpoint to one safetensors file.
    Export(ExportArgs),
    /// Fetch data sets, or check their files.
    #[command(subcommand)]
    Data(DataCommand),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// TOML file with settings; what it leaves out has built-in values.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, such as `training.lr=1e-3`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Folder with the data set's files (else `COMPRESSM_DATA_DIR`).
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Folder for the results, new or empty (else `runs/DATASET-TIME`).
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Backend: cpu, wgpu, cuda or libtorch.
    #[arg(long)]
    backend: Option<String>,
    /// Go on with the run in this folder from its newest checkpoint, with the settings saved there.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "sets", "output", "backend"])]
    resume: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct EvalArgs {
    /// Folder of the run.
    #[arg(long, value_name = "DIR")]
    resume: PathBuf,
    /// Folder with the data set's files, if they have moved.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckpointsArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    run: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct RevertArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    run: PathBuf,
    /// Step of the checkpoint; where a cut was made at that step, the one before it.
    #[arg(long, value_name = "STEP")]
    to: u64,
    /// One setting to go on with, such as `compress.tau=0.01`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Folder with the data set's files, if they have moved.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Only go back; `train --resume DIR` goes on.
    #[arg(long)]
    no_train: bool,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// Folder of the run.
    #[arg(value_name = "DIR")]
    run: PathBuf,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("subject").required(true).args(["system", "checkpoint"])))]
struct AnalyzeArgs {
    /// JSON or npz file with a system, diagonal or dense, in discrete or continuous time; prints JSON.
    #[arg(long, value_name = "FILE")]
    system: Option<PathBuf>,
    /// Folder of a run, a checkpoint or a published model, or a file of weights.
    #[arg(long, value_name = "DIR|FILE")]
    checkpoint: Option<PathBuf>,
    /// Tolerance to give the orders for; may be repeated.
    #[arg(long, value_name = "TAU", default_values = ["0.1", "0.05", "0.02", "0.01", "0.001"], conflicts_with = "system")]
    tau: Vec<String>,
    /// Folder with the data set's files, for a run of selective layers whose files have moved.
    #[arg(long, value_name = "DIR", conflicts_with = "system")]
    data_dir: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct PredictArgs {
    /// Weights: the folder of a run, a checkpoint or a published model, or a file.
    #[arg(long, value_name = "DIR|FILE")]
    weights: PathBuf,
    /// Safetensors file with `x` [batch, length, input] or `input_ids` [batch, length].
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// Safetensors file to write `logits` to.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Backend: cpu, wgpu, cuda or libtorch.
    #[arg(long)]
    backend: Option<String>,
    /// One step after the other on the processor, as a program does that waits for the next sample.
    #[arg(long, conflicts_with = "backend")]
    stream: bool,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// Folder of a run, a checkpoint or a published model, or a file of weights.
    #[arg(long, value_name = "DIR|FILE")]
    checkpoint: PathBuf,
    /// Safetensors file to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    /// Download the files of a data set and check them.
    Fetch(DataArgs),
    /// Check the files of a data set against their checksums.
    Verify(DataArgs),
}

#[derive(Debug, Args)]
struct DataArgs {
    /// Name of the data set.
    name: String,
    /// Folder of the files (else `COMPRESSM_DATA_DIR`, else `data`).
    #[arg(long, visible_alias = "data-dir", value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The input or the usage is at fault: nothing ran.
const BAD_INPUT: u8 = 2;
/// A run began and failed.
const FAILED_RUN: u8 = 1;

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    events::init();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if standard error is closed.
            let _ = writeln!(io::stderr(), "error: {}", one_line(&error));
            let failed = error
                .downcast_ref::<TrainError>()
                .is_some_and(TrainError::is_failed_run);
            ExitCode::from(if failed { FAILED_RUN } else { BAD_INPUT })
        }
    }
}

/// Help and version as they are; a usage error in one line, like every other error.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Nothing is left to tell if standard output is closed.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let message = text.split("\n\nUsage").next().unwrap_or(&text);
    let words: Vec<&str> = message.split_whitespace().collect();
    let _ = writeln!(io::stderr(), "{}; see `compressm --help`", words.join(" "));
    ExitCode::from(BAD_INPUT)
}

/// The error and its causes, each said once.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text.replace('\n', " ")
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Train(args) => run_train(args, cli.quiet),
        Command::Eval(args) => run_eval(&args),
        Command::Checkpoints(args) => run_checkpoints(&args),
        Command::Revert(args) => run_revert(args, cli.quiet),
        Command::Report(args) => run_report(&args.run),
        Command::Analyze(args) => run_analyze(&args),
        Command::Predict(args) => {
            let passage = match args.stream {
                true => Passage::Stepwise,
                false => Passage::Parallel(backend(args.backend)?),
            };
            Ok(predict::predict(
                passage,
                &args.weights,
                &args.input,
                &args.output,
            )?)
        }
        Command::Export(args) => run_export(&args),
        Command::Data(DataCommand::Fetch(args)) => run_fetch(args, cli.quiet),
        Command::Data(DataCommand::Verify(args)) => run_verify(args),
    }
}

fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

fn backend(name: Option<String>) -> anyhow::Result<BackendKind> {
    let sets: Vec<String> = name
        .into_iter()
        .map(|name| format!("run.backend={name}"))
        .collect();
    Ok(Config::load_with_env(None, &sets, [])?.run.backend)
}

fn run_train(args: RunArgs, quiet: bool) -> anyhow::Result<()> {
    interrupt::watch()?;
    let ending = match args.resume {
        Some(folder) => train::resume(&folder, args.data_dir, quiet)?,
        None => {
            let mut sets = args.sets;
            sets.extend(args.backend.map(|name| format!("run.backend={name}")));
            let mut config = Config::load(args.config.as_deref(), &sets)?;
            if let Some(dir) = args.data_dir {
                config.data.dir = Some(dir);
            }
            let output = args.output.or_else(|| config.run.output.clone());
            let output = output.unwrap_or_else(|| default_output(&config.data.dataset));
            train::train(&config, &output, quiet)?
        }
    };
    if quiet { Ok(()) } else { print(ending) }
}

fn run_checkpoints(args: &CheckpointsArgs) -> anyhow::Result<()> {
    let history = history::list(&args.run)?;
    match args.json {
        true => print(serde_json::to_string_pretty(&history)?),
        false => print(history),
    }
}

fn run_revert(args: RevertArgs, quiet: bool) -> anyhow::Result<()> {
    let reverted = history::revert(&args.run, args.to, &args.sets)?;
    if !quiet {
        print(format_args!(
            "back at step {}; what came after is in {}",
            reverted.moment,
            reverted.abandoned.display()
        ))?;
    }
    if args.no_train {
        return Ok(());
    }
    interrupt::watch()?;
    let ending = train::resume(&args.run, args.data_dir, quiet)?;
    if quiet { Ok(()) } else { print(ending) }
}

/// `runs/DATASET-TIME`, with a number behind it if that is taken.
fn default_output(dataset: &str) -> PathBuf {
    let format = format_description!("[year][month][day]-[hour][minute][second]");
    let time = OffsetDateTime::now_utc().format(&format);
    let time = time.expect("the format asks for nothing that UTC lacks");
    let base = format!("runs/{dataset}-{time}");
    let numbered = (2..).map(|n| format!("{base}-{n}"));
    std::iter::once(base.clone())
        .chain(numbered)
        .map(PathBuf::from)
        .find(|path| !path.exists())
        .expect("some number is free")
}

fn run_report(run: &Path) -> anyhow::Result<()> {
    let page = report::page(run)?;
    let path = run.join(report::FILE_NAME);
    files::write_atomically(&path, page.as_bytes())?;
    print(path.display())
}

fn run_eval(args: &EvalArgs) -> anyhow::Result<()> {
    let report = evaluate::evaluate_run(&args.resume, args.data_dir.clone())?;
    match args.json {
        true => print(serde_json::to_string_pretty(&report)?),
        false => print(report),
    }
}

fn run_analyze(args: &AnalyzeArgs) -> anyhow::Result<()> {
    match (&args.system, &args.checkpoint) {
        (Some(path), _) => print(serde_json::to_string(&analyze_system(path)?)?),
        (None, Some(path)) => {
            let report = analyze_checkpoint(path, &args.tau, args.data_dir.clone())?;
            match args.json {
                true => print(serde_json::to_string_pretty(&report)?),
                false => print(report.to_table()),
            }
        }
        (None, None) => unreachable!("clap requires one of the two"),
    }
}

fn run_export(args: &ExportArgs) -> anyhow::Result<()> {
    let source = checkpoint::resolve_weights(&args.checkpoint)?;
    weights::export(&source, &args.output)?;
    print(format_args!(
        "{} -> {}",
        source.display(),
        args.output.display()
    ))
}

fn run_fetch(args: DataArgs, quiet: bool) -> anyhow::Result<()> {
    let dir = data::fetch_dir(args.dir);
    let progress = match quiet {
        true => datasets::Progress::Hidden,
        false => datasets::Progress::Bar,
    };
    let files = datasets::fetch(&args.name, &dir, progress)?;
    if files.is_empty() {
        return print(format_args!("{} is generated: nothing to fetch", args.name));
    }
    for file in files {
        print(format_args!("{}  {} bytes", file.path.display(), file.size))?;
    }
    Ok(())
}

fn run_verify(args: DataArgs) -> anyhow::Result<()> {
    let dir = data::fetch_dir(args.dir);
    let checks = datasets::verify(&args.name, &dir)?;
    if checks.is_empty() {
        return print(format_args!(
            "{} is generated: nothing to verify",
            args.name
        ));
    }
    let mut bad = 0;
    for check in checks {
        bad += usize::from(check.status != datasets::FileStatus::Good);
        print(format_args!("{:?}  {}", check.status, check.path.display()))?;
    }
    anyhow::ensure!(
        bad == 0,
        "{bad} files are missing or damaged; {}",
        advice(&args.name, &dir)
    );
    Ok(())
}

fn advice(name: &str, dir: &Path) -> String {
    format!(
        "run `cargo xtask data fetch {name} --dir {}`",
        dir.display()
    )
}

//! What does a whole training step cost, and where does it go?
//!
//! A table for each kind of model: the step that a run repeats, and each of its parts timed alone on the same sizes,
//! forward and backward. Every row runs in a process of its own, so that its peak memory is its own.
//! `docs/performance.md` says how to read it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is what this program is for"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a measurement stops at the first thing that is not as it should be"
)]
#![allow(unreachable_pub, reason = "modules of a bench program have no outside")]

mod clock;
mod lru;
mod mamba;
mod trained;

use std::process::{Command, ExitCode};

use clap::Parser;
use trainer::backend::{Job, dispatch};
use trainer::config::BackendKind;

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
    /// Keep a core busy until the process is ended.
    #[arg(long = "keep-busy", hide = true)]
    keep_busy: bool,
    /// Cargo says so to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a process of this program is started with to keep a core busy.
const BUSY_FLAG: &str = "--keep-busy";

fn backend_kind(word: &str) -> Result<BackendKind, serde_json::Error> {
    serde_json::from_value(word.into())
}

/// A row of a table, measured when it runs.
trait Row: Job<Output = String> {
    /// Name of the shape.
    fn shape(&self) -> &'static str;

    /// States of every layer.
    fn states(&self) -> usize;
}

fn main() -> ExitCode {
    trainer::allocator::keep_freed_memory();
    let options = Options::parse();
    if options.keep_busy {
        loop {
            std::hint::spin_loop();
        }
    }
    if !options.rows_only {
        println!(
            "median ms of a training step and of its parts alone, forward and backward, all blocks; threads: {}",
            rayon::current_num_threads()
        );
        println!("MiB: most memory in use during the steps, and before the first");
    }
    let tables = table(&options, &lru::header(), lru::rows(options.seconds))
        && table(&options, &mamba::header(), mamba::rows(options.seconds))
        && table(&options, &trained::header(), trained::rows(options.seconds));
    match tables {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(2),
    }
}

/// Prints the rows that are asked for; whether they could be measured.
fn table<R: Row>(options: &Options, header: &str, rows: impl Iterator<Item = R>) -> bool {
    let is_chosen = |row: &R| {
        let named = |text: &String| row.shape().contains(text.as_str());
        (options.filter.is_empty() || options.filter.iter().any(named))
            && (options.states.is_empty() || options.states.contains(&row.states()))
    };
    let mut rows = rows.filter(is_chosen).peekable();
    if !options.rows_only && rows.peek().is_some() {
        println!("{header}");
    }
    rows.all(|row| match options.rows_only {
        false => measure_apart(options, &row),
        true => match dispatch(options.backend, row) {
            Ok(row) => {
                println!("{row}");
                true
            }
            Err(refusal) => {
                eprintln!("{refusal}");
                false
            }
        },
    })
}

/// Runs this program again for one row; whether it could.
fn measure_apart(options: &Options, row: &impl Row) -> bool {
    let backend = options.backend.to_string();
    Command::new(std::env::current_exe().unwrap())
        .args(["--rows-only", "--backend", &backend])
        .args(["--filter", row.shape(), "--states"])
        .arg(row.states().to_string())
        .args(["--seconds", &options.seconds.to_string()])
        .status()
        .unwrap()
        .success()
}

//! The project's own commands: `cargo xtask train`, `cargo xtask check`, …
//!
//! Thin by intent: it builds the program `compressm` of the crate `trainer` in release mode with the features that
//! its backend needs, and hands every argument and the exit code through. What a command does is decided there.

mod arguments;
mod backend;
mod bench;
mod check;
mod compressm;
mod libtorch;

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use clap::Parser;

use bench::Suite;
use check::Step;

/// Train and examine models with `compressm`, and check the project.
#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    after_help = "Any other command goes to `compressm`, built in release mode, with all its arguments:\n  \
                  cargo xtask train                      the quickstart: configs/quickstart.toml\n  \
                  cargo xtask train --config FILE --set training.lr=1e-3 --backend wgpu\n  \
                  cargo xtask train --help               what can be set\n  \
                  cargo xtask data fetch mnist [--dir DIR]"
)]
enum Task {
    /// Run all tests: `cargo test --workspace`.
    Test {
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Run what every change must pass, cheapest first; stops at the first failure.
    Check {
        /// Only these steps.
        steps: Vec<Step>,
    },
    /// Measure speed, and print one table.
    Bench {
        /// What to measure.
        suite: Suite,
        /// Passed on to the suite; `--help` says what it takes.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// A command of `compressm`.
    #[command(external_subcommand)]
    Compressm(Vec<OsString>),
}

fn main() -> anyhow::Result<ExitCode> {
    match Task::parse() {
        Task::Bench { suite, args } => run_or_refuse(suite.command(&args)),
        Task::Test { args } => run(Step::Test.command().args(args)),
        Task::Check { steps } => check::run_all(&steps),
        Task::Compressm(args) => run_or_refuse(compressm::command(&args)),
    }
}

fn run_or_refuse(command: Result<Command, backend::Refusal>) -> anyhow::Result<ExitCode> {
    match command {
        Ok(mut command) => run(&mut command),
        Err(refusal) => Ok(refuse(&refusal)),
    }
}

/// One line on standard error, and the exit code of wrong usage.
#[allow(
    clippy::print_stderr,
    reason = "this is where a user learns what went wrong"
)]
fn refuse(refusal: &backend::Refusal) -> ExitCode {
    eprintln!("{refusal}");
    ExitCode::from(2)
}

/// Runs a command to its end and hands its exit code through.
fn run(command: &mut Command) -> anyhow::Result<ExitCode> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    // No code means that a signal ended it.
    let code = status
        .code()
        .map_or(1, |code| u8::try_from(code).unwrap_or(1));
    Ok(ExitCode::from(code))
}

/// The cargo that runs this task, on this workspace, whatever the current folder is.
fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg(subcommand)
        .arg("--manifest-path")
        .arg(workspace_root().join("Cargo.toml"));
    command
}

fn workspace_root() -> PathBuf {
    // Cargo says at run time where this crate is; the folder it was built in is only for a direct start.
    let here =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&here)
        .parent()
        .expect("xtask is a folder of the workspace")
        .to_owned()
}

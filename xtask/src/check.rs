//! What every change must pass.

use std::process::{Command, ExitCode};

use clap::ValueEnum;

use crate::{cargo, run};

/// One step of the check. The order here is the order they run in: cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// The code is formatted.
    Fmt,
    /// No compiler warning, no lint.
    Clippy,
    /// The documentation builds without warnings; a broken link is one.
    Doc,
    /// All tests pass.
    Test,
}

impl Step {
    /// The command that this step is.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::Fmt => with_args("fmt", &["--all", "--check"]),
            Self::Clippy => with_args(
                "clippy",
                &["--workspace", "--all-targets", "--", "-D", "warnings"],
            ),
            Self::Doc => {
                let mut command = with_args("doc", &["--workspace", "--no-deps"]);
                command.env("RUSTDOCFLAGS", "-D warnings");
                command
            }
            Self::Test => with_args("test", &["--workspace"]),
        }
    }
}

fn with_args(subcommand: &str, args: &[&str]) -> Command {
    let mut command = cargo(subcommand);
    command.args(args);
    command
}

/// Runs the given steps in their order, all of them if none is given, up to the first that fails.
pub(crate) fn run_all(steps: &[Step]) -> anyhow::Result<ExitCode> {
    let wanted = |step: &&Step| steps.is_empty() || steps.contains(step);
    for step in Step::value_variants().iter().filter(wanted) {
        let code = run(&mut step.command())?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

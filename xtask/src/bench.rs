//! The command lines that measure speed.

use std::ffi::OsString;
use std::process::Command;

use crate::backend::{Backend, Refusal};
use crate::cargo;

/// What `cargo xtask bench` measures.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Gramian factors, Hankel singular values, truncation and diagonal form of one layer, by size and by phase.
    Reduction,
    /// The recurrences alone, by shape and number of states, beside what the machine could do.
    Kernels,
    /// A whole training step, by part.
    Step,
}

impl Suite {
    /// `cargo bench` for this suite, with the features that the backend among `args` needs.
    pub(crate) fn command(self, args: &[OsString]) -> Result<Command, Refusal> {
        let backend = Backend::of(args)?;
        // With `trainer` beside it, `ssm-core` is built as it is for the program: its dependencies are there already.
        let (packages, bench): (&[&str], _) = match self {
            Self::Reduction => (&["hsv"], "phases"),
            Self::Kernels => (&["ssm-core", "trainer"], "kernels"),
            Self::Step => (&["ssm-core", "trainer"], "step"),
        };
        let mut command = cargo("bench");
        backend.set_up(&mut command)?;
        for package in packages {
            command.args(["--package", package]);
        }
        command.args(["--bench", bench]).args(backend.features());
        command.arg("--").args(args);
        Ok(command)
    }
}

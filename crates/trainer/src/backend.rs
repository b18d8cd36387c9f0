//! Which backends this program has, and running something on one of them.

use ssm_core::TrainingBackend;
use thiserror::Error;

use crate::config::BackendKind;

/// The backend is not compiled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "backend `{requested}` is not built into this program, which has: {}",
    built()
)]
pub struct BackendNotBuilt {
    /// What was asked for.
    pub requested: BackendKind,
}

fn built() -> String {
    let mut names: Vec<&str> = Vec::new();
    if cfg!(feature = "cpu") {
        names.push("cpu");
    }
    names.join(", ")
}

/// Something to do on a backend that is chosen at run time.
pub trait Job {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<B: TrainingBackend>(self) -> Self::Output;
}

/// Runs a job on the backend of this name.
pub fn dispatch<J: Job>(kind: BackendKind, job: J) -> Result<J::Output, BackendNotBuilt> {
    match kind {
        #[cfg(feature = "cpu")]
        BackendKind::Cpu => Ok(job.run::<burn::backend::Autodiff<burn::backend::Flex>>()),
        requested => {
            drop(job);
            Err(BackendNotBuilt { requested })
        }
    }
}

//! Which backends this program has, and running something on one of them.

use burn::backend::Autodiff;
use ssm_core::TrainingBackend;
use thiserror::Error;

use crate::config::BackendKind;

/// The backend that was asked for is not there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BackendError {
    /// It is not compiled in.
    #[error(
        "backend `{requested}` is not built into this program, which has: {}; start it as `cargo xtask ...`, which \
         builds what is asked for, or build it with `--features {requested}`",
        built()
    )]
    NotBuilt {
        /// What was asked for.
        requested: BackendKind,
    },
    /// It finds nothing to run on.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    #[error("backend `{requested}` cannot run here: {source}")]
    NoDevice {
        /// What was asked for.
        requested: BackendKind,
        /// What is missing.
        source: ssm_core::DeviceError,
    },
}

/// Every backend, and whether it is compiled in.
const BACKENDS: [(BackendKind, bool); 4] = [
    (BackendKind::Cpu, cfg!(feature = "cpu")),
    (BackendKind::Wgpu, cfg!(feature = "wgpu")),
    (BackendKind::Cuda, cfg!(feature = "cuda")),
    (BackendKind::Libtorch, cfg!(feature = "libtorch")),
];

fn built() -> String {
    let built = BACKENDS.iter().filter(|(_, built)| *built);
    let names: Vec<String> = built.map(|(kind, _)| kind.to_string()).collect();
    names.join(", ")
}

/// Something to do on a backend that is chosen at run time.
pub trait Job {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<B: TrainingBackend>(self, device: &B::Device) -> Self::Output;
}

/// Runs a job on the backend of this name, on its best device.
///
/// # Errors
/// If the backend is not compiled in, or finds no device; the job then does not run.
pub fn dispatch<J: Job>(kind: BackendKind, job: J) -> Result<J::Output, BackendError> {
    match kind {
        #[cfg(feature = "cpu")]
        BackendKind::Cpu => Ok(job.run::<Autodiff<burn::backend::Flex>>(&Default::default())),
        #[cfg(feature = "wgpu")]
        BackendKind::Wgpu => {
            ssm_core::probe_wgpu().map_err(no_device(kind))?;
            Ok(job.run::<Autodiff<burn::backend::Wgpu>>(&Default::default()))
        }
        #[cfg(feature = "cuda")]
        BackendKind::Cuda => {
            ssm_core::probe_cuda().map_err(no_device(kind))?;
            Ok(job.run::<Autodiff<burn::backend::Cuda>>(&Default::default()))
        }
        #[cfg(feature = "libtorch")]
        BackendKind::Libtorch => {
            let device = ssm_core::libtorch_device();
            Ok(job.run::<Autodiff<burn::backend::LibTorch>>(&device))
        }
        #[allow(
            unreachable_patterns,
            reason = "nothing is left where every backend is compiled in"
        )]
        requested => {
            drop(job);
            Err(BackendError::NotBuilt { requested })
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn no_device(requested: BackendKind) -> impl FnOnce(ssm_core::DeviceError) -> BackendError {
    move |source| BackendError::NoDevice { requested, source }
}

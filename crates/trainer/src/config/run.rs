//! Section `run`: where it runs and where the results go.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::range::require;
use super::rules::Rules;

pub(super) const RULES: Rules = Rules {
    section: "run",
    ..Rules::NONE
};

/// Section `run`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// What the tensors run on.
    pub backend: BackendKind,
    /// Folder of the run's results. Without it, the caller makes one of the data set's name and the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
}

/// What the tensors run on. Whether a backend is compiled in is another question, which the caller answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// Pure Rust on the processor; no set-up.
    #[default]
    Cpu,
    /// Any graphics processor, through Vulkan, Metal or DirectX.
    Wgpu,
    /// NVIDIA graphics processors.
    Cuda,
    /// PyTorch's C++ library.
    Libtorch,
}

impl BackendKind {
    /// What orders are rounded up to where `compress.order_multiple` does not say.
    ///
    /// On CUDA a row of real and imaginary parts of `n` states is padded unless `n` is a multiple of 64 or a power of two,
    /// and burn-fusion 0.21 can compute wrong values from padded rows. On both, sizes that come again need no new kernels.
    pub(super) fn order_multiple(self) -> usize {
        match self {
            Self::Wgpu | Self::Cuda => 64,
            Self::Cpu | Self::Libtorch => 1,
        }
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Libtorch => "libtorch",
        })
    }
}

impl RunConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            self.output
                .as_ref()
                .is_none_or(|output| !output.as_os_str().is_empty()),
            "run.output",
            "\"\"",
            "give a folder, or leave the key out",
        )
    }
}

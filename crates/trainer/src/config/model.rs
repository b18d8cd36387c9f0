//! Section `model`: what learns.

use std::f64::consts::TAU;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::range::{at_least_one, require};
use super::readers::{Readers, Rules};

/// The choice of a kind of layer.
pub(super) const KIND: &str = "model.kind";

pub(super) const RULES: Rules = Rules {
    section: "model",
    choices: &[KIND],
    readers: &[
        Readers {
            when: &[(KIND, &["lru"])],
            keys: &[
                "model.r_min",
                "model.r_max",
                "model.max_phase",
                "model.dropout",
            ],
        },
        Readers {
            when: &[(KIND, &["mamba", "mamba2"])],
            keys: &["model.expand", "model.conv_kernel"],
        },
        Readers {
            when: &[(KIND, &["mamba"])],
            keys: &["model.dt_rank"],
        },
        Readers {
            when: &[(KIND, &["mamba2"])],
            keys: &["model.head_dim"],
        },
    ],
    ..Rules::NONE
};

/// Section `model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// The state space layer inside each block. Of the keys below, a kind reads those that say so, and those that name
    /// none.
    pub kind: LayerKind,
    /// Number of blocks, at least 1.
    pub blocks: usize,
    /// States of each layer at the start of training, at least 1.
    pub state_dim: usize,
    /// Channels between the blocks, at least 1.
    pub hidden_dim: usize,
    /// Smallest magnitude of an eigenvalue at initialization, in `[0, r_max)`. Read by `lru`.
    pub r_min: f64,
    /// Largest magnitude of an eigenvalue at initialization, in `(r_min, 1)`. Read by `lru`.
    pub r_max: f64,
    /// Largest phase of an eigenvalue at initialization, radians per sample, in `[1e-30, 2π]`. Read by `lru`.
    pub max_phase: f64,
    /// Probability that dropout zeroes an activation, in `[0, 1)`. Read by `lru`; the other kinds have none.
    pub dropout: f64,
    /// Channels inside a block as a multiple of `hidden_dim`, at least 1. Read by `mamba` and `mamba2`.
    pub expand: usize,
    /// Steps that the convolution before the recurrence looks at, the present one included; at least 1. Read by `mamba`
    /// and `mamba2`.
    pub conv_kernel: usize,
    /// Rank of the map from a step's channels to its step sizes, at least 1; `hidden_dim / 16`, rounded up, without this
    /// key. Read by `mamba`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dt_rank: Option<usize>,
    /// Channels that share a decay, at least 1; divides `expand * hidden_dim`. Read by `mamba2`.
    pub head_dim: usize,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            kind: LayerKind::Lru,
            blocks: 1,
            state_dim: 256,
            hidden_dim: 8,
            r_min: 0.9,
            r_max: 0.999,
            max_phase: PUBLISHED_MAX_PHASE,
            dropout: 0.0,
            expand: 2,
            conv_kernel: 4,
            dt_rank: None,
            head_dim: 64,
        }
    }
}

#[allow(
    clippy::approx_constant,
    reason = "the published value is 6.28, not two pi"
)]
const PUBLISHED_MAX_PHASE: f64 = 6.28;

/// A kind of state space layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LayerKind {
    /// Linear Recurrent Unit: diagonal, complex, discrete (`LRU23` in `docs/references.bib`).
    Lru,
    /// Mamba: diagonal, real, with step sizes, B and C that depend on the input.
    Mamba,
    /// Mamba-2: as Mamba, with one decay for all the channels and states of a head.
    Mamba2,
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lru => "lru",
            Self::Mamba => "mamba",
            Self::Mamba2 => "mamba2",
        })
    }
}

impl ModelConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("model.blocks", self.blocks)?;
        at_least_one("model.state_dim", self.state_dim)?;
        at_least_one("model.hidden_dim", self.hidden_dim)?;
        self.validate_eigenvalues()?;
        require(
            (0.0..1.0).contains(&self.dropout),
            "model.dropout",
            self.dropout,
            "it is a probability, at least 0 and below 1",
        )?;
        at_least_one("model.expand", self.expand)?;
        at_least_one("model.conv_kernel", self.conv_kernel)?;
        at_least_one("model.dt_rank", self.dt_rank.unwrap_or(1))?;
        at_least_one("model.head_dim", self.head_dim)?;
        self.validate_size()?;
        let channels = self.expand * self.hidden_dim;
        require(
            self.kind != LayerKind::Mamba2 || channels.is_multiple_of(self.head_dim),
            "model.head_dim",
            self.head_dim,
            "the channels of a block are divided into heads: it must divide model.expand * model.hidden_dim",
        )
    }

    fn validate_eigenvalues(&self) -> Result<(), ConfigError> {
        let (r_min, r_max) = (self.r_min, self.r_max);
        require(
            (0.0..1.0).contains(&r_max),
            "model.r_max",
            r_max,
            "an eigenvalue on or outside the unit circle is unstable: it must be above r_min and below 1",
        )?;
        require(
            r_min >= 0.0 && r_min < r_max,
            "model.r_min",
            r_min,
            "it must be at least 0 and below r_max",
        )?;
        require(
            // The layer holds logarithms of shares of it.
            (1e-30..=TAU).contains(&self.max_phase),
            "model.max_phase",
            self.max_phase,
            "it is an angle in radians, above 0 (at least 1e-30) and at most 2 pi",
        )
    }

    /// Before anything of that size is asked of the memory.
    fn validate_size(&self) -> Result<(), ConfigError> {
        let (parameters, keys) = self.parameters();
        if parameters <= MOST_PARAMETERS {
            return Ok(());
        }
        Err(ConfigError::ModelSize {
            keys,
            parameters,
            limit: MOST_PARAMETERS,
        })
    }

    /// About how many parameters all blocks have, without biases, and the keys that say so.
    fn parameters(&self) -> (f64, &'static str) {
        // Products of sizes that are each possible need not fit into an integer.
        let [blocks, states, hidden, expand, taps] = [
            self.blocks,
            self.state_dim,
            self.hidden_dim,
            self.expand,
            self.conv_kernel,
        ]
        .map(|size| size as f64);
        let channels = expand * hidden;
        let around = channels * (3.0 * hidden + taps);
        match self.kind {
            // B and C are complex; the gated unit has two maps.
            LayerKind::Lru => (
                blocks * (4.0 * states * hidden + 2.0 * hidden * hidden),
                "{blocks, state_dim, hidden_dim}",
            ),
            // A, and the maps to B, C and the step sizes.
            LayerKind::Mamba => {
                let rank = self.dt_rank.map_or(hidden / 16.0, |rank| rank as f64);
                (
                    blocks * (around + channels * (3.0 * states + 2.0 * rank)),
                    "{blocks, state_dim, hidden_dim, expand, conv_kernel, dt_rank}",
                )
            }
            LayerKind::Mamba2 => (
                blocks * (around + 2.0 * states * (hidden + taps)),
                "{blocks, state_dim, hidden_dim, expand, conv_kernel}",
            ),
        }
    }
}

/// With its gradient and two moments a parameter takes 16 bytes while it is trained: 64 GiB.
const MOST_PARAMETERS: f64 = 4_294_967_296.0;

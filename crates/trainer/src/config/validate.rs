//! Ranges: what has the right type and still makes no sense.

use std::f64::consts::TAU;
use std::fmt::Display;

use super::{CompressConfig, Config, ConfigError, DataConfig, LayerKind, ModelConfig};
use super::{
    OptimizerState, PolicyKind, Realization, Reduction, RunConfig, Selection, TrainingConfig,
};

impl Config {
    /// Checks every value against its range, and the compression window against the length of the run. Also those that
    /// nothing reads: out of layers they come with their defaults.
    ///
    /// # Errors
    /// [`ConfigError::Range`] for the first value out of range, [`ConfigError::Compress`] for checks that cannot
    /// happen.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate()?;
        self.model.validate()?;
        self.training.validate()?;
        self.compress.validate()?;
        self.run.validate()?;
        self.schedule()?;
        Ok(())
    }
}

impl DataConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        require(
            !self.dataset.is_empty() && self.dataset.chars().all(letter),
            "data.dataset",
            format!("{:?}", self.dataset),
            "a data set's name has lowercase letters, digits, `-` and `_`",
        )?;
        require(
            self.dir
                .as_ref()
                .is_none_or(|dir| !dir.as_os_str().is_empty()),
            "data.dir",
            "\"\"",
            "give a folder, or leave the key out",
        )?;
        let fraction = self.validation_fraction;
        require(
            fraction > 0.0 && fraction < 1.0,
            "data.validation_fraction",
            fraction,
            "it must be above 0 and below 1",
        )?;
        // How large an example and a set may be is for the data set to say.
        for (key, size) in [
            ("data.length", self.length),
            ("data.copies", self.copies),
            ("data.vocabulary", self.vocabulary),
            ("data.train_examples", self.train_examples),
            ("data.test_examples", self.test_examples),
        ] {
            at_least_one(key, size.unwrap_or(1))?;
        }
        Ok(())
    }
}

impl ModelConfig {
    fn validate(&self) -> Result<(), ConfigError> {
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
            _ => (
                blocks * (around + 2.0 * states * (hidden + taps)),
                "{blocks, state_dim, hidden_dim, expand, conv_kernel}",
            ),
        }
    }
}

/// With its gradient and two moments a parameter takes 16 bytes while it is trained: 64 GiB.
const MOST_PARAMETERS: f64 = 4_294_967_296.0;

impl TrainingConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("training.steps", self.steps)?;
        at_least_one("training.batch_size", self.batch_size)?;
        at_least_one("training.eval_every", self.eval_every)?;
        at_least_one("training.checkpoint_every", self.checkpoint_every)?;
        at_least_one("training.keep_checkpoints", self.keep_checkpoints)?;
        require(
            self.lr > 0.0 && self.lr.is_finite(),
            "training.lr",
            self.lr,
            "it must be finite and above 0",
        )?;
        require(
            self.weight_decay >= 0.0 && self.weight_decay.is_finite(),
            "training.weight_decay",
            self.weight_decay,
            "it must be finite and at least 0",
        )?;
        require(
            self.ssm_lr_factor >= 0.0 && self.ssm_lr_factor.is_finite(),
            "training.ssm_lr_factor",
            self.ssm_lr_factor,
            "it must be finite and at least 0 (0 freezes the state space parameters)",
        )?;
        require(
            (0.0..1.0).contains(&self.warmup_fraction),
            "training.warmup_fraction",
            self.warmup_fraction,
            "it is a share of the steps, at least 0 and below 1",
        )?;
        require(
            i64::try_from(self.seed).is_ok(),
            "training.seed",
            self.seed,
            "TOML holds no larger integer than 9223372036854775807",
        )
    }
}

impl CompressConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        require(
            (0.0..1.0).contains(&self.tau),
            "compress.tau",
            self.tau,
            "it is the share of the sum of Hankel singular values that a cut may discard, at least 0 and below 1",
        )?;
        require(
            self.fraction > 0.0 && self.fraction < 1.0,
            "compress.fraction",
            self.fraction,
            "it is the share of its states that a cut takes from a layer, above 0 and below 1",
        )?;
        require(
            (0.0..=1.0).contains(&self.max_drop),
            "compress.max_drop",
            self.max_drop,
            "it is the loss of validation accuracy that a cut may cause, a share from 0 to 1 (0.01 is one percent)",
        )?;
        require(
            (-1.0..=1.0).contains(&self.min_correlation),
            "compress.min_correlation",
            self.min_correlation,
            "it is a rank correlation, from -1 to 1",
        )?;
        self.validate_target()?;
        require(
            (0.0..1.0).contains(&self.min_drop),
            "compress.min_drop",
            self.min_drop,
            "it is the share of a layer's states that a cut must drop, at least 0 and below 1",
        )?;
        at_least_one("compress.min_state", self.min_state)?;
        let order_multiple = self.order_multiple.unwrap_or(1);
        require(
            order_multiple.is_power_of_two(),
            "compress.order_multiple",
            order_multiple,
            "it is what orders are rounded up to, a power of two; 1 takes every order as it is",
        )?;
        at_least_one("compress.calibration_examples", self.calibration_examples)?;
        self.validate_reduction()
    }

    fn validate_target(&self) -> Result<(), ConfigError> {
        let given = [
            self.target_states.is_some(),
            self.target_parameters.is_some(),
            self.target_step_ms.is_some(),
        ];
        let count = given.iter().filter(|given| **given).count();
        require(
            self.policy != PolicyKind::Target || count == 1,
            "compress.policy",
            "target",
            "it needs exactly one of compress.target_states, compress.target_parameters and compress.target_step_ms",
        )?;
        at_least_one("compress.target_states", self.target_states.unwrap_or(1))?;
        let parameters = self.target_parameters.unwrap_or(1);
        at_least_one("compress.target_parameters", parameters)?;
        let milliseconds = self.target_step_ms.unwrap_or(1.0);
        require(
            milliseconds > 0.0 && milliseconds.is_finite(),
            "compress.target_step_ms",
            milliseconds,
            "it is the time of a training step in milliseconds, above 0",
        )
    }

    /// Not every way to make a system smaller knows every way to rank its states.
    fn validate_reduction(&self) -> Result<(), ConfigError> {
        let resting = self.reduction == Reduction::SingularPerturbation;
        require(
            !resting || self.realization == Realization::Complex,
            "compress.realization",
            "real",
            "the reductions `balanced` and `modal` go with it; `singular-perturbation` takes `complex`",
        )?;
        require(
            !resting || self.selection == Selection::Largest,
            "compress.selection",
            "not largest",
            "the reductions `balanced` and `modal` keep other states than the largest, `singular-perturbation` does not",
        )?;
        require(
            !resting || self.optimizer_state != OptimizerState::Transform,
            "compress.optimizer_state",
            "transform",
            "with `singular-perturbation` the small states are no linear function of the large ones, so that moments \
             have no way over: use `reset`",
        )
    }
}

impl RunConfig {
    fn validate(&self) -> Result<(), ConfigError> {
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

fn at_least_one(
    key: &'static str,
    value: impl Display + PartialEq + From<u8>,
) -> Result<(), ConfigError> {
    require(value != 0.into(), key, value, "it must be at least 1")
}

fn require(
    holds: bool,
    key: &'static str,
    value: impl Display,
    expected: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    let value = value.to_string();
    Err(ConfigError::Range {
        key,
        value,
        expected,
    })
}

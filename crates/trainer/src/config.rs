//! What a run is told: typed, layered, and refused as a whole before any data is read if it makes no sense.
//!
//! A configuration is built from layers, each overruling the ones before it:
//!
//! 1. the built-in defaults ([`Config::default`], the same as `configs/quickstart.toml`);
//! 2. a TOML file;
//! 3. environment variables `COMPRESSM_SECTION__KEY`, such as `COMPRESSM_TRAINING__LR=1e-3`;
//! 4. assignments `section.key=value`, the `--set` flags of the command line.
//!
//! The last two are read as TOML values, words without quotes as strings. Unknown keys and wrong types are errors in
//! every layer. So is a key that nothing reads: not the kind of model, data set, policy and schedule chosen in its own
//! layer and those below, nor those of a later layer. The result is saved with the run ([`Config::to_toml`]), with the
//! keys that it reads, and reads back equal.
//!
//! ```
//! use trainer::config::Config;
//!
//! let sets = ["training.lr=1e-3", "compress.policy=none"].map(String::from);
//! let config = Config::load_with_env(None, &sets, [])?;
//! assert_eq!(config.training.lr, 1e-3);
//! assert!(config.schedule()?.next_check().is_none());
//!
//! let wrong = Config::load_with_env(None, &["model.r_max=1.5".to_owned()], []);
//! assert!(wrong.unwrap_err().to_string().contains("model.r_max"));
//!
//! let unread = ["model.kind=mamba", "model.r_max=0.9"].map(String::from);
//! let unread = Config::load_with_env(None, &unread, []).unwrap_err();
//! assert!(unread.to_string().contains("`model.r_max` has no effect"));
//! # Ok::<(), trainer::config::ConfigError>(())
//! ```

mod error;
mod layers;
mod readers;
mod validate;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use compress_schedule::{
    Budget, Gate, Policy, Schedule, ScheduleError, Scope, Spacing, StepPoint, Window,
};
use serde::{Deserialize, Serialize};
use ssm_core::{DualSettings, LayerSettings, LruInit, SelectiveSettings};
use toml::Table;

pub use error::{ConfigError, UnreadKey};
use layers::Layer;
use readers::Choices;
pub use ssm_core::{GramianEstimate, LayerKind, Realization, Reduction};

/// Everything that decides what a run does.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is learned.
    pub data: DataConfig,
    /// What learns it.
    pub model: ModelConfig,
    /// How it is learned.
    pub training: TrainingConfig,
    /// How the model shrinks meanwhile.
    pub compress: CompressConfig,
    /// Where it runs and where the results go.
    pub run: RunConfig,
}

/// Section `data`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a section of keys, as in `[data]`"
)]
pub struct DataConfig {
    /// Name of the data set, such as `digits` (generated, nothing to download) or `mnist`.
    pub dataset: String,
    /// Folder that holds the data set's files. Without it, the caller looks elsewhere (`COMPRESSM_DATA_DIR`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Share of the training examples held out for validation, in `(0, 1)`.
    pub validation_fraction: f64,
    /// Steps of an example: of `selective-copy` markers included, of `imdb` the bytes after which a review is cut. Without
    /// it and the keys below, a data set has its own defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Tokens that `selective-copy` asks to repeat, 1 to half of `length`. Read by it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copies: Option<usize>,
    /// Different tokens of `selective-copy`, blank and marker included, 4 to 256. Read by it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<usize>,
    /// Training examples of a generated data set, those held out included; at least 1. Read by `digits` and
    /// `selective-copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_examples: Option<usize>,
    /// Test examples of a generated data set, at least 1. Read by `digits` and `selective-copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_examples: Option<usize>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dataset: "digits".to_owned(),
            dir: None,
            validation_fraction: 0.1,
            length: None,
            copies: None,
            vocabulary: None,
            train_examples: None,
            test_examples: None,
        }
    }
}

/// Section `model`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a section of keys, as in `[model]`"
)]
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

/// Section `training`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a section of keys, as in `[training]`"
)]
pub struct TrainingConfig {
    /// Optimizer steps of the whole run, at least 1.
    pub steps: u64,
    /// Sequences in one step, at least 1.
    pub batch_size: usize,
    /// Learning rate, the peak one where the schedule changes it; finite, above 0.
    pub lr: f64,
    /// Decoupled weight decay of everything but the state space parameters, per unit of learning rate; at least 0.
    pub weight_decay: f64,
    /// Learning rate of the state space parameters as a multiple of `lr`, at least 0. `0` freezes them.
    pub ssm_lr_factor: f64,
    /// How the learning rate changes over the run.
    pub schedule: LearningRateSchedule,
    /// Share of the steps over which `warmup-cosine`, its reader, raises the learning rate from zero, in `[0, 1)`.
    /// Published: 0.1.
    pub warmup_fraction: f64,
    /// Steps from one evaluation to the next, at least 1.
    pub eval_every: u64,
    /// Steps from one checkpoint to the next, at least 1.
    pub checkpoint_every: u64,
    /// Checkpoints to keep, the newest ones, at least 1. Those written before a cut are kept besides, all of them.
    pub keep_checkpoints: usize,
    /// Seed of everything random in the run; at most 2⁶³ - 1, the largest integer in TOML.
    pub seed: u64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            steps: 6000,
            batch_size: 50,
            lr: 4e-3,
            weight_decay: 0.0,
            ssm_lr_factor: 1.0,
            schedule: LearningRateSchedule::WarmupCosine,
            warmup_fraction: 0.1,
            eval_every: 500,
            checkpoint_every: 1000,
            keep_checkpoints: 2,
            seed: 0,
        }
    }
}

/// How the learning rate changes over a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LearningRateSchedule {
    /// `lr` at every step.
    Constant,
    /// Linear from zero to `lr` over the first `warmup_fraction` of the steps, then a half cosine down to 1e-7.
    WarmupCosine,
}

/// Section `compress`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a section of keys, as in `[compress]`"
)]
pub struct CompressConfig {
    /// The rule that turns the layers' spectra into orders.
    pub policy: PolicyKind,
    /// Share of Σσᵢ (Hankel singular values, not their squares) that one cut may discard, in `[0, 1)`. Read by the
    /// policies `tolerance` and `auto`.
    pub tau: f64,
    /// Share of its states that one cut takes from a layer, in `(0, 1)`. Read by `fraction` and `pragmatic`.
    pub fraction: f64,
    /// Largest loss of validation accuracy that a cut may cause, a share in `[0, 1]`; one that costs more is taken back,
    /// and no further cut is made. Read by `pragmatic`.
    pub max_drop: f64,
    /// Smallest rank correlation of a layer's modes between two snapshots at which their ranking counts as settled, in
    /// `[-1, 1]`. Read by `auto`.
    pub min_correlation: f64,
    /// Budget of `target`: mean number of states per layer, at least 1. One of the three budgets must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_states: Option<usize>,
    /// Budget of `target`: parameters of the whole model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_parameters: Option<u64>,
    /// Budget of `target`: milliseconds of one training step on the machine that trains. The clock decides then, so two
    /// runs need not make the same cuts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_step_ms: Option<f64>,
    /// Whether each layer is judged by itself or all of them share one budget.
    pub scope: Scope,
    /// Where the warm-up ends: an integer is a step number, a float a fraction of the run in `[0, 1]`.
    pub start: StepPoint,
    /// The last step that may hold a check; same units as `start`, after it and inside the run.
    pub end: StepPoint,
    /// Number of evenly spaced checks in the window, at least 1, the last one at `end`. Instead of `interval`; a layer
    /// that gives either of the two overrules both below it, and likewise with the three budgets of `target`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<u64>,
    /// Steps from one check to the next, at least 1. Instead of `checks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// Share of a layer's states that a cut must drop to happen at all, in `[0, 1)`. Published: 0.05.
    pub min_drop: f64,
    /// Fewest states a layer is left with, at least 1.
    pub min_state: usize,
    /// Steps after a cut of a layer before it may be cut again.
    pub cooldown: u64,
    /// What orders are rounded up to, a power of two: a cut layer has a multiple of it, or below it a power of two, of
    /// states. Rounding goes before a target. Without this key, what the backend likes: 64 for `wgpu` and `cuda`, 1 (every
    /// order) for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_multiple: Option<usize>,
    /// Which states a cut keeps.
    pub selection: Selection,
    /// The system whose Hankel singular values rank the states. Read by the kind `lru`, for spectra that are only written
    /// down too.
    pub realization: Realization,
    /// How the smaller system is made. Read by the kinds `lru` and `mamba2`.
    pub reduction: Reduction,
    /// What becomes of the optimizer's moments when a cut changes the basis.
    pub optimizer_state: OptimizerState,
    /// What stands for the inputs of a layer whose recurrence depends on them, when its states are ranked. Read by the
    /// kinds `mamba` and `mamba2`; the recurrence of `lru` is the same whatever goes in.
    pub gramian: GramianEstimate,
    /// Training examples that selective layers are ranked on, the first so many, or all if there are fewer; at least 1. A
    /// smaller layer is compared with the old one on them before it takes its place, one of kind `lru` on four of them.
    pub calibration_examples: usize,
    /// Steps from one snapshot of the spectra in `hsv.jsonl` to the next, besides those of the checks; 0 for none.
    pub snapshot_every: u64,
}

impl Default for CompressConfig {
    fn default() -> Self {
        Self {
            policy: PolicyKind::Tolerance,
            tau: 0.03,
            fraction: 0.2,
            max_drop: 0.01,
            min_correlation: 0.95,
            target_states: None,
            target_parameters: None,
            target_step_ms: None,
            scope: Scope::Layer,
            start: StepPoint::Fraction(0.1),
            end: StepPoint::Fraction(0.3),
            checks: Some(4),
            interval: None,
            min_drop: 0.05,
            min_state: 1,
            cooldown: 0,
            order_multiple: Some(BackendKind::default().order_multiple()),
            selection: Selection::Largest,
            realization: Realization::Complex,
            reduction: Reduction::Modal,
            optimizer_state: OptimizerState::Transform,
            gramian: GramianEstimate::Empirical,
            calibration_examples: 16,
            snapshot_every: 500,
        }
    }
}

/// The name of a compression policy; its parameters are keys of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PolicyKind {
    /// Ordinary training: no checks and no cuts. Spectra are still written down, as `snapshot_every` and the keys of the
    /// kind say.
    None,
    /// Keep a share `1 - tau` of the sum of the spectrum.
    Tolerance,
    /// Drop the same share of the states at every check.
    Fraction,
    /// Reach a budget of states, parameters or step time by the last check.
    Target,
    /// Drop a share of the states at every check for as long as the validation accuracy bears it.
    Pragmatic,
    /// As `tolerance`, once the ranking of the states has settled.
    Auto,
}

/// Which states a cut keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Selection {
    /// Those with the largest Hankel singular values.
    Largest,
    /// Those with the smallest, for comparison.
    Smallest,
    /// Any, drawn from the run's seed, for comparison.
    Random,
}

/// What becomes of the optimizer's moments when a cut changes the basis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerState {
    /// Carried over into the new basis.
    Transform,
    /// Set to zero.
    Reset,
    /// The first entries as they are, although they belong to another basis: what the published code does.
    Slice,
}

/// Section `run`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a section of keys, as in `[run]`"
)]
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
    fn order_multiple(self) -> usize {
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

impl Config {
    /// Builds and validates a configuration from the defaults, `file`, this process's environment, and `sets`
    /// (`section.key=value`), each overruling the one before.
    ///
    /// # Errors
    /// Anything unreadable, unknown, of the wrong type or out of range; the message says where it stands.
    pub fn load(file: Option<&Path>, sets: &[String]) -> Result<Self, ConfigError> {
        Self::load_with_env(file, sets, env::vars_os())
    }

    /// As [`load`](Self::load), with these pairs of name and value in place of the environment.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_env(
        file: Option<&Path>,
        sets: &[String],
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let file = file.map(Layer::from_file).transpose()?;
        let given = [Layer::from_env(variables)?, Layer::from_assignments(sets)?];
        Self::of_layers(file.into_iter().chain(given))
    }

    /// The configuration that was saved with a run in `file`, overruled by `sets`. The environment and the command line
    /// had their say when the run began. Keys that nothing reads are passed over in the file, as earlier versions saved
    /// all of them.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_saved(file: &Path, sets: &[String]) -> Result<Self, ConfigError> {
        Self::of_layers([Layer::from_run(file)?, Layer::from_assignments(sets)?])
    }

    /// These layers, lowest first, on top of the defaults.
    fn of_layers(layers: impl IntoIterator<Item = Layer>) -> Result<Self, ConfigError> {
        let defaults = [Layer::defaults()?].into_iter();
        let mut config = layers::merge(defaults.chain(layers).collect())?;
        let of_backend = config.run.backend.order_multiple();
        config.compress.order_multiple.get_or_insert(of_backend);
        config.validate()?;
        Ok(config)
    }

    /// This configuration as TOML, every key spelled out that its choices read. [`load`](Self::load) gives back an equal
    /// one, if the keys that they do not read have their defaults.
    ///
    /// # Errors
    /// [`ConfigError::Write`] if a path is not valid UTF-8, or the seed is too large for TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let mut sections = Table::try_from(self)?;
        Choices::of(&sections).drop_unread(&mut sections);
        Ok(toml::to_string_pretty(&sections)?)
    }

    /// The compression schedule of this run, at its first step.
    ///
    /// # Errors
    /// A policy out of range, or checks that do not fit into the run.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        let compress = &self.compress;
        let policy = compress.policy();
        let window = match policy {
            // Nobody reads the window, so leftovers in it do no harm.
            Policy::None => return Ok(Schedule::without_checks()),
            _ => compress.window()?,
        };
        Schedule::new(
            policy,
            compress.scope,
            compress.gate(),
            &window,
            self.training.steps,
        )
    }
}

impl ModelConfig {
    /// The layers, and how they begin.
    pub fn layer(&self) -> LayerSettings {
        match self.kind {
            LayerKind::Mamba => LayerSettings::Mamba(SelectiveSettings {
                expand: self.expand,
                conv_kernel: self.conv_kernel,
                dt_rank: self.dt_rank,
            }),
            LayerKind::Mamba2 => LayerSettings::Mamba2(DualSettings {
                expand: self.expand,
                conv_kernel: self.conv_kernel,
                head_dim: self.head_dim,
            }),
            _ => LayerSettings::Lru(LruInit {
                r_min: self.r_min,
                r_max: self.r_max,
                max_phase: self.max_phase,
            }),
        }
    }
}

impl CompressConfig {
    /// The rule, with its parameters.
    pub fn policy(&self) -> Policy {
        let Self {
            tau,
            fraction,
            max_drop,
            min_correlation,
            ..
        } = *self;
        match self.policy {
            PolicyKind::None => Policy::None,
            PolicyKind::Tolerance => Policy::Tolerance { tau },
            PolicyKind::Fraction => Policy::Fraction { fraction },
            PolicyKind::Target => Policy::Target {
                budget: self.budget(),
            },
            PolicyKind::Pragmatic => Policy::Pragmatic { fraction, max_drop },
            PolicyKind::Auto => Policy::Auto {
                tau,
                min_correlation,
            },
        }
    }

    /// The budget of a target; validation has seen to it that there is exactly one.
    fn budget(&self) -> Budget {
        let states = self
            .target_states
            .map(|per_layer| Budget::States { per_layer });
        let parameters = self
            .target_parameters
            .map(|total| Budget::Parameters { total });
        let step_time = self
            .target_step_ms
            .map(|milliseconds| Budget::StepTime { milliseconds });
        let budget = states.or(parameters).or(step_time);
        budget.expect("a validated configuration with a target has a budget")
    }

    /// What a cut must achieve to happen.
    pub fn gate(&self) -> Gate {
        Gate {
            min_drop: self.min_drop,
            min_state: self.min_state,
            cooldown: self.cooldown,
            order_multiple: self.order_multiple.unwrap_or(1),
        }
    }

    /// When checks happen.
    ///
    /// # Errors
    /// Both or neither of `checks` and `interval`.
    pub fn window(&self) -> Result<Window, ScheduleError> {
        Ok(Window {
            start: self.start,
            end: self.end,
            spacing: Spacing::from_keys(self.checks, self.interval)?,
        })
    }
}

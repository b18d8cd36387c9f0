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
//! every layer. So is a key that nothing reads: not the kind of model, data set, objective, policy and schedule chosen in
//! its own layer and those below, nor those of a later layer. The result is saved with the run ([`Config::to_toml`]),
//! with the keys that it reads, and reads back equal.
//!
//! # Sections and tables
//! A section is a module of this one: its keys with their defaults, the one range check of each, and its `RULES`, who
//! reads them. Some keys are choices, such as `model.kind` and `data.dataset`. What only one word of a choice reads
//! stands in a table of that name, `[data.imdb]`: a field of the section whose type has keys. Nothing else says so. The
//! same key is `data.imdb.length` in a flag and `COMPRESSM_DATA__IMDB__LENGTH` in the environment, where underscores
//! stand for the dashes of a name. A short form, `data.length`, stands for the key in the table of whatever is chosen.
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
//!
//! let short = ["data.dataset=imdb", "data.length=100"].map(String::from);
//! let config = Config::load_with_env(None, &short, [])?;
//! assert_eq!(config.data.imdb.length, 100);
//! # Ok::<(), trainer::config::ConfigError>(())
//! ```

mod compress;
mod data;
mod error;
mod layers;
mod model;
mod range;
mod readers;
mod rules;
mod run;
mod schema;
mod training;

use std::env;
use std::ffi::OsString;
use std::path::Path;

use compress_schedule::{Schedule, ScheduleError};
use serde::{Deserialize, Serialize};
use toml::Table;

pub use compress::{CompressConfig, OptimizerState, PolicyKind, Selection};
pub use data::DataConfig;
pub use error::{ConfigError, UnreadKey};
use layers::Layer;
pub use model::{LayerKind, ModelConfig};
use readers::Choices;
pub use run::{BackendKind, RunConfig};
pub use ssm_core::{GramianEstimate, Realization, Reduction};
pub use training::{LearningRateSchedule, ObjectiveKind, TrainingConfig};

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

    /// The compression schedule of this run, at its first step.
    ///
    /// # Errors
    /// A policy out of range, or checks that do not fit into the run.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        let compress = &self.compress;
        if !compress.policy.cuts() {
            // Nobody reads the window, so leftovers in it do no harm.
            return Ok(Schedule::without_checks());
        }
        let window = compress.window()?;
        Schedule::new(
            compress.policy(),
            compress.scope,
            compress.gate(),
            &window,
            self.training.steps,
        )
    }
}

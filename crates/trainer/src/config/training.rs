//! Section `training`: how it is learned.
//!
//! Every objective has a table of its own settings, `[training.label-smoothing]` and so on.

use serde::{Deserialize, Serialize};
use ssm_core::TrainingBackend;

use super::ConfigError;
use super::range::{at_least_one, in_table, require};
use super::rules::{Readers, Rules};
use crate::objective::{Objective, ObjectiveSettings, with_objectives};

/// The choice of a course of the learning rate.
const SCHEDULE: &str = "training.schedule";

/// The choice of what becomes smaller.
const OBJECTIVE: &str = "training.objective";

pub(super) const RULES: Rules = Rules {
    section: "training",
    choices: &[SCHEDULE, OBJECTIVE],
    readers: &[Readers {
        when: || vec![(SCHEDULE, vec!["warmup-cosine"])],
        keys: &["training.warmup_fraction"],
    }],
    ..Rules::NONE
};

macro_rules! training_section {
    ($($word:literal $Objective:ident $field:ident,)+) => {
        /// What training makes smaller, by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum ObjectiveKind {
            $(
                #[doc = concat!("[`", stringify!($Objective), "`](crate::objective::", stringify!($Objective), ").")]
                #[serde(rename = $word)]
                $Objective,
            )+
        }

        /// Section `training`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct TrainingConfig {
            /// Steps of the whole run, at least 1: updates of the weights, and what everything else counts in.
            pub steps: u64,
            /// Sequences in one batch, of one forward and backward pass or of an evaluation; at least 1.
            pub batch_size: usize,
            /// Batches in one step, at least 1: the update is that of the mean of their gradients. Epochs and dropout count
            /// batches, everything else counts steps.
            pub accumulate: u64,
            /// What a step makes smaller. What only one objective reads stands in its table.
            pub objective: ObjectiveKind,
            /// Largest Euclidean norm of the gradient of all parameters together, finite and above 0; a longer one is scaled
            /// down to it. Without this key, no limit.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub clip: Option<f64>,
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
            $(
                #[doc = concat!("Settings of the objective `", $word, "`.")]
                #[serde(rename = $word)]
                pub $field: crate::objective::$Objective,
            )+
        }

        impl Default for TrainingConfig {
            fn default() -> Self {
                Self {
                    steps: 6000,
                    batch_size: 50,
                    accumulate: 1,
                    objective: ObjectiveKind::CrossEntropy,
                    clip: None,
                    lr: 4e-3,
                    weight_decay: 0.0,
                    ssm_lr_factor: 1.0,
                    schedule: LearningRateSchedule::WarmupCosine,
                    warmup_fraction: 0.1,
                    eval_every: 500,
                    checkpoint_every: 1000,
                    keep_checkpoints: 2,
                    seed: 0,
                    $($field: Default::default(),)+
                }
            }
        }

        impl TrainingConfig {
            /// What training makes smaller.
            pub fn objective<B: TrainingBackend>(&self) -> Box<dyn Objective<B>> {
                match self.objective {
                    $(ObjectiveKind::$Objective => self.$field.objective(),)+
                }
            }

            fn check_objectives(&self) -> Result<(), ConfigError> {
                $(
                    self.$field.check().map_err(|fault| {
                        in_table(concat!("training.", $word), fault.key, fault.value, fault.expected)
                    })?;
                )+
                Ok(())
            }
        }
    };
}

with_objectives!(training_section);

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

impl TrainingConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("training.steps", self.steps)?;
        at_least_one("training.batch_size", self.batch_size)?;
        at_least_one("training.accumulate", self.accumulate)?;
        self.check_objectives()?;
        let clip = self.clip.unwrap_or(1.0);
        require(
            clip > 0.0 && clip.is_finite(),
            "training.clip",
            clip,
            "it is the largest norm of a gradient, finite and above 0; leave it out for no limit",
        )?;
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

//! Section `compress`: how the model shrinks meanwhile.

use compress_schedule::{Gate, Policy, ScheduleError, Scope, Spacing, StepPoint, Window};
use serde::{Deserialize, Serialize};
use ssm_core::{GramianEstimate, LayerKind, Realization, Reduction};
use toml::{Table, Value};

use super::range::{at_least_one, require};
use super::rules::{KindReaders, Readers, Rules, When};
use super::{BackendKind, ConfigError};

pub use compress_schedule::PolicyKind;

/// The choice of a policy.
const POLICY: &str = "compress.policy";

pub(super) const RULES: Rules = Rules {
    section: "compress",
    choices: &[POLICY],
    readers: &[Readers {
        when: cutting,
        keys: &[
            "compress.scope",
            "compress.start",
            "compress.end",
            "compress.checks",
            "compress.interval",
            "compress.min_drop",
            "compress.min_state",
            "compress.cooldown",
            "compress.order_multiple",
            "compress.selection",
            "compress.optimizer_state",
        ],
    }],
    by_kind: &[
        KindReaders {
            reads: |kind| kind.method().contains(&"realization"),
            when: Vec::new,
            keys: &["compress.realization"],
        },
        KindReaders {
            reads: |kind| kind.method().contains(&"gramian"),
            when: Vec::new,
            keys: &["compress.gramian"],
        },
        // Spectra that are only written down are taken on examples as well, and heads that are to be balanced have another.
        KindReaders {
            reads: LayerKind::is_ranked_on_data,
            when: Vec::new,
            keys: &["compress.calibration_examples"],
        },
        KindReaders {
            reads: |kind| kind.is_ranked_on_data() && kind.method().contains(&"reduction"),
            when: Vec::new,
            keys: &["compress.reduction"],
        },
        KindReaders {
            reads: |kind| !kind.is_ranked_on_data(),
            when: cutting,
            keys: &["compress.calibration_examples"],
        },
        KindReaders {
            reads: |kind| !kind.is_ranked_on_data() && kind.method().contains(&"reduction"),
            when: cutting,
            keys: &["compress.reduction"],
        },
    ],
    declared: with_policies,
    alternatives: &[
        &["checks", "interval"],
        &["target_states", "target_parameters", "target_step_ms"],
    ],
    ..Rules::NONE
};

/// With a policy that cuts.
fn cutting() -> When {
    vec![(POLICY, words_of(PolicyKind::cuts))]
}

/// With the policies that read this key, as they say themselves; none if no policy does.
fn with_policies(key: &str) -> Option<When> {
    let name = key.strip_prefix("compress.")?;
    let words = words_of(|kind| kind.keys().iter().any(|read| read.name() == name));
    (!words.is_empty()).then(|| vec![(POLICY, words)])
}

fn words_of(holds: impl Fn(PolicyKind) -> bool) -> Vec<&'static str> {
    let kinds = PolicyKind::ALL.iter().filter(|kind| holds(**kind));
    kinds.map(|kind| kind.word()).collect()
}

/// Section `compress`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompressConfig {
    /// The rule that turns the layers' spectra into orders. With `none` there are no checks and no cuts; spectra are still
    /// written down, as `snapshot_every` and the keys of the kind say.
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
    /// The system whose Hankel singular values rank the states. Read by the kinds that have any, `lru`, `s5` and `s4d`, for
    /// spectra that are only written down too.
    pub realization: Realization,
    /// How the smaller system is made. Read by the kinds `lru`, `s5`, `s4d` and `mamba2`.
    pub reduction: Reduction,
    /// What becomes of the optimizer's moments when a cut changes the basis.
    pub optimizer_state: OptimizerState,
    /// What stands for the inputs of a layer whose recurrence depends on them, when its states are ranked. Read by the
    /// kinds `mamba` and `mamba2`; the recurrence of the others is the same whatever goes in.
    pub gramian: GramianEstimate,
    /// Training examples that selective layers are ranked on, the first so many, or all if there are fewer; at least 1. A
    /// smaller layer is compared with the old one on them before it takes its place, one of a linear system on four of them.
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

impl CompressConfig {
    /// The rule, with its parameters; of a validated configuration.
    pub fn policy(&self) -> Policy {
        self.rule()
            .expect("a validated configuration has the keys of its policy")
    }

    /// The rule, made from the keys that it reads.
    fn rule(&self) -> Result<Policy, ConfigError> {
        let mut keys = Table::try_from(self)?;
        let read = self.policy.keys();
        keys.retain(|key, _| read.iter().any(|read| read.name() == key));
        let policy = self.policy.with_keys(Value::Table(keys));
        policy.map_err(|error| ConfigError::Range {
            key: POLICY.to_owned(),
            value: self.policy.word().to_owned(),
            expected: error.message().to_owned(),
        })
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

impl CompressConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.rule()?.validate().map_err(in_this_section)?;
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

    /// Not every way to make a system smaller knows every way to rank its states.
    fn validate_reduction(&self) -> Result<(), ConfigError> {
        let reduction = self.reduction;
        require(
            reduction.knows_real() || self.realization == Realization::Complex,
            "compress.realization",
            "real",
            "the reductions `balanced` and `modal` go with it; `singular-perturbation` takes `complex`",
        )?;
        require(
            reduction.knows_selection() || self.selection == Selection::Largest,
            "compress.selection",
            "not largest",
            "the reductions `balanced` and `modal` keep other states than the largest, `singular-perturbation` does not",
        )?;
        require(
            reduction.has_maps() || self.optimizer_state != OptimizerState::Transform,
            "compress.optimizer_state",
            "transform",
            "with `singular-perturbation` the small states are no linear function of the large ones, so that moments \
             have no way over: use `reset`",
        )
    }
}

/// What a policy says of its keys.
fn in_this_section(error: ScheduleError) -> ConfigError {
    match error {
        ScheduleError::OutOfRange {
            key,
            value,
            meaning,
        } => ConfigError::Range {
            key: format!("compress.{key}"),
            value: value.to_string(),
            expected: meaning.to_owned(),
        },
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{self, Entry};

    #[test]
    fn every_key_that_a_policy_reads_is_one_of_the_section() {
        let Some(Entry::Table(keys)) = schema::at(&["compress"]) else {
            panic!("there is no such section");
        };
        for kind in PolicyKind::ALL {
            for key in kind.keys() {
                assert!(keys.contains(&key.name()), "{kind:?} {key:?}");
            }
        }
    }
}

//! Section `compress`: how the model shrinks meanwhile.

use compress_schedule::{Budget, Gate, Policy, ScheduleError, Scope, Spacing, StepPoint, Window};
use serde::{Deserialize, Serialize};
use ssm_core::{GramianEstimate, LayerKind, Realization, Reduction};

use super::range::{at_least_one, require};
use super::readers::{KindReaders, Readers, Rules};
use super::{BackendKind, ConfigError};

/// The choice of a policy.
const POLICY: &str = "compress.policy";

const CUTTING: &[&str] = &["tolerance", "fraction", "target", "pragmatic", "auto"];

pub(super) const RULES: Rules = Rules {
    section: "compress",
    choices: &[POLICY],
    readers: &[
        Readers {
            when: &[(POLICY, &["tolerance", "auto"])],
            keys: &["compress.tau"],
        },
        Readers {
            when: &[(POLICY, &["fraction", "pragmatic"])],
            keys: &["compress.fraction"],
        },
        Readers {
            when: &[(POLICY, &["pragmatic"])],
            keys: &["compress.max_drop"],
        },
        Readers {
            when: &[(POLICY, &["auto"])],
            keys: &["compress.min_correlation"],
        },
        Readers {
            when: &[(POLICY, &["target"])],
            keys: &[
                "compress.target_states",
                "compress.target_parameters",
                "compress.target_step_ms",
            ],
        },
        Readers {
            when: &[(POLICY, CUTTING)],
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
        },
    ],
    by_kind: &[
        KindReaders {
            reads: |kind| kind.method().contains(&"realization"),
            when: &[],
            keys: &["compress.realization"],
        },
        KindReaders {
            reads: |kind| kind.method().contains(&"gramian"),
            when: &[],
            keys: &["compress.gramian"],
        },
        // Spectra that are only written down are taken on examples as well, and heads that are to be balanced have another.
        KindReaders {
            reads: LayerKind::is_ranked_on_data,
            when: &[],
            keys: &["compress.calibration_examples"],
        },
        KindReaders {
            reads: |kind| kind.is_ranked_on_data() && kind.method().contains(&"reduction"),
            when: &[],
            keys: &["compress.reduction"],
        },
        KindReaders {
            reads: |kind| !kind.is_ranked_on_data(),
            when: &[(POLICY, CUTTING)],
            keys: &["compress.calibration_examples"],
        },
        KindReaders {
            reads: |kind| !kind.is_ranked_on_data() && kind.method().contains(&"reduction"),
            when: &[(POLICY, CUTTING)],
            keys: &["compress.reduction"],
        },
    ],
    alternatives: &[
        &["checks", "interval"],
        &["target_states", "target_parameters", "target_step_ms"],
    ],
    ..Rules::NONE
};

/// Section `compress`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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

impl CompressConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
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

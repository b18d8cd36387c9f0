//! What a check decided for one layer, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CutReason, PolicyKeep};

/// The outcome of a check for one layer. There is always exactly one, and it says why.
///
/// Written out, its fields are flat and none of them is called `step`, `layer`, `state_dim` or `hsv`, so that it can be
/// flattened into a record of the check that has those.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Truncate this layer.
    Cut {
        /// Current number of states.
        from: usize,
        /// States to keep, smaller than `from`.
        to: usize,
        /// Share of Σσᵢ that goes with the cut states, in `[0, 1]`.
        discarded_share: f64,
        /// What asked for it.
        #[serde(flatten)]
        reason: CutReason,
    },
    /// Leave this layer as it is.
    Keep {
        /// Current number of states; written as `order`, what the layer still has afterwards.
        #[serde(rename = "order")]
        state_dim: usize,
        /// Why nothing is cut.
        #[serde(flatten)]
        reason: KeepReason,
    },
}

impl Decision {
    /// Number of states the layer has once this decision is carried out.
    pub fn order(&self) -> usize {
        match *self {
            Self::Cut { to, .. } => to,
            Self::Keep { state_dim, .. } => state_dim,
        }
    }

    /// Whether a cut was decided.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }
}

/// Why a check left a layer alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeepReason {
    /// The policy asked for a cut that the gate found too small to be worth its cost.
    BelowMinDrop {
        /// Share of the states that the cut would have dropped, in `(0, 1)`.
        would_drop: f64,
        /// Share that a cut has to exceed.
        min_drop: f64,
    },
    /// The policy, or the smallest state dimension allowed, keeps every state.
    NothingToCut,
    /// The policy asked for a cut, but rounded up its order is no smaller than the layer.
    RoundedUp {
        /// Order before rounding, smaller than the layer.
        wanted: usize,
        /// What orders are rounded up to.
        order_multiple: usize,
    },
    /// Every Hankel singular value is zero: no state can be ranked above another.
    SpectrumIsZero,
    /// A Hankel singular value, or their sum, is NaN or infinite. The layer needs attention; cutting it would hide
    /// that.
    SpectrumNotFinite,
    /// The layer was cut a short while ago.
    Cooldown {
        /// First step at which it may be cut again.
        until: u64,
    },
    /// The policy has a reason of its own.
    #[serde(untagged)]
    Policy(PolicyKeep),
}

/// As in a table of cuts: `order 256 -> 61  discarded 0.99 %  (tolerance 0.01)`, `order 256 kept  skipped: …`.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut {
                from,
                to,
                discarded_share,
                reason,
            } => {
                let percent = 100.0 * discarded_share;
                write!(
                    f,
                    "order {from} -> {to}  discarded {percent:.2} %  ({reason})"
                )
            }
            Self::Keep { state_dim, reason } => {
                write!(f, "order {state_dim} kept  skipped: {reason}")
            }
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMinDrop {
                would_drop,
                min_drop,
            } => {
                let (would, least) = (100.0 * would_drop, 100.0 * min_drop);
                write!(
                    f,
                    "would drop {would:.1} % of the states, min_drop is {least:.1} %"
                )
            }
            Self::NothingToCut => f.write_str("every state is needed"),
            Self::RoundedUp {
                wanted,
                order_multiple,
            } => write!(
                f,
                "order {wanted} rounded up is no cut, order_multiple is {order_multiple}"
            ),
            Self::SpectrumIsZero => f.write_str("every Hankel singular value is zero"),
            Self::SpectrumNotFinite => f.write_str("a Hankel singular value is not finite"),
            Self::Cooldown { until } => write!(f, "cooling down until step {until}"),
            Self::Policy(keep) => keep.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{auto, fraction, pragmatic, target, tolerance};
    use crate::{Budget, Scope, Unsettled};

    fn cut(reason: impl Into<CutReason>) -> Decision {
        Decision::Cut {
            from: 256,
            to: 61,
            discarded_share: 0.0099,
            reason: reason.into(),
        }
    }

    fn keep(reason: impl Into<KeepReason>) -> Decision {
        Decision::Keep {
            state_dim: 256,
            reason: reason.into(),
        }
    }

    /// Every reason there is, beside its flat JSON (without the fields that all decisions share) and its words.
    fn all() -> Vec<(Decision, &'static str, &'static str)> {
        use KeepReason as K;
        let (layer, global) = (Scope::Layer, Scope::Global);
        let unsettled = |cause| keep(auto::Keep::from(cause));
        vec![
            (
                cut(tolerance::Cut {
                    tau: 0.01,
                    scope: layer,
                }),
                r#""reason":"tolerance","tau":0.01,"scope":"layer""#,
                "(tolerance 0.01)",
            ),
            (
                cut(fraction::Cut {
                    fraction: 0.25,
                    scope: global,
                }),
                r#""reason":"fraction","fraction":0.25,"scope":"global""#,
                "(fraction 0.25, all layers together)",
            ),
            (
                cut(target::Cut {
                    budget: Budget::States { per_layer: 32 },
                    checks_left: 3,
                    scope: layer,
                }),
                r#""reason":"target","budget":{"unit":"states","per_layer":32},"checks_left":3,"scope":"layer""#,
                "(target 32 states per layer, 3 checks left)",
            ),
            (
                cut(target::Cut {
                    budget: Budget::Parameters { total: 5000 },
                    checks_left: 1,
                    scope: global,
                }),
                r#""reason":"target","budget":{"unit":"parameters","total":5000},"checks_left":1,"scope":"global""#,
                "(target 5000 parameters, last check, all layers together)",
            ),
            (
                cut(pragmatic::Cut {
                    fraction: 0.1,
                    max_drop: 0.02,
                    scope: layer,
                }),
                r#""reason":"pragmatic","fraction":0.1,"max_drop":0.02,"scope":"layer""#,
                "(fraction 0.1 on trial, max_drop 0.02)",
            ),
            (
                cut(auto::Cut {
                    tau: 0.05,
                    rank_correlation: 0.987,
                    margin: 0.125,
                    scope: layer,
                }),
                r#""reason":"auto","tau":0.05,"correlation":0.987,"margin":0.125,"scope":"layer""#,
                "(tolerance 0.05, settled: rank correlation 0.987, margin 1.2e-1)",
            ),
            (
                keep(K::BelowMinDrop {
                    would_drop: 0.04,
                    min_drop: 0.05,
                }),
                r#""reason":"below_min_drop","would_drop":0.04,"min_drop":0.05"#,
                "would drop 4.0 % of the states, min_drop is 5.0 %",
            ),
            (
                keep(K::NothingToCut),
                r#""reason":"nothing_to_cut""#,
                "every state is needed",
            ),
            (
                keep(K::RoundedUp {
                    wanted: 250,
                    order_multiple: 64,
                }),
                r#""reason":"rounded_up","wanted":250,"order_multiple":64"#,
                "order 250 rounded up is no cut, order_multiple is 64",
            ),
            (
                keep(K::SpectrumIsZero),
                r#""reason":"spectrum_is_zero""#,
                "every Hankel singular value is zero",
            ),
            (
                keep(K::SpectrumNotFinite),
                r#""reason":"spectrum_not_finite""#,
                "a Hankel singular value is not finite",
            ),
            (
                keep(K::Cooldown { until: 700 }),
                r#""reason":"cooldown","until":700"#,
                "cooling down until step 700",
            ),
            (
                keep(auto::Keep::NoEarlierSnapshot),
                r#""reason":"no_earlier_snapshot""#,
                "no earlier snapshot of these states",
            ),
            (
                unsettled(Unsettled::RankCorrelation {
                    rank_correlation: 0.5,
                    min_correlation: 0.9,
                }),
                r#""reason":"not_settled","cause":"rank_correlation","correlation":0.5,"min_correlation":0.9"#,
                "not settled: rank correlation 0.500, min_correlation is 0.9",
            ),
            (
                unsettled(Unsettled::RankCorrelationUnknown),
                r#""reason":"not_settled","cause":"rank_correlation_unknown""#,
                "not settled: the rank correlation is undefined",
            ),
            (
                unsettled(Unsettled::Margin {
                    margin: -0.5,
                    hankel_distance: 1.5,
                }),
                r#""reason":"not_settled","cause":"margin","margin":-0.5,"distance":1.5"#,
                "not settled: margin -5.0e-1 after drifting by 1.5e0",
            ),
            (
                unsettled(Unsettled::HankelDistanceUnknown),
                r#""reason":"not_settled","cause":"hankel_distance_unknown""#,
                "not settled: the drift is not a finite number",
            ),
            (
                keep(target::Keep::TargetMet),
                r#""reason":"target_met""#,
                "the target is met",
            ),
            (
                keep(target::Keep::StepTimeUnknown),
                r#""reason":"step_time_unknown""#,
                "no step time was measured",
            ),
        ]
    }

    #[test]
    fn a_decision_reads_as_a_line_of_the_table() {
        for (decision, _, words) in all() {
            let expected = if decision.is_cut() {
                format!("order 256 -> 61  discarded 0.99 %  {words}")
            } else {
                format!("order 256 kept  skipped: {words}")
            };
            assert_eq!(decision.to_string(), expected);
        }
    }

    #[test]
    fn a_decision_survives_serialization_with_flat_fields() {
        for (decision, fields, _) in all() {
            let text = serde_json::to_string(&decision).unwrap();
            let head = if decision.is_cut() {
                r#""decision":"cut","from":256,"to":61,"discarded_share":0.0099"#
            } else {
                r#""decision":"keep","order":256"#
            };
            assert_eq!(text, format!("{{{head},{fields}}}"));
            assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision);
        }
    }

    #[test]
    fn a_decision_can_be_flattened_into_a_record_of_its_check() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Record {
            step: u64,
            layer: usize,
            state_dim: usize,
            hsv: Vec<f64>,
            #[serde(flatten)]
            decision: Decision,
        }
        for (decision, _, _) in all() {
            let record = Record {
                step: 500,
                layer: 1,
                state_dim: 256,
                hsv: vec![2.0, 1.0],
                decision,
            };
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(
                serde_json::from_str::<Record>(&text).unwrap(),
                record,
                "{text}"
            );
        }
    }
}

//! A size to reach by the last check.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::key::Key;
use super::rule::{Configured, Rule};
use crate::check::{Check, Proposal};
use crate::share::largest_that_fits;
use crate::{Gate, KeepReason, ParameterCount, ScheduleError, Scope};

const STATES: Key = Key {
    name: "target_states",
    meaning: "it is the mean number of states per layer to reach, at least 1",
    holds: |states| states >= 1.0,
};
const PARAMETERS: Key = Key {
    name: "target_parameters",
    meaning: "it is the number of parameters of the whole model to reach, at least 1",
    holds: |parameters| parameters >= 1.0,
};
const STEP_MS: Key = Key {
    name: "target_step_ms",
    meaning: "it is the time of a training step in milliseconds, above 0",
    holds: |milliseconds| milliseconds > 0.0 && milliseconds.is_finite(),
};

/// A size that the last check must reach, approached in equal ratios: with `k` checks left, this one included, a
/// model of size `n` goes to `n (goal / n)^(1/k)`, so that every check drops the same share. A check that did
/// less than planned, or could not, leaves its part to the ones after it. Where the gate rounds orders, the size is
/// missed by what rounding adds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The size to reach.
    pub budget: Budget,
}

/// A size that a [`Target`] works towards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "unit", rename_all = "snake_case", deny_unknown_fields)]
pub enum Budget {
    /// A mean number of states per layer.
    States {
        /// States per layer, at least 1: all layers together may have so many times the number of layers.
        per_layer: usize,
    },
    /// A number of parameters of the whole model.
    Parameters {
        /// All parameters, those that no cut touches included; at least 1.
        total: u64,
    },
    /// A training step as fast as this.
    ///
    /// Every check is told how long a step takes now, and remembers it with the number of states. One size of model
    /// says only that time may be proportional to states; two or more give a straight line by least squares, with the
    /// time that no cut can save as its intercept. (If the line falls, noise is all there is to see, and time counts
    /// as proportional again, by the latest measurement.)
    StepTime {
        /// Milliseconds per training step, finite and positive.
        milliseconds: f64,
    },
}

/// A cut on the way to the target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// What the last check has to reach.
    pub budget: Budget,
    /// Checks to get there, this one included.
    pub checks_left: usize,
    /// Whether the layers share the budget, or shrink alike.
    pub scope: Scope,
}

/// Why there is no way to go.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Keep {
    /// The target is met: the model is no larger than it has to be, or what is left of the way is up to layers that
    /// took no part in this check.
    TargetMet,
    /// The target is a step time, and no check has been told how long a step takes.
    StepTimeUnknown,
}

impl Configured for Target {
    const KEYS: &'static [Key] = &[STATES, PARAMETERS, STEP_MS];

    fn from_keys<'de, D: Deserializer<'de>>(keys: D) -> Result<Self, D::Error> {
        /// One key for each unit, of which one is given.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            target_states: Option<usize>,
            target_parameters: Option<u64>,
            target_step_ms: Option<f64>,
        }
        let keys = Keys::deserialize(keys)?;
        let budgets = [
            keys.target_states
                .map(|per_layer| Budget::States { per_layer }),
            keys.target_parameters
                .map(|total| Budget::Parameters { total }),
            keys.target_step_ms
                .map(|milliseconds| Budget::StepTime { milliseconds }),
        ];
        let mut given = budgets.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(budget), None) => Ok(Self { budget }),
            _ => Err(D::Error::custom(
                "it needs exactly one of `target_states`, `target_parameters` and `target_step_ms`",
            )),
        }
    }
}

impl Rule for Target {
    fn validate(&self) -> Result<(), ScheduleError> {
        match self.budget {
            Budget::States { per_layer } => STATES.check(per_layer as f64),
            Budget::Parameters { total } => PARAMETERS.check(total as f64),
            Budget::StepTime { milliseconds } => STEP_MS.check(milliseconds),
        }
    }

    fn fits(&self, gate: Gate) -> Result<(), ScheduleError> {
        let min_state = gate.min_state;
        match self.budget {
            Budget::States { per_layer } if per_layer < min_state => {
                Err(ScheduleError::TargetBelowMinState {
                    per_layer,
                    min_state,
                })
            }
            _ => Ok(()),
        }
    }

    fn reachable(
        &self,
        gate: Gate,
        state_dims: &[usize],
        parameters: ParameterCount<'_>,
    ) -> Result<(), ScheduleError> {
        let Budget::Parameters { total } = self.budget else {
            return Ok(());
        };
        if parameters.per_state.len() != state_dims.len() {
            return Err(ScheduleError::ParameterCounts {
                layers: state_dims.len(),
                counts: parameters.per_state.len(),
            });
        }
        let smallest = state_dims.iter().map(|&states| gate.floor(states));
        let least = parameters.total(smallest);
        if u128::from(total) < least {
            return Err(ScheduleError::ParametersOutOfReach {
                total,
                fixed: parameters.fixed,
                least,
            });
        }
        Ok(())
    }

    fn propose(&self, check: &Check<'_>, members: &[usize]) -> Vec<Proposal> {
        match self.orders(check, members) {
            Ok(orders) => {
                let cut = Cut {
                    budget: self.budget,
                    checks_left: check.checks_left,
                    scope: check.scope,
                };
                Proposal::all(cut, orders)
            }
            Err(keep) => vec![Proposal::Keep(KeepReason::from(keep)); members.len()],
        }
    }

    fn arrives(&self) -> bool {
        true
    }

    fn reads_step_times(&self) -> bool {
        matches!(self.budget, Budget::StepTime { .. })
    }
}

impl Target {
    /// One check's part of the way.
    fn orders(&self, check: &Check<'_>, members: &[usize]) -> Result<Vec<usize>, Keep> {
        let layers = check.observation.layers;
        let goal = self.goal(check).ok_or(Keep::StepTimeUnknown)?;
        let per_state = |layer: usize| match self.budget {
            Budget::Parameters { .. } => u128::from(check.observation.parameters.per_state[layer]),
            Budget::States { .. } | Budget::StepTime { .. } => 1,
        };
        let size = |layer: usize| per_state(layer) * layers[layer].state_dim as u128;

        // A layer that takes no part holds what it has, but no more than an equal part of the goal: what it should
        // have lost is not taken from the others, which would pay with all they have for one that cannot be cut.
        let equal_part = goal / (layers.len() as u128).max(1);
        let elsewhere: u128 = (0..layers.len())
            .filter(|layer| !members.contains(layer))
            .map(|layer| size(layer).min(equal_part))
            .sum();
        let goal = goal.saturating_sub(elsewhere);
        let now: u128 = members.iter().map(|&layer| size(layer)).sum();
        if now <= goal {
            return Err(Keep::TargetMet);
        }

        let milestone = milestone(now, goal, check.checks_left);
        let size_with = |total: usize| -> u128 {
            let orders = check.share_out(members, total);
            let of = |(&layer, order): (&usize, usize)| per_state(layer) * order as u128;
            members.iter().zip(orders).map(of).sum()
        };
        let states = members.iter().map(|&layer| layers[layer].state_dim).sum();
        let total = largest_that_fits(0, states, |total| size_with(total) <= milestone);
        Ok(check.share_out(members, total))
    }

    /// The size to end at, in states or, for a budget of parameters, in parameters that belong to states. `None` if
    /// nothing is known about step times.
    fn goal(&self, check: &Check<'_>) -> Option<u128> {
        let layers = check.observation.layers;
        match self.budget {
            Budget::States { per_layer } => Some(per_layer as u128 * layers.len() as u128),
            Budget::Parameters { total } => Some(u128::from(
                total.saturating_sub(check.observation.parameters.fixed),
            )),
            Budget::StepTime { milliseconds } => {
                let states = layers.iter().map(|layer| layer.state_dim).sum();
                let allowed = check.step_times.states_within(milliseconds, states)?;
                Some(allowed as u128)
            }
        }
    }
}

/// Where a check has to get on the way from `now` to a smaller `goal`: the same ratio at every check left.
fn milestone(now: u128, goal: u128, checks_left: usize) -> u128 {
    if checks_left == 1 {
        return goal; // and not what powf makes of it
    }
    let ratio = (goal as f64 / now as f64).powf(1.0 / checks_left as f64);
    ((now as f64 * ratio).round() as u128).clamp(goal, now)
}

/// As in a sentence: `64 states per layer`, `120000 parameters`, `3.5 ms per step`.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::States { per_layer } => write!(f, "{per_layer} states per layer"),
            Self::Parameters { total } => write!(f, "{total} parameters"),
            Self::StepTime { milliseconds } => write!(f, "{milliseconds} ms per step"),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            budget,
            checks_left,
            scope,
        } = self;
        match checks_left {
            1 => write!(f, "target {budget}, last check")?,
            _ => write!(f, "target {budget}, {checks_left} checks left")?,
        }
        f.write_str(scope.beside())
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TargetMet => "the target is met",
            Self::StepTimeUnknown => "no step time was measured",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Policy, PolicyKind};

    fn validated(budget: Budget) -> Result<(), ScheduleError> {
        Target { budget }.validate()
    }

    #[test]
    fn a_target_is_a_size_and_a_time_is_positive() {
        assert_eq!(validated(Budget::States { per_layer: 1 }), Ok(()));
        for (empty, key) in [
            (Budget::States { per_layer: 0 }, "`target_states` = 0 is"),
            (
                Budget::Parameters { total: 0 },
                "`target_parameters` = 0 is",
            ),
        ] {
            let refused = validated(empty).unwrap_err().to_string();
            assert!(refused.starts_with(key), "{refused}");
        }
        for milliseconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = validated(Budget::StepTime { milliseconds }).unwrap_err();
            assert!(refused.to_string().starts_with("`target_step_ms` = "));
        }
    }

    #[test]
    fn a_target_is_made_from_one_of_its_keys() {
        let from = |text: &str| {
            PolicyKind::Target.with_keys(&mut serde_json::Deserializer::from_str(text))
        };
        for (text, budget) in [
            (r#"{"target_states":8}"#, Budget::States { per_layer: 8 }),
            (
                r#"{"target_parameters":900}"#,
                Budget::Parameters { total: 900 },
            ),
            (
                r#"{"target_step_ms":2.5}"#,
                Budget::StepTime { milliseconds: 2.5 },
            ),
        ] {
            assert_eq!(from(text).unwrap(), Policy::from(Target { budget }));
        }
        for bad in ["{}", r#"{"target_states":8,"target_step_ms":2.5}"#] {
            let refused = from(bad).unwrap_err().to_string();
            assert!(refused.contains("exactly one of"), "{refused}");
        }
    }
}

//! What every policy does, behind its parameters.

use serde::Deserializer;
use serde::de::DeserializeOwned;

use super::key::Key;
use crate::check::{Check, Proposal};
use crate::{Gate, KeepReason, ParameterCount, ScheduleError};

/// What a schedule asks of a policy.
pub(crate) trait Rule {
    /// Checks that every parameter is in its range.
    fn validate(&self) -> Result<(), ScheduleError>;

    /// One proposal for each of these layers, in their order. They have finite, non-negative, sorted spectra with a positive
    /// and finite sum; of the other layers nothing is asked.
    fn propose(&self, check: &Check<'_>, members: &[usize]) -> Vec<Proposal>;

    /// Checks that the gate lets it get where it goes.
    fn fits(&self, _gate: Gate) -> Result<(), ScheduleError> {
        Ok(())
    }

    /// Checks that a model of these layers can get there.
    fn reachable(
        &self,
        _gate: Gate,
        _state_dims: &[usize],
        _parameters: ParameterCount<'_>,
    ) -> Result<(), ScheduleError> {
        Ok(())
    }

    /// Largest fall in accuracy that lets a cut stand; `None` if cuts are not on trial.
    fn max_drop(&self) -> Option<f64> {
        None
    }

    /// Whether the last check cuts however little is left of the way.
    fn arrives(&self) -> bool {
        false
    }

    /// Whether it has to be told how long steps take.
    fn reads_step_times(&self) -> bool {
        false
    }
}

/// How a policy is made from the keys of a configuration.
pub(crate) trait Configured: DeserializeOwned {
    /// The keys that it reads.
    const KEYS: &'static [Key];
    /// Whether it can ever ask for a cut.
    const CUTS: bool = true;

    /// From a table of these keys alone; they are the names of its fields where nothing else is said.
    fn from_keys<'de, D: Deserializer<'de>>(keys: D) -> Result<Self, D::Error> {
        Self::deserialize(keys)
    }
}

/// One proposal per layer. A layer that is `barred` takes no part and keeps its states for that reason; all others have a
/// finite, non-negative, sorted spectrum with a positive and finite sum.
pub(crate) fn proposals(
    rule: &dyn Rule,
    check: &Check<'_>,
    barred: &[Option<KeepReason>],
) -> Vec<Proposal> {
    let members: Vec<usize> = (0..barred.len()).filter(|&i| barred[i].is_none()).collect();
    let mut proposed = rule.propose(check, &members).into_iter();
    barred
        .iter()
        .map(|barred| match barred {
            Some(reason) => Proposal::Keep(*reason),
            None => proposed.next().expect("one proposal per member"),
        })
        .collect()
}

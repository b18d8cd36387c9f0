//! One check: what a policy is told, and what it proposes for every layer.

use crate::share::{alike, by_worth};
use crate::step_time::StepTimes;
use crate::{CutReason, Gate, KeepReason, Observation, Scope};

/// What is proposed for one layer. A proposal still has to pass the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Proposal {
    Keep(KeepReason),
    Order { order: usize, reason: CutReason },
}

impl Proposal {
    /// These orders, all for one reason.
    pub(crate) fn all(reason: impl Into<CutReason>, orders: Vec<usize>) -> Vec<Self> {
        let reason = reason.into();
        let with_reason = |order| Self::Order { order, reason };
        orders.into_iter().map(with_reason).collect()
    }
}

/// One check: what it knows, and how far along the run is.
pub(crate) struct Check<'a> {
    pub(crate) scope: Scope,
    pub(crate) gate: Gate,
    /// This one included, at least 1.
    pub(crate) checks_left: usize,
    pub(crate) observation: &'a Observation<'a>,
    /// This check's included.
    pub(crate) step_times: &'a StepTimes,
}

impl Check<'_> {
    /// The spectra of these layers.
    pub(crate) fn spectra(&self, members: &[usize]) -> Vec<&[f64]> {
        let layers = self.observation.layers;
        members.iter().map(|&layer| layers[layer].hsv).collect()
    }

    /// So many states for these layers together, in the way of the scope and not below the floor of any.
    pub(crate) fn share_out(&self, members: &[usize], total: usize) -> Vec<usize> {
        let spectra = self.spectra(members);
        let sizes: Vec<usize> = spectra.iter().map(|hsv| hsv.len()).collect();
        let floors: Vec<usize> = sizes.iter().map(|&size| self.gate.floor(size)).collect();
        match self.scope {
            Scope::Layer => alike(&sizes, &floors, total),
            Scope::Global => by_worth(&spectra, &floors, total),
        }
    }
}

//! What a policy proposes for every layer of one check.

use std::collections::BTreeMap;

use hsv::{GlobalBudget, Normalization, order_for_fraction, order_for_tolerance};

use crate::settled::{margin, ranks_as_before};
use crate::share::{alike, by_worth, largest_that_fits};
use crate::step_time::StepTimes;
use crate::{Budget, CutReason, Gate, KeepReason, LayerSpectrum, Observation, Policy, Scope};

/// What is proposed for one layer. A proposal still has to pass the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Proposal {
    Keep(KeepReason),
    Order { order: usize, reason: CutReason },
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
    /// One proposal per layer. A layer that is `barred` takes no part and keeps its states for that reason; all others
    /// have a finite, non-negative, sorted spectrum with a positive and finite sum.
    pub(crate) fn proposals(&self, policy: Policy, barred: &[Option<KeepReason>]) -> Vec<Proposal> {
        let members: Vec<usize> = (0..barred.len()).filter(|&i| barred[i].is_none()).collect();
        let outcome = match policy {
            Policy::None => vec![Proposal::Keep(KeepReason::NothingToCut); members.len()],
            Policy::Tolerance { tau } => {
                let scope = self.scope;
                let reason = CutReason::Tolerance { tau, scope };
                for_reason(reason, self.orders_for_tolerance(&members, tau))
            }
            Policy::Fraction { fraction } => {
                let scope = self.scope;
                let reason = CutReason::Fraction { fraction, scope };
                for_reason(reason, self.orders_for_fraction(&members, fraction))
            }
            Policy::Pragmatic { fraction, max_drop } => {
                let reason = CutReason::Pragmatic {
                    fraction,
                    max_drop,
                    scope: self.scope,
                };
                for_reason(reason, self.orders_for_fraction(&members, fraction))
            }
            Policy::Target { budget } => self.towards(budget, &members),
            Policy::Auto {
                tau,
                min_correlation,
            } => self.settled(tau, min_correlation, &members),
        };
        let mut outcome = outcome.into_iter();
        barred
            .iter()
            .map(|barred| match barred {
                Some(reason) => Proposal::Keep(*reason),
                None => outcome.next().expect("one outcome per member"),
            })
            .collect()
    }

    fn orders_for_tolerance(&self, members: &[usize], tau: f64) -> Vec<usize> {
        let spectra = self.spectra(members);
        match self.scope {
            Scope::Layer => spectra
                .iter()
                .map(|hsv| order_for_tolerance(hsv, tau))
                .collect(),
            Scope::Global => {
                GlobalBudget::DiscardedShare { tau }
                    .allocate(&spectra, Normalization::SumOfLayer)
                    .expect("every share of a spectrum can be kept")
                    .orders
            }
        }
    }

    fn orders_for_fraction(&self, members: &[usize], fraction: f64) -> Vec<usize> {
        let keep = 1.0 - fraction;
        let spectra = self.spectra(members);
        match self.scope {
            Scope::Layer => spectra
                .iter()
                .map(|hsv| order_for_fraction(hsv, keep))
                .collect(),
            Scope::Global => {
                let states: usize = spectra.iter().map(|hsv| hsv.len()).sum();
                self.share_out(members, (keep * states as f64).round() as usize)
            }
        }
    }

    /// So many states for these layers together, in the way of the scope and not below the floor of any.
    fn share_out(&self, members: &[usize], total: usize) -> Vec<usize> {
        let spectra = self.spectra(members);
        let sizes: Vec<usize> = spectra.iter().map(|hsv| hsv.len()).collect();
        let floors: Vec<usize> = sizes.iter().map(|&size| self.gate.floor(size)).collect();
        match self.scope {
            Scope::Layer => alike(&sizes, &floors, total),
            Scope::Global => by_worth(&spectra, &floors, total),
        }
    }

    fn spectra(&self, members: &[usize]) -> Vec<&[f64]> {
        let layers = self.observation.layers;
        members.iter().map(|&layer| layers[layer].hsv).collect()
    }

    /// One check's part of the way to a target.
    fn towards(&self, budget: Budget, members: &[usize]) -> Vec<Proposal> {
        let keep = |reason| vec![Proposal::Keep(reason); members.len()];
        let layers = self.observation.layers;
        let Some(goal) = self.goal(budget) else {
            return keep(KeepReason::StepTimeUnknown);
        };
        let per_state = |layer: usize| match budget {
            Budget::Parameters { .. } => u128::from(self.observation.parameters.per_state[layer]),
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
            return keep(KeepReason::TargetMet);
        }

        let milestone = self.milestone(now, goal);
        let size_with = |total: usize| -> u128 {
            let orders = self.share_out(members, total);
            let of = |(&layer, order): (&usize, usize)| per_state(layer) * order as u128;
            members.iter().zip(orders).map(of).sum()
        };
        let states = members.iter().map(|&layer| layers[layer].state_dim).sum();
        let total = largest_that_fits(0, states, |total| size_with(total) <= milestone);
        let reason = CutReason::Target {
            budget,
            checks_left: self.checks_left,
            scope: self.scope,
        };
        for_reason(reason, self.share_out(members, total))
    }

    /// The size to end at, in states or, for a budget of parameters, in parameters that belong to states. `None` if
    /// nothing is known about step times.
    fn goal(&self, budget: Budget) -> Option<u128> {
        let layers = self.observation.layers;
        match budget {
            Budget::States { per_layer } => Some(per_layer as u128 * layers.len() as u128),
            Budget::Parameters { total } => Some(u128::from(
                total.saturating_sub(self.observation.parameters.fixed),
            )),
            Budget::StepTime { milliseconds } => {
                let states = layers.iter().map(|layer| layer.state_dim).sum();
                let allowed = self.step_times.states_within(milliseconds, states)?;
                Some(allowed as u128)
            }
        }
    }

    /// Where this check has to get on the way from `now` to a smaller `goal`: the same ratio at every check left.
    fn milestone(&self, now: u128, goal: u128) -> u128 {
        if self.checks_left == 1 {
            return goal; // and not what powf makes of it
        }
        let ratio = (goal as f64 / now as f64).powf(1.0 / self.checks_left as f64);
        ((now as f64 * ratio).round() as u128).clamp(goal, now)
    }

    /// As a tolerance, among the layers that have settled. Where they share a budget, a layer that has not leaves with
    /// its states and its part of it, and the others are asked again.
    fn settled(&self, tau: f64, min_correlation: f64, members: &[usize]) -> Vec<Proposal> {
        let mut members = members.to_vec();
        let mut proposals = BTreeMap::new();
        loop {
            let orders = self.orders_for_tolerance(&members, tau);
            let mut settled = Vec::new();
            for (&layer, order) in members.iter().zip(orders) {
                let outcome = self.once_settled(layer, order, tau, min_correlation);
                if outcome.is_ok() {
                    settled.push(layer);
                }
                proposals.insert(layer, outcome.unwrap_or_else(Proposal::Keep));
            }
            if settled.len() == members.len() {
                return proposals.into_values().collect();
            }
            members = settled;
        }
    }

    /// The proposal to cut a layer to `order` if its ranking has settled; otherwise why it has not.
    fn once_settled(
        &self,
        layer: usize,
        order: usize,
        tau: f64,
        min_correlation: f64,
    ) -> Result<Proposal, KeepReason> {
        let LayerSpectrum { hsv, drift, .. } = self.observation.layers[layer];
        // What would be cut decides, not what was asked for.
        let order = match self.gate.admitted(order, hsv.len()) {
            Ok(order) => order,
            Err(reason) => return Ok(Proposal::Keep(reason)),
        };
        let drift = drift.ok_or(KeepReason::NoEarlierSnapshot)?;
        let rank_correlation = ranks_as_before(drift, min_correlation)?;
        let reason = CutReason::Auto {
            tau,
            rank_correlation,
            margin: margin(hsv, order, drift.hankel_distance)?,
            scope: self.scope,
        };
        Ok(Proposal::Order { order, reason })
    }
}

fn for_reason(reason: CutReason, orders: Vec<usize>) -> Vec<Proposal> {
    let with_reason = |order| Proposal::Order { order, reason };
    orders.into_iter().map(with_reason).collect()
}

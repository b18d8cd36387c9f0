//! A layer's system, its states in order of what they matter, and the system with fewer of them.

use hsv::{
    Discrete, DiscreteDiagonalSystem, HankelDecomposition, LinearSystem, Mat, ModalNorm,
    RealPartSystem, Selection, TruncationError,
};
use ssm_core::{GramianEstimate, StateMaps};

use super::CutError;
use crate::config::{Realization, Reduction};

/// How states are ranked and systems made smaller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Method {
    /// The system that is ranked.
    pub realization: Realization,
    /// How the smaller system is made.
    pub reduction: Reduction,
    /// Which states stay.
    pub selection: Selection,
    /// How selective layers are ranked.
    pub estimate: GramianEstimate,
}

/// A system with what ranks its states.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "one per layer, and matrices hang on it"
)]
pub(super) enum Ranking {
    Complex(HankelDecomposition<DiscreteDiagonalSystem>),
    Real {
        system: DiscreteDiagonalSystem,
        hankel: HankelDecomposition<RealPartSystem<Discrete>>,
    },
}

/// A smaller system and what it costs.
#[derive(Debug)]
pub(super) struct Reduced {
    pub system: DiscreteDiagonalSystem,
    /// Where its states come from.
    pub states: States,
    /// Bounds the gain of the error of the layer's output at every frequency.
    pub bound: f64,
    /// Share of the sum of all values that went, in `[0, 1)`.
    pub discarded: f64,
}

/// Where the states of a smaller system come from.
#[derive(Debug)]
pub(super) enum States {
    /// They are the full system's modes at these positions, as they were.
    Kept(Vec<usize>),
    /// They are new. The maps lead to the full system's and back; `None` where there is no linear map.
    New(Option<StateMaps>),
}

impl Ranking {
    pub(super) fn of(
        system: DiscreteDiagonalSystem,
        realization: Realization,
    ) -> Result<Self, CutError> {
        Ok(match realization {
            Realization::Complex => Self::Complex(system.hankel()?),
            Realization::Real => {
                let hankel = system.real_part().hankel()?;
                Self::Real { system, hankel }
            }
        })
    }

    /// One value per state, largest first.
    pub(super) fn values(&self) -> Vec<f64> {
        match self {
            Self::Complex(hankel) => hankel.singular_values().to_vec(),
            // A state of the layer is a pair of real ones: sums of two keep the order and every share of the whole.
            Self::Real { hankel, .. } => {
                let (pairs, _) = hankel.singular_values().as_chunks::<2>();
                pairs.iter().map(|[first, second]| first + second).collect()
            }
        }
    }

    /// Share of the sum of all values beyond the first `order`.
    fn tail_share(&self, order: usize) -> f64 {
        let values = self.values();
        // From the small end: the tail is what counts.
        let sum = |values: &[f64]| values.iter().rev().sum::<f64>();
        let tail = sum(&values[order..]);
        if tail > 0.0 { tail / sum(&values) } else { 0.0 }
    }

    fn system(&self) -> &DiscreteDiagonalSystem {
        match self {
            Self::Complex(hankel) => hankel.system(),
            Self::Real { system, .. } => system,
        }
    }

    /// The system with at most `order` states: fewer where the directions beyond are rounding.
    pub(super) fn reduce(&self, order: usize, method: Method) -> Result<Reduced, CutError> {
        match (self, method.reduction) {
            (_, Reduction::Modal) => {
                let reduced = modal(self.system(), order, method.selection)?;
                // The order came from the spectrum: with the strongest modes goes what it discards.
                Ok(match method.selection {
                    Selection::Largest => Reduced {
                        discarded: self.tail_share(order),
                        ..reduced
                    },
                    _ => reduced,
                })
            }
            (Self::Real { hankel, .. }, _) => real(hankel, order, method.selection),
            (Self::Complex(hankel), Reduction::SingularPerturbation) => {
                singular_perturbation(hankel, order.min(hankel.numerical_rank()))
            }
            (Self::Complex(hankel), _) => {
                let order = order.min(hankel.numerical_rank());
                let truncation = hankel.selected_truncation(method.selection, order)?;
                let form = truncation.diagonalize()?;
                Ok(Reduced {
                    states: States::New(Some(StateMaps::from(&form))),
                    system: form.system,
                    bound: truncation.h_infinity_bound(),
                    discarded: truncation.discarded_share(),
                })
            }
        }
    }
}

fn modal(
    system: &DiscreteDiagonalSystem,
    order: usize,
    selection: Selection,
) -> Result<Reduced, CutError> {
    let truncation = system.selected_modal_truncation(ModalNorm::H2, selection, order)?;
    Ok(Reduced {
        states: States::Kept(truncation.kept),
        bound: truncation.h_infinity_bound,
        discarded: truncation.discarded_share,
        system: truncation.system,
    })
}

/// Truncates the real system to as many states as make no more than `order` modes: two for a conjugate pair, and one
/// for a lone real pole.
fn real(
    hankel: &HankelDecomposition<RealPartSystem<Discrete>>,
    order: usize,
    selection: Selection,
) -> Result<Reduced, CutError> {
    let most = (2 * order).min(hankel.numerical_rank());
    for states in (order.min(most)..=most).rev() {
        let truncation = hankel.selected_truncation(selection, states)?;
        let modes = truncation
            .poles()
            .iter()
            .filter(|pole| pole.im >= 0.0)
            .count();
        if modes > order {
            continue;
        }
        let form = truncation.diagonalize()?;
        return Ok(Reduced {
            states: States::New(Some(StateMaps::from(&form))),
            system: form.system,
            bound: truncation.h_infinity_bound(),
            discarded: truncation.discarded_share(),
        });
    }
    // As many states as modes make no more modes than states, so the loop ends before; but for order 0.
    Err(TruncationError::OrderZero.into())
}

fn singular_perturbation(
    hankel: &HankelDecomposition<DiscreteDiagonalSystem>,
    order: usize,
) -> Result<Reduced, CutError> {
    let reduced = hankel.singular_perturbation(order)?;
    let form = reduced.system.diagonalize()?;
    // The layer holds the diagonal of the feed-through; what it cannot hold is an error at every frequency.
    let lost = form.system.feedthrough().map_or(0.0, |direct| {
        let off_diagonal = |i: usize, j: usize| match i == j {
            true => 0.0,
            false => direct[(i, j)].re,
        };
        Mat::from_fn(direct.nrows(), direct.ncols(), off_diagonal).norm_l2()
    });
    Ok(Reduced {
        system: form.system,
        states: States::New(None),
        bound: reduced.h_infinity_bound + lost,
        discarded: reduced.discarded_share,
    })
}

/// Scores of the modes in the order of the layer's states, for comparison with those of a later snapshot.
pub(super) fn mode_scores(system: &DiscreteDiagonalSystem) -> Vec<f64> {
    system.modal_scores(ModalNorm::H2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hsv::c64;

    /// Six modes of falling gain, the fourth and fifth conjugates of each other.
    fn system() -> DiscreteDiagonalSystem {
        let lambda = [
            (0.9, 0.2),
            (0.3, -0.7),
            (-0.8, 0.1),
            (0.2, 0.5),
            (0.2, -0.5),
            (0.6, 0.0),
        ];
        let gains = [3.0, 1.0, 0.5, 0.1, 0.02, 0.01];
        DiscreteDiagonalSystem::new(
            lambda.map(|(re, im)| c64::new(re, im)).to_vec(),
            Mat::from_fn(6, 2, |i, j| c64::new(1.0, (i as f64 - j as f64) / 4.0)),
            Mat::from_fn(2, 6, |i, j| c64::new(gains[j], i as f64 * gains[j])),
        )
        .unwrap()
    }

    fn methods() -> Vec<Method> {
        let selections = [
            Selection::Largest,
            Selection::Smallest,
            Selection::Random { seed: 3 },
        ];
        let of = |realization, reduction, selection| Method {
            realization,
            reduction,
            selection,
            estimate: GramianEstimate::Empirical,
        };
        let mut methods: Vec<Method> = [Realization::Complex, Realization::Real]
            .into_iter()
            .flat_map(|realization| {
                selections.map(|selection| of(realization, Reduction::Balanced, selection))
            })
            .collect();
        for (reduction, realization, selection) in [
            (
                Reduction::SingularPerturbation,
                Realization::Complex,
                Selection::Largest,
            ),
            (Reduction::Modal, Realization::Complex, Selection::Largest),
            (Reduction::Modal, Realization::Real, Selection::Smallest),
        ] {
            methods.push(of(realization, reduction, selection));
        }
        methods
    }

    /// Largest singular value of the real part of the error at the frequencies where it counts.
    fn error(full: &DiscreteDiagonalSystem, reduced: &DiscreteDiagonalSystem) -> f64 {
        // The output's real part at frequency ω has the transfer function (G(ω) + conj G(-ω)) / 2. Of the reduced
        // feed-through the layer keeps the real diagonal.
        let real = |system: &DiscreteDiagonalSystem, omega: f64| {
            let (plus, minus) = (system.transfer(omega), system.transfer(-omega));
            let direct = system.feedthrough();
            Mat::from_fn(2, 2, |i, j| {
                let off = direct.map_or(0.0, |d| if i == j { 0.0 } else { d[(i, j)].re });
                (plus[(i, j)] + minus[(i, j)].conj()) / 2.0 - c64::new(off, 0.0)
            })
        };
        (0..=60)
            .map(|k| {
                let omega = f64::from(k) * std::f64::consts::PI / 60.0;
                let error = real(full, omega) - real(reduced, omega);
                error.singular_values().unwrap()[0]
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn every_method_keeps_what_was_asked_for_within_its_bound() {
        let full = system();
        for method in methods() {
            let ranking = Ranking::of(full.clone(), method.realization).unwrap();
            let values = ranking.values();
            assert_eq!(values.len(), 6, "{method:?}");
            assert!(values.is_sorted_by(|a, b| a >= b), "{method:?}: {values:?}");
            for order in 1..=5 {
                let reduced = ranking.reduce(order, method).unwrap();
                assert!(
                    (1..=order).contains(&reduced.system.state_dim()),
                    "{method:?}"
                );
                let error = error(&full, &reduced.system);
                assert!(
                    error <= reduced.bound * (1.0 + 1e-9) + 1e-12,
                    "{method:?} to {order}: {error:e} above {:e}",
                    reduced.bound
                );
                assert!((0.0..1.0).contains(&reduced.discarded));
            }
        }
    }

    #[test]
    fn the_real_part_needs_no_state_for_a_conjugate() {
        let full = system();
        let method = |realization| Method {
            realization,
            reduction: Reduction::Balanced,
            selection: Selection::Largest,
            estimate: GramianEstimate::Empirical,
        };
        let bound = |realization| {
            let method = method(realization);
            let ranking = Ranking::of(full.clone(), method.realization).unwrap();
            ranking.reduce(5, method).unwrap().bound
        };
        assert!(bound(Realization::Real) < bound(Realization::Complex));
    }

    #[test]
    fn the_smallest_states_lose_what_the_largest_keep() {
        let full = system();
        let share = |selection| {
            let method = Method {
                realization: Realization::Complex,
                reduction: Reduction::Balanced,
                selection,
                estimate: GramianEstimate::Empirical,
            };
            let ranking = Ranking::of(full.clone(), method.realization).unwrap();
            ranking.reduce(2, method).unwrap().discarded
        };
        assert!(share(Selection::Smallest) > share(Selection::Random { seed: 3 }));
        assert!(share(Selection::Random { seed: 3 }) > share(Selection::Largest));
    }
}

//! Ways to make a linear system smaller: one module each.

mod balanced;
mod modal;
mod singular_perturbation;

use hsv::Selection;
use serde::{Deserialize, Serialize};

use super::{CompressionError, ReducedSystem, ranking::Ranking};

/// What a way to make a system smaller has to say of itself.
pub(super) trait Reduce {
    /// Whether it knows the real system as well as the complex one.
    const KNOWS_REAL: bool;
    /// Whether it can keep other states than the largest.
    const KNOWS_SELECTION: bool;
    /// Whether the large states are a linear function of the small ones and the other way round, so that gradients have a
    /// way over.
    const HAS_MAPS: bool;

    /// The system with at most `order` states: fewer where the directions beyond are rounding.
    fn reduce(
        ranking: &Ranking,
        order: usize,
        selection: Selection,
    ) -> Result<ReducedSystem, CompressionError>;
}

/// Everything that is one per reduction, from one line for each.
macro_rules! reductions {
    ($($(#[$documentation:meta])+ $Reduction:ident $word:literal: $Type:path),+ $(,)?) => {
        /// How the smaller system is made.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Reduction {
            $($(#[$documentation])+ #[serde(rename = $word)] $Reduction,)+
        }

        impl Reduction {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Reduction),+];

            /// Whether it knows the real system as well as the complex one.
            pub const fn knows_real(self) -> bool {
                match self {
                    $(Self::$Reduction => <$Type as Reduce>::KNOWS_REAL,)+
                }
            }

            /// Whether it can keep other states than the largest.
            pub const fn knows_selection(self) -> bool {
                match self {
                    $(Self::$Reduction => <$Type as Reduce>::KNOWS_SELECTION,)+
                }
            }

            /// Whether gradients have a way over into its basis.
            pub const fn has_maps(self) -> bool {
                match self {
                    $(Self::$Reduction => <$Type as Reduce>::HAS_MAPS,)+
                }
            }

            pub(crate) fn reduce(
                self,
                ranking: &Ranking,
                order: usize,
                selection: Selection,
            ) -> Result<ReducedSystem, CompressionError> {
                match self {
                    $(Self::$Reduction => <$Type as Reduce>::reduce(ranking, order, selection),)+
                }
            }
        }
    };
}

reductions! {
    /// Balanced truncation; for `mamba2` in the basis of every head, which gets maps of its own. `mamba` has state indices
    /// to choose from and no basis, so it has no choice.
    Balanced "balanced": balanced::Balanced,
    /// Singular perturbation: the weak balanced states are set to rest. Of the feed-through that this makes a layer can
    /// hold the diagonal only.
    SingularPerturbation "singular-perturbation": singular_perturbation::SingularPerturbation,
    /// As many modes as there are strong Hankel singular values, those with the largest energies, as they are.
    Modal "modal": modal::Modal,
}

#[cfg(test)]
mod tests {
    use hsv::{DiscreteDiagonalSystem, LinearSystem, Mat, c64};

    use super::*;
    use crate::compression::Realization;

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

    type Method = (Realization, Reduction, Selection);

    fn methods() -> Vec<Method> {
        let selections = [
            Selection::Largest,
            Selection::Smallest,
            Selection::Random { seed: 3 },
        ];
        let of = |realization, reduction, selection| (realization, reduction, selection);
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
            let (realization, reduction, selection) = method;
            let ranking = Ranking::of(full.clone(), realization).unwrap();
            let values = ranking.values();
            assert_eq!(values.len(), 6, "{method:?}");
            assert!(values.is_sorted_by(|a, b| a >= b), "{method:?}: {values:?}");
            for order in 1..=5 {
                let reduced = reduction.reduce(&ranking, order, selection).unwrap();
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
        let bound = |realization| {
            let ranking = Ranking::of(full.clone(), realization).unwrap();
            let reduced = Reduction::Balanced.reduce(&ranking, 5, Selection::Largest);
            reduced.unwrap().bound
        };
        assert!(bound(Realization::Real) < bound(Realization::Complex));
    }

    #[test]
    fn the_smallest_states_lose_what_the_largest_keep() {
        let full = system();
        let share = |selection| {
            let ranking = Ranking::of(full.clone(), Realization::Complex).unwrap();
            let reduced = Reduction::Balanced.reduce(&ranking, 2, selection);
            reduced.unwrap().discarded
        };
        assert!(share(Selection::Smallest) > share(Selection::Random { seed: 3 }));
        assert!(share(Selection::Random { seed: 3 }) > share(Selection::Largest));
    }
}

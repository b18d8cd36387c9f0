//! One budget for several layers: a common threshold on their spectra instead of a rule for each.

use thiserror::Error;

use crate::arithmetic::sum::{TailSum, sum_from_small_end};
use crate::spectrum::is_spectrum;

/// What several layers may keep, or lose, together.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum GlobalBudget {
    /// At most this many states, all layers together.
    States {
        /// At least one for every layer.
        total: usize,
    },
    /// At most this share of the sum of all normalized spectra, as in
    /// [`order_for_tolerance`](crate::order_for_tolerance) of one.
    DiscardedShare {
        /// In `[0, 1)`; zero, negative or NaN keeps every state.
        tau: f64,
    },
}

/// What values of different layers are measured by before they are compared. Layers differ in gain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// Nothing: all layers have the same unit, and a layer of small gain goes first.
    None,
    /// σ_1 of the layer: depth below its strongest direction.
    LargestOfLayer,
    /// Σσ of the layer: the share that one direction has of it.
    SumOfLayer,
}

/// The orders that meet a [`GlobalBudget`], and the threshold behind them.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// One per layer, in the order of the spectra.
    pub orders: Vec<usize>,
    /// Smallest normalized value that stays, the first of each layer aside; infinite where nothing else stays.
    pub threshold: f64,
}

/// Why a budget cannot be met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BudgetError {
    /// There are fewer states to share out than have to stay.
    #[error(
        "a budget of {total} states is below the minimum of {minimum}: one for each layer, \
         and all {kept_whole} of layers whose spectrum cannot be judged"
    )]
    BelowMinimum {
        /// The budget.
        total: usize,
        /// The smallest one that can be met.
        minimum: usize,
        /// States of layers that keep every state, because their spectrum has NaN, no positive value, or the like.
        kept_whole: usize,
    },
}

impl GlobalBudget {
    /// Lowest threshold (of [`States`](Self::States)) or highest (of [`DiscardedShare`](Self::DiscardedShare)) that
    /// meets the budget, found by bisection of the sorted values.
    ///
    /// Every spectrum is sorted, largest first. A layer keeps its first state, and every other one whose normalized
    /// value is not below the threshold; equal values, of whatever layer, share their fate, so a part of the budget
    /// may stay unused. A layer whose spectrum [`order_for_tolerance`](crate::order_for_tolerance) would not judge
    /// keeps every state: they count as states, and it has no part in the share.
    ///
    /// A larger budget never takes a state from a layer that a smaller one left it.
    ///
    /// # Errors
    /// [`BudgetError::BelowMinimum`].
    ///
    /// ```
    /// use hsv::{GlobalBudget, Normalization};
    ///
    /// let spectra = [vec![8.0, 4.0, 1.0], vec![0.8, 0.2, 0.1, 0.0]];
    /// let three = GlobalBudget::States { total: 3 };
    /// let allocation = three.allocate(&spectra, Normalization::LargestOfLayer)?;
    /// assert_eq!(allocation.orders, [2, 1]);
    /// assert_eq!(allocation.threshold, 0.5);
    ///
    /// let tenth = GlobalBudget::DiscardedShare { tau: 0.1 };
    /// assert_eq!(tenth.allocate(&spectra, Normalization::SumOfLayer)?.orders, [2, 2]);
    /// assert_eq!(tenth.allocate(&spectra, Normalization::None)?.orders, [2, 1]);
    /// assert!(GlobalBudget::States { total: 1 }.allocate(&spectra, Normalization::None).is_err());
    /// # Ok::<(), hsv::BudgetError>(())
    /// ```
    pub fn allocate(
        self,
        spectra: &[impl AsRef<[f64]>],
        normalization: Normalization,
    ) -> Result<Allocation, BudgetError> {
        let layers: Vec<Layer> = spectra
            .iter()
            .map(|hsv| Layer::of(hsv.as_ref(), normalization))
            .collect();
        let mut droppable: Vec<f64> = layers.iter().flat_map(Layer::droppable).copied().collect();
        droppable.sort_by(f64::total_cmp);

        let threshold = match self {
            Self::States { total } => threshold_for_states(&layers, &droppable, total)?,
            Self::DiscardedShare { tau } => threshold_for_share(&layers, &droppable, tau),
        };
        let orders = layers.iter().map(|layer| layer.order(threshold)).collect();
        Ok(Allocation { orders, threshold })
    }
}

/// A spectrum in its unit.
enum Layer {
    Normalized(Vec<f64>),
    /// Not to be judged; so many states.
    KeptWhole(usize),
}

impl Layer {
    fn of(hsv: &[f64], normalization: Normalization) -> Self {
        if !is_spectrum(hsv) {
            return Self::KeptWhole(hsv.len());
        }
        let unit = match normalization {
            Normalization::None => 1.0,
            Normalization::LargestOfLayer => hsv[0],
            Normalization::SumOfLayer => sum_from_small_end(hsv),
        };
        Self::Normalized(hsv.iter().map(|sigma| sigma / unit).collect())
    }

    fn values(&self) -> &[f64] {
        match self {
            Self::Normalized(values) => values,
            Self::KeptWhole(_) => &[],
        }
    }

    /// All values but the first, which always stays.
    fn droppable(&self) -> &[f64] {
        self.values().get(1..).unwrap_or_default()
    }

    fn order(&self, threshold: f64) -> usize {
        match self {
            Self::Normalized(_) => {
                1 + self
                    .droppable()
                    .iter()
                    .filter(|&&value| value >= threshold)
                    .count()
            }
            Self::KeptWhole(states) => *states,
        }
    }
}

/// The threshold that drops the first `count` of the sorted values, for a count between equal ones.
fn threshold_above(droppable: &[f64], count: usize) -> f64 {
    droppable.get(count).copied().unwrap_or(f64::INFINITY)
}

fn threshold_for_states(
    layers: &[Layer],
    droppable: &[f64],
    total: usize,
) -> Result<f64, BudgetError> {
    let minimum = layers.iter().map(|layer| layer.order(f64::INFINITY)).sum();
    let Some(spare) = total.checked_sub(minimum) else {
        let kept_whole = layers
            .iter()
            .map(|layer| match layer {
                Layer::Normalized(_) => 0,
                Layer::KeptWhole(states) => *states,
            })
            .sum();
        return Err(BudgetError::BelowMinimum {
            total,
            minimum,
            kept_whole,
        });
    };
    let excess = droppable.len().saturating_sub(spare);
    // The largest value that has to go takes its equals along.
    let count = excess.checked_sub(1).map_or(0, |last| {
        droppable.partition_point(|value| *value <= droppable[last])
    });
    Ok(threshold_above(droppable, count))
}

fn threshold_for_share(layers: &[Layer], droppable: &[f64], tau: f64) -> f64 {
    let mut values: Vec<f64> = layers.iter().flat_map(Layer::values).copied().collect();
    values.sort_by(|a, b| b.total_cmp(a));
    let limit = tau * sum_from_small_end(&values);
    let mut tail = TailSum::default();
    let discarded: Vec<f64> = droppable
        .iter()
        .map(|&value| {
            tail.add(value);
            tail.value()
        })
        .collect();
    // Nothing goes if the limit is NaN, from `tau` or from a sum out of range, or not above zero.
    let affordable = if limit > 0.0 {
        discarded.partition_point(|sum| *sum <= limit)
    } else {
        0
    };
    // The smallest value that has to stay keeps its equals.
    let count = droppable.get(affordable).map_or(affordable, |kept| {
        droppable.partition_point(|value| value < kept)
    });
    threshold_above(droppable, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order_for_tolerance;
    use proptest::prelude::*;

    const NORMALIZATIONS: [Normalization; 3] = [
        Normalization::None,
        Normalization::LargestOfLayer,
        Normalization::SumOfLayer,
    ];

    /// Spectra with many ties, within and across layers, and now and then zeros.
    fn spectra() -> impl Strategy<Value = Vec<Vec<f64>>> {
        let value = prop_oneof![
            4 => (0..12i32).prop_map(|k| 2f64.powi(-k)),
            4 => 1e-4..1.0f64,
            1 => Just(0.0),
        ];
        let spectrum = (proptest::collection::vec(value, 0..8), 0.1..2.0f64).prop_map(
            |(mut tail, largest)| {
                tail.push(largest);
                tail.sort_by(|a, b| b.total_cmp(a));
                tail
            },
        );
        proptest::collection::vec(spectrum, 1..6)
    }

    fn normalization() -> impl Strategy<Value = Normalization> {
        proptest::sample::select(NORMALIZATIONS.to_vec())
    }

    fn normalized(spectra: &[Vec<f64>], normalization: Normalization) -> Vec<Vec<f64>> {
        let unit = |hsv: &[f64]| match normalization {
            Normalization::None => 1.0,
            Normalization::LargestOfLayer => hsv[0],
            Normalization::SumOfLayer => sum_from_small_end(hsv),
        };
        let over = |hsv: &Vec<f64>| hsv.iter().map(|sigma| sigma / unit(hsv)).collect();
        spectra.iter().map(over).collect()
    }

    /// Every outcome that a common threshold can have, the lowest threshold first.
    fn outcomes(values: &[Vec<f64>]) -> Vec<Vec<usize>> {
        let mut thresholds: Vec<f64> = values.concat();
        thresholds.push(f64::INFINITY);
        thresholds.sort_by(f64::total_cmp);
        let order = |hsv: &Vec<f64>, t: f64| hsv.iter().filter(|&&value| value >= t).count().max(1);
        thresholds
            .iter()
            .map(|&t| values.iter().map(|hsv| order(hsv, t)).collect())
            .collect()
    }

    fn discarded(values: &[Vec<f64>], orders: &[usize]) -> f64 {
        values
            .iter()
            .zip(orders)
            .map(|(hsv, &order)| hsv[order..].iter().sum::<f64>())
            .sum()
    }

    proptest! {
        #[test]
        fn states_are_shared_out_as_by_trying_every_threshold(
            spectra in spectra(), normalization in normalization(), total in 0..50usize,
        ) {
            let outcomes = outcomes(&normalized(&spectra, normalization));
            let best = outcomes.iter().find(|orders| orders.iter().sum::<usize>() <= total);
            let budget = GlobalBudget::States { total };
            match budget.allocate(&spectra, normalization) {
                Ok(allocation) => prop_assert_eq!(Some(&allocation.orders), best),
                Err(error) => {
                    let minimum = spectra.len();
                    prop_assert_eq!(error, BudgetError::BelowMinimum { total, minimum, kept_whole: 0 });
                    prop_assert!(best.is_none());
                }
            }
        }

        #[test]
        fn a_share_is_used_up_as_by_trying_every_threshold(
            spectra in spectra(), normalization in normalization(), tau in 1e-3..0.999f64,
        ) {
            let values = normalized(&spectra, normalization);
            let limit = tau * values.concat().iter().sum::<f64>();
            let allocation = GlobalBudget::DiscardedShare { tau }.allocate(&spectra, normalization).unwrap();
            // The plain sums here are good to 40 ε of the total.
            let rounding = 40.0 * f64::EPSILON * limit / tau;
            prop_assert!(discarded(&values, &allocation.orders) <= limit + rounding);
            let next = outcomes(&values).into_iter().find(|orders| {
                orders.iter().sum::<usize>() < allocation.orders.iter().sum()
            });
            if let Some(next) = next {
                prop_assert!(discarded(&values, &next) >= limit - rounding);
            }
            prop_assert!(outcomes(&values).contains(&allocation.orders));
        }

        #[test]
        fn the_threshold_separates_what_stays_from_what_goes(
            spectra in spectra(), normalization in normalization(), spare in 0..40usize,
        ) {
            let total = spectra.len() + spare;
            let allocation = GlobalBudget::States { total }.allocate(&spectra, normalization).unwrap();
            for (hsv, &order) in normalized(&spectra, normalization).iter().zip(&allocation.orders) {
                prop_assert!(hsv[1..order].iter().all(|&value| value >= allocation.threshold));
                prop_assert!(hsv[order..].iter().all(|&value| value < allocation.threshold));
            }
        }

        #[test]
        fn a_larger_budget_never_takes_a_state(
            spectra in spectra(), normalization in normalization(),
            a in 0..40usize, b in 0..40usize, x in 0.0..1.0f64, y in 0.0..1.0f64,
        ) {
            let of_states = |spare: usize| {
                let total = spectra.len() + spare;
                GlobalBudget::States { total }.allocate(&spectra, normalization).unwrap().orders
            };
            let of_share = |tau: f64| {
                GlobalBudget::DiscardedShare { tau }.allocate(&spectra, normalization).unwrap().orders
            };
            let pairs = [
                (of_states(a.min(b)), of_states(a.max(b))),
                (of_share(x.max(y)), of_share(x.min(y))),
            ];
            for (tight, loose) in pairs {
                prop_assert!(tight.iter().zip(&loose).all(|(tight, loose)| tight <= loose));
            }
        }

        #[test]
        fn the_gain_of_a_layer_does_not_matter_once_normalized(
            spectra in spectra(), layer in 0..6usize, power in -300..300i32, spare in 0..40usize, tau in 1e-3..0.9f64,
        ) {
            let layer = layer % spectra.len();
            let mut louder = spectra.clone();
            // A power of two leaves every quotient as it is; other factors could only undo exact ties.
            louder[layer].iter_mut().for_each(|sigma| *sigma *= 2f64.powi(power));
            let total = spectra.len() + spare;
            for budget in [GlobalBudget::States { total }, GlobalBudget::DiscardedShare { tau }] {
                for normalization in [Normalization::LargestOfLayer, Normalization::SumOfLayer] {
                    let (before, after) =
                        (budget.allocate(&spectra, normalization), budget.allocate(&louder, normalization));
                    prop_assert_eq!(before, after);
                }
            }
        }

        #[test]
        fn one_layer_is_cut_as_by_its_own_tolerance(
            mut hsv in proptest::collection::vec(1e-6..1.0f64, 1..40), tau in 1e-6..0.999f64,
        ) {
            hsv.sort_by(|a, b| b.total_cmp(a));
            let expected = order_for_tolerance(&hsv, tau);
            for normalization in NORMALIZATIONS {
                let budget = GlobalBudget::DiscardedShare { tau };
                prop_assert_eq!(&budget.allocate(&[&hsv], normalization).unwrap().orders, &[expected]);
            }
        }
    }

    #[test]
    fn equal_values_share_their_fate() {
        let spectra = [[1.0, 0.5, 0.5], [2.0, 1.0, 1.0]];
        for (total, orders) in [(2, [1, 1]), (5, [1, 1]), (6, [3, 3]), (100, [3, 3])] {
            let allocation = GlobalBudget::States { total }
                .allocate(&spectra, Normalization::LargestOfLayer)
                .unwrap();
            assert_eq!(allocation.orders, orders, "{total}");
        }
        // 2/6 of both sums are the four equal values.
        for (tau, orders) in [(0.4, [3, 3]), (0.51, [1, 1])] {
            let allocation = GlobalBudget::DiscardedShare { tau }
                .allocate(&spectra, Normalization::LargestOfLayer)
                .unwrap();
            assert_eq!(allocation.orders, orders, "{tau}");
        }
    }

    #[test]
    fn a_layer_of_small_gain_goes_first_only_without_normalization() {
        let spectra = [[100.0, 10.0, 1.0], [1.0, 0.9, 0.8]];
        let four = GlobalBudget::States { total: 4 };
        let orders = |normalization| four.allocate(&spectra, normalization).unwrap().orders;
        assert_eq!(orders(Normalization::None), [3, 1]);
        assert_eq!(orders(Normalization::LargestOfLayer), [1, 3]);
        assert_eq!(orders(Normalization::SumOfLayer), [1, 3]);
    }

    #[test]
    fn layers_that_cannot_be_judged_keep_every_state() {
        let spectra = [
            vec![1.0, 0.5, 0.25],
            vec![1.0, f64::NAN],
            vec![0.0, 0.0, 0.0],
            vec![],
            vec![f64::MAX, f64::MAX],
        ];
        for normalization in NORMALIZATIONS {
            let states = |total| GlobalBudget::States { total }.allocate(&spectra, normalization);
            assert_eq!(states(9).unwrap().orders, [2, 2, 3, 0, 2]);
            assert_eq!(states(8).unwrap().orders, [1, 2, 3, 0, 2]);
            assert_eq!(states(8).unwrap().threshold, f64::INFINITY);
            let expected = BudgetError::BelowMinimum {
                total: 7,
                minimum: 8,
                kept_whole: 7,
            };
            assert_eq!(states(7).unwrap_err(), expected);
            // 0.25 of 1.75 is 14.3 %.
            let share =
                |tau| GlobalBudget::DiscardedShare { tau }.allocate(&spectra, normalization);
            assert_eq!(share(0.142).unwrap().orders, [3, 2, 3, 0, 2]);
            assert_eq!(share(0.143).unwrap().orders, [2, 2, 3, 0, 2]);
            assert_eq!(share(1e9).unwrap().orders, [1, 2, 3, 0, 2]);
        }
    }

    #[test]
    fn a_share_without_an_answer_keeps_every_state() {
        for tau in [0.0, -1.0, f64::NAN] {
            for normalization in NORMALIZATIONS {
                let budget = GlobalBudget::DiscardedShare { tau };
                let orders = budget
                    .allocate(&[[1.0, 0.1, 0.0]], normalization)
                    .unwrap()
                    .orders;
                assert_eq!(orders, [3]);
            }
        }
        // Each sum is a number, both together are not.
        let loud = [[f64::MAX / 1.5, 1.0], [f64::MAX / 1.5, 1.0]];
        let half = GlobalBudget::DiscardedShare { tau: 0.5 };
        assert_eq!(
            half.allocate(&loud, Normalization::None).unwrap().orders,
            [2, 2]
        );
        assert_eq!(
            half.allocate(&loud, Normalization::SumOfLayer)
                .unwrap()
                .orders,
            [1, 1]
        );
    }

    #[test]
    fn no_layers_fit_into_any_budget() {
        let none: [&[f64]; 0] = [];
        let allocation = GlobalBudget::States { total: 0 }.allocate(&none, Normalization::None);
        assert!(allocation.unwrap().orders.is_empty());
    }
}

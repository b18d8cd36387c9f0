//! How many states to keep: from a spectrum to an order.
//!
//! Every rule here keeps all states where it has nothing to go by: a parameter outside its range, a spectrum that is
//! no spectrum. None ever answers 0 unless the spectrum is empty.

use crate::arithmetic::power_of_two::{exponent, scale};
use crate::arithmetic::sum::{TailSum, sum_from_small_end};
use crate::spectrum::is_spectrum;

/// A rule that turns the spectrum of one system into an order, as callers put it into their configurations.
///
/// ```
/// use hsv::OrderCriterion;
///
/// let hsv = [8.0, 1.0, 0.5, 0.5];
/// assert_eq!(OrderCriterion::Tolerance { tau: 0.05 }.order(&hsv), 3);
/// assert_eq!(OrderCriterion::Energy { tau: 0.05 }.order(&hsv), 1);
/// assert_eq!(OrderCriterion::Fixed { order: 2 }.order(&hsv), 2);
/// assert_eq!(OrderCriterion::Fraction { keep: 0.5 }.order(&hsv), 2);
/// assert_eq!(OrderCriterion::HInfinityBudget { bound: 1.0 }.order(&hsv), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum OrderCriterion {
    /// [`order_for_tolerance`].
    Tolerance {
        /// Share of Σσ that may be discarded, in `[0, 1)`.
        tau: f64,
    },
    /// [`order_for_energy`].
    Energy {
        /// Share of Σσ² that may be discarded, in `[0, 1)`.
        tau: f64,
    },
    /// This many states, or all where there are fewer.
    Fixed {
        /// At least 1; 0 cannot be had and keeps every state.
        order: usize,
    },
    /// [`order_for_fraction`].
    Fraction {
        /// Share of the states that stays, in `(0, 1]`.
        keep: f64,
    },
    /// [`order_for_bound`].
    HInfinityBudget {
        /// Largest error bound accepted, in the unit of the transfer function.
        bound: f64,
    },
}

impl OrderCriterion {
    /// Number of states to keep of a system with the spectrum `hsv`, which is sorted, largest first.
    pub fn order(self, hsv: &[f64]) -> usize {
        match self {
            Self::Tolerance { tau } => order_for_tolerance(hsv, tau),
            Self::Energy { tau } => order_for_energy(hsv, tau),
            Self::Fixed { order } if order > 0 && is_spectrum(hsv) => order.min(hsv.len()),
            Self::Fixed { .. } => hsv.len(),
            Self::Fraction { keep } => order_for_fraction(hsv, keep),
            Self::HInfinityBudget { bound } => order_for_bound(hsv, bound),
        }
    }
}

/// Smallest order `r` whose kept share reaches `1 - tau`: `σ_1 + .. + σ_r >= (1 - tau) Σσ`.
///
/// `hsv` is sorted, largest first; `tau` is the share of Σσ (not of Σσ²) that may be discarded, in `[0, 1)`.
/// The answer is never 0 unless `hsv` is empty, and it is `hsv.len()`, every state kept, wherever the question has no
/// answer: `tau` zero, negative or NaN; a spectrum that is all zero, or has a negative entry, NaN or infinity.
/// A looser tolerance never keeps more.
///
/// ```
/// use hsv::order_for_tolerance;
///
/// let hsv = [8.0, 1.0, 0.5, 0.5];
/// assert_eq!(order_for_tolerance(&hsv, 0.04), 4); // 0.5 of 10 is already 5 %
/// assert_eq!(order_for_tolerance(&hsv, 0.05), 3);
/// assert_eq!(order_for_tolerance(&hsv, 0.15), 2);
/// assert_eq!(order_for_tolerance(&hsv, f64::NAN), 4);
/// ```
pub fn order_for_tolerance(hsv: &[f64], tau: f64) -> usize {
    let wanted = tau > 0.0; // false for NaN
    if !wanted || !is_spectrum(hsv) {
        return hsv.len();
    }
    order_with_tail_below(hsv, tau * sum_from_small_end(hsv))
}

/// Smallest order `r` whose kept energy reaches `1 - tau`: `σ_1² + .. + σ_r² >= (1 - tau) Σσ²`.
///
/// As [`order_for_tolerance`], with squares: a weak tail counts for less, so the same `tau` keeps fewer states, never
/// more. Σσ² has no error bound of its own in the H∞ norm.
///
/// ```
/// use hsv::order_for_energy;
///
/// let hsv = [3.0, 2.0, 1.0]; // squares 9, 4, 1
/// assert_eq!(order_for_energy(&hsv, 0.07), 3);
/// assert_eq!(order_for_energy(&hsv, 0.08), 2);
/// assert_eq!(order_for_energy(&hsv, 0.36), 1);
/// ```
pub fn order_for_energy(hsv: &[f64], tau: f64) -> usize {
    let wanted = tau > 0.0; // false for NaN
    if !wanted || !is_spectrum(hsv) {
        return hsv.len();
    }
    // In units of the largest value, so that no square overflows and none that matters underflows.
    let unit = hsv.iter().copied().fold(0.0, f64::max);
    let unit = exponent(unit).expect("a spectrum has a positive value");
    let squares: Vec<f64> = hsv
        .iter()
        .map(|&sigma| scale(sigma, -unit).powi(2))
        .collect();
    order_with_tail_below(&squares, tau * sum_from_small_end(&squares))
}

/// The number of states nearest to a share `fraction` of all, halves rounded up, at least 1.
///
/// A `fraction` that is not in `(0, 1)` keeps every state, and so does a spectrum that [`order_for_tolerance`] would
/// not judge: its states are in no order.
///
/// ```
/// use hsv::order_for_fraction;
///
/// let hsv = [5.0, 4.0, 3.0, 2.0, 1.0];
/// assert_eq!(order_for_fraction(&hsv, 0.5), 3); // of 2.5
/// assert_eq!(order_for_fraction(&hsv, 0.49), 2);
/// assert_eq!(order_for_fraction(&hsv, 0.01), 1);
/// assert_eq!(order_for_fraction(&hsv, 0.0), 5);
/// ```
pub fn order_for_fraction(hsv: &[f64], fraction: f64) -> usize {
    let wanted = fraction > 0.0 && fraction < 1.0; // false for NaN
    if !wanted || !is_spectrum(hsv) {
        return hsv.len();
    }
    // To the nearest and not up: 0.07 · 100 is 7.000000000000001.
    let order = (fraction * hsv.len() as f64).round() as usize;
    order.max(1)
}

/// Smallest order, at least 1, whose H∞ error bound is within a budget: `2 (σ_{r+1} + .. + σ_n) <= bound`.
///
/// `hsv` is sorted, largest first; `bound` has the unit of the transfer function. A `bound` that is zero, negative
/// or NaN keeps every state, and so does a spectrum that [`order_for_tolerance`] would not judge.
///
/// ```
/// use hsv::order_for_bound;
///
/// let hsv = [8.0, 1.0, 0.5, 0.5];
/// assert_eq!(order_for_bound(&hsv, 0.9), 4);
/// assert_eq!(order_for_bound(&hsv, 2.0), 2);
/// assert_eq!(order_for_bound(&hsv, 1e9), 1);
/// ```
pub fn order_for_bound(hsv: &[f64], bound: f64) -> usize {
    let wanted = bound > 0.0; // false for NaN
    if !wanted || !is_spectrum(hsv) {
        return hsv.len();
    }
    order_with_tail_below(hsv, bound / 2.0)
}

fn order_with_tail_below(hsv: &[f64], limit: f64) -> usize {
    let mut tail = TailSum::default();
    for (order, &sigma) in hsv.iter().enumerate().rev() {
        tail.add(sigma);
        // The first state stays whatever the limit.
        if order == 0 || tail.value() > limit {
            return order + 1;
        }
    }
    hsv.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted_spectrum(len: usize) -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec((-40.0..3.0f64).prop_map(f64::exp2), 1..len).prop_map(
            |mut hsv| {
                hsv.sort_by(|a, b| b.total_cmp(a));
                hsv
            },
        )
    }

    /// Every rule, with one parameter.
    fn criteria(parameter: f64) -> [OrderCriterion; 4] {
        [
            OrderCriterion::Tolerance { tau: parameter },
            OrderCriterion::Energy { tau: parameter },
            OrderCriterion::Fraction { keep: parameter },
            OrderCriterion::HInfinityBudget { bound: parameter },
        ]
    }

    #[test]
    fn nothing_found_keeps_every_state() {
        let hsv = [3.0, 2.0, 0.0, 0.0];
        for parameter in [0.0, -0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            for criterion in criteria(parameter) {
                assert_eq!(criterion.order(&hsv), 4, "{criterion:?}");
            }
        }
        assert_eq!(OrderCriterion::Fixed { order: 0 }.order(&hsv), 4);
        for poisoned in [
            [0.0, 0.0],
            [1.0, f64::NAN],
            [f64::INFINITY, 1.0],
            [1.0, -1e-300],
            [f64::MAX, f64::MAX],
        ] {
            for criterion in criteria(0.5) {
                assert_eq!(criterion.order(&poisoned), 2, "{criterion:?} {poisoned:?}");
            }
            assert_eq!(OrderCriterion::Fixed { order: 1 }.order(&poisoned), 2);
        }
        for criterion in criteria(0.1) {
            assert_eq!(criterion.order(&[]), 0);
        }
        assert_eq!(OrderCriterion::Fixed { order: 3 }.order(&[]), 0);
    }

    #[test]
    fn the_order_is_never_zero() {
        for parameter in [1e-3, 0.999, 1.0, 7.0, f64::INFINITY] {
            for criterion in criteria(parameter) {
                assert_eq!(criterion.order(&[5.0]), 1, "{criterion:?}");
            }
        }
        assert_eq!(order_for_tolerance(&[5.0, 1e-9], 2.0), 1);
    }

    #[test]
    fn zeros_at_the_end_go_at_any_positive_tolerance() {
        assert_eq!(order_for_tolerance(&[3.0, 2.0, 0.0, 0.0], 1e-300), 2);
    }

    #[test]
    fn a_fixed_order_above_the_states_keeps_them_all() {
        assert_eq!(OrderCriterion::Fixed { order: 9 }.order(&[2.0, 1.0]), 2);
        assert_eq!(OrderCriterion::Fixed { order: 1 }.order(&[2.0, 1.0]), 1);
    }

    #[test]
    fn energies_neither_overflow_nor_underflow() {
        for unit in [1e-300, 1e300] {
            let hsv = [3.0 * unit, 2.0 * unit, 1.0 * unit];
            assert_eq!(order_for_energy(&hsv, 0.07), 3);
            assert_eq!(order_for_energy(&hsv, 0.08), 2);
        }
    }

    #[test]
    fn a_decimal_threshold_hit_exactly_counts_as_reached() {
        // Ten equal shares: a plain running sum of 0.1 misses 1.0 and with it the threshold.
        assert_eq!(order_for_tolerance(&[0.1; 10], 0.1), 9);
        assert_eq!(order_for_tolerance(&[9.0, 1.0], 0.1), 1);
        assert_eq!(order_for_energy(&[0.1; 10], 0.1), 9);
        assert_eq!(order_for_fraction(&[1.0; 100], 0.07), 7);
    }

    #[test]
    fn a_long_tail_is_not_lost_to_rounding() {
        // A hundred million values of half an ulp of 1 would vanish if they were added to it one by one; a few
        // thousand show the same.
        let mut hsv = vec![1e-16; 5001];
        hsv[0] = 1.0;
        let excess = sum_from_small_end(&hsv) - 1.0;
        assert!((excess - 5e-13).abs() <= f64::EPSILON, "{excess:e}");
    }

    proptest! {
        #[test]
        fn a_looser_tolerance_never_keeps_more(hsv in sorted_spectrum(64), a in 0.0..1.0, b in 0.0..1.0) {
            let (tight, loose) = if a <= b { (a, b) } else { (b, a) };
            prop_assert!(order_for_tolerance(&hsv, loose) <= order_for_tolerance(&hsv, tight));
        }

        #[test]
        fn a_looser_bound_never_keeps_more(hsv in sorted_spectrum(64), a in 0.0..50.0, b in 0.0..50.0) {
            let (tight, loose) = if a <= b { (a, b) } else { (b, a) };
            prop_assert!(order_for_bound(&hsv, loose) <= order_for_bound(&hsv, tight));
        }

        #[test]
        fn a_looser_energy_tolerance_never_keeps_more(hsv in sorted_spectrum(64), a in 0.0..1.0, b in 0.0..1.0) {
            let (tight, loose) = if a <= b { (a, b) } else { (b, a) };
            prop_assert!(order_for_energy(&hsv, loose) <= order_for_energy(&hsv, tight));
        }

        #[test]
        fn a_larger_fraction_never_keeps_less(hsv in sorted_spectrum(64), a in 1e-6..=1.0, b in 1e-6..=1.0) {
            let (small, large) = if a <= b { (a, b) } else { (b, a) };
            let (few, many) = (order_for_fraction(&hsv, small), order_for_fraction(&hsv, large));
            prop_assert!(few <= many);
            prop_assert!((few as f64 - small * hsv.len() as f64).abs() <= 0.5 || few == 1);
        }

        #[test]
        fn the_energy_rule_never_keeps_more_than_the_tolerance(hsv in sorted_spectrum(64), tau in 1e-6..0.99) {
            // Σ_{i>r} σ² / Σσ² <= Σ_{i>r} σ / Σσ for a sorted spectrum: weighting by σ favors the head.
            prop_assert!(order_for_energy(&hsv, tau) <= order_for_tolerance(&hsv, tau));
        }

        #[test]
        fn the_energy_order_is_the_smallest_that_keeps_enough(hsv in sorted_spectrum(64), tau in 1e-6..0.99) {
            let order = order_for_energy(&hsv, tau);
            let energy = |part: &[f64]| part.iter().map(|sigma| sigma * sigma).sum::<f64>();
            let discarded = |order: usize| energy(&hsv[order..]) / energy(&hsv);
            // The plain sums here are good to len · ε.
            let rounding = 64.0 * f64::EPSILON;
            prop_assert!(discarded(order) <= tau + rounding);
            prop_assert!(order == 1 || discarded(order - 1) >= tau - rounding);
        }

        #[test]
        fn the_order_is_the_smallest_that_keeps_enough(hsv in sorted_spectrum(64), tau in 1e-6..0.99) {
            let order = order_for_tolerance(&hsv, tau);
            let total: f64 = hsv.iter().sum();
            let kept = |order: usize| hsv[..order].iter().sum::<f64>() / total;
            // The plain sums here are good to len · ε.
            let rounding = 64.0 * f64::EPSILON;
            prop_assert!(kept(order) >= 1.0 - tau - rounding);
            prop_assert!(order == 1 || kept(order - 1) <= 1.0 - tau + rounding);
        }
    }
}

//! How many states to keep: from a spectrum to an order.

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

/// Sum of a spectrum, largest first, added from the small end and with the rounding errors carried along: added to
/// the large values first, a long tail would be lost.
pub(crate) fn sum_from_small_end(hsv: &[f64]) -> f64 {
    let mut tail = TailSum::default();
    hsv.iter().rev().for_each(|&sigma| tail.add(sigma));
    tail.value()
}

/// Neumaier's summation.
#[derive(Default)]
struct TailSum {
    sum: f64,
    compensation: f64,
}

impl TailSum {
    fn add(&mut self, term: f64) {
        let sum = self.sum + term;
        let (large, small) = if self.sum.abs() >= term.abs() {
            (self.sum, term)
        } else {
            (term, self.sum)
        };
        self.compensation += (large - sum) + small;
        self.sum = sum;
    }

    fn value(&self) -> f64 {
        self.sum + self.compensation
    }
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

/// Whether every value is a number that a sum can be taken of, and not all of them are zero.
fn is_spectrum(hsv: &[f64]) -> bool {
    let total: f64 = hsv.iter().sum();
    hsv.iter().all(|&sigma| sigma >= 0.0) && total > 0.0 && total.is_finite()
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

    #[test]
    fn nothing_found_keeps_every_state() {
        let hsv = [3.0, 2.0, 0.0, 0.0];
        for tau in [0.0, -0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            assert_eq!(order_for_tolerance(&hsv, tau), 4);
            assert_eq!(order_for_bound(&hsv, tau), 4);
        }
        for poisoned in [
            [0.0, 0.0],
            [1.0, f64::NAN],
            [f64::INFINITY, 1.0],
            [1.0, -1e-300],
            [f64::MAX, f64::MAX],
        ] {
            assert_eq!(order_for_tolerance(&poisoned, 0.5), 2, "{poisoned:?}");
            assert_eq!(order_for_bound(&poisoned, 0.5), 2, "{poisoned:?}");
        }
        assert_eq!(order_for_tolerance(&[], 0.1), 0);
    }

    #[test]
    fn the_order_is_never_zero() {
        for tau in [1e-3, 0.999, 1.0, 7.0, f64::INFINITY] {
            assert_eq!(order_for_tolerance(&[5.0], tau), 1);
        }
        assert_eq!(order_for_tolerance(&[5.0, 1e-9], 2.0), 1);
    }

    #[test]
    fn zeros_at_the_end_go_at_any_positive_tolerance() {
        assert_eq!(order_for_tolerance(&[3.0, 2.0, 0.0, 0.0], 1e-300), 2);
    }

    #[test]
    fn a_decimal_threshold_hit_exactly_counts_as_reached() {
        // Ten equal shares: a plain running sum of 0.1 misses 1.0 and with it the threshold.
        assert_eq!(order_for_tolerance(&[0.1; 10], 0.1), 9);
        assert_eq!(order_for_tolerance(&[9.0, 1.0], 0.1), 1);
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

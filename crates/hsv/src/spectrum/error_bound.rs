//! Bounds on what truncation does to a transfer function, from the spectrum alone.

use crate::arithmetic::sum::sum_from_small_end;

/// Bound on the error of balanced truncation: `‖G - G_r‖∞ <= 2 (σ_{r+1} + .. + σ_n)`, every value counted as often
/// as it occurs.
///
/// `hsv` is sorted, largest first; the unit is that of the transfer function. Zero where nothing is cut, that is from
/// `order == hsv.len()` on; NaN if a discarded value is negative or not finite, because nothing is known then.
///
/// It holds for a cut inside a multiple value, `σ_r = σ_{r+1}`, as well. But which of many truncations is made there
/// is up to rounding, and theory no longer promises that it is asymptotically stable.
///
/// # Precision
/// Within an ulp of the sum of what is passed; that is known to about `n ε σ_1` for each of its terms.
///
/// # Source
/// Glover (1984) in continuous time, `G84` in `docs/references.bib`; Antoulas (2005), section 7.2, for both.
///
/// ```
/// assert_eq!(hsv::h_infinity_bound(&[8.0, 1.0, 0.5, 0.5], 2), 2.0);
/// ```
pub fn h_infinity_bound(hsv: &[f64], order: usize) -> f64 {
    let discarded = hsv.get(order..).unwrap_or_default();
    if discarded.iter().all(is_size) {
        twice_the_sum(discarded)
    } else {
        f64::NAN
    }
}

/// What [`h_infinity_bound`] becomes where values that look equal *are* equal: each counted once.
///
/// Values within `2 n ε σ_1` of each other, the largest of a group counting, are taken for one; that is how far
/// rounding of that many states moves two equal values apart. A group that straddles the cut counts once, for its
/// discarded part. Values below `n ε σ_1` are noise, about whose equality nothing is known, and all count.
///
/// **A bound only if the equality is known from the structure of the system**: copies of one system side by side, an
/// all-pass. From the numbers alone it cannot be told, not even by equal bits. Two modes of value 1 whose poles lie
/// far apart have values `1 ± tiny`, as close as one likes; both cut, the error is up to 4 and not 2. Unless you know
/// better, use [`h_infinity_bound`].
///
/// Arguments and precision as there; NaN if any value at all is negative or not finite, since σ_1 sets the scale.
///
/// # Source
/// Glover (1984) and Enns (1984): `G84`, `E84` in `docs/references.bib`.
///
/// ```
/// assert_eq!(hsv::h_infinity_bound_of_distinct(&[8.0, 1.0, 0.5, 0.5], 2), 1.0);
/// ```
pub fn h_infinity_bound_of_distinct(hsv: &[f64], order: usize) -> f64 {
    let discarded = hsv.get(order..).unwrap_or_default();
    if discarded.is_empty() {
        return 0.0;
    }
    if !hsv.iter().all(is_size) {
        return f64::NAN;
    }
    let noise = hsv.len() as f64 * f64::EPSILON * hsv[0];
    let mut distinct: Vec<f64> = Vec::with_capacity(discarded.len());
    for &sigma in discarded {
        // Against the largest of the group and not its neighbor: a ladder of small steps is many values.
        let repeated = sigma > noise
            && distinct
                .last()
                .is_some_and(|&first| first - sigma <= 2.0 * noise);
        if !repeated {
            distinct.push(sigma);
        }
    }
    twice_the_sum(&distinct)
}

/// Of sizes, so that NaN can only come from the correction of an overflow.
fn twice_the_sum(sizes: &[f64]) -> f64 {
    let sum = 2.0 * sum_from_small_end(sizes);
    if sum.is_nan() { f64::INFINITY } else { sum }
}

fn is_size(sigma: &f64) -> bool {
    (0.0..f64::INFINITY).contains(sigma)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinearSystem;
    use crate::{DiscreteDiagonalSystem, Mat, c64};
    use proptest::prelude::*;

    /// A symmetric system, `B = Cᵀ`, whose mode `i` alone has the Hankel singular value `weights[i]`.
    fn symmetric(lambda: &[f64], weights: &[f64]) -> DiscreteDiagonalSystem {
        let gain = |i: usize| {
            let margin = (1.0 - lambda[i].abs()) * (1.0 + lambda[i].abs());
            c64::new((weights[i] * margin).sqrt(), 0.0)
        };
        DiscreteDiagonalSystem::new(
            lambda.iter().map(|&pole| c64::new(pole, 0.0)).collect(),
            Mat::from_fn(lambda.len(), 1, |i, _| gain(i)),
            Mat::from_fn(1, lambda.len(), |_, i| gain(i)),
        )
        .unwrap()
    }

    /// Error of the truncation to `order` states at ω = 0, where all modes of these systems add up.
    fn error_at_zero(system: &DiscreteDiagonalSystem, order: usize) -> f64 {
        let truncation = system.hankel().unwrap().balanced_truncation(order).unwrap();
        (system.transfer(0.0) - truncation.system().transfer(0.0)).norm_max()
    }

    #[test]
    fn values_that_look_equal_need_not_be() {
        // Value 1 twice, and the couplings to each other and to the strong mode are far below its rounding.
        let system = symmetric(&[-1.0 + 1e-12, 1.0 - 1e-4, 1.0 - 1e-12], &[1e13, 1.0, 1.0]);
        let hankel = system.hankel().unwrap();
        let hsv = hankel.singular_values();
        let noise = 3.0 * f64::EPSILON * hsv[0];
        assert!(hsv[2] > noise && hsv[1] - hsv[2] <= 2.0 * noise, "{hsv:?}");
        let error = error_at_zero(&system, 1);
        // The strong mode's value is 1e13 / 2 at its pole and rounds by ε of that here.
        let slack = 1e13 * f64::EPSILON;
        assert!(error <= h_infinity_bound(hsv, 1) + slack, "{error}");
        // Known and documented: it is no bound without knowledge that the numbers do not hold.
        assert!(
            error >= 1.9 * h_infinity_bound_of_distinct(hsv, 1),
            "{error}"
        );
    }

    #[test]
    fn copies_side_by_side_have_the_error_of_one() {
        let single = symmetric(&[0.9, 0.5, -0.3], &[1.0, 0.2, 0.05]);
        let twice = |i: usize, j: usize, matrix: &Mat<c64>, transposed: bool| {
            let entry = if transposed {
                matrix[(0, i / 2)]
            } else {
                matrix[(i / 2, 0)]
            };
            if i % 2 == j { entry } else { c64::ZERO }
        };
        let double = DiscreteDiagonalSystem::new(
            (0..6).map(|i| single.lambda()[i / 2]).collect(),
            Mat::from_fn(6, 2, |i, j| twice(i, j, single.input_matrix(), false)),
            Mat::from_fn(2, 6, |j, i| twice(i, j, single.output_matrix(), true)),
        )
        .unwrap();
        let hankel = double.hankel().unwrap();
        let hsv = hankel.singular_values();
        let of_one = single.hankel().unwrap();
        for order in 1..3 {
            let bound = h_infinity_bound(of_one.singular_values(), order);
            let distinct = h_infinity_bound_of_distinct(hsv, 2 * order);
            // A few ε of the largest value for each of three.
            let rounding = 3.0 * 8.0 * f64::EPSILON * hsv[0];
            assert!((distinct - bound).abs() <= rounding, "{distinct} {bound}");
            assert!((h_infinity_bound(hsv, 2 * order) - 2.0 * bound).abs() <= 2.0 * rounding);
            assert!(error_at_zero(&double, 2 * order) <= distinct);
        }
    }

    #[test]
    fn a_multiple_value_at_the_cut_counts_for_its_discarded_part() {
        let hsv = [4.0, 1.0, 1.0, 1.0, 0.5];
        assert_eq!(h_infinity_bound(&hsv, 2), 5.0);
        assert_eq!(h_infinity_bound_of_distinct(&hsv, 2), 3.0);
        assert_eq!(h_infinity_bound_of_distinct(&hsv, 1), 3.0);
        assert_eq!(h_infinity_bound_of_distinct(&hsv, 4), 1.0);
    }

    #[test]
    fn a_ladder_of_small_steps_is_not_one_value() {
        let step = 1.5 * 12.0 * f64::EPSILON; // within 2 n ε of the neighbor, not of the one after
        let hsv: Vec<f64> = (0..12).map(|k| 1.0 - f64::from(k) * step).collect();
        let bound = h_infinity_bound_of_distinct(&hsv, 0);
        assert!((bound - 12.0).abs() < 1e-12, "{bound}");
    }

    #[test]
    fn noise_is_never_merged() {
        let hsv = [1.0, 1e-17, 1e-17, 0.0, 0.0];
        assert_eq!(h_infinity_bound_of_distinct(&hsv, 1), 4e-17);
    }

    #[test]
    fn nothing_cut_is_no_error_and_nothing_known_is_no_bound() {
        for bound in [h_infinity_bound, h_infinity_bound_of_distinct] {
            assert_eq!(bound(&[2.0, 1.0], 2), 0.0);
            assert_eq!(bound(&[2.0, 1.0], 7), 0.0);
            assert_eq!(bound(&[], 0), 0.0);
            assert!(bound(&[2.0, f64::NAN], 1).is_nan());
            assert!(bound(&[2.0, -1.0], 1).is_nan());
            assert!(bound(&[f64::INFINITY, 1.0], 0).is_nan());
        }
    }

    proptest! {
        #[test]
        fn counting_repeated_values_once_never_adds(
            mut hsv in proptest::collection::vec((0..40i32).prop_map(|k| 2f64.powi(-k)), 1..40),
            order in 0..40usize,
        ) {
            hsv.sort_by(|a, b| b.total_cmp(a));
            let (all, distinct) = (h_infinity_bound(&hsv, order), h_infinity_bound_of_distinct(&hsv, order));
            // Powers of two this far above the noise are equal or far apart, and their sums exact.
            let mut values = hsv.get(order..).unwrap_or_default().to_vec();
            prop_assert_eq!(all, 2.0 * values.iter().sum::<f64>());
            values.dedup();
            prop_assert_eq!(distinct, 2.0 * values.iter().sum::<f64>());
        }
    }
}

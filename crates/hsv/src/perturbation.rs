//! What a small change of a system can do to its spectrum and to the directions it ranks.
//!
//! Between two snapshots of a layer the Hankel operator changes by dH. Its norm is at most that of the change of the
//! transfer function, `‖dH‖ <= ‖G' - G‖∞`, which is how a bound `delta` is had. Spectra that were computed are off by
//! rounding themselves, about `n ε σ_1`; where that matters add it to `delta`.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use crate::error_bound::sum_rounded_up;

/// Where each Hankel singular value can be after a change of the Hankel operator by at most `delta`:
/// `[max(0, σ_i - delta), σ_i + delta]`, rounded outward, in the order of `hsv`.
///
/// `None` if `delta` or a value is NaN or negative: nothing is known then.
///
/// # Source
/// Weyl's inequality for singular values, `|σ_i(H + dH) - σ_i(H)| <= ‖dH‖`: Horn and Johnson (1991), section 3.3,
/// `HJ91` in `docs/references.bib`; by the minimax principle it holds for compact operators as for matrices.
///
/// ```
/// let intervals = hsv::weyl_intervals(&[2.0, 0.5], 1.0).unwrap();
/// assert_eq!(intervals, [1.0..=3.0, 0.0..=1.5]);
/// ```
pub fn weyl_intervals(hsv: &[f64], delta: f64) -> Option<Vec<RangeInclusive<f64>>> {
    let known = delta >= 0.0 && hsv.iter().all(|&sigma| sigma >= 0.0); // false for NaN
    let interval = |&sigma: &f64| {
        let low = -sum_rounded_up(-sigma, delta);
        low.max(0.0)..=sum_rounded_up(sigma, delta)
    };
    known.then(|| hsv.iter().map(interval).collect())
}

/// Whether a cut after the `order` leading directions survives a change of the system.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RankingVerdict {
    /// Whatever the change: every leading value stays above every other one, all the way along, so that the leading
    /// directions as a group turn gradually and none trades places with a direction outside.
    Safe {
        /// By how much at least, `σ_r - σ_{r+1} - 2 delta`, positive.
        margin: f64,
    },
    /// Some change of that size can make values on both sides of the cut meet.
    AtRisk {
        /// `σ_r - σ_{r+1}`.
        gap: f64,
        /// What the gap would have to exceed, `2 delta`.
        needed: f64,
    },
    /// No ranking is at stake: `order` keeps nothing, or everything.
    NoCut,
    /// The question has no answer: `delta` or a value is NaN or negative, or the values are not sorted.
    Unknown,
}

impl RankingVerdict {
    /// Whether the cut is known to survive.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Safe { .. })
    }
}

/// Compares the gap at a cut, `σ_r - σ_{r+1}`, with twice the change `delta >= ‖dH‖` that it has to withstand.
///
/// Each of the two values can move by `delta`, and towards the other. `hsv` is sorted, largest first.
///
/// ```
/// use hsv::{RankingVerdict, ranking_verdict};
///
/// let hsv = [4.0, 3.0, 0.5];
/// assert_eq!(ranking_verdict(&hsv, 2, 1.0), RankingVerdict::Safe { margin: 0.5 });
/// assert_eq!(ranking_verdict(&hsv, 1, 1.0), RankingVerdict::AtRisk { gap: 1.0, needed: 2.0 });
/// assert_eq!(ranking_verdict(&hsv, 3, 1.0), RankingVerdict::NoCut);
/// assert_eq!(ranking_verdict(&hsv, 2, f64::NAN), RankingVerdict::Unknown);
/// ```
pub fn ranking_verdict(hsv: &[f64], order: usize, delta: f64) -> RankingVerdict {
    let needed = 2.0 * delta;
    match gap_below(hsv, order, delta) {
        None => RankingVerdict::Unknown,
        Some(_) if order == 0 || order >= hsv.len() => RankingVerdict::NoCut,
        Some(gap) if gap > needed => RankingVerdict::Safe {
            margin: gap - needed,
        },
        Some(gap) => RankingVerdict::AtRisk { gap, needed },
    }
}

/// Bound on the sine of the largest angle by which the space of the `order` leading directions turns:
/// `sin θ <= delta / (σ_r - σ_{r+1} - delta)` for every change of the Hankel operator by at most `delta`.
///
/// It holds for the left and for the right singular spaces alike, those of outputs and of inputs; in the coordinates
/// of the state it speaks of balanced ones. For `order == hsv.len()` the gap is the last value itself, because all
/// else the operator maps to zero. `hsv` is sorted, largest first.
///
/// `None` where nothing below 1 can be said: the gap is not above `2 delta`, which is where
/// [`ranking_verdict`] finds the cut at risk; `order` is 0 or above `hsv.len()`; or a number is NaN, negative or
/// out of order.
///
/// # Source
/// Wedin (1972), `W72` in `docs/references.bib`: with residuals of norm at most `delta`, and values of the changed
/// operator above those left behind in the old one by a gap, which Weyl's inequality puts at
/// `σ_r - delta - σ_{r+1}` or more.
///
/// ```
/// assert_eq!(hsv::rotation_bound(&[4.0, 3.0, 0.5], 2, 0.5), Some(0.25));
/// assert_eq!(hsv::rotation_bound(&[4.0, 3.0, 0.5], 1, 0.5), None);
/// ```
pub fn rotation_bound(hsv: &[f64], order: usize, delta: f64) -> Option<f64> {
    let gap = gap_below(hsv, order, delta)?;
    (order > 0 && order <= hsv.len() && gap > 2.0 * delta).then(|| delta / (gap - delta))
}

/// `σ_r - σ_{r+1}`, with zero after the last value; `None` if the numbers make no sense.
///
/// Rounding does not spoil the comparison with `2 delta`, itself a number: rounding is monotone.
fn gap_below(hsv: &[f64], order: usize, delta: f64) -> Option<f64> {
    let sorted = hsv.windows(2).all(|pair| pair[0] >= pair[1]);
    let sane = sorted && delta >= 0.0 && hsv.iter().all(|&sigma| sigma >= 0.0); // false for NaN
    let value = |i: usize| hsv.get(i).copied().unwrap_or(0.0);
    sane.then(|| value(order.saturating_sub(1)) - value(order))
}

/// Spearman's rank correlation of two scores of the same states: 1 if both rank them alike, -1 if in reverse.
///
/// For scores by state, such as those of the modes of a layer at two checks. Two sorted spectra say nothing: their
/// correlation is 1 whatever happened. Equal scores share the average of their ranks.
///
/// `None` where it is undefined: lengths that differ or are below 2, a NaN, or scores that are all equal.
///
/// ```
/// use hsv::spearman;
///
/// assert_eq!(spearman(&[0.1, 0.7, 0.3], &[2.0, 900.0, 3.0]), Some(1.0));
/// assert_eq!(spearman(&[0.1, 0.7, 0.3], &[3.0, 1.0, 2.0]), Some(-1.0));
/// assert_eq!(spearman(&[0.1, 0.7, 0.3], &[1.0, 1.0, 1.0]), None);
/// ```
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let (a, b) = (centered_ranks(a)?, centered_ranks(b)?);
    let inner = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    // Sums of integers, exact up to 200 000 states; so is the root of a square, and equal rankings give exactly 1.
    let (cross, a_square, b_square) = (inner(&a, &b), inner(&a, &a), inner(&b, &b));
    let defined = a_square > 0.0 && b_square > 0.0;
    defined.then(|| cross / (a_square * b_square).sqrt())
}

/// Twice the rank of every score, less twice the mean rank: an integer even where ranks are averaged.
fn centered_ranks(scores: &[f64]) -> Option<Vec<f64>> {
    if scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut by_score: Vec<usize> = (0..scores.len()).collect();
    // Without NaN every pair compares; zeros of both signs are equal.
    let compare =
        |&i: &usize, &j: &usize| scores[i].partial_cmp(&scores[j]).unwrap_or(Ordering::Equal);
    by_score.sort_by(compare);
    let mut ranks = vec![0.0; scores.len()];
    let mut below = 0;
    for tied in by_score.chunk_by(|i, j| scores[*i] == scores[*j]) {
        // Ranks below + 1 ..= below + len have the mean below + (len + 1) / 2; that of all is (n + 1) / 2.
        let twice_centered = (2 * below + tied.len()) as f64 - scores.len() as f64;
        tied.iter().for_each(|&i| ranks[i] = twice_centered);
        below += tied.len();
    }
    Some(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::{Mat, c64};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn random_matrix(random: &mut ChaCha8Rng, rows: usize, columns: usize) -> Mat<c64> {
        Mat::from_fn(rows, columns, |_, _| {
            c64::new(
                2.0 * random.random::<f64>() - 1.0,
                2.0 * random.random::<f64>() - 1.0,
            )
        })
    }

    /// Singular values, and the leading left and right singular vectors.
    fn leading(matrix: &Mat<c64>, order: usize) -> (Vec<f64>, Mat<c64>, Mat<c64>) {
        let svd = matrix.thin_svd().unwrap();
        let values = svd.S().column_vector().iter().map(|s| s.re).collect();
        let columns = |vectors: faer::MatRef<'_, c64>| vectors.subcols(0, order).to_owned();
        (values, columns(svd.U()), columns(svd.V()))
    }

    /// Sine of the largest angle between the ranges of two matrices with orthonormal columns.
    fn sine(a: &Mat<c64>, b: &Mat<c64>) -> f64 {
        let outside = b - a * (a.adjoint() * b);
        outside.singular_values().unwrap()[0]
    }

    /// A matrix with a gap of chosen size after `order` values, and the same after a change of norm `delta`.
    fn pair(
        seed: u64,
        (rows, columns): (usize, usize),
        order: usize,
        gap: f64,
        delta: f64,
    ) -> (Mat<c64>, Mat<c64>) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let svd = random_matrix(random, rows, columns).thin_svd().unwrap();
        let mut values: Vec<f64> = (0..rows.min(columns)).map(|_| random.random()).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        let diagonal = Mat::from_fn(values.len(), values.len(), |i, j| {
            let lifted = values[i] + if i < order { gap } else { 0.0 };
            c64::new(if i == j { lifted } else { 0.0 }, 0.0)
        });
        let before = svd.U() * diagonal * svd.V().adjoint();
        // The change that turns most: from the last leading direction towards the first one outside.
        let (u, v) = (svd.U(), svd.V());
        let rank = values.len();
        let turning = |i: usize, j: usize| {
            let (inside, outside) = (order - 1, order.min(rank - 1));
            u[(i, inside)] * v[(j, outside)].conj() + u[(i, outside)] * v[(j, inside)].conj()
        };
        let share = random.random::<f64>();
        let noise = random_matrix(random, rows, columns);
        let change = Mat::from_fn(rows, columns, |i, j| {
            turning(i, j) * share + noise[(i, j)] * (1.0 - share) * 0.1
        });
        let norm = change.singular_values().unwrap()[0];
        let after = Mat::from_fn(rows, columns, |i, j| {
            before[(i, j)] + change[(i, j)] * (delta / norm)
        });
        (before, after)
    }

    fn shape() -> impl Strategy<Value = ((usize, usize), usize)> {
        (2..9usize, 2..9usize)
            .prop_flat_map(|(rows, columns)| (Just((rows, columns)), 1..rows.min(columns).max(2)))
    }

    /// Rounding of a singular value decomposition of an 8 × 8 matrix of norm 4 at most.
    const ROUNDING: f64 = 64.0 * f64::EPSILON;

    proptest! {
        #[test]
        fn singular_values_stay_in_their_intervals(
            seed in any::<u64>(), (shape, order) in shape(), gap in 0.0..1.0f64, delta in 0.0..1.0f64,
        ) {
            let (before, after) = pair(seed, shape, order, gap, delta);
            let (old, new) = (before.singular_values().unwrap(), after.singular_values().unwrap());
            let intervals = weyl_intervals(&old, delta + ROUNDING).unwrap();
            for (interval, value) in intervals.iter().zip(&new) {
                prop_assert!(interval.contains(value), "{interval:?} {value}");
            }
        }

        #[test]
        fn a_space_turns_no_further_than_its_bound(
            seed in any::<u64>(), (shape, order) in shape(), gap in 0.1..1.0f64, share in 0.0..0.5f64,
        ) {
            let delta = share * gap;
            let (before, after) = pair(seed, shape, order, gap, delta);
            let (old, old_left, old_right) = leading(&before, order);
            let (new, new_left, new_right) = leading(&after, order);
            // Weyl by itself: the values on both sides of the cut keep apart.
            if let RankingVerdict::Safe { margin } = ranking_verdict(&old, order, delta) {
                prop_assert!(new[order - 1] - new[order] >= margin - ROUNDING);
            }
            if let Some(bound) = rotation_bound(&old, order, delta) {
                // Computed vectors are off by their own rounding over the gap, which is 0.1 at least.
                let slack = 10.0 * ROUNDING;
                prop_assert!(sine(&old_left, &new_left) <= bound + slack);
                prop_assert!(sine(&old_right, &new_right) <= bound + slack);
            }
        }

        #[test]
        fn a_rank_correlation_ignores_monotone_maps_and_common_permutations(
            scores in proptest::collection::vec((-50..50i32, -50..50i32), 2..40), rotate in 0..40usize,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = scores.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
            let plain = spearman(&a, &b);
            prop_assert_eq!(plain, spearman(&b, &a));
            let mapped: Vec<f64> = a.iter().map(|a| (a / 10.0).exp()).collect();
            prop_assert_eq!(plain, spearman(&mapped, &b));
            let reversed: Vec<f64> = a.iter().map(|a| -a).collect();
            prop_assert_eq!(plain.map(|rho| -rho), spearman(&reversed, &b));
            let (mut a, mut b) = (a, b);
            let shift = rotate % a.len();
            a.rotate_left(shift);
            b.rotate_left(shift);
            prop_assert_eq!(plain, spearman(&a, &b));
            prop_assert!(plain.is_none_or(|rho| (-1.0..=1.0).contains(&rho)));
        }

        #[test]
        fn a_rank_correlation_is_pearsons_of_counted_ranks(
            scores in proptest::collection::vec((0..6i32, 0..6i32), 2..20),
        ) {
            // Rank by definition: how many are below, and half of those that are equal.
            let rank = |all: &[i32], x: i32| {
                let below = all.iter().filter(|&&y| y < x).count() as f64;
                below + 0.5 * (all.iter().filter(|&&y| y == x).count() as f64 + 1.0)
            };
            let (a, b): (Vec<i32>, Vec<i32>) = scores.iter().copied().unzip();
            let n = a.len() as f64;
            let ranks = |all: &[i32]| all.iter().map(|&x| rank(all, x)).collect::<Vec<f64>>();
            let (ra, rb) = (ranks(&a), ranks(&b));
            let mean = (n + 1.0) / 2.0;
            let covariance = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
            let expected = covariance(&ra, &rb) / (covariance(&ra, &ra) * covariance(&rb, &rb)).sqrt();
            let float = |all: &[i32]| all.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
            match spearman(&float(&a), &float(&b)) {
                Some(rho) => prop_assert!((rho - expected).abs() <= 4.0 * f64::EPSILON),
                None => prop_assert!(expected.is_nan()),
            }
        }
    }

    #[test]
    fn the_bound_on_the_rotation_is_nearly_reached() {
        // 2 x 2, values 1 and 0, and a symmetric change off the diagonal: tan 2θ = 2 delta.
        for delta in [1e-9, 1e-3, 0.1] {
            let after = Mat::from_fn(2, 2, |i, j| {
                let entry = if i != j { delta } else { (1 - i) as f64 };
                c64::new(entry, 0.0)
            });
            let (_, vectors, _) = leading(&after, 1);
            let turned = vectors[(1, 0)].norm();
            let exact = (0.5 * (2.0 * delta).atan()).sin();
            assert!((turned - exact).abs() <= 4.0 * f64::EPSILON);
            let bound = rotation_bound(&[1.0, 0.0], 1, delta).unwrap();
            // delta / (1 - delta) against delta (1 - O(delta²)).
            assert!(turned <= bound && bound <= turned * (1.0 + 2.0 * delta + 4.0 * delta * delta));
        }
    }

    #[test]
    fn a_gap_of_exactly_twice_the_change_is_at_risk() {
        let verdict = ranking_verdict(&[3.0, 1.0], 1, 1.0);
        assert_eq!(
            verdict,
            RankingVerdict::AtRisk {
                gap: 2.0,
                needed: 2.0
            }
        );
        assert!(!verdict.is_safe());
        assert_eq!(rotation_bound(&[3.0, 1.0], 1, 1.0), None);
    }

    #[test]
    fn equal_values_are_at_risk_without_any_change() {
        let verdict = ranking_verdict(&[1.0, 1.0], 1, 0.0);
        let expected = RankingVerdict::AtRisk {
            gap: 0.0,
            needed: 0.0,
        };
        assert_eq!(verdict, expected);
        assert_eq!(rotation_bound(&[1.0, 1.0], 1, 0.0), None);
        assert_eq!(rotation_bound(&[1.0, 0.5], 1, 0.0), Some(0.0));
    }

    #[test]
    fn keeping_all_or_nothing_ranks_nothing() {
        for order in [0, 2, 3] {
            assert_eq!(
                ranking_verdict(&[2.0, 1.0], order, 0.1),
                RankingVerdict::NoCut
            );
        }
        assert_eq!(ranking_verdict(&[], 0, 0.1), RankingVerdict::NoCut);
        // The space of all states still turns, within the infinitely many directions of signals.
        assert_eq!(rotation_bound(&[2.0, 1.0], 2, 0.25), Some(0.25 / 0.75));
        assert_eq!(rotation_bound(&[2.0, 1.0], 0, 0.25), None);
        assert_eq!(rotation_bound(&[2.0, 1.0], 3, 0.0), None);
    }

    #[test]
    fn numbers_that_make_no_sense_are_never_safe() {
        for delta in [f64::NAN, -1.0] {
            assert_eq!(
                ranking_verdict(&[9.0, 1.0], 1, delta),
                RankingVerdict::Unknown
            );
            assert_eq!(rotation_bound(&[9.0, 1.0], 1, delta), None);
            assert_eq!(weyl_intervals(&[9.0, 1.0], delta), None);
        }
        for hsv in [[f64::NAN, 1.0], [9.0, f64::NAN], [9.0, -1.0]] {
            assert_eq!(ranking_verdict(&hsv, 1, 0.1), RankingVerdict::Unknown);
            assert_eq!(rotation_bound(&hsv, 1, 0.1), None);
            assert_eq!(weyl_intervals(&hsv, 0.1), None);
        }
        assert_eq!(
            ranking_verdict(&[1.0, 9.0], 1, 0.1),
            RankingVerdict::Unknown
        );
        assert!(!ranking_verdict(&[9.0, 1.0], 1, f64::INFINITY).is_safe());
        assert!(!ranking_verdict(&[f64::INFINITY, f64::INFINITY], 1, 0.1).is_safe());
    }

    #[test]
    fn a_correlation_that_is_undefined_is_none() {
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[0.0, -0.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[f64::NEG_INFINITY, 0.0], &[1.0, 2.0]), Some(1.0));
    }

    #[test]
    fn tied_scores_share_their_ranks() {
        // Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / √(4.5 · 5).
        let rho = spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert!((rho - 0.9f64.sqrt()).abs() <= f64::EPSILON, "{rho}");
    }
}

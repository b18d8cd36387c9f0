//! What a small change of a system can do to its spectrum and to the directions it ranks.
//!
//! Between two snapshots of a layer the Hankel operator changes by dH. Its norm is at most that of the change of the
//! transfer function, `‖dH‖ <= ‖G' - G‖∞`, which is how a bound `delta` is had. Spectra that were computed are off by
//! rounding themselves, about `n ε σ_1`; where that matters add it to `delta`.

use std::cmp::Ordering;
use std::ops::RangeInclusive;

use crate::spectrum::error_bound::sum_rounded_up;

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
    fn numbers_that_make_no_sense_bound_nothing() {
        for delta in [f64::NAN, -1.0] {
            assert_eq!(weyl_intervals(&[9.0, 1.0], delta), None);
        }
        for hsv in [[f64::NAN, 1.0], [9.0, f64::NAN], [9.0, -1.0]] {
            assert_eq!(weyl_intervals(&hsv, 0.1), None);
        }
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

//! Whether two checks rank the same states alike.

use std::cmp::Ordering;

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
    use proptest::prelude::*;

    proptest! {
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

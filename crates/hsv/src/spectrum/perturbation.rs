//! What a small change of a system can do to its spectrum.
//!
//! Between two snapshots of a layer the Hankel operator changes by dH. Its norm is at most that of the change of the
//! transfer function, `‖dH‖ <= ‖G' - G‖∞`, which is how a bound `delta` is had. Spectra that were computed are off by
//! rounding themselves, about `n ε σ_1`; where that matters add it to `delta`.

use std::ops::RangeInclusive;

use crate::arithmetic::sum::sum_rounded_up;

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
}

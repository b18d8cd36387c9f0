//! How a number of states is shared out among layers.

use hsv::{GlobalBudget, Normalization};

/// Shrinks all layers by the same factor, to `total` states together.
///
/// Rounded by the largest remainder, so that the sum is `total` exactly wherever `floors`, the fewest states each
/// layer may have, and the sizes allow it.
pub(crate) fn alike(sizes: &[usize], floors: &[usize], total: usize) -> Vec<usize> {
    above_floors(floors, total, |layers, total| {
        let sizes: Vec<u128> = layers.iter().map(|&i| sizes[i] as u128).collect();
        let sum: u128 = sizes.iter().sum();
        let total = (total as u128).min(sum);
        let divided = |size: u128| (size * total / sum.max(1), size * total % sum.max(1));
        let shares: Vec<(u128, u128)> = sizes.into_iter().map(divided).collect();
        let rest = total - shares.iter().map(|(whole, _)| whole).sum::<u128>();
        let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
        by_remainder.sort_by_key(|&i| std::cmp::Reverse(shares[i].1)); // stable: the first of equals
        let mut orders: Vec<usize> = shares.iter().map(|(whole, _)| *whole as usize).collect();
        for &i in by_remainder.iter().take(rest as usize) {
            orders[i] += 1;
        }
        orders
    })
}

/// Keeps the `total` states that are worth most as shares of their layer's sum, and in each layer at least its floor.
///
/// Equal values share their fate in a [`GlobalBudget`], so that a flat spectrum could lose all states to a budget of
/// nearly all of them. What a tie leaves unused is handed out again, to the layer that kept the smallest part first;
/// zeros get nothing.
///
/// Every spectrum is sorted, largest first, with a positive and finite sum.
pub(crate) fn by_worth(spectra: &[&[f64]], floors: &[usize], total: usize) -> Vec<usize> {
    let mut orders = above_floors(floors, total, |layers, total| {
        let spectra: Vec<&[f64]> = layers.iter().map(|&i| spectra[i]).collect();
        let total = total.max(spectra.len());
        GlobalBudget::States { total }
            .allocate(&spectra, Normalization::SumOfLayer)
            .expect("the budget leaves every layer a state")
            .orders
    });
    let sums: Vec<f64> = spectra.iter().map(|hsv| hsv.iter().sum()).collect();
    let unused = total.saturating_sub(orders.iter().sum());
    for _ in 0..unused {
        let worth =
            |layer: usize| spectra[layer].get(orders[layer]).copied().unwrap_or(0.0) / sums[layer];
        let kept = |layer: usize| orders[layer] as f64 / spectra[layer].len() as f64;
        let next = (0..orders.len())
            .filter(|&layer| worth(layer) > 0.0)
            .min_by(|&a, &b| {
                worth(b)
                    .total_cmp(&worth(a))
                    .then(kept(a).total_cmp(&kept(b)))
            });
        match next {
            Some(layer) => orders[layer] += 1,
            None => break,
        }
    }
    orders
}

/// Shares out `total` by `share`, which is given positions of layers and a number of states; layers that would fall
/// below their floor get that, and the others share the rest.
fn above_floors(
    floors: &[usize],
    total: usize,
    share: impl Fn(&[usize], usize) -> Vec<usize>,
) -> Vec<usize> {
    let mut orders = floors.to_vec();
    let mut free: Vec<usize> = (0..floors.len()).collect();
    let mut left = total;
    loop {
        let shares = share(&free, left);
        let (above, below): (Vec<_>, Vec<_>) = free
            .iter()
            .copied()
            .zip(shares)
            .partition(|&(layer, order)| order >= floors[layer]);
        if below.is_empty() {
            above
                .into_iter()
                .for_each(|(layer, order)| orders[layer] = order);
            return orders;
        }
        let fixed: usize = below.iter().map(|&(layer, _)| floors[layer]).sum();
        left = left.saturating_sub(fixed);
        free = above.into_iter().map(|(layer, _)| layer).collect();
    }
}

/// The largest number in `low..=high` that `fits`, which holds up to some point and not beyond; `low` if none does.
pub(crate) fn largest_that_fits(low: usize, high: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (low, high.max(low) + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layers_shrink_alike_to_the_exact_total() {
        assert_eq!(alike(&[100, 50, 50], &[1, 1, 1], 100), [50, 25, 25]);
        // 3.33 each: the first of equals gets the rest.
        assert_eq!(alike(&[5, 5, 5], &[1, 1, 1], 10), [4, 3, 3]);
        assert_eq!(alike(&[5, 5], &[1, 1], 99), [5, 5]);
        assert_eq!(alike(&[], &[], 3), [0; 0]);
    }

    #[test]
    fn what_a_floor_takes_the_others_give() {
        assert_eq!(alike(&[100, 10], &[8, 8], 55), [47, 8]);
        assert_eq!(alike(&[100, 10], &[8, 8], 3), [8, 8]);
        let (steep, flat) = ([1.0, 1e-3, 1e-3, 1e-4], [1.0, 0.9, 0.8, 0.7]);
        assert_eq!(by_worth(&[&steep, &flat], &[1, 1], 5), [1, 4]);
        assert_eq!(by_worth(&[&steep, &flat], &[2, 2], 5), [2, 3]);
    }

    #[test]
    fn a_tie_does_not_cost_more_than_the_budget_asks() {
        let flat = [1.0; 8];
        assert_eq!(by_worth(&[&flat, &flat], &[1, 1], 12), [6, 6]);
        assert_eq!(by_worth(&[&flat, &flat], &[1, 1], 15), [8, 7]);
        let rank_two = [1.0, 0.5, 0.0, 0.0];
        assert_eq!(
            by_worth(&[&rank_two], &[1], 3),
            [2],
            "zeros are worth nothing"
        );
    }

    #[test]
    fn a_search_finds_the_end_of_what_fits() {
        assert_eq!(largest_that_fits(3, 10, |n| n <= 7), 7);
        assert_eq!(largest_that_fits(3, 10, |_| true), 10);
        assert_eq!(largest_that_fits(3, 10, |_| false), 3);
    }

    proptest! {
        #[test]
        fn shares_meet_the_total_where_floors_and_sizes_allow(
            sizes in prop::collection::vec(1_usize..40, 1..6), floor in 1_usize..10, total in 0_usize..200,
        ) {
            let floors: Vec<usize> = sizes.iter().map(|&size| floor.min(size)).collect();
            let spectra: Vec<Vec<f64>> = sizes
                .iter()
                .map(|&size| (0..size).map(|i| 1.0 / (1 + i / 3) as f64).collect())
                .collect();
            let spectra: Vec<&[f64]> = spectra.iter().map(Vec::as_slice).collect();
            let expected = total.clamp(floors.iter().sum(), sizes.iter().sum());
            for orders in [alike(&sizes, &floors, total), by_worth(&spectra, &floors, total)] {
                prop_assert_eq!(orders.iter().sum::<usize>(), expected);
                for layer in 0..sizes.len() {
                    prop_assert!((floors[layer]..=sizes[layer]).contains(&orders[layer]));
                }
            }
        }
    }
}

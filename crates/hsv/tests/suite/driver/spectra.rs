//! What holds of every list of numbers that may be a spectrum.

use hsv::{
    GlobalBudget, Normalization, OrderCriterion, h_infinity_bound, h_infinity_bound_of_distinct,
    spearman, weyl_intervals,
};

/// Asks everything that can be asked of `hsv` with one parameter and one order, sensible or not.
pub(crate) fn check(hsv: &[f64], parameter: f64, order: usize) {
    for criterion in [
        OrderCriterion::Tolerance { tau: parameter },
        OrderCriterion::Energy { tau: parameter },
        OrderCriterion::Fraction { keep: parameter },
        OrderCriterion::HInfinityBudget { bound: parameter },
        OrderCriterion::Fixed { order },
    ] {
        let kept = criterion.order(hsv);
        assert!(
            kept <= hsv.len() && (kept > 0 || hsv.is_empty()),
            "{criterion:?} keeps {kept} of {hsv:?}"
        );
    }
    bounds(hsv, parameter, order);
    budgets(hsv, parameter, order);
    let (front, back) = hsv.split_at(hsv.len() / 2);
    if let Some(rho) = spearman(front, &back[..front.len()]) {
        assert!((-1.0..=1.0).contains(&rho), "{rho}");
    }
}

fn bounds(hsv: &[f64], delta: f64, order: usize) {
    let sorted = hsv.windows(2).all(|pair| pair[0] >= pair[1]);
    let sizes = hsv.iter().all(|sigma| sigma.is_finite() && *sigma >= 0.0);
    let (all, distinct) = (
        h_infinity_bound(hsv, order),
        h_infinity_bound_of_distinct(hsv, order),
    );
    if sorted && sizes {
        assert!(
            all >= 0.0 && distinct >= 0.0 && distinct <= all,
            "{all} {distinct}"
        );
    }
    if let Some(intervals) = weyl_intervals(hsv, delta) {
        assert!(
            intervals
                .iter()
                .zip(hsv)
                .all(|(interval, sigma)| interval.contains(sigma)),
            "{intervals:?}"
        );
    }
}

fn budgets(hsv: &[f64], tau: f64, total: usize) {
    let layers = [hsv, &[2.0, 1.0]];
    for normalization in [
        Normalization::None,
        Normalization::LargestOfLayer,
        Normalization::SumOfLayer,
    ] {
        if let Ok(allocation) = (GlobalBudget::States { total }).allocate(&layers, normalization) {
            assert!(
                allocation.orders.iter().sum::<usize>() <= total,
                "{allocation:?}"
            );
        }
        let shared = GlobalBudget::DiscardedShare { tau }.allocate(&layers, normalization);
        let orders = shared.expect("a share can always be met").orders;
        assert!(
            orders
                .iter()
                .zip(layers)
                .all(|(order, layer)| *order <= layer.len()),
            "{orders:?}"
        );
        assert!(orders[1] >= 1);
    }
}

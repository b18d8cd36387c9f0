//! Whether a layer's ranking has settled: see [`Auto`](super::Auto) for the reasoning.

use super::Unsettled;
use crate::Drift;

/// The rank correlation with the previous snapshot, if it is known and at least `min_correlation`.
pub(crate) fn ranks_as_before(drift: Drift, min_correlation: f64) -> Result<f64, Unsettled> {
    let known = drift.rank_correlation.filter(|rho| rho.is_finite());
    let rank_correlation = known.ok_or(Unsettled::RankCorrelationUnknown)?;
    if rank_correlation < min_correlation {
        return Err(Unsettled::RankCorrelation {
            rank_correlation,
            min_correlation,
        });
    }
    Ok(rank_correlation)
}

/// What is left between the weakest dominant direction and the strongest one behind `order`, smaller than `hsv.len()`,
/// after the layer has drifted once more by `hankel_distance`; positive, or the layer has not settled.
pub(crate) fn margin(hsv: &[f64], order: usize, hankel_distance: f64) -> Result<f64, Unsettled> {
    let (weakest_dominant, strongest_discarded) = (hsv[dominant(hsv) - 1], hsv[order]);
    let known = hankel_distance.is_finite();
    let intervals = hsv::weyl_intervals(&[weakest_dominant, strongest_discarded], hankel_distance)
        .filter(|_| known)
        .ok_or(Unsettled::HankelDistanceUnknown)?;
    let margin = (weakest_dominant - hankel_distance) - (strongest_discarded + hankel_distance);
    let apart = intervals[1].end() < intervals[0].start();
    if !apart {
        return Err(Unsettled::Margin {
            // An absurd drift must not become an infinity that no file can hold.
            margin: margin.max(f64::MIN),
            hankel_distance,
        });
    }
    Ok(margin)
}

/// How many directions are dominant: the fewest whose sum reaches half of the whole. `hsv[0]` is positive.
fn dominant(hsv: &[f64]) -> usize {
    let half = hsv.iter().map(|sigma| sigma / hsv[0]).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    let reached = hsv.iter().position(|sigma| {
        sum += sigma / hsv[0];
        sum >= half
    });
    reached.map_or(hsv.len(), |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HSV: [f64; 5] = [4.0, 3.0, 2.0, 0.5, 0.5];

    #[test]
    fn the_dominant_directions_hold_half_of_the_sum() {
        assert_eq!(dominant(&HSV), 2); // 4 + 3 of 10
        assert_eq!(dominant(&[5.0, 3.0, 2.0]), 1); // exactly half
        assert_eq!(dominant(&[1.0; 8]), 4);
        assert_eq!(dominant(&[f64::MAX; 4]), 2);
        assert_eq!(dominant(&[7.0]), 1);
    }

    #[test]
    fn the_margin_takes_the_drift_off_both_sides() {
        // 3 against 0.5: each may move by δ.
        assert_eq!(margin(&HSV, 3, 0.0), Ok(2.5));
        assert_eq!(margin(&HSV, 3, 1.0), Ok(0.5));
        let at_risk = Unsettled::Margin {
            margin: 0.0,
            hankel_distance: 1.25,
        };
        assert_eq!(margin(&HSV, 3, 1.25), Err(at_risk));
    }

    #[test]
    fn a_cut_through_the_dominant_directions_is_never_safe() {
        assert!(margin(&HSV, 1, 0.0).is_err());
    }

    #[test]
    fn a_drift_that_is_no_number_settles_nothing() {
        for unknown in [f64::NAN, -1.0, f64::INFINITY] {
            let refused = margin(&HSV, 3, unknown);
            assert_eq!(refused, Err(Unsettled::HankelDistanceUnknown), "{unknown}");
        }
        match margin(&HSV, 3, f64::MAX) {
            Err(Unsettled::Margin { margin, .. }) => assert!(margin.is_finite()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_correlation_must_be_known_and_large_enough() {
        let drift = |rank_correlation| Drift {
            rank_correlation,
            hankel_distance: 0.0,
        };
        assert_eq!(ranks_as_before(drift(Some(0.9)), 0.9), Ok(0.9));
        for unknown in [None, Some(f64::NAN)] {
            let refused = ranks_as_before(drift(unknown), -1.0);
            assert_eq!(refused, Err(Unsettled::RankCorrelationUnknown));
        }
        let low = Unsettled::RankCorrelation {
            rank_correlation: 0.8,
            min_correlation: 0.9,
        };
        assert_eq!(ranks_as_before(drift(Some(0.8)), 0.9), Err(low));
    }
}

//! Where a frequency response can peak: around its poles, as closely as each is to the boundary of stability.

use std::f64::consts::{PI, TAU};

use faer::c64;

use crate::arithmetic::unit_disk::one_minus_modulus_squared;

/// First step of a pole's ladder, in distances of the pole from the boundary.
const LADDER_START: f64 = 0.3;
/// Each further step is longer by this factor, until the coarse grid takes over.
const LADDER_FACTOR: f64 = 10.0 / 3.0;
/// Steps that every ladder has, even where the grid is finer: to three times the distance.
const LADDER_STEPS: i32 = 3;

/// Frequencies to sample first, in ascending order along their axis.
#[derive(Debug, Clone)]
pub struct FrequencySeeds {
    pub(super) axis: Axis,
    pub(super) frequencies: Vec<f64>,
}

/// Both are closed curves: the last sample is a neighbor of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// Angles on the unit circle, in `(-π, π]`.
    Circle,
    /// The imaginary axis, with one point at infinity, which comes last.
    Line,
}

impl FrequencySeeds {
    /// For a discrete-time response with these poles inside the unit circle.
    pub(crate) fn discrete(poles: &[c64]) -> Self {
        // A scalar response of order n has at most 2 n local maxima: two samples for each.
        let uniform = 64 + 4 * poles.len();
        let spacing = TAU / uniform as f64;
        let mut frequencies: Vec<f64> = (0..uniform).map(|k| wrapped(k as f64 * spacing)).collect();
        for pole in poles {
            let margin = one_minus_modulus_squared(*pole) / (1.0 + pole.norm());
            add_ladder(&mut frequencies, pole.arg(), margin, spacing);
        }
        frequencies
            .iter_mut()
            .for_each(|omega| *omega = wrapped(*omega));
        Self::sorted(Axis::Circle, frequencies)
    }

    /// For a continuous-time response with these poles in the open left half-plane.
    pub(crate) fn continuous(poles: &[c64]) -> Self {
        // Logarithms throughout: the ratio of two sizes can be beyond f64.
        let sizes: Vec<f64> = poles
            .iter()
            .map(|pole| pole.norm().log10())
            .filter(|size| size.is_finite())
            .collect();
        let smallest = sizes.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let largest = sizes.iter().copied().reduce(f64::max).unwrap_or(0.0);
        // Two decades beyond all poles the response is as good as at zero and at infinity.
        let steps_per_decade = 8.0;
        let steps = ((largest - smallest + 4.0) * steps_per_decade).ceil() as i32;
        let grid = (0..=steps).flat_map(|k| {
            let omega = 10f64.powf(smallest - 2.0 + f64::from(k) / steps_per_decade);
            [omega, -omega]
        });
        let mut frequencies: Vec<f64> = grid.chain([0.0]).collect();
        for pole in poles {
            add_ladder(
                &mut frequencies,
                pole.im,
                -pole.re,
                LADDER_START * pole.norm(),
            );
        }
        frequencies.push(f64::INFINITY);
        Self::sorted(Axis::Line, frequencies)
    }

    fn sorted(axis: Axis, mut frequencies: Vec<f64>) -> Self {
        frequencies.retain(|omega| omega.is_finite() || *omega == f64::INFINITY);
        frequencies.sort_by(f64::total_cmp);
        frequencies.dedup();
        Self { axis, frequencies }
    }
}

/// An angle moved into `(-π, π]` by whole turns.
pub(super) fn wrapped(omega: f64) -> f64 {
    if omega > -PI && omega <= PI {
        return omega; // as it is: near zero every bit counts
    }
    let rest = omega.rem_euclid(TAU);
    if rest > PI { rest - TAU } else { rest }
}

/// Frequencies at and on both sides of a pole, from a fraction of its `margin` to the boundary out to `spacing`.
fn add_ladder(frequencies: &mut Vec<f64>, center: f64, margin: f64, spacing: f64) {
    frequencies.push(center);
    // On the boundary itself there is no scale to start from; the smallest step at the pole takes its place.
    let margin = margin
        .max(f64::EPSILON * center.abs())
        .max(f64::MIN_POSITIVE);
    let mut offset = LADDER_START * margin;
    let mut step = 0;
    while step < LADDER_STEPS || offset < spacing {
        frequencies.extend([center - offset, center + offset]);
        offset *= LADDER_FACTOR;
        step += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_sorted_and_within_their_axis() {
        let poles = [
            c64::new(-1.0 + 1e-12, 0.0),
            c64::new(0.0, 0.0),
            c64::new(0.6, 0.79),
        ];
        let circle = FrequencySeeds::discrete(&poles).frequencies;
        assert!(circle.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(circle.iter().all(|&omega| omega > -PI && omega <= PI));
        assert!(circle.len() < 300, "{}", circle.len());
        let poles = [c64::new(-1e-200, 0.0), c64::new(-1e200, 1e200)];
        let line = FrequencySeeds::continuous(&poles).frequencies;
        assert!(line.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(line.last(), Some(&f64::INFINITY));
        assert!(line.contains(&0.0) && line.len() < 8000, "{}", line.len());
    }
}

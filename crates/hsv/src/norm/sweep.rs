//! The largest gain of a frequency response, by sampling where its poles say it can peak, and then refining.
//!
//! Peaks are as narrow as a pole is close to the boundary of stability, and no uniform grid finds those. So the
//! samples come from the poles: a ladder of frequencies around each one, from a fraction of its distance to the
//! boundary outward, on top of a coarse grid.

mod seeds;

use std::f64::consts::TAU;

pub(crate) use seeds::FrequencySeeds;
use seeds::{Axis, wrapped};

/// Samples below this share of the best one are not refined: on these ladders a sample hardly ever misses half of its
/// peak.
const REFINED_SHARE: f64 = 0.5;
/// A bracket is done when what its middle can miss is below this share of the gain.
const GAIN_TOLERANCE: f64 = 1e-13;
/// And after this many evaluations in any case: by then no bracket has two `f64` frequencies left.
const MAX_EVALUATIONS: usize = 80;
/// Where a golden section cuts the larger part of a bracket, `(3 - √5) / 2`.
const GOLDEN_CUT: f64 = 0.381_966_011_250_105_1;

/// A local maximum that is the largest one found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PeakGain {
    /// Value of the gain at `omega`: a lower bound of its supremum.
    pub gain: f64,
    /// In `(-π, π]`, or any number and +∞ in continuous time.
    pub omega: f64,
}

/// The largest value of `gain` over all frequencies, from the seeds and golden sections between them.
///
/// `gain` is non-negative and continuous; in continuous time it is also asked for its limit at +∞. Nothing is assumed
/// about its symmetry: complex systems have none.
///
/// `None` if `gain` answers NaN anywhere. An infinite answer is the peak.
///
/// # Precision
/// A lower bound of the supremum, below the local maximum it belongs to by 1e-12 of it at most where that is alone
/// between two seeds. Frequencies are known to the square root of that, of the width of the peak.
///
/// # Cost
/// One evaluation per seed and at most 80 for each local maximum among them that reaches half of the largest.
pub(crate) fn peak_gain(
    gain: impl Fn(f64) -> f64 + Sync,
    seeds: &FrequencySeeds,
) -> Option<PeakGain> {
    let samples: Vec<PeakGain> = seeds
        .frequencies
        .iter()
        .map(|&omega| PeakGain {
            gain: gain(omega),
            omega,
        })
        .collect();
    let mut best = largest(&samples)?;
    let floor = REFINED_SHARE * best.gain;
    let count = samples.len();
    for i in 0..count {
        let around = [
            samples[(i + count - 1) % count],
            samples[i],
            samples[(i + 1) % count],
        ];
        let peaks = around[1].gain >= around[0].gain.max(around[2].gain);
        if !peaks || around[1].gain < floor || best.gain == f64::INFINITY {
            continue;
        }
        let bracket = Bracket::of(seeds.axis, around);
        let refined = bracket.refined(&gain)?;
        if refined.gain > best.gain {
            best = refined;
        }
    }
    Some(best)
}

/// `None` without samples, or with NaN among them.
fn largest(samples: &[PeakGain]) -> Option<PeakGain> {
    let numbers = samples.iter().all(|sample| !sample.gain.is_nan());
    let first = *samples.first().filter(|_| numbers)?;
    let larger = |best: PeakGain, next: &PeakGain| if next.gain > best.gain { *next } else { best };
    Some(samples.iter().fold(first, larger))
}

/// Three points, the middle one the highest, in coordinates in which they are a plain interval.
struct Bracket {
    chart: Chart,
    left: Point,
    middle: Point,
    right: Point,
}

#[derive(Clone, Copy)]
struct Point {
    x: f64,
    gain: f64,
}

/// From coordinates to frequencies.
#[derive(Clone, Copy)]
enum Chart {
    /// `x` itself.
    Plain,
    /// `x` less whole turns.
    Turns,
    /// `1 / x`, around infinity.
    Reciprocal,
}

impl Chart {
    fn omega(self, x: f64) -> f64 {
        match self {
            Self::Plain => x,
            Self::Turns => wrapped(x),
            Self::Reciprocal if x == 0.0 => f64::INFINITY,
            Self::Reciprocal => 1.0 / x,
        }
    }
}

impl Bracket {
    fn of(axis: Axis, around: [PeakGain; 3]) -> Self {
        let omega = around.map(|sample| sample.omega);
        let (chart, x) = match axis {
            Axis::Circle => {
                let before = if omega[0] > omega[1] {
                    omega[0] - TAU
                } else {
                    omega[0]
                };
                let after = if omega[2] < omega[1] {
                    omega[2] + TAU
                } else {
                    omega[2]
                };
                (Chart::Turns, [before, omega[1], after])
            }
            // The grid has points on both sides of zero, so that no bracket has both zero and infinity.
            Axis::Line if omega.contains(&f64::INFINITY) => {
                (Chart::Reciprocal, omega.map(f64::recip))
            }
            Axis::Line => (Chart::Plain, omega),
        };
        let point = |i: usize| Point {
            x: x[i],
            gain: around[i].gain,
        };
        Self {
            chart,
            left: point(0),
            middle: point(1),
            right: point(2),
        }
    }

    /// The maximum inside, by golden sections; `None` for NaN.
    fn refined(mut self, gain: &impl Fn(f64) -> f64) -> Option<PeakGain> {
        for _ in 0..MAX_EVALUATIONS {
            if self.missed() <= GAIN_TOLERANCE * self.middle.gain {
                break;
            }
            let (below, above) = (self.left.x - self.middle.x, self.right.x - self.middle.x);
            let to_left = below.abs() > above.abs();
            let x = self.middle.x + GOLDEN_CUT * if to_left { below } else { above };
            if x == self.middle.x || x == self.left.x || x == self.right.x {
                break; // neighbors in f64
            }
            let next = Point {
                x,
                gain: gain(self.chart.omega(x)),
            };
            if next.gain.is_nan() {
                return None;
            }
            self.narrow(next, to_left);
        }
        Some(PeakGain {
            gain: self.middle.gain,
            omega: self.chart.omega(self.middle.x),
        })
    }

    fn narrow(&mut self, next: Point, to_left: bool) {
        let higher = next.gain > self.middle.gain;
        match (higher, to_left) {
            (true, true) => self.right = self.middle,
            (true, false) => self.left = self.middle,
            (false, true) => self.left = next,
            (false, false) => self.right = next,
        }
        if higher {
            self.middle = next;
        }
    }

    /// How far a parabola through the ends can rise above the middle: with `ratio` between the two parts and the
    /// middle higher by `drop`, at most `drop (1 + ratio) / 4`.
    fn missed(&self) -> f64 {
        let drop = self.middle.gain - self.left.gain.min(self.right.gain);
        let parts = [
            (self.middle.x - self.left.x).abs(),
            (self.right.x - self.middle.x).abs(),
        ];
        let ratio = parts[0].max(parts[1]) / parts[0].min(parts[1]);
        drop * (1.0 + ratio) / 4.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faer::{Mat, c64};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::f64::consts::PI;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A mode with its pole in polar form, so that `z - λ` has all digits however close they are.
    #[derive(Debug, Clone, Copy)]
    struct Mode {
        margin: f64,
        angle: f64,
        residue: c64,
    }

    impl Mode {
        fn pole(&self) -> c64 {
            c64::from_polar(1.0 - self.margin, self.angle)
        }

        /// `1 / (e^{iω} - λ)`
        fn resolvent(&self, omega: f64) -> c64 {
            let delta = omega - self.angle;
            // e^{iδ} - 1 + margin, without cancellation.
            let difference = c64::new(self.margin - 2.0 * (delta / 2.0).sin().powi(2), delta.sin());
            let turn = c64::new(self.angle.cos(), -self.angle.sin());
            turn / difference
        }
    }

    fn response(modes: &[Mode], omega: f64) -> f64 {
        modes
            .iter()
            .map(|mode| mode.residue * mode.resolvent(omega))
            .sum::<c64>()
            .norm()
    }

    fn peak(modes: &[Mode]) -> PeakGain {
        let poles: Vec<c64> = modes.iter().map(Mode::pole).collect();
        peak_gain(
            |omega| response(modes, omega),
            &FrequencySeeds::discrete(&poles),
        )
        .unwrap()
    }

    fn real_mode(margin: f64, angle: f64, residue: f64) -> Mode {
        Mode {
            margin,
            angle,
            residue: c64::new(residue, 0.0),
        }
    }

    /// Values on a uniform grid and on a fine one at every pole: the largest.
    fn brute_force(
        gain: impl Fn(f64) -> f64,
        centers: &[(f64, f64)],
        uniform: usize,
        range: f64,
    ) -> f64 {
        let grid = (0..=uniform).map(|k| range * (2.0 * k as f64 / uniform as f64 - 1.0));
        let fine = centers.iter().flat_map(|&(center, width)| {
            (-300..=300).map(move |k| center + 0.02 * width * f64::from(k))
        });
        grid.chain(fine).map(gain).fold(0.0, f64::max)
    }

    #[test]
    fn one_mode_peaks_at_its_angle() {
        for margin in [1.0, 0.5, 1e-3, 1e-9, 1e-14] {
            for angle in [0.0, 1.0, -2.5, PI, 3.1] {
                let found = peak(&[real_mode(margin, angle, 2.0)]);
                // The pole of the seeds has its angle within a few ε, the peak is flat there for `margin` around.
                let relative = (4.0 * f64::EPSILON * PI / margin).powi(2) + 4.0 * f64::EPSILON;
                assert!(
                    (found.gain * margin / 2.0 - 1.0).abs() <= relative,
                    "{margin} {angle} {found:?}"
                );
                if margin < 1.0 {
                    let offset = wrapped(found.omega - angle).abs();
                    assert!(
                        offset <= 1e-6 * margin + 4.0 * f64::EPSILON * PI,
                        "{margin} {angle} {found:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn one_continuous_mode_peaks_at_its_imaginary_part() {
        for (re, im) in [
            (-1.0, 0.0),
            (-1e-9, 3.0),
            (-1e-9, -1e6),
            (-1e150, 2.0),
            (-3.0, -1e-150),
        ] {
            let pole = c64::new(re, im);
            let gain = |omega: f64| 5.0 / (omega - im).hypot(re);
            let found = peak_gain(gain, &FrequencySeeds::continuous(&[pole])).unwrap();
            let expected = 5.0 / re.abs();
            assert!(
                (found.gain - expected).abs() <= 4.0 * f64::EPSILON * expected,
                "{pole} {found:?}"
            );
            assert!(
                (found.omega - im).abs() <= 1e-6 * re.abs(),
                "{pole} {found:?}"
            );
        }
    }

    #[test]
    fn a_peak_between_poles_is_refined() {
        // 1 / ((z - λ)(z - λ̄)) with λ = ρ e^{iθ}: the closed form has cos ω = cos θ (1 + ρ²) / (2 ρ).
        for (radius, angle) in [(0.9f64, 1.2f64), (0.99, 0.5), (0.6, 1.6)] {
            let pole = c64::from_polar(radius, angle);
            let gain = |omega: f64| {
                let z = c64::new(omega.cos(), omega.sin());
                1.0 / ((z - pole) * (z - pole.conj())).norm()
            };
            let found = peak_gain(gain, &FrequencySeeds::discrete(&[pole, pole.conj()])).unwrap();
            let expected = 1.0 / ((1.0 - radius * radius) * angle.sin());
            // Plain differences here lose what the margin of the pole has below one.
            let rounding = 16.0 * f64::EPSILON / (1.0 - radius);
            assert!(
                (found.gain / expected - 1.0).abs() <= rounding + 1e-13,
                "{found:?} {expected}"
            );
            let omega = (angle.cos() * (1.0 + radius * radius) / (2.0 * radius)).acos();
            assert!(
                (found.omega.abs() - omega).abs() <= 1e-6,
                "{found:?} {omega}"
            );
        }
    }

    #[test]
    fn the_higher_of_two_close_resonances_is_found() {
        for (first, second) in [(1.0, 1.0 + 1e-9), (1.0 + 1e-9, 1.0)] {
            let margin = 1e-6;
            let modes = [
                real_mode(margin, 1.0, first),
                real_mode(margin, 1.0 + 200.0 * margin, second),
            ];
            let found = peak(&modes);
            let at = |center: f64| {
                (-2000..=2000)
                    .map(|k| response(&modes, center + 1e-5 * margin * f64::from(k)))
                    .fold(0.0, f64::max)
            };
            let (low, high) = (at(modes[0].angle), at(modes[1].angle));
            // On a grid of 1e-5 margins the top is missed by 1e-11 at most.
            assert!(
                (found.gain / low.max(high) - 1.0).abs() <= 1e-11,
                "{found:?} {low} {high}"
            );
            let nearer = if first > second {
                modes[0].angle
            } else {
                modes[1].angle
            };
            assert!((found.omega - nearer).abs() < 10.0 * margin, "{found:?}");
        }
    }

    #[test]
    fn poles_next_to_the_circle_are_found_among_others() {
        let modes = [
            real_mode(0.5, 0.3, 100.0),
            real_mode(1e-9, 2.3, 1e-3),
            Mode {
                margin: 2e-9,
                angle: 2.3 + 3e-9,
                residue: c64::new(0.0, 1.5e-3),
            },
            real_mode(0.01, -1.0, 1.0),
        ];
        let found = peak(&modes);
        let centers: Vec<(f64, f64)> = modes.iter().map(|mode| (mode.angle, mode.margin)).collect();
        let brute = brute_force(|omega| response(&modes, omega), &centers, 1000, PI);
        assert!(
            found.gain >= brute && found.gain <= brute * 1.01,
            "{found:?} {brute}"
        );
    }

    #[test]
    fn an_all_pass_is_flat_and_cheap() {
        let poles: Vec<c64> = (0..12)
            .map(|k| c64::from_polar(0.5 + 0.04 * f64::from(k), f64::from(k)))
            .collect();
        let evaluations = AtomicUsize::new(0);
        let gain = |omega: f64| {
            evaluations.fetch_add(1, Ordering::Relaxed);
            let z = c64::new(omega.cos(), omega.sin());
            let factor = |pole: &c64| (c64::ONE - z * pole.conj()) / (z - pole);
            3.0 * poles.iter().map(factor).product::<c64>().norm()
        };
        let seeds = FrequencySeeds::discrete(&poles);
        let found = peak_gain(gain, &seeds).unwrap();
        assert!(
            (found.gain / 3.0 - 1.0).abs() <= 12.0 * 16.0 * f64::EPSILON / 0.06,
            "{found:?}"
        );
        let bound = seeds.frequencies.len() * (1 + MAX_EVALUATIONS / 4);
        assert!(
            evaluations.load(Ordering::Relaxed) <= bound,
            "{evaluations:?} of {bound}"
        );

        let constant = peak_gain(|_| 2.0, &FrequencySeeds::continuous(&[])).unwrap();
        assert_eq!(constant.gain, 2.0);
        assert_eq!(
            peak_gain(|_| 0.0, &FrequencySeeds::discrete(&[]))
                .unwrap()
                .gain,
            0.0
        );
    }

    #[test]
    fn gains_at_zero_and_at_infinity_count() {
        // 2 - 1 / (s + 1) grows with frequency, 1 / (s + 1) falls.
        let pole = c64::new(-1.0, 0.0);
        let seeds = FrequencySeeds::continuous(&[pole]);
        let low_pass = |omega: f64| {
            if omega.is_infinite() {
                c64::ZERO
            } else {
                c64::ONE / c64::new(1.0, omega)
            }
        };
        let found = peak_gain(|omega| (low_pass(omega) - 2.0).norm(), &seeds).unwrap();
        assert_eq!((found.gain, found.omega), (2.0, f64::INFINITY));
        let found = peak_gain(|omega| low_pass(omega).norm(), &seeds).unwrap();
        assert_eq!((found.gain, found.omega), (1.0, 0.0));
    }

    #[test]
    fn negative_frequencies_count() {
        let single = peak(&[real_mode(1e-4, -1.0, 1.0), real_mode(2e-4, 1.0, 1.0)]);
        assert!((single.omega + 1.0).abs() < 1e-4, "{single:?}");
    }

    #[test]
    fn a_response_that_is_not_a_number_has_no_peak() {
        let seeds = FrequencySeeds::discrete(&[c64::new(0.9, 0.0)]);
        assert_eq!(peak_gain(|_| f64::NAN, &seeds), None);
        assert_eq!(
            peak_gain(|omega| if omega > 3.0 { f64::NAN } else { 1.0 }, &seeds),
            None
        );
        // NaN between the seeds, met only in refinement.
        let known = seeds.frequencies.clone();
        let gain = |omega: f64| {
            if known.contains(&omega) {
                2.0 - omega.abs() / 4.0
            } else {
                f64::NAN
            }
        };
        assert_eq!(peak_gain(gain, &seeds), None);
        let spike = |omega: f64| if omega == 0.0 { f64::INFINITY } else { 1.0 };
        let found = peak_gain(spike, &seeds).unwrap();
        assert_eq!((found.gain, found.omega), (f64::INFINITY, 0.0));
    }

    fn modes() -> impl Strategy<Value = Vec<Mode>> {
        let mode = (-9.0..-0.1f64, -PI..PI, 0.0..1.0f64, 0.0..TAU).prop_map(
            |(log, angle, size, phase)| {
                let margin = 10f64.powf(log);
                // Heights alike, whatever the margin.
                Mode {
                    margin,
                    angle,
                    residue: c64::from_polar(size * margin, phase),
                }
            },
        );
        proptest::collection::vec(mode, 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_dense_grid_finds_more(modes in modes()) {
            let found = peak(&modes);
            let centers: Vec<(f64, f64)> = modes.iter().map(|mode| (mode.angle, mode.margin)).collect();
            let brute = brute_force(|omega| response(&modes, omega), &centers, 10_000, PI);
            prop_assert!(brute <= found.gain * (1.0 + 1e-11), "{brute} {found:?}");
            prop_assert_eq!(found.gain, response(&modes, found.omega));
        }

        #[test]
        fn no_dense_grid_finds_more_of_the_error_of_a_system(
            modes in modes(), seed in any::<u64>(), size in -6.0..-0.5f64,
        ) {
            // Against the same with everything moved a little: the peaks are where two nearly equal terms part.
            let random = &mut ChaCha8Rng::seed_from_u64(seed);
            let mut number = || 10f64.powf(size) * (2.0 * random.random::<f64>() - 1.0);
            let moved = modes.iter().map(|mode| Mode {
                margin: mode.margin * (1.0 + number()),
                angle: mode.angle + mode.margin * number(),
                residue: -mode.residue * (1.0 + c64::new(number(), number())),
            });
            let error: Vec<Mode> = modes.iter().copied().chain(moved).collect();
            let found = peak(&error);
            let centers: Vec<(f64, f64)> = modes.iter().map(|mode| (mode.angle, mode.margin)).collect();
            let brute = brute_force(|omega| response(&error, omega), &centers, 10_000, PI);
            // The terms, of height 12 at most, cancel.
            let rounding = 12.0 * 16.0 * f64::EPSILON;
            prop_assert!(brute <= found.gain * (1.0 + 1e-11) + rounding, "{brute} {found:?}");
        }

        #[test]
        fn no_dense_grid_finds_more_in_continuous_time(modes in modes(), feedthrough in -1.0..1.0f64) {
            // The same modes at the same places: -margin + i angle.
            let gain = |omega: f64| {
                let term = |mode: &Mode| mode.residue / c64::new(mode.margin, omega - mode.angle);
                let sum: c64 = if omega.is_infinite() { c64::ZERO } else { modes.iter().map(term).sum() };
                (sum + feedthrough).norm()
            };
            let poles: Vec<c64> = modes.iter().map(|mode| c64::new(-mode.margin, mode.angle)).collect();
            let found = peak_gain(gain, &FrequencySeeds::continuous(&poles)).unwrap();
            let centers: Vec<(f64, f64)> = modes.iter().map(|mode| (mode.angle, mode.margin)).collect();
            let brute = brute_force(gain, &centers, 10_000, 20.0).max(gain(f64::INFINITY));
            prop_assert!(brute <= found.gain * (1.0 + 1e-11), "{brute} {found:?}");
        }
    }

    #[test]
    fn no_dense_grid_finds_more_of_a_largest_singular_value() {
        for seed in 0..6 {
            let random = &mut ChaCha8Rng::seed_from_u64(seed);
            let mut number = || 2.0 * random.random::<f64>() - 1.0;
            let modes: Vec<Mode> = (0..8)
                .map(|_| real_mode(10f64.powf(1.5 * number() - 2.0), PI * number(), 1.0))
                .collect();
            let mut matrix = || Mat::from_fn(8, 3, |_, _| c64::new(number(), number()));
            let (input, output) = (matrix(), matrix());
            let gain = |omega: f64| {
                let weights: Vec<c64> = modes
                    .iter()
                    .map(|mode| mode.resolvent(omega) * mode.margin.sqrt())
                    .collect();
                let weighted = Mat::from_fn(8, 3, |i, j| input[(i, j)] * weights[i]);
                (output.transpose() * weighted).singular_values().unwrap()[0]
            };
            let poles: Vec<c64> = modes.iter().map(Mode::pole).collect();
            let found = peak_gain(gain, &FrequencySeeds::discrete(&poles)).unwrap();
            let centers: Vec<(f64, f64)> =
                modes.iter().map(|mode| (mode.angle, mode.margin)).collect();
            let brute = brute_force(gain, &centers, 2000, PI);
            assert!(
                brute <= found.gain * (1.0 + 1e-9),
                "{seed}: {brute} {found:?}"
            );
        }
    }
}

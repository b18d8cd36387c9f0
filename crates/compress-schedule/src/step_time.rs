//! How the time of a training step depends on the number of states, as far as the checks have seen it.

use serde::{Deserialize, Serialize};

const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// What every check was told, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct StepTimes(Vec<StepTime>);

/// One size of model and how long a step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepTime {
    /// States of all layers together.
    states: usize,
    /// A whole number, because not every format returns a float to the last digit; positive.
    nanoseconds: u64,
}

/// `nanoseconds = base + slope * states`, through the center of what was measured.
struct Line {
    mean_states: f64,
    mean_nanoseconds: f64,
    /// Nanoseconds per state, positive.
    slope: f64,
}

impl StepTimes {
    /// Remembers a measurement that is one: finite, and at least a nanosecond.
    pub(crate) fn record(&mut self, states: usize, milliseconds: Option<f64>) {
        let nanoseconds = milliseconds.map(|ms| (ms * NANOSECONDS_PER_MILLISECOND).round());
        if let Some(nanoseconds) = nanoseconds.filter(|time| time.is_finite() && *time >= 1.0) {
            self.0.push(StepTime {
                states,
                nanoseconds: nanoseconds as u64,
            });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every measurement is one.
    pub(crate) fn are_positive(&self) -> bool {
        self.0.iter().all(|point| point.nanoseconds > 0)
    }

    /// Most states with which a step takes no longer than `milliseconds`, at most the `states` there are; `None` if
    /// nothing was ever measured.
    pub(crate) fn states_within(&self, milliseconds: f64, states: usize) -> Option<usize> {
        let latest = self.0.last()?;
        let goal = milliseconds * NANOSECONDS_PER_MILLISECOND;
        let now = latest.nanoseconds as f64;
        if latest.states == states && now <= goal {
            return Some(states); // measured, whatever a fitted line says
        }
        let allowed = match self.line() {
            Some(line) => line.mean_states + (goal - line.mean_nanoseconds) / line.slope,
            None => latest.states as f64 * (goal / now),
        };
        Some((allowed.max(0.0).floor() as usize).min(states))
    }

    /// The straight line of least squares; `None` for a single size, or if it does not rise.
    fn line(&self) -> Option<Line> {
        let count = self.0.len() as f64;
        let mean = |value: fn(&StepTime) -> f64| self.0.iter().map(value).sum::<f64>() / count;
        let mean_states = mean(|point| point.states as f64);
        let mean_nanoseconds = mean(|point| point.nanoseconds as f64);
        let (mut cross, mut square) = (0.0, 0.0);
        for point in &self.0 {
            let states = point.states as f64 - mean_states;
            cross += states * (point.nanoseconds as f64 - mean_nanoseconds);
            square += states * states;
        }
        let slope = cross / square; // NaN for a single size
        (slope > 0.0).then_some(Line {
            mean_states,
            mean_nanoseconds,
            slope,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(points: &[(usize, f64)]) -> StepTimes {
        let mut times = StepTimes::default();
        for &(states, ms) in points {
            times.record(states, Some(ms));
        }
        times
    }

    #[test]
    fn one_size_says_that_time_is_proportional_to_states() {
        assert_eq!(measured(&[(100, 8.0)]).states_within(4.0, 100), Some(50));
        // Twice the same size is still one size.
        let twice = measured(&[(100, 8.2), (100, 8.0)]);
        assert_eq!(twice.states_within(4.0, 100), Some(50));
    }

    #[test]
    fn two_sizes_show_the_time_that_no_cut_can_save() {
        // 2 ms and 0.0625 ms per state.
        let times = measured(&[(96, 8.0), (64, 6.0)]);
        assert_eq!(times.states_within(4.0, 64), Some(32));
        assert_eq!(times.states_within(2.0, 64), Some(0));
        assert_eq!(times.states_within(1.0, 64), Some(0));
    }

    #[test]
    fn more_than_two_sizes_are_averaged() {
        // Errors of +0.1, -0.2, +0.1 ms at equal distances leave slope and center alone.
        let times = measured(&[(96, 8.1), (64, 5.8), (32, 4.1)]);
        assert_eq!(times.states_within(3.0, 32), Some(16));
    }

    #[test]
    fn a_line_that_falls_counts_for_nothing() {
        let times = measured(&[(100, 8.0), (80, 9.0)]);
        assert_eq!(times.states_within(4.5, 80), Some(40));
    }

    #[test]
    fn a_target_that_was_measured_is_met() {
        // The line would ask for less than 64 states at 6.1 ms.
        let times = measured(&[(96, 8.0), (64, 7.0), (64, 6.0)]);
        assert_eq!(times.states_within(6.1, 64), Some(64));
    }

    #[test]
    fn what_is_no_measurement_is_forgotten() {
        let mut times = StepTimes::default();
        for bad in [
            None,
            Some(f64::NAN),
            Some(0.0),
            Some(-1.0),
            Some(f64::INFINITY),
        ] {
            times.record(100, bad);
        }
        assert_eq!(times, StepTimes::default());
        assert_eq!(times.states_within(1.0, 100), None);
    }
}

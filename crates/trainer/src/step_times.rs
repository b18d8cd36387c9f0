//! How long a training step takes before the first cut and after the last.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Samples kept per segment: the newest ones.
const KEPT: usize = 2000;

/// Milliseconds per step since the last cut, and before the first. Each sample is the mean over a few steps between two
/// points where the device is known to be idle.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StepTimes {
    before_first_cut: Option<Vec<f32>>,
    current: Vec<f32>,
}

impl StepTimes {
    /// Adds a stretch of `steps` steps.
    pub fn record(&mut self, steps: u64, elapsed: Duration) {
        if steps == 0 {
            return;
        }
        if self.current.len() == KEPT {
            self.current.remove(0);
        }
        self.current
            .push((elapsed.as_secs_f64() * 1e3 / steps as f64) as f32);
    }

    /// A cut happened: what follows is another segment.
    pub fn cut(&mut self) {
        let finished = std::mem::take(&mut self.current);
        self.before_first_cut.get_or_insert(finished);
    }

    /// Median before the first cut, or of the whole run without one; milliseconds.
    pub fn median_first(&self) -> Option<f64> {
        median(self.before_first_cut.as_ref().unwrap_or(&self.current))
    }

    /// Median after the last cut, or of the whole run without one; milliseconds.
    pub fn median_last(&self) -> Option<f64> {
        median(&self.current)
    }
}

fn median(samples: &[f32]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f32::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(f64::from(sorted[middle])),
        _ => Some(0.5 * (f64::from(sorted[middle - 1]) + f64::from(sorted[middle]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_before_the_first_and_after_the_last_cut() {
        let mut times = StepTimes::default();
        for (ms, cut) in [(40, false), (20, true), (10, true)] {
            if cut {
                times.cut();
            }
            times.record(2, Duration::from_millis(2 * ms));
        }
        assert_eq!(
            (times.median_first(), times.median_last()),
            (Some(40.0), Some(10.0))
        );
    }

    #[test]
    fn without_a_cut_both_ends_are_the_whole_run() {
        let mut times = StepTimes::default();
        assert_eq!(times.median_last(), None);
        times.record(1, Duration::from_millis(3));
        times.record(1, Duration::from_millis(5));
        assert_eq!(
            (times.median_first(), times.median_last()),
            (Some(4.0), Some(4.0))
        );
    }
}

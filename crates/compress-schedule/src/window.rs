//! When: the part of a run in which checks happen, and how they are spread over it.

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

use crate::ScheduleError;

/// Most checks that a window may resolve to. Each one costs a full spectrum of every layer.
const CHECK_LIMIT: u64 = 1_000_000;

/// A point in a run: a step number, or a fraction of the run's steps.
///
/// In a file an integer is a step number and a float is a fraction: `end = 2000` is step 2000, `end = 0.1` is the
/// end of the first tenth, `end = 1` is step 1 and `end = 1.0` is the last step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StepPoint {
    /// Number of optimizer steps already taken.
    Step(u64),
    /// Fraction of the steps of the run, in `[0, 1]`; rounded to the nearest step.
    Fraction(f64),
}

impl StepPoint {
    /// The step this point stands for in a run of `total_steps` steps. `name` is what an error calls it.
    fn resolve(self, name: &'static str, total_steps: u64) -> Result<u64, ScheduleError> {
        match self {
            Self::Step(step) => Ok(step),
            Self::Fraction(value) if (0.0..=1.0).contains(&value) => {
                // Nearest and not down: 0.29 * 100 is 28.999999999999996 in f64.
                Ok(((value * total_steps as f64).round() as u64).min(total_steps))
            }
            Self::Fraction(value) => Err(ScheduleError::FractionOutOfRange { name, value }),
        }
    }
}

impl<'de> Deserialize<'de> for StepPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StepPointVisitor)
    }
}

/// Written out, because a derived untagged enum can only say that no variant matched.
struct StepPointVisitor;

impl Visitor<'_> for StepPointVisitor {
    type Value = StepPoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step number (0 or a positive integer) or a fraction of the run (0.0 to 1.0)")
    }

    fn visit_u64<E: de::Error>(self, step: u64) -> Result<StepPoint, E> {
        Ok(StepPoint::Step(step))
    }

    fn visit_i64<E: de::Error>(self, step: i64) -> Result<StepPoint, E> {
        u64::try_from(step)
            .map(StepPoint::Step)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(step), &self))
    }

    fn visit_f64<E: de::Error>(self, fraction: f64) -> Result<StepPoint, E> {
        Ok(StepPoint::Fraction(fraction))
    }
}

/// How checks are spread over a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// This many, evenly spaced, the last one at the end of the window.
    Checks(u64),
    /// One every so many steps, the first one that long after the start.
    Interval(u64),
}

impl Spacing {
    /// From the two optional keys of a configuration, of which exactly one must be present.
    ///
    /// # Errors
    /// [`ScheduleError::ChecksAndInterval`] for both, [`ScheduleError::NoSpacing`] for neither.
    pub fn from_keys(checks: Option<u64>, interval: Option<u64>) -> Result<Self, ScheduleError> {
        match (checks, interval) {
            (Some(checks), None) => Ok(Self::Checks(checks)),
            (None, Some(interval)) => Ok(Self::Interval(interval)),
            (Some(checks), Some(interval)) => {
                Err(ScheduleError::ChecksAndInterval { checks, interval })
            }
            (None, None) => Err(ScheduleError::NoSpacing),
        }
    }
}

/// The part of a run in which checks happen.
///
/// Nothing is checked at `start` itself: up to there the model only warms up. `end` belongs to the window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Where the warm-up ends; the first check comes one spacing later.
    pub start: StepPoint,
    /// The last step at which a check may happen.
    pub end: StepPoint,
    /// How the checks are spread between the two.
    pub spacing: Spacing,
}

impl Window {
    /// The steps of all checks in a run of `total_steps` steps: strictly increasing, at least one, all in
    /// `(start, end]`.
    ///
    /// `k` checks fall at `start + i (end - start) / k` for `i = 1..=k`, rounded down, so the last one is at `end`.
    /// With an interval they fall at `start + interval`, `start + 2 interval`, … as long as that is not past `end`.
    ///
    /// ```
    /// use compress_schedule::{Spacing, StepPoint, Window};
    ///
    /// let window = Window {
    ///     start: StepPoint::Step(100),
    ///     end: StepPoint::Fraction(0.5),
    ///     spacing: Spacing::Interval(150),
    /// };
    /// assert_eq!(window.check_steps(1000)?, [250, 400]);
    /// # Ok::<(), compress_schedule::ScheduleError>(())
    /// ```
    ///
    /// # Errors
    /// A window that is empty, ends after the run, or has no room for its checks; see [`ScheduleError`].
    pub fn check_steps(&self, total_steps: u64) -> Result<Vec<u64>, ScheduleError> {
        let start = self.start.resolve("start", total_steps)?;
        let end = self.end.resolve("end", total_steps)?;
        if end <= start {
            return Err(ScheduleError::EmptyWindow { start, end });
        }
        if end > total_steps {
            return Err(ScheduleError::EndBeyondRun { end, total_steps });
        }
        let offsets = self.spacing.offsets(end - start)?;
        Ok(offsets.into_iter().map(|offset| start + offset).collect())
    }
}

impl Spacing {
    /// Distances of the checks from the start of a window of `window_steps` steps.
    fn offsets(self, window_steps: u64) -> Result<Vec<u64>, ScheduleError> {
        match self {
            Self::Checks(0) => Err(ScheduleError::NoChecks),
            Self::Checks(checks) if checks > window_steps => Err(ScheduleError::TooManyChecks {
                checks,
                window_steps,
            }),
            Self::Checks(checks) => {
                within_limit(checks)?;
                let offset = |i| u128::from(i) * u128::from(window_steps) / u128::from(checks);
                let narrow = |wide| u64::try_from(wide).expect("an offset is at most the window");
                Ok((1..=checks).map(offset).map(narrow).collect())
            }
            Self::Interval(0) => Err(ScheduleError::ZeroInterval),
            Self::Interval(interval) if interval > window_steps => {
                Err(ScheduleError::IntervalTooLong {
                    interval,
                    window_steps,
                })
            }
            Self::Interval(interval) => {
                let checks = window_steps / interval;
                within_limit(checks)?;
                Ok((1..=checks).map(|i| i * interval).collect())
            }
        }
    }
}

fn within_limit(checks: u64) -> Result<(), ScheduleError> {
    let limit = CHECK_LIMIT;
    if checks > limit {
        return Err(ScheduleError::CheckLimit { checks, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(start: StepPoint, end: StepPoint, spacing: Spacing) -> Window {
        Window {
            start,
            end,
            spacing,
        }
    }

    const START: StepPoint = StepPoint::Step(0);
    const TENTH: StepPoint = StepPoint::Fraction(0.1);

    #[test]
    fn four_checks_in_the_first_tenth_of_the_published_runs() {
        let four = window(START, TENTH, Spacing::Checks(4));
        assert_eq!(four.check_steps(20_000), Ok(vec![500, 1000, 1500, 2000]));
        assert_eq!(
            four.check_steps(200_000),
            Ok(vec![5000, 10_000, 15_000, 20_000])
        );
    }

    #[test]
    fn the_last_check_is_at_the_end_even_where_the_division_leaves_a_rest() {
        let three = window(START, StepPoint::Step(2000), Spacing::Checks(3));
        assert_eq!(three.check_steps(2000), Ok(vec![666, 1333, 2000]));
    }

    #[test]
    fn an_interval_may_stop_short_of_the_end() {
        let every = window(
            StepPoint::Step(10),
            StepPoint::Step(40),
            Spacing::Interval(12),
        );
        assert_eq!(every.check_steps(100), Ok(vec![22, 34]));
    }

    #[test]
    fn a_fraction_goes_to_the_nearest_step() {
        let end = StepPoint::Fraction(0.29); // times 100: 28.999999999999996
        let one = window(START, end, Spacing::Checks(1));
        assert_eq!(one.check_steps(100), Ok(vec![29]));
    }

    #[test]
    fn one_check_per_step_fits_and_one_more_does_not() {
        let end = StepPoint::Step(3);
        let full = window(START, end, Spacing::Checks(3));
        assert_eq!(full.check_steps(3), Ok(vec![1, 2, 3]));
        assert_eq!(
            window(START, end, Spacing::Checks(4)).check_steps(3),
            Err(ScheduleError::TooManyChecks {
                checks: 4,
                window_steps: 3
            })
        );
    }

    #[test]
    fn impossible_windows_are_typed_errors() {
        use ScheduleError as E;
        let step = StepPoint::Step;
        let one = Spacing::Checks(1);
        let cases = [
            (
                window(step(5), step(5), one),
                E::EmptyWindow { start: 5, end: 5 },
            ),
            (
                window(TENTH, step(5), one),
                E::EmptyWindow { start: 10, end: 5 },
            ),
            (
                window(START, step(101), one),
                E::EndBeyondRun {
                    end: 101,
                    total_steps: 100,
                },
            ),
            (
                window(START, StepPoint::Fraction(1.5), one),
                E::FractionOutOfRange {
                    name: "end",
                    value: 1.5,
                },
            ),
            (
                window(StepPoint::Fraction(-0.1), TENTH, one),
                E::FractionOutOfRange {
                    name: "start",
                    value: -0.1,
                },
            ),
            (window(START, TENTH, Spacing::Checks(0)), E::NoChecks),
            (window(START, TENTH, Spacing::Interval(0)), E::ZeroInterval),
            (
                window(START, TENTH, Spacing::Interval(11)),
                E::IntervalTooLong {
                    interval: 11,
                    window_steps: 10,
                },
            ),
        ];
        for (window, expected) in cases {
            assert_eq!(window.check_steps(100), Err(expected), "{window:?}");
        }
        let poisoned = window(START, StepPoint::Fraction(f64::NAN), one).check_steps(100);
        assert!(matches!(poisoned, Err(E::FractionOutOfRange { .. })));
    }

    #[test]
    fn a_window_of_absurd_length_is_refused_instead_of_filling_the_memory() {
        let all = window(START, StepPoint::Fraction(1.0), Spacing::Interval(1));
        assert!(matches!(
            all.check_steps(u64::MAX),
            Err(ScheduleError::CheckLimit { .. })
        ));
    }

    #[test]
    fn exactly_one_key_places_the_checks() {
        assert_eq!(Spacing::from_keys(Some(4), None), Ok(Spacing::Checks(4)));
        assert_eq!(
            Spacing::from_keys(None, Some(50)),
            Ok(Spacing::Interval(50))
        );
        assert_eq!(
            Spacing::from_keys(None, None),
            Err(ScheduleError::NoSpacing)
        );
        assert_eq!(
            Spacing::from_keys(Some(4), Some(50)),
            Err(ScheduleError::ChecksAndInterval {
                checks: 4,
                interval: 50
            })
        );
    }

    #[test]
    fn an_integer_is_a_step_and_a_float_is_a_fraction() {
        let read = |text| serde_json::from_str::<StepPoint>(text);
        assert_eq!(read("1").unwrap(), StepPoint::Step(1));
        assert_eq!(read("1.0").unwrap(), StepPoint::Fraction(1.0));
        assert!(read("-1").unwrap_err().to_string().contains("step number"));
        assert!(
            read("\"1\"")
                .unwrap_err()
                .to_string()
                .contains("step number")
        );
        let whole = serde_json::to_string(&StepPoint::Fraction(1.0)).unwrap();
        assert_eq!(read(&whole).unwrap(), StepPoint::Fraction(1.0));
    }

    proptest! {
        #[test]
        fn checks_increase_strictly_and_stay_inside_the_window(
            start in 0_u64..500, length in 1_u64..500, amount in 1_u64..500, by_count in any::<bool>(),
        ) {
            prop_assume!(amount <= length);
            let spacing = if by_count { Spacing::Checks(amount) } else { Spacing::Interval(amount) };
            let end = start + length;
            let steps = window(StepPoint::Step(start), StepPoint::Step(end), spacing)
                .check_steps(end)
                .unwrap();
            prop_assert!(!steps.is_empty());
            prop_assert!(steps.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(steps.iter().all(|&step| start < step && step <= end));
            if by_count {
                prop_assert_eq!(steps.len() as u64, amount);
                prop_assert_eq!(steps.last().copied(), Some(end));
            }
        }
    }
}

//! A cut on trial: what it did to the accuracy, and whether it stays.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

use crate::ScheduleError;

/// What a cut did to the validation accuracy, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Validation accuracy right before the cut, as a fraction of 1; NaN (`null` in JSON) if it was none.
    #[serde(deserialize_with = "nan_if_null")]
    pub before: f64,
    /// The same right after it.
    #[serde(deserialize_with = "nan_if_null")]
    pub after: f64,
    /// Largest fall that was allowed.
    pub max_drop: f64,
    /// Whether the model has to go back to what it was before the cut. No cut comes after that.
    pub reverted: bool,
}

impl Verdict {
    /// Compares two accuracies; the cut is reverted if the fall exceeds `max_drop` or cannot be told.
    ///
    /// # Errors
    /// [`ScheduleError::AccuracyOutOfRange`].
    pub(crate) fn of(before: f64, after: f64, max_drop: f64) -> Result<Self, ScheduleError> {
        for accuracy in [before, after] {
            if !accuracy.is_nan() && !(0.0..=1.0).contains(&accuracy) {
                return Err(ScheduleError::AccuracyOutOfRange { accuracy });
            }
        }
        // 0.97 - 0.96 is 0.010000000000000009: three numbers up to 1, each off by half of 2⁻⁵³ at most.
        let bearable = before - after <= max_drop + f64::EPSILON; // false for NaN
        Ok(Self {
            before,
            after,
            max_drop,
            reverted: !bearable,
        })
    }
}

/// As in a table: `accuracy 0.9712 -> 0.9598  fell by 0.0114, max_drop 0.0100: reverted`.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            before,
            after,
            max_drop,
            reverted,
        } = self;
        let outcome = if *reverted { "reverted" } else { "kept" };
        let fall = before - after;
        write!(f, "accuracy {before:.4} -> {after:.4}  ")?;
        if fall.is_nan() {
            f.write_str("not a number")?;
        } else if fall > 0.0 {
            write!(f, "fell by {fall:.4}, max_drop {max_drop:.4}")?;
        } else {
            f.write_str("did not fall")?;
        }
        write!(f, ": {outcome}")
    }
}

/// Why a schedule has no checks left before its window ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    /// Step of the cut that was reverted.
    pub step: u64,
    /// What it had done.
    pub verdict: Verdict,
}

/// As in a log: `no more cuts since step 500: accuracy …: reverted`.
impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, verdict } = self;
        write!(f, "no more cuts since step {step}: {verdict}")
    }
}

/// Where a schedule stands between a cut and what is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Trial {
    /// No cut is waiting for a verdict.
    Idle,
    /// The cuts of the latest check are.
    Awaited,
    /// A cut was reverted, and that was the last one.
    Stopped(Stopped),
}

/// JSON has no NaN; what is written for it is `null`.
fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_of_exactly_max_drop_is_borne() {
        // In f64 the first fall is 0.010000000000000009.
        for (before, after) in [(0.97, 0.96), (0.5, 0.49), (1.0, 0.99), (0.3, 0.29)] {
            let verdict = Verdict::of(before, after, 0.01).unwrap();
            assert!(!verdict.reverted, "{verdict}");
            let verdict = Verdict::of(before, after - 1e-9, 0.01).unwrap();
            assert!(verdict.reverted, "{verdict}");
        }
    }

    #[test]
    fn an_accuracy_that_is_not_a_number_reverts() {
        for (before, after) in [(f64::NAN, 0.9), (0.9, f64::NAN), (f64::NAN, f64::NAN)] {
            let verdict = Verdict::of(before, after, 1.0).unwrap();
            assert!(verdict.reverted);
            let text = serde_json::to_string(&verdict).unwrap();
            let read: Verdict = serde_json::from_str(&text).unwrap();
            assert_eq!(read.after.is_nan(), after.is_nan(), "{text}");
            assert_eq!(read.before.is_nan(), before.is_nan(), "{text}");
        }
    }

    #[test]
    fn percents_are_refused() {
        let refused = Verdict::of(97.0, 96.0, 0.01);
        assert_eq!(
            refused,
            Err(ScheduleError::AccuracyOutOfRange { accuracy: 97.0 })
        );
        assert!(Verdict::of(0.9, f64::NEG_INFINITY, 0.01).is_err());
    }

    #[test]
    fn a_verdict_reads_as_a_line_of_the_table() {
        let line = |before, after| Verdict::of(before, after, 0.01).unwrap().to_string();
        assert_eq!(
            line(0.9712, 0.9598),
            "accuracy 0.9712 -> 0.9598  fell by 0.0114, max_drop 0.0100: reverted"
        );
        assert_eq!(
            line(0.9, 0.91),
            "accuracy 0.9000 -> 0.9100  did not fall: kept"
        );
        let verdict = Verdict::of(0.9712, 0.9598, 0.01).unwrap();
        let stopped = Stopped { step: 500, verdict };
        assert_eq!(
            stopped.to_string(),
            format!("no more cuts since step 500: {verdict}")
        );
        assert_eq!(
            line(0.9, f64::NAN),
            "accuracy 0.9000 -> NaN  not a number: reverted"
        );
    }
}

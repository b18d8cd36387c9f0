//! What can be wrong with a schedule or with the way it is driven.

use thiserror::Error;

/// Everything that this crate refuses to do.
///
/// The first group is found when a schedule is built, before any training; the second group means that the training
/// loop and its schedule have come apart.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A fraction of the run outside `[0, 1]`, or NaN.
    #[error(
        "`{name}` = {value} is not a fraction of the run; use 0.0 to 1.0, or a whole step number"
    )]
    FractionOutOfRange {
        /// `start` or `end`.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// The window does not end after it starts.
    #[error(
        "the window ends at step {end}, which is not after its start at step {start}; raise `end` or lower `start`"
    )]
    EmptyWindow {
        /// First step of the window.
        start: u64,
        /// Last step of the window.
        end: u64,
    },
    /// The window ends after the last step of the run.
    #[error(
        "the window ends at step {end}, but the run has {total_steps} steps; lower `end`, or give it as a fraction"
    )]
    EndBeyondRun {
        /// Last step of the window.
        end: u64,
        /// Length of the run in steps.
        total_steps: u64,
    },
    /// Zero checks were asked for.
    #[error("`checks` is 0; ask for at least 1, or use the policy `none`")]
    NoChecks,
    /// Two checks would fall on the same step.
    #[error(
        "{checks} checks do not fit into the {window_steps} steps of the window; lower `checks`, or widen the window"
    )]
    TooManyChecks {
        /// Number of checks asked for.
        checks: u64,
        /// Steps between start and end.
        window_steps: u64,
    },
    /// More checks than anyone can want; a spectrum is not free.
    #[error("the window holds {checks} checks; at most {limit} are allowed")]
    CheckLimit {
        /// Number of checks asked for.
        checks: u64,
        /// Largest number allowed.
        limit: u64,
    },
    /// An interval of zero steps.
    #[error("`interval` is 0; it is a number of steps, at least 1")]
    ZeroInterval,
    /// The first check would already be after the window.
    #[error(
        "`interval` = {interval} is longer than the {window_steps} steps of the window, so no check would ever happen"
    )]
    IntervalTooLong {
        /// Steps from one check to the next.
        interval: u64,
        /// Steps between start and end.
        window_steps: u64,
    },
    /// Both ways to place checks were given.
    #[error(
        "`checks` = {checks} and `interval` = {interval} both place the checks; give one of them"
    )]
    ChecksAndInterval {
        /// Number of checks asked for.
        checks: u64,
        /// Steps from one check to the next.
        interval: u64,
    },
    /// Neither way to place checks was given.
    #[error("nothing places the checks; give `checks` (how many) or `interval` (steps)")]
    NoSpacing,
    /// A tolerance outside `[0, 1)`, or NaN.
    #[error(
        "`tau` = {tau} is out of range; it is the share of the sum of Hankel singular values that a cut may discard, in [0, 1)"
    )]
    TauOutOfRange {
        /// What was given.
        tau: f64,
    },
    /// A gate outside `[0, 1)`, or NaN.
    #[error(
        "`min_drop` = {min_drop} is out of range; it is the share of a layer's states that a cut must drop, in [0, 1)"
    )]
    MinDropOutOfRange {
        /// What was given.
        min_drop: f64,
    },
    /// A layer cannot lose its last state.
    #[error("`min_state` is 0; a layer keeps at least 1 state")]
    ZeroMinState,
    /// A saved schedule whose checks are not strictly increasing, or whose position is outside of them.
    #[error(
        "the saved schedule is inconsistent: its checks must increase strictly and its position ({next_index} of {checks}) must be among them"
    )]
    Inconsistent {
        /// Index of the next check.
        next_index: usize,
        /// Number of checks.
        checks: usize,
    },

    /// Decisions were asked for at a step that has no check, or whose check is done.
    #[error("step {step} is not due for a check; the next one is {}", next_or_none(.next_check))]
    NotDue {
        /// The step asked about.
        step: u64,
        /// The next check, if any is left.
        next_check: Option<u64>,
    },
    /// Training went past a check without making it.
    #[error(
        "the check at step {check} was missed: training is at step {step}; ask the schedule at every step"
    )]
    MissedCheck {
        /// The check that did not happen.
        check: u64,
        /// Where training is.
        step: u64,
    },
    /// A spectrum does not have one value per state.
    #[error("layer {layer} has {state_dim} states but its spectrum has {values} values")]
    SpectrumLength {
        /// Position of the layer in the call.
        layer: usize,
        /// Its current number of states.
        state_dim: usize,
        /// Number of Hankel singular values.
        values: usize,
    },
    /// A finite spectrum is not sorted, or has a negative value.
    #[error(
        "layer {layer}: Hankel singular value {index} is {value:e}, but a spectrum is non-negative and sorted, largest first"
    )]
    SpectrumNotSorted {
        /// Position of the layer in the call.
        layer: usize,
        /// Position of the value in the spectrum, from 0.
        index: usize,
        /// The value.
        value: f64,
    },
}

fn next_or_none(next_check: &Option<u64>) -> String {
    next_check.map_or_else(
        || "none: all checks are done".to_owned(),
        |step| format!("at step {step}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_next_check_or_says_that_there_is_none() {
        let next = ScheduleError::NotDue {
            step: 7,
            next_check: Some(10),
        };
        assert_eq!(
            next.to_string(),
            "step 7 is not due for a check; the next one is at step 10"
        );
        let done = ScheduleError::NotDue {
            step: 7,
            next_check: None,
        };
        assert!(done.to_string().ends_with("none: all checks are done"));
    }
}

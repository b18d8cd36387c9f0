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
    /// A parameter of a policy is out of its range, or NaN.
    #[error("`{key}` = {value} is out of range; {meaning}")]
    OutOfRange {
        /// Key of the parameter in a configuration, without that of a section.
        key: &'static str,
        /// What was given.
        value: f64,
        /// What it is, and from where to where it goes.
        meaning: &'static str,
    },
    /// A target below what the gate leaves in every layer.
    #[error(
        "the target of {per_layer} states per layer is below `min_state` = {min_state}; raise the target or lower `min_state`"
    )]
    TargetBelowMinState {
        /// States per layer to reach.
        per_layer: usize,
        /// Fewest states a layer may be left with.
        min_state: usize,
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
    /// What orders are rounded to is no power of two.
    #[error(
        "`order_multiple` = {order_multiple} is no power of two; orders are rounded up to multiples of it and, below it, to powers of two: give 1 (no rounding), 2, 4, 8, ..."
    )]
    OrderMultiple {
        /// What was given.
        order_multiple: usize,
    },
    /// A saved schedule that contradicts itself.
    #[error("the saved schedule is inconsistent: {what}; start from another checkpoint")]
    Inconsistent {
        /// What does not fit.
        what: Contradiction,
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
    /// Training went on although the cuts of the latest check are still on trial.
    #[error(
        "the cuts at step {step} await their verdict; evaluate, and call `judge` with the accuracies before and after them"
    )]
    VerdictAwaited {
        /// Step of the cuts.
        step: u64,
    },
    /// A verdict was given, but no cut is on trial.
    #[error(
        "no cut is on trial; call `judge` only while `needs_verdict` says so, and once for every check"
    )]
    NoVerdictDue,
    /// An accuracy outside `[0, 1]`.
    #[error("{accuracy} is not an accuracy; give fractions of 1, not percents")]
    AccuracyOutOfRange {
        /// What was given.
        accuracy: f64,
    },
    /// A target in parameters that no number of states can meet.
    #[error(
        "a target of {total} parameters is out of reach: {fixed} of them belong to no state, and with the fewest states allowed there are still {least}; raise the target to {least} or more, lower `min_state`, or make the model around the layers smaller"
    )]
    ParametersOutOfReach {
        /// Parameters to reach.
        total: u64,
        /// Parameters that no cut touches.
        fixed: u64,
        /// Parameters with every layer at its smallest.
        least: u128,
    },
    /// The counts of parameters do not match the layers.
    #[error(
        "a target in parameters needs the parameters per state of each of the {layers} layers, but there are {counts} counts"
    )]
    ParameterCounts {
        /// Number of layers.
        layers: usize,
        /// Number of counts.
        counts: usize,
    },
    /// The model has another number of layers than before.
    #[error(
        "the check was given {layers} layers, the earlier ones {expected}; hand over every layer at every check"
    )]
    LayersChanged {
        /// Number of layers now.
        layers: usize,
        /// Number of layers at the first check.
        expected: usize,
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

/// What does not fit in a saved schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Contradiction {
    /// The steps of the checks do not increase strictly.
    #[error("its checks do not increase strictly")]
    ChecksNotIncreasing,
    /// The next check is none of them.
    #[error("its position is {next_index} of {checks} checks")]
    Position {
        /// Index of the next check.
        next_index: usize,
        /// Number of checks.
        checks: usize,
    },
    /// A layer was cut at a step that is no check of the past.
    #[error("layer {layer} was cut at step {step}, which is no check that was made")]
    CutWithoutCheck {
        /// Position of the layer.
        layer: usize,
        /// Step of its latest cut.
        step: u64,
    },
    /// A step time that is none, or more of them than checks.
    #[error("its step times are not those of its checks")]
    StepTimes,
    /// A verdict is awaited or was given that this policy and these cuts cannot have.
    #[error("its trial does not fit its policy and its cuts")]
    Trial,
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

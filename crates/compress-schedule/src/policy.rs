//! How far: the rules that turn spectra into orders.
//!
//! Each policy is a module of its own with its parameters, their ranges, its rule and its words, and a line of the list at
//! the end of this file.

pub mod auto;
pub mod fraction;
mod key;
pub mod none;
pub mod pragmatic;
mod registration;
mod rule;
pub mod target;
pub mod tolerance;

use std::fmt;

use serde::Deserializer;

use crate::{KeepReason, ScheduleError};
pub use key::Key;
use registration::policies;
use rule::Configured;
pub(crate) use rule::{Rule, proposals};

impl Policy {
    /// Whether this policy can ever ask for a cut. One that cannot needs no checks.
    pub fn is_active(self) -> bool {
        self.kind().cuts()
    }

    /// Checks that every field is in its range.
    ///
    /// # Errors
    /// [`ScheduleError::OutOfRange`], with the key that the field has in a configuration.
    pub fn validate(self) -> Result<(), ScheduleError> {
        self.rule().validate()
    }
}

policies! {
    "none" => None(none::NoCuts),
    "tolerance" => Tolerance(tolerance::Tolerance),
    "fraction" => Fraction(fraction::Fraction),
    "target" => Target(target::Target),
    "pragmatic" => Pragmatic(pragmatic::Pragmatic),
    "auto" => Auto(auto::Auto),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;

    #[test]
    fn a_run_without_policy_is_inactive() {
        assert!(!Policy::from(NoCuts).is_active());
        assert!(Policy::from(Fraction { fraction: 0.1 }).is_active());
    }

    #[test]
    fn a_policy_is_written_with_its_kind_and_unknown_keys_are_refused() {
        let target = Policy::from(Target {
            budget: Budget::StepTime { milliseconds: 2.5 },
        });
        for (policy, text) in [
            (
                target,
                r#"{"kind":"target","budget":{"unit":"step_time","milliseconds":2.5}}"#,
            ),
            (NoCuts.into(), r#"{"kind":"none"}"#),
        ] {
            assert_eq!(serde_json::to_string(&policy).unwrap(), text);
            assert_eq!(serde_json::from_str::<Policy>(text).unwrap(), policy);
        }
        for bad in [
            r#"{"kind":"none","tau":0.1}"#,
            r#"{"kind":"fraction","fraction":0.1,"tau":0.1}"#,
            r#"{"kind":"target","budget":{"unit":"states","per_layer":8,"total":9}}"#,
        ] {
            assert!(serde_json::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kind_is_written_as_its_word_and_has_keys_of_different_names() {
        for kind in PolicyKind::ALL {
            let text = serde_json::to_string(kind).unwrap();
            assert_eq!(text, format!("\"{}\"", kind.word()));
            assert_eq!(serde_json::from_str::<PolicyKind>(&text).unwrap(), *kind);
            let mut names: Vec<&str> = kind.keys().iter().map(Key::name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), kind.keys().len(), "{kind:?}");
        }
    }

    #[test]
    fn a_policy_is_made_from_its_keys_and_no_others() {
        let from = |kind: PolicyKind, text: &str| {
            kind.with_keys(&mut serde_json::Deserializer::from_str(text))
        };
        let auto = from(PolicyKind::Auto, r#"{"min_correlation":0.9,"tau":0.1}"#);
        let expected = Auto {
            tau: 0.1,
            min_correlation: 0.9,
        };
        assert_eq!(auto.unwrap(), expected.into());
        assert_eq!(from(PolicyKind::None, "{}").unwrap(), NoCuts.into());
        assert!(from(PolicyKind::Tolerance, r#"{"tau":0.1,"fraction":0.2}"#).is_err());
        assert!(from(PolicyKind::Tolerance, "{}").is_err());
    }
}

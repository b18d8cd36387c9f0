//! Ordinary training.

use serde::{Deserialize, Deserializer, Serialize};

use super::key::Key;
use super::registration::nothing;
use super::rule::{Configured, Rule};
use crate::check::{Check, Proposal};
use crate::{KeepReason, ScheduleError};

/// Never cut: ordinary training, the baseline of every comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NoCuts;

nothing!(Cut);
nothing!(Keep);

impl Configured for NoCuts {
    const KEYS: &'static [Key] = &[];
    const CUTS: bool = false;

    fn from_keys<'de, D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

impl Rule for NoCuts {
    fn validate(&self) -> Result<(), ScheduleError> {
        Ok(())
    }

    fn propose(&self, _: &Check<'_>, members: &[usize]) -> Vec<Proposal> {
        vec![Proposal::Keep(KeepReason::NothingToCut); members.len()]
    }
}

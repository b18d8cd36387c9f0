//! Keys of a configuration, with the range of their numbers.

use crate::ScheduleError;

/// A key that policies read: its name, and the numbers that it takes.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub(crate) name: &'static str,
    /// What the number is, and from where to where it goes, as the end of a sentence.
    pub(crate) meaning: &'static str,
    /// False for NaN.
    pub(crate) holds: fn(f64) -> bool,
}

impl Key {
    /// Its name, without that of a section.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Refuses a number out of range.
    pub(crate) fn check(&self, value: f64) -> Result<(), ScheduleError> {
        if (self.holds)(value) {
            return Ok(());
        }
        Err(ScheduleError::OutOfRange {
            key: self.name,
            value,
            meaning: self.meaning,
        })
    }
}

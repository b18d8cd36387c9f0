//! Ctrl-C: the first one asks for a checkpoint and an end, the second one ends the process at once.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;

/// What a shell reports of a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Ctrl-C cannot be caught.
#[derive(Debug, Error)]
#[error("cannot watch for Ctrl-C: {0}")]
pub struct InterruptError(#[from] ctrlc::Error);

/// Watches for Ctrl-C, and for the signals by which a system asks a process to end, for the rest of this process.
///
/// # Errors
/// If something else in the process already does.
pub fn watch() -> Result<(), InterruptError> {
    Ok(ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            process::exit(INTERRUPTED);
        }
    })?)
}

/// Whether this process has been asked to end.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

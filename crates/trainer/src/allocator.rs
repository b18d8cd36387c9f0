//! How the allocator of the program treats memory that a step frees.

use std::time::Duration;

/// Number of mimalloc's option `purge_delay`, in milliseconds, in its versions 2 and 3: its bindings leave numbers out that
/// are not promised to last.
const PURGE_DELAY: i32 = 15;

/// How long freed memory is kept for its next use.
///
/// Every step frees what the next one asks for again. mimalloc gives memory back to the system after a second, about as long
/// as a step of a large model takes: getting it again, page by page and zeroed, was a tenth of such a step. What a cut makes
/// superfluous is given back after this time.
const KEPT: Duration = Duration::from_secs(60);

/// Has [`mimalloc`] keep the memory that a step frees for the next step. For programs that have it as global allocator, before
/// they start threads; an environment variable `MIMALLOC_PURGE_DELAY` goes first.
pub fn keep_freed_memory() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
        return;
    }
    // SAFETY: no other thread runs yet that could read the options.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT.as_millis() as _) };
}

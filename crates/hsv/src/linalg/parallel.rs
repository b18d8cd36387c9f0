//! How many threads to use: as many as faer is set to.

use faer::{Par, get_global_parallelism};
use subnormals::Subnormals;

/// Runs two computations, side by side if there is more than one thread.
pub(crate) fn both<A: Send, B: Send>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B + Send,
) -> (A, B) {
    if threads() == 1 {
        (first(), second())
    } else {
        rayon::join(in_ieee_mode(first), in_ieee_mode(second))
    }
}

/// Work for another thread, on which subnormal numbers are to be what they are on this one.
pub(crate) fn in_ieee_mode<R>(work: impl FnOnce() -> R) -> impl FnOnce() -> R {
    || {
        let _mode = Subnormals::kept();
        work()
    }
}

pub(crate) fn threads() -> usize {
    match get_global_parallelism() {
        Par::Seq => 1,
        Par::Rayon(threads) => threads.get(),
    }
}

//! Median times on devices that work on their own.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;

/// Median seconds of `work`, with the device waited for.
///
/// The first run warms caches, pools and just-in-time compilers and does not count, unless it alone takes longer than
/// `budget`: then it is the answer. Else `work` is repeated for about `budget`, twice to thirty times.
pub(crate) fn median<B: Backend, T>(
    device: &B::Device,
    budget: Duration,
    mut work: impl FnMut() -> T,
) -> f64 {
    let mut time = || {
        let start = Instant::now();
        black_box(work());
        B::sync(device).expect("the device finishes its work");
        start.elapsed()
    };
    let first = time();
    if first > budget {
        return first.as_secs_f64();
    }
    let second = time();
    let more = (budget.as_secs_f64() / second.as_secs_f64()) as usize;
    let mut times = vec![second];
    times.extend((0..more.clamp(1, 29)).map(|_| time()));
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}

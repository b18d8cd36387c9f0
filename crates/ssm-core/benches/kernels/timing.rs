//! Times on devices that work on their own.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::backend::Backend;

/// Median seconds of `work`.
///
/// The first run warms caches, pools and just-in-time compilers and does not count, unless it alone takes longer than
/// `budget`: then it is the answer. Else `work` is repeated for about `budget`, twice to thirty times.
pub(crate) fn median<B: Backend, T>(
    device: &B::Device,
    budget: Duration,
    mut work: impl FnMut() -> T,
) -> f64 {
    let first = time::<B, T>(device, &mut work);
    if first > budget.as_secs_f64() {
        return first;
    }
    let times = times::<B, T>(device, budget, &mut work);
    times[times.len() / 2]
}

/// Seconds of the fastest run of `work`, after one that does not count: what a limit is made of.
pub(crate) fn fastest<B: Backend, T>(
    device: &B::Device,
    budget: Duration,
    mut work: impl FnMut() -> T,
) -> f64 {
    time::<B, T>(device, &mut work);
    times::<B, T>(device, budget, &mut work)[0]
}

/// Two to thirty runs for about `budget`, fastest first.
fn times<B: Backend, T>(
    device: &B::Device,
    budget: Duration,
    work: &mut impl FnMut() -> T,
) -> Vec<f64> {
    let mut times = vec![time::<B, T>(device, work)];
    let more = (budget.as_secs_f64() / times[0]) as usize;
    times.extend((0..more.clamp(1, 29)).map(|_| time::<B, T>(device, work)));
    times.sort_unstable_by(f64::total_cmp);
    times
}

/// Seconds of one run, with the device waited for.
fn time<B: Backend, T>(device: &B::Device, work: &mut impl FnMut() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    B::sync(device).expect("the device finishes its work");
    start.elapsed().as_secs_f64()
}

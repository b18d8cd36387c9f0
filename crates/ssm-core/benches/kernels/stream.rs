//! One step of a stream: what a deployed layer costs per token.

use std::hint::black_box;
use std::time::Instant;

use burn::backend::Flex;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use ssm_core::{Lru, LruInit};

use crate::{Options, SHAPES, STATES};

pub(crate) fn table(options: &Options) {
    println!("one layer, one sequence, one thread, whatever the backend");
    println!("    H     N   ns/token   GFLOP/s   weights KiB");
    let mut widths: Vec<usize> = options.shapes(&SHAPES).map(|shape| shape.hidden).collect();
    widths.dedup();
    for hidden in widths {
        for &states in options.states(&STATES) {
            println!("{}", row(options, hidden, states));
        }
    }
}

fn row(options: &Options, hidden: usize, states: usize) -> String {
    let init = LruInit {
        r_min: 0.9,
        r_max: 0.999,
        max_phase: 6.0,
    };
    let rng = &mut ChaCha8Rng::seed_from_u64(1);
    let mut stream = Lru::<Flex>::init(states, hidden, init, rng, &Default::default()).stream();
    let (mut input, mut output) = (vec![0.5; hidden], vec![0.0; hidden]);
    let mut batch = |steps: u32| {
        let start = Instant::now();
        for _ in 0..steps {
            // Fed with what comes out, kept small: no step can start before the one before has ended.
            stream.step(&input, &mut output);
            for (input, output) in input.iter_mut().zip(&output) {
                *input = 1e-3 * output;
            }
        }
        black_box(&output);
        start.elapsed().as_secs_f64() / f64::from(steps)
    };
    let first = batch(100);
    // A tenth of the budget at a time.
    let steps = (options.seconds / 10.0 / first).clamp(10.0, 1e7) as u32;
    let mut times: Vec<f64> = (0..10).map(|_| batch(steps)).collect();
    times.sort_unstable_by(f64::total_cmp);
    let seconds = times[times.len() / 2];
    let (n, h) = (states as f64, hidden as f64);
    format!(
        "{hidden:5}{states:6}{:11.0}{:10.1}{:14.0}",
        1e9 * seconds,
        (8.0 * n * h + 8.0 * n) / seconds / 1e9,
        (4.0 * n * h + 2.0 * n + h) * size_of::<f32>() as f64 / 1024.0
    )
}

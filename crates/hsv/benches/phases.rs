//! Which part of a reduction takes how long, and how far is the whole from what the flops alone would take?
//!
//! One table, on as many threads as there are: per size the median time of `hankel()`, `balanced_truncation()` to a
//! quarter of the states and `diagonalize()`, and where it goes. The library carries no clocks, so parts of a call
//! are timed by themselves on matrices of the same size, and *factors* is what they leave of `hankel()`.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "modules of the library come with their unit tests, which are not run here"
)]

#[path = "../src/linalg"]
mod linalg {
    pub(crate) mod bidiagonal;
    pub(crate) mod parallel;
    pub(crate) mod svd;
}
mod support;

use std::hint::black_box;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Par};
use hsv::{LinearSystem, Mat, c64};
use support::layer;

const STATES: [usize; 6] = [64, 128, 256, 384, 512, 1024];
const INPUTS: [usize; 3] = [8, 64, 512];

/// Each measurement is repeated for about this many seconds, three to thirty times.
const SECONDS: f64 = 1.5;

fn main() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    faer::set_global_parallelism(Par::rayon(threads));
    let (one, all) = (gemm_rate(Par::Seq), gemm_rate(Par::rayon(threads)));
    println!("c64 matrix product: {one:.1} GFLOP/s with 1 thread, {all:.1} with {threads}");
    println!("order = N/4; total: median seconds on {threads} threads; shares in % of it");
    println!(
        "  factors: hankel() less product and svd, both timed bare on an N x N matrix of random entries\n  \
         svd: all values; vectors: the leading N/4 of either side, part of balanced_truncation()\n  \
         truncate: balanced_truncation() less vectors and eigen; eigen: bare, of the truncated state matrix\n  \
         bound: (32/3 N^3 + 16 N^2 order) flops of the svd and its vectors and 100 order^3 of eigen, at the rate above"
    );
    println!(
        "   N    H     total  factors product    svd vectors truncate  eigen diagonal     bound  total/bound"
    );
    for states in STATES {
        let bare = Bare::measure(states);
        for inputs in INPUTS {
            println!("{}", row(states, inputs, &bare, all));
        }
    }
}

/// Parts that depend on the number of states alone, in seconds.
struct Bare {
    product: f64,
    svd: f64,
    vectors: f64,
}

impl Bare {
    fn measure(states: usize) -> Self {
        // Any layer's output matrix is random throughout.
        let matrix = layer(states, states).output_matrix().clone();
        let svd = || linalg::svd::Svd::of(matrix.as_ref()).expect("random matrices converge");
        let decomposition = svd();
        let leading: Vec<usize> = (0..states / 4).collect();
        Self {
            product: median(|| matrix.adjoint() * &matrix),
            svd: median(svd),
            vectors: median(|| decomposition.vectors(&leading)),
        }
    }
}

fn row(states: usize, inputs: usize, bare: &Bare, rate: f64) -> String {
    let (order, system) = (states / 4, layer(states, inputs));
    let decompose = || system.hankel().expect("moderate units");
    let hankel = decompose();
    let truncate = || {
        hankel
            .balanced_truncation(order)
            .expect("a layer has that rank")
    };
    let truncation = truncate();
    let diagonalize = || truncation.diagonalize().expect("separate poles");
    let eigen = median(|| truncation.system().state_matrix().eigen());
    let (decomposed, truncated, diagonal) =
        (median(decompose), median(truncate), median(diagonalize));
    let total = decomposed + truncated + diagonal;
    let shares = [
        decomposed - bare.product - bare.svd,
        bare.product,
        bare.svd,
        bare.vectors,
        truncated - bare.vectors - eigen,
        eigen,
        diagonal,
    ]
    .map(|seconds| 100.0 * seconds / total);
    let [factors, product, svd, vectors, rest, eigen, diagonal] = shares;
    let (n, r) = (states as f64, order as f64);
    let flops = 32.0 / 3.0 * n.powi(3) + 16.0 * n * n * r + 100.0 * r.powi(3);
    let bound = flops / (rate * 1e9);
    format!(
        "{states:4} {inputs:4} {total:9.4}  {factors:7.1} {product:7.1} {svd:6.1} {vectors:7.1} {rest:8.1} \
         {eigen:6.1} {diagonal:8.1} {bound:9.4}  {:11.1}",
        total / bound
    )
}

/// GFLOP/s of a matrix product, eight to an entry's multiplication and addition.
fn gemm_rate(par: Par) -> f64 {
    const SIZE: usize = 768;
    let factor = Mat::from_fn(SIZE, SIZE, |i, j| {
        c64::new((i + 3 * j) as f64, (2 * i) as f64)
    });
    let mut product = Mat::zeros(SIZE, SIZE);
    let seconds = median(|| {
        matmul(
            &mut product,
            Accum::Replace,
            &factor,
            &factor,
            c64::ONE,
            par,
        );
    });
    8.0 * (SIZE as f64).powi(3) / seconds / 1e9
}

fn median<T>(mut work: impl FnMut() -> T) -> f64 {
    let mut time = || {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    let first = time();
    let repetitions = ((SECONDS / first) as usize).clamp(3, 30);
    let mut times: Vec<f64> = (0..repetitions).map(|_| time()).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

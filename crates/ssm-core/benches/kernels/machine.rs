//! The rates that bound every kernel: arithmetic by a matrix product or by loops over vectors, memory by a copy.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::timing::fastest;

const BUDGET: Duration = Duration::from_secs(1);

/// Edge of the matrices of the product.
const PRODUCT: usize = 1024;

/// Elements of the copy, 256 MiB each way: beyond every cache.
const COPY: usize = 1 << 26;

/// What the device can do at best, measured when the program starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Operations a second of a square f32 matrix product.
    pub(crate) product_rate: f64,
    /// Bytes read and bytes written a second by a copy, added.
    pub(crate) copy_rate: f64,
    /// Of a processor.
    pub(crate) vectors: Option<Vectors>,
}

impl Machine {
    /// Rates of a backend's own matrix product and of a copy by all processor threads.
    pub(crate) fn processor<B: Backend>(device: &B::Device) -> Self {
        let source = vec![1.0_f32; COPY];
        let mut target = vec![0.0_f32; COPY];
        let piece = COPY / (16 * rayon::current_num_threads());
        let seconds = fastest::<B, _>(device, BUDGET, || {
            target
                .par_chunks_mut(piece)
                .zip(source.par_chunks(piece))
                .for_each(|(target, source)| target.copy_from_slice(source));
        });
        Self {
            product_rate: product_rate::<B>(device),
            copy_rate: copy_bytes() / seconds,
            vectors: Some(Vectors::measure::<B>(device)),
        }
    }

    /// Rates of a backend's own matrix product and of a tensor multiplied by a number, both on its device.
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "libtorch"))]
    pub(crate) fn device<B: Backend>(device: &B::Device) -> Self {
        let source = Tensor::<B, 1>::ones([COPY], device);
        let seconds = fastest::<B, _>(device, BUDGET, || source.clone() * 1.5);
        Self {
            product_rate: product_rate::<B>(device),
            copy_rate: copy_bytes() / seconds,
            vectors: None,
        }
    }

    /// Seconds below which no kernel with that much arithmetic and that many bytes can stay.
    pub(crate) fn limit(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.product_rate).max(bytes / self.copy_rate)
    }
}

fn copy_bytes() -> f64 {
    (2 * COPY * size_of::<f32>()) as f64
}

fn product_rate<B: Backend>(device: &B::Device) -> f64 {
    let shape = [PRODUCT, PRODUCT];
    let factor = Tensor::<B, 2>::random(shape, Distribution::Uniform(-1.0, 1.0), device);
    let seconds = fastest::<B, _>(device, BUDGET, || factor.clone().matmul(factor.clone()));
    2.0 * (PRODUCT as f64).powi(3) / seconds
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "f32 matrix product of {PRODUCT}: {:.1} GFLOP/s; copy: {:.1} GB/s read and written",
            self.product_rate / 1e9,
            self.copy_rate / 1e9
        )
    }
}

/// What all processor threads together make of `f32` vectors in the first cache, measured when the program starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vectors {
    /// Values of 2^(x r) a second, each by the polynomial of the kernels.
    pub(crate) exponential_rate: f64,
    /// Multiply-adds a second, each one instruction's lane.
    pub(crate) multiply_add_rate: f64,
}

/// Operations in 2^(x r) as [`Exponentials`] computes it: two products, three sums and six multiply-adds; comparisons and
/// operations on bits do not count.
pub(crate) const EXPONENTIAL_FLOPS: f64 = 17.0;

/// Elements of an array of these loops, 4 KiB, and how often they run over it before a thread is asked for the time.
const VECTOR: usize = 1024;
const ROUNDS: usize = 1000;

/// No vector of it lies across two cache lines: such a load takes twice as long.
#[repr(align(64))]
struct Aligned([f32; VECTOR]);

impl Vectors {
    fn measure<B: Backend>(device: &B::Device) -> Self {
        let threads = rayon::current_num_threads();
        let count = (threads * ROUNDS * VECTOR) as f64;
        let rate = |work: fn(&[f32; VECTOR]) -> f32| {
            let Aligned(input) = &Aligned([-0.5; VECTOR]);
            let seconds = fastest::<B, _>(device, BUDGET / 4, || {
                rayon::broadcast(|_| work(black_box(input)))
            });
            count / seconds
        };
        Self {
            exponential_rate: rate(|input| Arch::new().dispatch(Exponentials(input))),
            multiply_add_rate: rate(|input| Arch::new().dispatch(MultiplyAdds(input))),
        }
    }
}

impl fmt::Display for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "f32 vectors in the first cache: {:.2} G exponentials/s, {:.1} G multiply-adds/s",
            self.exponential_rate / 1e9,
            self.multiply_add_rate / 1e9
        )
    }
}

/// 2^(x r) of every element, again and again.
struct Exponentials<'a>(&'a [f32; VECTOR]);

impl WithSimd for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f32 {
        let Aligned(output) = &mut Aligned([0.0; VECTOR]);
        for round in 0..ROUNDS {
            let rate = black_box(round as f32 * 1e-3);
            for (output, x) in output.iter_mut().zip(self.0) {
                *output = exp2_of_negative::<S>(x * rate);
            }
            black_box(&mut *output);
        }
        output[0]
    }
}

/// As the kernels compute it (`exp2_of_negative` in `cpu/real.rs`), which are not public to a bench.
#[inline(always)]
fn exp2_of_negative<S: Simd>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -126.0 { -126.0 } else { x };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let mut p = 1.540_353e-4_f32;
    for c in [
        1.340_029e-3_f32,
        9.618_129e-3,
        5.550_327_4e-2,
        2.402_265e-1,
        6.931_472e-1,
        1.0,
    ] {
        // Without vectors the multiply-add would be a library call.
        p = match size_of::<S::f32s>() {
            4 => p * r + c,
            _ => p.mul_add(r, c),
        };
    }
    p * f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23))
}

/// Sums of x r, one operand from the cache, in as many registers as it takes for no addition to wait for another.
struct MultiplyAdds<'a>(&'a [f32; VECTOR]);

const SUMS: usize = 8;

impl WithSimd for MultiplyAdds<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, _) = S::as_simd_f32s(self.0);
        let (groups, _) = vectors.as_chunks::<SUMS>();
        let mut sums = [simd.splat_f32s(0.0); SUMS];
        for round in 0..ROUNDS {
            let rate = simd.splat_f32s(black_box(round as f32));
            for group in groups {
                for (sum, x) in sums.iter_mut().zip(group) {
                    *sum = simd.mul_add_e_f32s(*x, rate, *sum);
                }
            }
        }
        sums.into_iter().map(|sum| simd.reduce_sum_f32s(sum)).sum()
    }
}

/// The widest vectors that this processor has.
pub(crate) fn simd_level() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "AVX2 and FMA";
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        return "NEON";
    }
    #[allow(unreachable_code, reason = "some processors always have vectors")]
    "none beyond the baseline"
}

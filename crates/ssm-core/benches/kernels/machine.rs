//! The rates that bound every kernel: arithmetic by a matrix product, memory by a copy.

use std::fmt;
use std::time::Duration;

use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
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

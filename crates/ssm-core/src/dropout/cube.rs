//! The mask on CubeCL devices: one thread per element, bit for bit the mask of the CPU.

use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, prelude::*};

use super::Dropout;
use crate::cube::empty;

/// Threads per cube: a multiple of every warp size, small enough for every device.
const CUBE_SIZE: u32 = 256;

/// [`Dropout::factor`] of every position of a tensor like this one.
pub(super) fn factors<R: CubeRuntime>(dropout: Dropout, like: &CubeTensor<R>) -> CubeTensor<R> {
    let factors = empty(like, like.meta.shape().clone(), like.dtype);
    let cube_dim = CubeDim::new_1d(CUBE_SIZE);
    let mask = dropout.mask();
    // SAFETY: every thread checks its position.
    unsafe {
        kernel::launch_unchecked(
            &factors.client,
            calculate_cube_count_elemwise(&factors.client, factors.meta.num_elements(), cube_dim),
            cube_dim,
            factors.required_address_type(),
            factors.clone().into_tensor_arg(),
            mask.low,
            mask.high,
            mask.threshold,
            mask.scale,
            like.dtype.into(),
        );
    }
    factors
}

/// See `Mask::factor` for the hash.
#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<F: Float>(
    factors: &mut Tensor<F>,
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
    #[define(F)] _type: StorageType,
) {
    if ABSOLUTE_POS >= factors.len() {
        terminate!();
    }
    let mut x = ABSOLUTE_POS as u32 ^ low;
    x ^= x >> 17;
    x *= 0xed5a_d4bb_u32;
    x += high;
    x ^= x >> 11;
    x *= 0xac4c_1b51_u32;
    x ^= x >> 15;
    x *= 0x3184_8bab_u32;
    x ^= x >> 14;
    let factor = select(x < threshold, 0.0, scale);
    factors[ABSOLUTE_POS] = F::cast_from(factor);
}

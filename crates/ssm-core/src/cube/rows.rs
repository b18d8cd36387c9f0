//! The sum over rows in a fixed order: how partial sums of the kernels come together.

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};
use cubecl::prelude::*;

use super::empty;

/// A cube takes so many neighboring columns, for coalesced reads, and so many rows at a time.
const COLUMNS: u32 = 32;
const ROWS: u32 = 8;

/// Sum of contiguous `parts` over their leading axes, as a tensor of this shape and type. Sums are taken in the type of
/// `parts`.
///
/// # Shapes
/// - `parts`: `[.., shape]`
pub(crate) fn sum_of_rows<R: CubeRuntime>(
    parts: CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    let total = empty(&parts, shape, dtype);
    let cubes = total.meta.num_elements().div_ceil(COLUMNS as usize);
    let types = [dtype.into(), parts.dtype.into()];
    // SAFETY: every thread checks its column and its rows.
    unsafe {
        kernel::launch_unchecked(
            &total.client,
            CubeCount::Static(cubes as u32, 1, 1),
            CubeDim::new_2d(COLUMNS, ROWS),
            parts.required_address_type(),
            parts.into_tensor_arg(),
            total.clone().into_tensor_arg(),
            types,
        );
    }
    total
}

/// Every [`ROWS`]-th row per thread, then one thread per column over these, in the same order every time.
#[cube(launch_unchecked, address_type = "dynamic")]
fn kernel<F: Float, A: Float>(
    parts: &Tensor<A>,
    total: &mut Tensor<F>,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let width = total.len();
    let rows = parts.len() / width;
    let column = CUBE_POS_X as usize * COLUMNS as usize + UNIT_POS_X as usize;
    let mut sums = SharedMemory::<A>::new(comptime!((COLUMNS * ROWS) as usize));

    let mut sum = A::new(0.0);
    if column < width {
        let mut row = UNIT_POS_Y as usize;
        while row < rows {
            sum += parts[row * width + column];
            row += ROWS as usize;
        }
    }
    sums[UNIT_POS as usize] = sum;
    sync_cube();

    if UNIT_POS_Y == 0 && column < width {
        let mut sum = A::new(0.0);
        for row in 0..ROWS as usize {
            sum += sums[row * COLUMNS as usize + UNIT_POS_X as usize];
        }
        total[column] = F::cast_from(sum);
    }
}

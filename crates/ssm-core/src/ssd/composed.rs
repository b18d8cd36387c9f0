//! The map of Mamba-2 in tensor operations, in chunks of matrix products.

use burn::tensor::{Tensor, TensorData, s};

use super::SsdTensors;
use crate::{
    backend::Backend,
    scan::{DecayTensor, Field, linear_scan},
};

/// Steps of a chunk: products within a chunk grow with it, the recurrence between chunks shrinks.
const CHUNK: usize = 64;

/// The map, for backends without a kernel of their own.
///
/// Within a chunk y = (C Bᵀ ∘ D) Δ x with the decays D from one step to another; what came before a chunk is one state
/// per head, carried from chunk to chunk.
///
/// # Source
/// `DG24`, section 6.
pub(super) fn ssd<B: Backend>(map: SsdTensors<B>) -> Tensor<B, 4> {
    let [batch, length, heads, width] = map.input.dims();
    let groups = map.groups;
    let state = map.input_vector.dims()[2] / groups;
    let size = CHUNK.min(length);
    let chunks = length.div_ceil(size);
    let (device, dtype) = (map.step.device(), map.step.dtype());

    // A last chunk that is not full is filled up with steps of length 0, in which nothing happens.
    let missing = chunks * size - length;
    let filled = |x: Tensor<B, 3>| match missing {
        0 => x,
        _ => {
            let [_, _, width] = x.dims();
            let zeros = Tensor::zeros([batch, missing, width], (&device, dtype));
            Tensor::cat(vec![x, zeros], 1)
        }
    };
    // `[batch, chunks, heads, size, ·]`, and `1` heads for what all of them share.
    let per_head = |x: Tensor<B, 3>, heads: usize| -> Tensor<B, 5> {
        let [_, _, columns] = x.dims();
        filled(x)
            .reshape([batch, chunks, size, heads, columns / heads])
            .swap_dims(2, 3)
    };
    let step = per_head(map.step.clone(), heads);
    let direct = map.input.clone() * map.feedthrough.reshape([1, 1, heads, 1]);
    let driven = map.input * map.step.unsqueeze_dim::<4>(3);
    let driven = per_head(driven.reshape([batch, length, heads * width]), heads);
    let b = per_head(map.input_vector, groups);
    let c = per_head(map.output_vector, groups);

    // Σ_{k ≤ t} Δ_k A within the chunk, and how much is left at its end of what step t adds, by products with triangles of ones.
    let exponents = step * map.decay.reshape([1, 1, heads, 1, 1]);
    let rows = exponents.reshape([batch * chunks * heads, size]);
    let ones_where = |is_one: fn(usize, usize) -> bool| -> Tensor<B, 2> {
        let ones = (0..size * size).map(|i| f32::from(u8::from(is_one(i / size, i % size))));
        let ones = TensorData::new(ones.collect::<Vec<f32>>(), [size, size]);
        Tensor::from_data(ones, (&device, dtype))
    };
    let column = |rows: Tensor<B, 2>| rows.reshape([batch, chunks, heads, size, 1]);
    let sums = column(rows.clone().matmul(ones_where(|k, t| k <= t)));
    let left = column(rows.clone().matmul(ones_where(|k, t| k > t))).exp();

    // Σ_{j < k ≤ t} of them, from step j to step t. Not as a difference of two of the sums, which may be large where what is
    // between neighbors is not.
    let later: Tensor<B, 3> =
        rows.unsqueeze_dim(1) * ones_where(|j, k| k > j).unsqueeze_dim::<3>(0);
    let between = later.reshape([batch * chunks * heads * size, size]);
    let between = between.matmul(ones_where(|k, t| k <= t));
    let between = between
        .reshape([batch, chunks, heads, size, size])
        .swap_dims(3, 4);
    // Masked before the exponential: above the diagonal is what is later.
    let above = ones_where(|t, j| j > t).equal_elem(1.0).unsqueeze::<5>();
    let above = above.expand([batch, chunks, heads, size, size]);
    let decays = between.mask_fill(above, f32::NEG_INFINITY);
    let within = c.clone().matmul(b.clone().swap_dims(3, 4)) * decays.exp();
    let within = within.matmul(driven.clone());

    // What a chunk adds to the state at its end, `[batch, chunks, heads, width, state]`.
    let whole = sums.clone().slice(s![.., .., .., size - 1, ..]);
    let added = (driven * left).swap_dims(3, 4).matmul(b);
    let all = heads * width * state;
    let fades = whole.exp().expand([batch, chunks, heads, width, state]);
    let ends = linear_scan(
        DecayTensor::PerStep(fades.reshape([batch, chunks, all])),
        added.reshape([batch, chunks, all]),
        None,
        Field::Real,
    );
    let start = Tensor::zeros([batch, 1, all], (&device, dtype));
    let before = match chunks {
        1 => start,
        _ => Tensor::cat(vec![start, ends.slice(s![.., 0..chunks - 1, ..])], 1),
    };
    let before = before.reshape([batch, chunks, heads, width, state]);
    let across = c.matmul(before.swap_dims(3, 4)) * sums.exp();

    let y = (within + across).swap_dims(2, 3);
    let y = y
        .reshape([batch, chunks * size, heads, width])
        .slice(s![.., 0..length, .., ..]);
    y + direct
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use crate::{
        primitive::primitive,
        ssd::Ssd,
        testing::{assert_composed_equals_native, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel() {
        let (batch, length, heads, width, state) = (2, 150, 3, 5, 4);
        for groups in [1, heads] {
            let vector = |seed| primitive(random::<Flex, 3>(seed, [batch, length, groups * state]));
            let wide = |seed| primitive(random::<Flex, 4>(seed, [batch, length, heads, width]));
            let inputs = [
                wide(1),
                primitive(random::<Flex, 3>(2, [batch, length, heads]).abs()),
                primitive(random::<Flex, 1>(3, [heads]).abs().neg()),
                vector(4),
                vector(5),
                primitive(random::<Flex, 1>(6, [heads])),
            ];
            assert_composed_equals_native::<Ssd, 6>(inputs, groups, wide(7), 1);
        }
    }
}

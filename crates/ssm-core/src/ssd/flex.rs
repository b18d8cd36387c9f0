//! Native CPU kernel: chunks of matrix products whose operands stay in the first two caches; rows, and heads where there
//! are few rows, in parallel.
//!
//! Of one head and one chunk, with l_t the sum of the exponents Δ A up to step t, V = Δ ∘ x, F[t, j] = exp(l_t - l_j)
//! for j ≤ t and 0 behind, and h the states before the chunk, `[state, width]`:
//!
//! - Y = (C Bᵀ ∘ F) V + exp(l) ∘ C h, and h becomes exp(l_end) h + Bᵀ (exp(l_end - l) ∘ V).
//!
//! With G the gradient of Y, s that of the states behind the chunk, and E = G Vᵀ:
//!
//! - ∂V = (C Bᵀ ∘ F)ᵀ G + exp(l_end - l) ∘ B s,
//! - ∂C = (E ∘ F) B + X, X = exp(l) ∘ G hᵀ, and ∂B = (E ∘ F)ᵀ C + Z, Z = exp(l_end - l) ∘ V sᵀ,
//! - s becomes exp(l_end) s + Cᵀ (exp(l) ∘ G).
//!
//! The gradient of the exponent of step t is the sum of all that passes through that step: from steps j < t of the chunk to
//! steps k ≥ t, (E ∘ F ∘ C Bᵀ)[k, j]; from the states before to steps k ≥ t, C_k · X_k; from steps j < t to the states behind,
//! B_j · Z_j; and from states to states, exp(l_end) s · h.

mod backward;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

use std::ops::Range;

use burn_flex::FlexTensor;
use pulp::Simd;
use rayon::prelude::*;

use super::SsdParts;
use crate::cpu::{COPIED_AT_ONCE, Destination, MatrixRef, Real, dims, tiled_product};

/// Steps of a chunk: products within a chunk grow with it, those with the states shrink.
const CHUNK: usize = 32;

/// What a problem is cut into at least where its heads allow: batch rows times blocks of heads.
const UNITS: usize = 8;

/// How a problem is cut into pieces: decided here, from its shape alone.
#[derive(Clone, Copy, Debug)]
struct Plan {
    batch: usize,
    length: usize,
    heads: usize,
    width: usize,
    state: usize,
    groups: usize,
    /// Blocks of heads.
    blocks: usize,
}

impl Plan {
    fn new(map: &SsdParts<FlexTensor>) -> Self {
        let [batch, length, heads, width] = dims(&map.input);
        let [_, _, vectors] = dims(&map.input_vector);
        let fits = |blocks: &usize| heads % blocks == 0 && blocks * batch >= UNITS;
        Self {
            batch,
            length,
            heads,
            width,
            state: vectors / map.groups,
            groups: map.groups,
            blocks: (1..heads).find(fits).unwrap_or(heads),
        }
    }

    /// Units of work, block by block, of each the batch rows in order.
    fn units(&self) -> usize {
        self.blocks * self.batch
    }

    /// Batch row and heads of a unit.
    fn unit(&self, index: usize) -> (usize, Range<usize>) {
        let (block, heads) = (index / self.batch, self.block_heads());
        (index % self.batch, block * heads..(block + 1) * heads)
    }

    fn block_heads(&self) -> usize {
        self.heads / self.blocks
    }

    /// Channels of a block.
    fn block_width(&self) -> usize {
        self.block_heads() * self.width
    }

    /// Elements of the B or C of a block: of all heads, or of each.
    fn block_vectors(&self) -> usize {
        match self.groups {
            1 => self.state,
            _ => self.block_heads() * self.state,
        }
    }

    /// Elements of the states of a head.
    fn head_states(&self) -> usize {
        self.state * self.width
    }

    fn chunks(&self) -> usize {
        self.length.div_ceil(CHUNK)
    }

    /// Steps of a chunk, from the first step of the row.
    fn chunk(&self, index: usize) -> Range<usize> {
        index * CHUNK..((index + 1) * CHUNK).min(self.length)
    }

    /// The heads of a unit by what has a B and a C of its own, with the place of these among all.
    fn vector_groups(&self, heads: Range<usize>) -> Vec<(usize, Range<usize>)> {
        match self.groups {
            1 => vec![(0, heads)],
            _ => heads
                .map(|head| (head * self.state, head..head + 1))
                .collect(),
        }
    }
}

/// The map on slices, shaped as in [`SsdParts`].
struct Parts<'a, T> {
    input: &'a [T],
    step: &'a [T],
    decay: &'a [T],
    input_vector: &'a [T],
    output_vector: &'a [T],
    feedthrough: &'a [T],
}

impl<'a, T: Real> Parts<'a, T> {
    fn new(map: &'a SsdParts<FlexTensor>) -> Self {
        Self {
            input: map.input.storage::<T>(),
            step: map.step.storage::<T>(),
            decay: map.decay.storage::<T>(),
            input_vector: map.input_vector.storage::<T>(),
            output_vector: map.output_vector.storage::<T>(),
            feedthrough: map.feedthrough.storage::<T>(),
        }
    }
}

/// Some steps of one batch row.
#[derive(Clone, Copy)]
struct Steps<'a> {
    plan: &'a Plan,
    /// Of the first, over all rows.
    first: usize,
    count: usize,
}

impl<'a> Steps<'a> {
    fn new(plan: &'a Plan, row: usize, steps: &Range<usize>) -> Self {
        Self {
            plan,
            first: row * plan.length + steps.start,
            count: steps.len(),
        }
    }

    /// `cols` columns from `col` on of `values`, which has `row` elements for a step.
    fn of<'b, T>(self, values: &'b [T], row: usize, col: usize, cols: usize) -> MatrixRef<'b, T> {
        MatrixRef::columns(&values[self.first * row + col..], self.count, cols, row)
    }

    /// x or its like, of one head.
    fn of_head<'b, T>(self, values: &'b [T], head: usize) -> MatrixRef<'b, T> {
        let Plan { heads, width, .. } = *self.plan;
        self.of(values, heads * width, head * width, width)
    }

    /// B or C, from this place on.
    fn of_vector<'b, T>(self, values: &'b [T], place: usize) -> MatrixRef<'b, T> {
        let Plan { groups, state, .. } = *self.plan;
        self.of(values, groups * state, place, state)
    }

    /// Δ of a head.
    fn sizes<T: Real>(self, step: &[T], head: usize) -> impl Iterator<Item = T> {
        let heads = self.plan.heads;
        (self.first..self.first + self.count).map(move |at| step[at * heads + head])
    }
}

/// How much is left of something after some steps of a chunk.
struct Fades<T> {
    /// l.
    exponents: Vec<f64>,
    /// exp(l).
    from_start: Vec<T>,
    /// exp(l_end - l).
    to_end: Vec<T>,
    /// exp(l_end).
    whole: T,
    /// F.
    within: Vec<T>,
}

impl<T: Real> Fades<T> {
    fn new() -> Self {
        Self {
            exponents: Vec::with_capacity(CHUNK),
            from_start: vec![T::ZERO; CHUNK],
            to_end: vec![T::ZERO; CHUNK],
            whole: T::ONE,
            within: vec![T::ZERO; CHUNK * CHUNK],
        }
    }

    /// For a chunk with these Δ. Exponents are summed and subtracted in `f64`: between neighbors far from the start the
    /// difference of two large ones has to be right.
    #[inline(always)]
    fn fill<S: Simd>(&mut self, sizes: impl Iterator<Item = T>, rate: T) {
        let mut sum = 0.0;
        self.exponents.clear();
        self.exponents.extend(sizes.map(|size| {
            sum += size.into_f64() * rate.into_f64();
            sum
        }));
        let count = self.exponents.len();
        let ends = self.from_start.iter_mut().zip(&mut self.to_end);
        for ((from_start, to_end), l) in ends.zip(&self.exponents) {
            *from_start = T::from_f64(*l).exp::<S>();
            *to_end = T::from_f64(sum - *l).exp::<S>();
        }
        self.whole = T::from_f64(sum).exp::<S>();
        for (t, row) in self.within.chunks_exact_mut(count).take(count).enumerate() {
            let until = self.exponents[t];
            for (j, (fade, l)) in row.iter_mut().zip(&self.exponents).enumerate() {
                let value = T::from_f64(until - *l).exp::<S>();
                *fade = if j <= t { value } else { T::ZERO };
            }
        }
    }
}

/// `dst = factor ∘ rows`, a factor for every row.
#[inline(always)]
fn scale_rows<T: Real>(
    dst: &mut [T],
    factors: impl IntoIterator<Item = T>,
    rows: MatrixRef<'_, T>,
    cols: usize,
) {
    for (t, (dst, factor)) in dst.chunks_exact_mut(cols).zip(factors).enumerate() {
        for (dst, value) in dst.iter_mut().zip(rows.row(t)) {
            *dst = factor * *value;
        }
    }
}

/// `dst = a ∘ b`.
#[inline(always)]
fn multiply<T: Real>(dst: &mut [T], a: &[T], b: &[T]) {
    for ((dst, a), b) in dst.iter_mut().zip(a).zip(b) {
        *dst = *a * *b;
    }
}

/// The transpose of a matrix of `cols` columns.
#[inline(always)]
fn transpose_into<T: Real>(dst: &mut [T], matrix: MatrixRef<'_, T>, rows: usize) {
    for (j, dst) in dst.chunks_exact_mut(rows).enumerate() {
        for (t, dst) in dst.iter_mut().enumerate() {
            *dst = matrix.row(t)[j];
        }
    }
}

/// `dst = lhs * rhs`.
#[inline(always)]
fn set<S: Simd, T: Real>(simd: S, dst: &mut [T], lhs: MatrixRef<'_, T>, rhs: MatrixRef<'_, T>) {
    tiled_product::<0, S, T>(simd, dst, Destination::Overwrite, lhs, rhs);
}

/// `dst += lhs * rhs`.
#[inline(always)]
fn add<S: Simd, T: Real>(simd: S, dst: &mut [T], lhs: MatrixRef<'_, T>, rhs: MatrixRef<'_, T>) {
    tiled_product::<0, S, T>(simd, dst, Destination::Accumulate, lhs, rhs);
}

/// What blocks wrote one behind the other, `[blocks, rows, width]`, side by side: `[rows, blocks · width]`.
fn side_by_side<T: Real>(parts: Vec<T>, blocks: usize, width: usize) -> Vec<T> {
    if blocks == 1 {
        return parts;
    }
    let block = parts.len() / blocks;
    let mut joined = vec![T::ZERO; parts.len()];
    joined
        .par_chunks_mut(blocks * width)
        .with_min_len(COPIED_AT_ONCE.div_ceil(blocks * width))
        .enumerate()
        .for_each(|(row, joined)| {
            for (index, to) in joined.chunks_exact_mut(width).enumerate() {
                to.copy_from_slice(&parts[index * block + row * width..][..width]);
            }
        });
    joined
}

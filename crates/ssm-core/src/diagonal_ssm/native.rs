//! Native CPU kernel on slices: one pass over the sequence in chunks that stay in the cache.
//!
//! Per batch row and chunk of steps, and panel by panel of states: B u by a matrix product, the recurrence in place,
//! C x by a matrix product. The states of a panel live in a scratch buffer; only the state at every chunk boundary is
//! kept, and the backward pass recomputes the rest from there. Batch rows and groups of panels run in parallel; sums are
//! taken over a fixed number of pieces in a fixed order, so results do not depend on the number of threads.

mod backward;
mod forward;
mod packed;
mod plan;
mod recurrence;

pub(crate) use backward::backward;
pub(crate) use forward::forward;
pub(crate) use plan::Shape;

use pulp::Simd;
use rayon::prelude::*;

use super::DiagonalSsm;
use crate::cpu::{Destination, MatrixRef, Real, add_assign, product, tiled_product};
use packed::Packed;
use plan::{Plan, Products, TILED_LANES};

/// The parameters of a system on slices, shaped as in [`DiagonalSsm`].
pub(crate) type System<'a, T> = DiagonalSsm<&'a [T]>;

/// `dst (+)= lhs * rhs` by the routine of the plan.
#[inline(always)]
fn multiply<S: Simd, T: Real>(
    simd: S,
    products: Products,
    dst: &mut [T],
    mode: Destination,
    lhs: MatrixRef<'_, T>,
    rhs: MatrixRef<'_, T>,
) {
    match products {
        Products::Tiled => tiled_product(simd, dst, mode, lhs, rhs),
        Products::Blocked => product(dst, mode, lhs, rhs),
    }
}

/// `dst += panel * rhs` for states of one panel, `[steps, 2 * lanes]`, and a matrix of `channels` columns.
#[inline(always)]
fn read_panel<S: Simd, T: Real>(
    simd: S,
    plan: &Plan,
    dst: &mut [T],
    panel: &[T],
    rhs: MatrixRef<'_, T>,
) {
    match plan.products {
        Products::Tiled => {
            // A width known to the compiler turns the addresses of a tile's rows into constants.
            const WIDTH: usize = 2 * TILED_LANES;
            let panel = MatrixRef::new(panel, panel.len() / WIDTH, WIDTH);
            tiled_product(simd, dst, Destination::Accumulate, panel, rhs);
        }
        Products::Blocked => {
            let panel = MatrixRef::new(panel, panel.len() / plan.width(), plan.width());
            product(dst, Destination::Accumulate, panel, rhs);
        }
    }
}

/// States of one panel over one chunk, `[steps, 2 * lanes]`, from its inputs `[steps, hidden]` and the state before it,
/// which becomes the state after it.
#[inline(always)]
fn fill_states<S: Simd, T: Real>(
    simd: S,
    plan: &Plan,
    packed: &Packed<T>,
    panel: usize,
    inputs: MatrixRef<'_, T>,
    state: &mut [T],
    states: &mut [T],
) {
    let input_matrix = packed.input(plan, panel);
    multiply(
        simd,
        plan.products,
        states,
        Destination::Overwrite,
        inputs,
        input_matrix,
    );
    recurrence::scan(simd, packed.lambda(plan, panel), state, states);
}

/// Sum of what the groups contributed, `[groups, batch, length, hidden]`, over the groups.
fn sum_groups<T: Real>(plan: &Plan, mut parts: Vec<T>) -> Vec<T> {
    let (row, all) = (plan.row(), plan.shape.batch * plan.row());
    if plan.groups > 1 {
        let (total, others) = parts.split_at_mut(all);
        total
            .par_chunks_mut(row)
            .enumerate()
            .for_each(|(index, total)| {
                for group in others.chunks_exact(all) {
                    add_assign(total, &group[index * row..][..row]);
                }
            });
        parts.truncate(all);
    }
    parts
}

/// D ∘ u in rows of `channels`, whatever comes after the last channel zero.
#[inline(always)]
fn feed_through<T: Real>(feedthrough: &[T], inputs: &[T], outputs: &mut [T], channels: usize) {
    let hidden = feedthrough.len();
    for (y, u) in outputs
        .chunks_exact_mut(channels)
        .zip(inputs.chunks_exact(hidden))
    {
        let (y, padding) = y.split_at_mut(hidden);
        padding.fill(T::ZERO);
        for ((y, u), d) in y.iter_mut().zip(u).zip(feedthrough) {
            *y = *d * *u;
        }
    }
}

/// Rows of `hidden` out of rows of `channels`.
#[inline(always)]
fn unpad<T: Real>(padded: &[T], channels: usize, rows: &mut [T], hidden: usize) {
    for (row, padded) in rows
        .chunks_exact_mut(hidden)
        .zip(padded.chunks_exact(channels))
    {
        row.copy_from_slice(&padded[..hidden]);
    }
}

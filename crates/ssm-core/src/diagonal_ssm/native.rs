//! Native CPU kernel on slices: one pass over the sequence in chunks that stay in the cache.
//!
//! Per batch row and chunk of steps, and panel by panel of states: B u by a matrix product, the recurrence in place,
//! C x by a matrix product. The states of a panel live in a scratch buffer; only the state at every chunk boundary is
//! kept, and the backward pass recomputes the rest from there. Batch rows run in parallel; where there are few of them,
//! groups of panels do too if the layer is narrow, and chunks side by side if it is wide ([`abreast`]). Sums are taken over a
//! fixed number of pieces in a fixed order, so results do not depend on the number of threads.

mod abreast;
mod backward;
mod forward;
mod packed;
mod plan;
mod recurrence;
mod sums;

pub(crate) use backward::backward;
pub(crate) use forward::forward;
pub(crate) use plan::Shape;

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use super::DiagonalSystem;
use crate::cpu::{Destination, MatrixRef, Products, Real, product, tiled_product};
use packed::Packed;
use plan::{Plan, TILED_LANES};

/// The parameters of a system on slices, shaped as in [`DiagonalSystem`].
pub(crate) type System<'a, T> = DiagonalSystem<&'a [T]>;

/// `dst += panel * rhs` for states of one panel, `[steps, 2 * lanes]`, and a matrix of `hidden` columns.
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
            const WIDTH: usize = 2 * TILED_LANES;
            let panel = MatrixRef::new(panel, panel.len() / WIDTH, WIDTH);
            tiled_product::<WIDTH, S, T>(simd, dst, Destination::Accumulate, panel, rhs);
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
    plan.products
        .multiply(simd, states, Destination::Overwrite, inputs, input_matrix);
    recurrence::scan(simd, packed.lambda(plan, panel), state, states);
}

/// [`feed_through`] compiled for the widest vectors that this processor has.
struct FeedThrough<'a, T> {
    feedthrough: &'a [T],
    inputs: &'a [T],
    outputs: &'a mut [MaybeUninit<T>],
}

impl<'a, T: Real> WithSimd for FeedThrough<'a, T> {
    type Output = &'a mut [T];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> &'a mut [T] {
        feed_through(self.feedthrough, self.inputs, self.outputs)
    }
}

/// `outputs = D ∘ inputs` with D repeated in `feedthrough`: what is in the outputs now.
#[inline(always)]
fn feed_through<'a, T: Real>(
    feedthrough: &[T],
    inputs: &[T],
    outputs: &'a mut [MaybeUninit<T>],
) -> &'a mut [T] {
    let tile = feedthrough.len();
    assert_eq!(inputs.len(), outputs.len(), "as many outputs as inputs");
    let tiles = outputs.chunks_mut(tile).zip(inputs.chunks(tile));
    for (outputs, inputs) in tiles {
        for ((y, u), d) in outputs.iter_mut().zip(inputs).zip(feedthrough) {
            y.write(*d * *u);
        }
    }
    // SAFETY: by the assertion the tiles are all there is, and each was written.
    unsafe { outputs.assume_init_mut() }
}

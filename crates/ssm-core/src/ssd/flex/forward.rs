//! The forward pass.

use std::{mem::MaybeUninit, ops::Range};

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    CHUNK, Fades, Parts, Plan, Steps, add, multiply, scale_rows, set, side_by_side, transpose_into,
};
use crate::{
    cpu::{MatrixRef, Real, dims, dispatch, tensor},
    ssd::SsdParts,
};

/// The output, and the states before every chunk.
pub(crate) fn forward<T: Real>(map: &SsdParts<FlexTensor>) -> [FlexTensor; 2] {
    let plan = Plan::new(map);
    let (parts, shape): (_, [usize; 4]) = (Parts::<T>::new(map), dims(&map.input));
    let unit = plan.length * plan.block_width();
    let block_states = plan.block_heads() * plan.head_states();
    let unit_states = plan.chunks() * block_states;
    let mut output = Box::<[T]>::new_uninit_slice(plan.units() * unit);
    let mut chunk_states = Box::<[T]>::new_uninit_slice(plan.units() * unit_states);
    output
        .par_chunks_mut(unit)
        .zip(chunk_states.par_chunks_mut(unit_states))
        .enumerate()
        .for_each_init(
            || Scratch::new(&plan),
            |scratch, (index, (output, chunk_states))| {
                let (row, heads) = plan.unit(index);
                dispatch::<T, _>(Unit {
                    plan: &plan,
                    parts: &parts,
                    row,
                    heads,
                    output,
                    chunk_states,
                    scratch,
                });
            },
        );
    // SAFETY: every unit writes its part of both, and the units are all there is.
    let [output, chunk_states] =
        [output, chunk_states].map(|values| unsafe { values.assume_init() }.into_vec());
    let states = [plan.units() * plan.chunks(), block_states];
    [
        tensor(side_by_side(output, plan.blocks, plan.block_width()), shape),
        tensor(chunk_states, states),
    ]
}

/// Buffers for one chunk.
struct Scratch<T> {
    fades: Fades<T>,
    /// Bᵀ, `[state, steps]`.
    input_vector: Vec<T>,
    /// C Bᵀ, `[steps, steps]`.
    products: Vec<T>,
    /// C Bᵀ ∘ F.
    faded: Vec<T>,
    /// V, `[steps, width]`.
    driven: Vec<T>,
    /// Y, `[steps, width]`.
    output: Vec<T>,
    /// B or C times a factor, `[steps, state]`.
    scaled: Vec<T>,
    /// h of all heads.
    states: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(plan: &Plan) -> Self {
        let zeros = |len: usize| vec![T::ZERO; len];
        Self {
            fades: Fades::new(),
            input_vector: zeros(CHUNK * plan.state),
            products: zeros(CHUNK * CHUNK),
            faded: zeros(CHUNK * CHUNK),
            driven: zeros(CHUNK * plan.width),
            output: zeros(CHUNK * plan.width),
            scaled: zeros(CHUNK * plan.state),
            states: zeros(plan.block_heads() * plan.head_states()),
        }
    }
}

/// Some heads of one batch row.
struct Unit<'a, T> {
    plan: &'a Plan,
    parts: &'a Parts<'a, T>,
    row: usize,
    heads: Range<usize>,
    /// `[length, heads, width]`.
    output: &'a mut [MaybeUninit<T>],
    /// h before every chunk, `[chunks, heads, state, width]`.
    chunk_states: &'a mut [MaybeUninit<T>],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for Unit<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (plan, parts, scratch) = (self.plan, self.parts, self.scratch);
        let Plan { state, width, .. } = *plan;
        let (head_states, block_width) = (plan.head_states(), plan.block_width());
        scratch.states.fill(T::ZERO);
        let boundaries = self.chunk_states.chunks_exact_mut(scratch.states.len());
        for (index, boundary) in boundaries.enumerate() {
            boundary.write_copy_of_slice(&scratch.states);
            let chunk = plan.chunk(index);
            let (steps, q) = (Steps::new(plan, self.row, &chunk), chunk.len());
            for (place, heads) in plan.vector_groups(self.heads.clone()) {
                let b = steps.of_vector(parts.input_vector, place);
                let c = steps.of_vector(parts.output_vector, place);
                let products = &mut scratch.products[..q * q];
                let transposed = &mut scratch.input_vector[..state * q];
                transpose_into(transposed, b, q);
                set(simd, products, c, MatrixRef::new(transposed, state, q));
                for head in heads {
                    let fades = &mut scratch.fades;
                    fades.fill::<S>(steps.sizes(parts.step, head), parts.decay[head]);
                    let x = steps.of_head(parts.input, head);
                    let driven = &mut scratch.driven[..q * width];
                    scale_rows(driven, steps.sizes(parts.step, head), x, width);
                    let faded = &mut scratch.faded[..q * q];
                    multiply(faded, products, &fades.within);
                    let driven = MatrixRef::new(driven, q, width);
                    let output = &mut scratch.output[..q * width];
                    set(simd, output, MatrixRef::new(faded, q, q), driven);

                    let own = head - self.heads.start;
                    let states = &mut scratch.states[own * head_states..][..head_states];
                    let scaled = &mut scratch.scaled[..q * state];
                    scale_rows(scaled, fades.from_start.iter().copied(), c, state);
                    let before = MatrixRef::new(states, state, width);
                    add(simd, output, MatrixRef::new(scaled, q, state), before);
                    scale_rows(scaled, fades.to_end.iter().copied(), b, state);
                    for h in &mut *states {
                        *h = *h * fades.whole;
                    }
                    let scaled = MatrixRef::new(scaled, q, state);
                    add(simd, states, scaled.transpose(), driven);

                    for (t, y) in output.chunks_exact(width).enumerate() {
                        let at = (chunk.start + t) * block_width + own * width;
                        let to = self.output[at..at + width].iter_mut().zip(y);
                        for ((to, y), x) in to.zip(x.row(t)) {
                            to.write(x.fused::<S>(parts.feedthrough[head], *y));
                        }
                    }
                }
            }
        }
    }
}

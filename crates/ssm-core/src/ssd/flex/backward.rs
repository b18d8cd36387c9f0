//! The backward pass.

use std::{mem::MaybeUninit, ops::Range};

use burn_flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    CHUNK, Fades, Parts, Plan, Steps, add, multiply, scale_rows, set, side_by_side, transpose_into,
};
use crate::{
    cpu::{MatrixRef, Real, add_assign, dims, dispatch, dot, sum, sum_of_parts, tensor},
    ssd::SsdParts,
};

/// Gradients of the parts in their order.
pub(crate) fn backward<T: Real>(
    map: &SsdParts<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> [FlexTensor; 6] {
    let (plan, groups) = (Plan::new(map), map.groups);
    let (parts, gradient) = (Parts::<T>::new(map), output_gradient.storage::<T>());
    let states = chunk_states.storage::<T>();
    let unit_states = plan.chunks() * plan.block_heads() * plan.head_states();
    let (wide, heads, vectors) = (plan.block_width(), plan.block_heads(), plan.block_vectors());

    let uninit = |width: usize| Box::<[T]>::new_uninit_slice(plan.units() * plan.length * width);
    let [mut of_input, mut of_step] = [wide, heads].map(uninit);
    let [mut of_b, mut of_c] = [vectors; 2].map(uninit);
    let of_heads: Vec<[Vec<f64>; 2]> = of_input
        .par_chunks_mut(plan.length * wide)
        .zip(of_step.par_chunks_mut(plan.length * heads))
        .zip(of_b.par_chunks_mut(plan.length * vectors))
        .zip(of_c.par_chunks_mut(plan.length * vectors))
        .zip(states.par_chunks(unit_states))
        .enumerate()
        .map_init(
            || Scratch::new(&plan),
            |scratch, (index, ((((of_input, of_step), of_b), of_c), chunk_states))| {
                let (row, heads) = plan.unit(index);
                dispatch::<T, _>(Unit {
                    plan: &plan,
                    parts: &parts,
                    row,
                    heads,
                    chunk_states,
                    gradient,
                    of_input,
                    of_step,
                    of_vectors: [of_b, of_c],
                    scratch,
                })
            },
        )
        .collect();
    // SAFETY: every unit writes its part of all four, and the units are all there is.
    let [of_input, of_step, of_b, of_c] =
        [of_input, of_step, of_b, of_c].map(|values| unsafe { values.assume_init() }.into_vec());

    let of_vector = |parts: Vec<T>| match groups {
        1 => sum_of_parts(parts, plan.blocks),
        _ => side_by_side(parts, plan.blocks, vectors),
    };
    let per_head = |which: usize| {
        let total = |head: usize| {
            let block = of_heads.chunks_exact(plan.batch).nth(head / heads);
            let rows = block.expect("every head is in a block").iter();
            T::from_f64(rows.map(|sums| sums[which][head % heads]).sum())
        };
        tensor((0..plan.heads).map(total).collect(), [plan.heads])
    };
    let input = side_by_side(of_input, plan.blocks, wide);
    let step = side_by_side(of_step, plan.blocks, heads);
    [
        tensor(input, dims::<4>(&map.input)),
        tensor(step, dims::<3>(&map.step)),
        per_head(0),
        tensor(of_vector(of_b), dims::<3>(&map.input_vector)),
        tensor(of_vector(of_c), dims::<3>(&map.output_vector)),
        per_head(1),
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
    /// E, then E ∘ F.
    pairs: Vec<T>,
    /// E ∘ F of all heads that share B and C.
    all_pairs: Vec<T>,
    /// V, `[steps, width]`.
    driven: Vec<T>,
    /// Vᵀ.
    driven_transposed: Vec<T>,
    /// ∂V.
    of_driven: Vec<T>,
    /// B or C times a factor, X, or Z, `[steps, state]`.
    scaled: Vec<T>,
    /// hᵀ or sᵀ, `[width, state]`.
    states_transposed: Vec<T>,
    /// ∂B and ∂C, `[steps, state]`.
    of_vectors: [Vec<T>; 2],
    /// s of all heads.
    adjoints: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(plan: &Plan) -> Self {
        let zeros = |len: usize| vec![T::ZERO; len];
        Self {
            fades: Fades::new(),
            input_vector: zeros(CHUNK * plan.state),
            products: zeros(CHUNK * CHUNK),
            faded: zeros(CHUNK * CHUNK),
            pairs: zeros(CHUNK * CHUNK),
            all_pairs: zeros(CHUNK * CHUNK),
            driven: zeros(CHUNK * plan.width),
            driven_transposed: zeros(CHUNK * plan.width),
            of_driven: zeros(CHUNK * plan.width),
            scaled: zeros(CHUNK * plan.state),
            states_transposed: zeros(plan.head_states()),
            of_vectors: [(); 2].map(|()| zeros(CHUNK * plan.state)),
            adjoints: zeros(plan.block_heads() * plan.head_states()),
        }
    }
}

/// Some heads of one batch row.
struct Unit<'a, T> {
    plan: &'a Plan,
    parts: &'a Parts<'a, T>,
    row: usize,
    heads: Range<usize>,
    /// h before every chunk, `[chunks, heads, state, width]`.
    chunk_states: &'a [T],
    /// Of the output, of all rows and heads.
    gradient: &'a [T],
    /// `[length, heads, width]`.
    of_input: &'a mut [MaybeUninit<T>],
    /// `[length, heads]`.
    of_step: &'a mut [MaybeUninit<T>],
    /// Of B and C, `[length, groups · state]`.
    of_vectors: [&'a mut [MaybeUninit<T>]; 2],
    scratch: &'a mut Scratch<T>,
}

impl<T: Real> WithSimd for Unit<'_, T> {
    /// Gradients of A and D, of every head.
    type Output = [Vec<f64>; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Self::Output {
        let (plan, parts, scratch) = (self.plan, self.parts, self.scratch);
        let Plan { state, width, .. } = *plan;
        let (head_states, block_heads) = (plan.head_states(), plan.block_heads());
        let mut of_decay = vec![0.0; block_heads];
        let mut of_feedthrough = vec![0.0; block_heads];
        scratch.adjoints.fill(T::ZERO);
        for index in (0..plan.chunks()).rev() {
            let chunk = plan.chunk(index);
            let (steps, q) = (Steps::new(plan, self.row, &chunk), chunk.len());
            for (place, heads) in plan.vector_groups(self.heads.clone()) {
                let b = steps.of_vector(parts.input_vector, place);
                let c = steps.of_vector(parts.output_vector, place);
                let products = &mut scratch.products[..q * q];
                let transposed = &mut scratch.input_vector[..state * q];
                transpose_into(transposed, b, q);
                set(simd, products, c, MatrixRef::new(transposed, state, q));
                let all_pairs = &mut scratch.all_pairs[..q * q];
                all_pairs.fill(T::ZERO);
                let [of_b, of_c] = scratch.of_vectors.each_mut().map(|v| &mut v[..q * state]);
                of_b.fill(T::ZERO);
                of_c.fill(T::ZERO);
                for head in heads {
                    let own = head - self.heads.start;
                    let fades = &mut scratch.fades;
                    fades.fill::<S>(steps.sizes(parts.step, head), parts.decay[head]);
                    let x = steps.of_head(parts.input, head);
                    let g = steps.of_head(self.gradient, head);
                    let at = (index * block_heads + own) * head_states;
                    let h = MatrixRef::new(&self.chunk_states[at..], state, width);
                    let s = &mut scratch.adjoints[own * head_states..][..head_states];

                    let driven = &mut scratch.driven[..q * width];
                    scale_rows(driven, steps.sizes(parts.step, head), x, width);
                    let driven = MatrixRef::new(driven, q, width);
                    let faded = &mut scratch.faded[..q * q];
                    multiply(faded, products, &fades.within);

                    // E, and what passes from step to step within the chunk.
                    let transposed = &mut scratch.driven_transposed[..width * q];
                    transpose_into(transposed, driven, q);
                    let pairs = &mut scratch.pairs[..q * q];
                    set(simd, pairs, g, MatrixRef::new(transposed, width, q));
                    // Row by row from the last one, so that there is nothing to take away again.
                    let (mut ends, mut through) = ([0.0; CHUNK], [0.0; CHUNK]);
                    for t in (1..q).rev() {
                        let row = pairs[t * q..][..t].iter().zip(&faded[t * q..][..t]);
                        for (end, (pair, fade)) in ends.iter_mut().zip(row) {
                            *end += pair.into_f64() * fade.into_f64();
                        }
                        through[t] = sum(&ends[..t]);
                    }

                    let of_driven = &mut scratch.of_driven[..q * width];
                    set(simd, of_driven, MatrixRef::new(faded, q, q).transpose(), g);
                    let scaled = &mut scratch.scaled[..q * state];
                    scale_rows(scaled, fades.to_end.iter().copied(), b, state);
                    let behind = MatrixRef::new(s, state, width);
                    add(simd, of_driven, MatrixRef::new(scaled, q, state), behind);

                    // X, and what passes from the states before to every step.
                    let transposed = &mut scratch.states_transposed;
                    transpose_into(transposed, h, state);
                    set(simd, scaled, g, MatrixRef::new(transposed, width, state));
                    let mut passed = fades.whole.into_f64() * dot(h.values(), s);
                    let rows = scaled.chunks_exact_mut(state).enumerate();
                    for (t, row) in rows.rev() {
                        for value in &mut *row {
                            *value = *value * fades.from_start[t];
                        }
                        passed += dot(c.row(t), row);
                        through[t] += passed;
                    }
                    add_assign(of_c, scaled);

                    // Z, and what passes from every step to the states behind.
                    transpose_into(transposed, MatrixRef::new(s, state, width), state);
                    set(
                        simd,
                        scaled,
                        driven,
                        MatrixRef::new(transposed, width, state),
                    );
                    let mut passed = 0.0;
                    for (t, row) in scaled.chunks_exact_mut(state).enumerate() {
                        through[t] += passed;
                        for value in &mut *row {
                            *value = *value * fades.to_end[t];
                        }
                        passed += dot(b.row(t), row);
                    }
                    add_assign(of_b, scaled);

                    for ((all, pair), fade) in all_pairs.iter_mut().zip(&*pairs).zip(&fades.within)
                    {
                        *all = pair.fused::<S>(*fade, *all);
                    }

                    for s in &mut *s {
                        *s = *s * fades.whole;
                    }
                    scale_rows(scaled, fades.from_start.iter().copied(), c, state);
                    let scaled = MatrixRef::new(scaled, q, state);
                    add(simd, s, scaled.transpose(), g);

                    let rate = parts.decay[head].into_f64();
                    let rows = of_driven.chunks_exact(width);
                    for (t, (row, size)) in rows.zip(steps.sizes(parts.step, head)).enumerate() {
                        let (x, g) = (x.row(t), g.row(t));
                        of_decay[own] += size.into_f64() * through[t];
                        of_feedthrough[own] += dot(x, g);
                        let of_size = rate * through[t] + dot(x, row);
                        let step = chunk.start + t;
                        self.of_step[step * block_heads + own].write(T::from_f64(of_size));
                        let to = &mut self.of_input[(step * block_heads + own) * width..][..width];
                        for ((to, of_driven), g) in to.iter_mut().zip(row).zip(g) {
                            let direct = *g * parts.feedthrough[head];
                            to.write(of_driven.fused::<S>(size, direct));
                        }
                    }
                }
                let pairs = MatrixRef::new(all_pairs, q, q);
                add(simd, of_c, pairs, b);
                add(simd, of_b, pairs.transpose(), c);
                // Columns of the unit's own.
                let first = place
                    - if plan.groups == 1 {
                        0
                    } else {
                        self.heads.start * state
                    };
                let vectors = plan.block_vectors();
                for (to, from) in self.of_vectors.iter_mut().zip([of_b, of_c]) {
                    for (t, row) in from.chunks_exact(state).enumerate() {
                        let at = (chunk.start + t) * vectors + first;
                        to[at..at + state].write_copy_of_slice(row);
                    }
                }
            }
        }
        [of_decay, of_feedthrough]
    }
}

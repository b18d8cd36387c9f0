//! The forward pass.

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    Packed, Plan, Shape, System, abreast, feed_through, fill_states,
    packed::{states_to_panels, states_to_planes},
    read_panel,
};
use crate::cpu::{MatrixRef, Real, dispatch, sum_of_parts, zeroed, zeros};

/// What the forward pass leaves behind.
pub(crate) struct Forward<T> {
    /// y, `[batch, length, hidden]`.
    pub(crate) output: Vec<T>,
    /// x after the last step, `[batch, 2 * state]`.
    pub(crate) final_state: Vec<T>,
    /// x before every chunk, in the order of the kernel; `[groups * batch, chunks, group width]`.
    pub(crate) chunk_states: Vec<T>,
    /// Shape of `chunk_states`.
    pub(crate) chunk_shape: [usize; 3],
}

/// `input` is `[batch, length, hidden]`, `initial_state` `[batch, 2 * state]`.
pub(crate) fn forward<T: Real>(
    shape: Shape,
    input: &[T],
    system: &System<'_, T>,
    initial_state: &[T],
) -> Forward<T> {
    let plan = Plan::new::<T>(shape);
    let packed = Packed::new(&plan, system);
    let (rows, row, group_width) = (plan.groups * shape.batch, plan.row(), plan.group_width());
    let mut states = states_to_panels(&plan, initial_state);
    let mut chunk_states = zeros::<T>(rows * plan.chunks() * group_width);
    let mut parts = Box::<[T]>::new_uninit_slice(rows * row);
    parts
        .par_chunks_mut(row)
        .zip(states.par_chunks_mut(group_width))
        .zip(chunk_states.par_chunks_mut(plan.chunks() * group_width))
        .enumerate()
        .for_each_init(
            || vec![T::ZERO; plan.steps * plan.width()],
            |scratch, (index, ((output, state), chunk_states))| {
                let row_index = index % shape.batch;
                let input = &input[row_index * row..][..row];
                match plan.abreast {
                    1 => dispatch::<T, _>(Row {
                        plan: &plan,
                        packed: &packed,
                        group: index / shape.batch,
                        input,
                        output,
                        state,
                        chunk_states,
                        scratch,
                    }),
                    _ => abreast::forward(&plan, &packed, input, output, state, chunk_states),
                }
            },
        );
    // SAFETY: every row writes its part in every group.
    let parts = unsafe { parts.assume_init() }.into_vec();
    Forward {
        output: sum_of_parts(parts, plan.groups),
        final_state: states_to_planes(&plan, &states),
        chunk_states,
        chunk_shape: [rows, plan.chunks(), group_width],
    }
}

/// One batch row through one group of panels.
struct Row<'a, T> {
    plan: &'a Plan,
    packed: &'a Packed<T>,
    group: usize,
    /// `[length, hidden]`.
    input: &'a [T],
    /// The group's part of y, `[length, hidden]`.
    output: &'a mut [MaybeUninit<T>],
    /// x before the first step; becomes the one after the last.
    state: &'a mut [T],
    chunk_states: &'a mut [T],
    /// States of one panel over one chunk.
    scratch: &'a mut [T],
}

impl<T: Real> WithSimd for Row<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (plan, packed) = (self.plan, self.packed);
        let (h, width) = (plan.shape.hidden, plan.width());
        let first_panel = self.group * plan.panels;
        for (index, boundary) in self
            .chunk_states
            .chunks_exact_mut(plan.group_width())
            .enumerate()
        {
            boundary.copy_from_slice(self.state);
            let chunk = plan.chunk(index);
            let (steps, part) = (chunk.len(), chunk.start * h..chunk.end * h);
            let (u, y) = (&self.input[part.clone()], &mut self.output[part]);
            let y = match self.group {
                0 => feed_through(&packed.feedthrough, u, y),
                _ => zeroed(y),
            };
            for (k, state) in self.state.chunks_exact_mut(width).enumerate() {
                let (panel, states) = (first_panel + k, &mut self.scratch[..steps * width]);
                let inputs = MatrixRef::new(u, steps, h);
                fill_states(simd, plan, packed, panel, inputs, state, states);
                read_panel(simd, plan, y, states, packed.output(plan, panel));
            }
        }
    }
}

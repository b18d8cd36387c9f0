//! Parameters and states in the order the kernel reads them.

use rayon::prelude::*;

use super::{System, plan::Plan};
use crate::cpu::{COPIED_AT_ONCE, MatrixRef, Real, tile_len, transposed, vectorized};

/// Parameters panel by panel; real and imaginary parts of a panel share one product.
pub(super) struct Packed<T> {
    /// Per panel Re λ, then Im λ.
    lambda: Vec<T>,
    /// Per panel `[hidden, 2 * lanes]`: Re Bᵀ, then Im Bᵀ.
    input: Vec<T>,
    /// Per panel `[2 * lanes, hidden]`: Re Cᵀ, then -Im Cᵀ.
    output: Vec<T>,
    /// D, repeated for many rows at a time.
    pub(super) feedthrough: Vec<T>,
}

impl<T: Real> Packed<T> {
    pub(super) fn new(plan: &Plan, system: &System<'_, T>) -> Self {
        let (n, h) = (plan.shape.state, plan.shape.hidden);
        let [input_re, input_im] =
            [system.input_re, system.input_im].map(|plane| transposed(plane, h));
        let [output_re, output_im] =
            [system.output_re, system.output_im].map(|plane| transposed(plane, n));
        let mut lambda = vec![T::ZERO; plan.all_panels() * plan.width()];
        for i in 0..n {
            let position = plan.position(i);
            lambda[position] = system.lambda_re[i];
            lambda[position + plan.lanes] = system.lambda_im[i];
        }
        Self {
            lambda,
            input: by_channel(plan, [&input_re, &input_im], T::ONE),
            output: by_lane(plan, [&output_re, &output_im], -T::ONE),
            feedthrough: system.feedthrough.repeat(tile_len(h) / h),
        }
    }

    /// Re λ, then Im λ.
    pub(super) fn lambda(&self, plan: &Plan, panel: usize) -> &[T] {
        &self.lambda[panel * plan.width()..][..plan.width()]
    }

    /// u → B u.
    pub(super) fn input(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        panel_by_channel(&self.input, plan, panel)
    }

    /// x → Re(C x).
    pub(super) fn output(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        panel_by_lane(&self.output, plan, panel)
    }
}

/// The same matrices transposed, which the backward pass multiplies by.
pub(super) struct PackedAdjoint<T> {
    /// Per panel `[2 * lanes, hidden]`: Re B, then Im B.
    input: Vec<T>,
    /// Per panel `[hidden, 2 * lanes]`: Re C, then -Im C.
    output: Vec<T>,
}

impl<T: Real> PackedAdjoint<T> {
    pub(super) fn new(plan: &Plan, system: &System<'_, T>) -> Self {
        Self {
            input: by_lane(plan, [system.input_re, system.input_im], T::ONE),
            output: by_channel(plan, [system.output_re, system.output_im], -T::ONE),
        }
    }

    /// s → Re(B^H s).
    pub(super) fn input(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        panel_by_lane(&self.input, plan, panel)
    }

    /// g → C^H g.
    pub(super) fn output(&self, plan: &Plan, panel: usize) -> MatrixRef<'_, T> {
        panel_by_channel(&self.output, plan, panel)
    }
}

fn panel_by_channel<'a, T>(matrix: &'a [T], plan: &Plan, panel: usize) -> MatrixRef<'a, T> {
    let (rows, cols) = (plan.shape.hidden, plan.width());
    MatrixRef::new(&matrix[panel * rows * cols..], rows, cols)
}

fn panel_by_lane<'a, T>(matrix: &'a [T], plan: &Plan, panel: usize) -> MatrixRef<'a, T> {
    let (rows, cols) = (plan.width(), plan.shape.hidden);
    MatrixRef::new(&matrix[panel * rows * cols..], rows, cols)
}

/// Per panel `[hidden, 2 * lanes]` from real and imaginary plane, `[hidden, state]`, the latter times `sign`.
fn by_channel<T: Real>(plan: &Plan, [re, im]: [&[T]; 2], sign: T) -> Vec<T> {
    let (n, h, width) = (plan.shape.state, plan.shape.hidden, plan.width());
    let mut packed = vec![T::ZERO; plan.all_panels() * h * width];
    packed
        .par_chunks_exact_mut(width)
        .with_min_len(COPIED_AT_ONCE.div_ceil(width))
        .enumerate()
        .for_each(|(row, to)| {
            let states = plan.states(row / h);
            let from = row % h * n + states.start..row % h * n + states.end;
            let (to_re, to_im) = to.split_at_mut(plan.lanes);
            to_re[..states.len()].copy_from_slice(&re[from.clone()]);
            signed(to_im, &im[from], sign);
        });
    packed
}

/// Per panel `[2 * lanes, hidden]` from real and imaginary plane, `[state, hidden]`, the latter times `sign`.
fn by_lane<T: Real>(plan: &Plan, [re, im]: [&[T]; 2], sign: T) -> Vec<T> {
    let h = plan.shape.hidden;
    let mut packed = vec![T::ZERO; plan.all_panels() * plan.width() * h];
    packed
        .par_chunks_exact_mut(h)
        .with_min_len(COPIED_AT_ONCE.div_ceil(h))
        .enumerate()
        .for_each(|(row, to)| {
            let (panel, plane) = (row / plan.width(), row % plan.width() / plan.lanes);
            let state = panel * plan.lanes + row % plan.lanes;
            if state >= plan.shape.state {
                return;
            }
            let from = state * h..(state + 1) * h;
            match plane {
                0 => to.copy_from_slice(&re[from]),
                _ => signed(to, &im[from], sign),
            }
        });
    packed
}

/// `to = from * sign`.
fn signed<T: Real>(to: &mut [T], from: &[T], sign: T) {
    vectorized::<T, _>(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from * sign;
            }
        },
    );
}

/// States of a batch from planes, `[batch, 2 * state]`, to groups of panels, `[groups, batch, group width]`.
pub(super) fn states_to_panels<T: Real>(plan: &Plan, planes: &[T]) -> Vec<T> {
    let mut panels = vec![T::ZERO; plan.groups * plan.shape.batch * plan.group_width()];
    for_each_state(plan, |plane, panel| panels[panel] = planes[plane]);
    panels
}

/// The way back.
pub(super) fn states_to_planes<T: Real>(plan: &Plan, panels: &[T]) -> Vec<T> {
    let mut planes = vec![T::ZERO; plan.shape.batch * 2 * plan.shape.state];
    for_each_state(plan, |plane, panel| planes[plane] = panels[panel]);
    planes
}

/// Calls `visit` with the two positions of every part of every state.
fn for_each_state(plan: &Plan, mut visit: impl FnMut(usize, usize)) {
    let (batch, n, group_width) = (plan.shape.batch, plan.shape.state, plan.group_width());
    for row in 0..batch {
        for i in 0..n {
            let position = plan.position(i);
            let group = position / group_width;
            let panel = (group * batch + row) * group_width + position % group_width;
            visit(row * 2 * n + i, panel);
            visit(row * 2 * n + n + i, panel + plan.lanes);
        }
    }
}

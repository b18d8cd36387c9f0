//! The backward pass. With g the gradient of y, the adjoint state is s_k = C^H g_k + conj(λ) s_{k+1}; then
//! ∂λ = Σ s_k conj(x_{k-1}), ∂B = Σ s_k u_kᵀ, ∂C = Σ g_k x_k^H (conjugated), ∂u_k = Re(B^H s_k) + D g_k.

use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    DiagonalSystem, Packed, Plan, Shape, System, abreast, feed_through, fill_states,
    packed::{PackedAdjoint, states_to_planes},
    read_panel,
    recurrence::adjoint_scan,
    sums::{Sums, unpack},
};
use crate::cpu::{
    Destination, MatrixRef, Products, REDUCTION_PIECES, Real, dispatch, sum_of_parts, zeroed,
};

/// Gradients of everything that went into the forward pass, in its shapes.
pub(crate) struct Gradients<T> {
    pub(crate) input: Vec<T>,
    pub(crate) system: DiagonalSystem<Vec<T>>,
    pub(crate) initial_state: Vec<T>,
}

/// `chunk_states` are those of the forward pass on the same shape.
pub(crate) fn backward<T: Real>(
    shape: Shape,
    input: &[T],
    system: &System<'_, T>,
    chunk_states: &[T],
    output_gradient: &[T],
) -> Gradients<T> {
    let plan = Plan::new::<T>(shape);
    let (packed, adjoint) = (
        Packed::new(&plan, system),
        PackedAdjoint::new(&plan, system),
    );
    let (row, group_width) = (plan.row(), plan.group_width());
    let boundary_row = plan.chunks() * group_width;
    let pieces = match plan.products {
        // Sums of narrow layers are small, and pieces of one row each leave no thread waiting for another's second.
        Products::Tiled => 2 * REDUCTION_PIECES,
        Products::Blocked => REDUCTION_PIECES,
    };
    let rows_per_piece = shape.batch.div_ceil(pieces);

    let mut parts = Box::<[T]>::new_uninit_slice(plan.groups * shape.batch * row);
    let mut adjoints = vec![T::ZERO; plan.groups * shape.batch * group_width];
    let mut pieces = Vec::new();
    let groups = parts
        .chunks_exact_mut(shape.batch * row)
        .zip(adjoints.chunks_exact_mut(shape.batch * group_width))
        .zip(chunk_states.chunks_exact(shape.batch * boundary_row));
    for (group, ((parts, adjoints), boundaries)) in groups.enumerate() {
        let rows = parts
            .chunks_mut(rows_per_piece * row)
            .zip(input.chunks(rows_per_piece * row))
            .zip(output_gradient.chunks(rows_per_piece * row))
            .zip(adjoints.chunks_mut(rows_per_piece * group_width))
            .zip(boundaries.chunks(rows_per_piece * boundary_row));
        pieces.extend(rows.map(
            |((((input_gradient, input), output_gradient), adjoints), chunk_states)| Piece {
                plan: &plan,
                packed: &packed,
                packed_adjoint: &adjoint,
                group,
                input,
                output_gradient,
                chunk_states,
                input_gradient,
                adjoints,
            },
        ));
    }
    let sums: Vec<Sums<T>> = pieces
        .into_par_iter()
        .map(|piece| match plan.abreast {
            1 => dispatch::<T, _>(piece),
            // So few rows that each is a piece.
            _ => abreast::backward(
                &plan,
                (&packed, &adjoint),
                [piece.input, piece.output_gradient],
                piece.chunk_states,
                piece.input_gradient,
                piece.adjoints,
            ),
        })
        .collect();
    // SAFETY: every piece writes its part.
    let parts = unsafe { parts.assume_init() }.into_vec();
    let pieces_per_group = shape.batch.div_ceil(rows_per_piece);
    let groups: Vec<Sums<T>> = sums.chunks(pieces_per_group).map(Sums::total).collect();
    Gradients {
        input: sum_of_parts(parts, plan.groups),
        system: unpack(&plan, &groups),
        initial_state: states_to_planes(&plan, &adjoints),
    }
}

/// Some batch rows through one group of panels.
struct Piece<'a, T> {
    plan: &'a Plan,
    packed: &'a Packed<T>,
    packed_adjoint: &'a PackedAdjoint<T>,
    group: usize,
    /// `[rows, length, hidden]`.
    input: &'a [T],
    /// `[rows, length, hidden]`.
    output_gradient: &'a [T],
    /// `[rows, chunks, group width]`.
    chunk_states: &'a [T],
    /// The group's part of ∂u, `[rows, length, hidden]`.
    input_gradient: &'a mut [MaybeUninit<T>],
    /// Becomes the gradient of the state before the first step, `[rows, group width]`.
    adjoints: &'a mut [T],
}

impl<T: Real> WithSimd for Piece<'_, T> {
    type Output = Sums<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Sums<T> {
        let plan = self.plan;
        let (row, group_width) = (plan.row(), plan.group_width());
        let mut sums = Sums::new(plan);
        let mut scratch = Scratch::new(plan);
        let rows = self
            .input_gradient
            .chunks_exact_mut(row)
            .zip(self.input.chunks_exact(row))
            .zip(self.output_gradient.chunks_exact(row))
            .zip(self.adjoints.chunks_exact_mut(group_width))
            .zip(self.chunk_states.chunks_exact(plan.chunks() * group_width));
        for ((((input_gradient, input), output_gradient), adjoint), boundaries) in rows {
            for (index, before) in boundaries.chunks_exact(group_width).enumerate().rev() {
                let chunk = plan.chunk(index);
                let part = chunk.start * plan.shape.hidden..chunk.end * plan.shape.hidden;
                Chunk {
                    plan,
                    packed: self.packed,
                    packed_adjoint: self.packed_adjoint,
                    group: self.group,
                    input: &input[part.clone()],
                    output_gradient: &output_gradient[part.clone()],
                    before,
                }
                .backward(
                    simd,
                    &mut input_gradient[part],
                    adjoint,
                    &mut sums,
                    &mut scratch,
                );
            }
            let panels = adjoint.chunks_exact_mut(plan.width());
            for (k, adjoint) in panels.enumerate() {
                let lambda = self.packed.lambda(plan, self.group * plan.panels + k);
                multiply_conjugate(lambda, adjoint);
            }
        }
        sums
    }
}

/// `s = conj(λ) ∘ s`.
pub(super) fn multiply_conjugate<T: Real>(lambda: &[T], s: &mut [T]) {
    let lanes = s.len() / 2;
    for i in 0..lanes {
        let (re, im) = (s[i], s[lanes + i]);
        s[i] = lambda[i] * re + lambda[lanes + i] * im;
        s[lanes + i] = lambda[i] * im - lambda[lanes + i] * re;
    }
}

/// States and adjoint states of one panel over one chunk.
struct Scratch<T> {
    states: Vec<T>,
    adjoints: Vec<T>,
    state: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(plan: &Plan) -> Self {
        let panel = vec![T::ZERO; plan.steps * plan.width()];
        Self {
            states: panel.clone(),
            adjoints: panel,
            state: vec![T::ZERO; plan.width()],
        }
    }
}

/// One chunk of one batch row through one group of panels.
struct Chunk<'a, T> {
    plan: &'a Plan,
    packed: &'a Packed<T>,
    packed_adjoint: &'a PackedAdjoint<T>,
    group: usize,
    input: &'a [T],
    output_gradient: &'a [T],
    /// x before the chunk.
    before: &'a [T],
}

impl<T: Real> Chunk<'_, T> {
    /// `adjoint` is s behind the chunk and becomes its first.
    #[inline(always)]
    fn backward<S: Simd>(
        &self,
        simd: S,
        input_gradient: &mut [MaybeUninit<T>],
        adjoint: &mut [T],
        sums: &mut Sums<T>,
        scratch: &mut Scratch<T>,
    ) {
        let (plan, packed) = (self.plan, self.packed);
        let (h, width) = (plan.shape.hidden, plan.width());
        let steps = self.input.len() / h;
        let (u, g) = (
            MatrixRef::new(self.input, steps, h),
            MatrixRef::new(self.output_gradient, steps, h),
        );
        let input_gradient = match self.group {
            0 => {
                sums.add_feedthrough(self.input, self.output_gradient);
                feed_through(&packed.feedthrough, self.output_gradient, input_gradient)
            }
            _ => zeroed(input_gradient),
        };
        let panels = adjoint
            .chunks_exact_mut(width)
            .zip(self.before.chunks_exact(width))
            .zip(sums.lambda.chunks_exact_mut(width))
            .zip(sums.input.chunks_exact_mut(h * width))
            .zip(sums.output.chunks_exact_mut(h * width));
        for (k, ((((adjoint, before), lambda_sum), input_sum), output_sum)) in panels.enumerate() {
            let panel = self.group * plan.panels + k;
            let (states, adjoints) = (
                &mut scratch.states[..steps * width],
                &mut scratch.adjoints[..steps * width],
            );
            scratch.state.copy_from_slice(before);
            fill_states(simd, plan, packed, panel, u, &mut scratch.state, states);
            let drive = self.packed_adjoint.output(plan, panel);
            plan.products
                .multiply(simd, adjoints, Destination::Overwrite, g, drive);
            let lambda = packed.lambda(plan, panel);
            adjoint_scan(
                simd,
                lambda,
                [before, states],
                adjoint,
                adjoints,
                lambda_sum,
            );

            read_panel(
                simd,
                plan,
                input_gradient,
                adjoints,
                self.packed_adjoint.input(plan, panel),
            );
            let (states, adjoints) = (
                MatrixRef::new(states, steps, width),
                MatrixRef::new(adjoints, steps, width),
            );
            let sums = [
                (input_sum, u.transpose(), adjoints),
                (output_sum, g.transpose(), states),
            ];
            for (sum, lhs, rhs) in sums {
                plan.products
                    .multiply(simd, sum, Destination::Accumulate, lhs, rhs);
            }
        }
    }
}

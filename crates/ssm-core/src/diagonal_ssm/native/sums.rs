//! Gradients of the parameters on their way from panels to the shapes of the parameters.

use rayon::prelude::*;

use super::{DiagonalSystem, Plan};
use crate::cpu::{COPIED_AT_ONCE, Real, accumulate, sum_of_rows, tile_len, transposed, vectorized};

/// Gradients of the parameters of one group, summed over some batch rows.
pub(super) struct Sums<T> {
    /// Per panel both planes.
    pub(super) lambda: Vec<T>,
    /// Per panel `[hidden, 2 * lanes]`.
    pub(super) input: Vec<T>,
    /// Per panel `[hidden, 2 * lanes]`.
    pub(super) output: Vec<T>,
    /// As many partial sums side by side as fit a tile.
    feedthrough: Vec<T>,
}

impl<T: Real> Sums<T> {
    pub(super) fn new(plan: &Plan) -> Self {
        let (h, group_width) = (plan.shape.hidden, plan.group_width());
        Self {
            lambda: vec![T::ZERO; group_width],
            input: vec![T::ZERO; h * group_width],
            output: vec![T::ZERO; h * group_width],
            feedthrough: vec![T::ZERO; tile_len(h)],
        }
    }

    /// Adds what these rows of inputs and of gradients of outputs contribute to the gradient of D.
    #[inline(always)]
    pub(super) fn add_feedthrough(&mut self, inputs: &[T], output_gradients: &[T]) {
        let tile = self.feedthrough.len();
        let tiles = inputs.chunks(tile).zip(output_gradients.chunks(tile));
        for (u, g) in tiles {
            for ((sum, u), g) in self.feedthrough.iter_mut().zip(u).zip(g) {
                *sum += *u * *g;
            }
        }
    }

    /// Sum of at least one.
    pub(super) fn total(parts: &[Self]) -> Self {
        let sum = |field: fn(&Self) -> &Vec<T>| {
            let mut total = field(&parts[0]).clone();
            for part in &parts[1..] {
                accumulate(&mut total, field(part));
            }
            total
        };
        Self {
            lambda: sum(|s| &s.lambda),
            input: sum(|s| &s.input),
            output: sum(|s| &s.output),
            feedthrough: sum(|s| &s.feedthrough),
        }
    }
}

/// The gradients of all groups in the shapes of the parameters.
pub(super) fn unpack<T: Real>(plan: &Plan, groups: &[Sums<T>]) -> DiagonalSystem<Vec<T>> {
    let n = plan.shape.state;
    let [mut lambda_re, mut lambda_im] = [(); 2].map(|()| vec![T::ZERO; n]);
    for i in 0..n {
        let position = plan.position(i);
        let (sums, position) = (
            &groups[position / plan.group_width()],
            position % plan.group_width(),
        );
        lambda_re[i] = sums.lambda[position];
        lambda_im[i] = sums.lambda[position + plan.lanes];
    }
    let input = |plane| {
        let by_channel = by_channel(plan, groups, |sums| &sums.input, plane, T::ONE);
        transposed(&by_channel, n)
    };
    DiagonalSystem {
        lambda_re,
        lambda_im,
        input_re: input(0),
        input_im: input(1),
        output_re: by_channel(plan, groups, |sums| &sums.output, 0, T::ONE),
        output_im: by_channel(plan, groups, |sums| &sums.output, 1, -T::ONE),
        feedthrough: sum_of_rows(&groups[0].feedthrough, plan.shape.hidden),
    }
}

/// One plane of a matrix that lies per panel as `[hidden, 2 * lanes]`, as `[hidden, state]` and times `sign`.
fn by_channel<T: Real>(
    plan: &Plan,
    groups: &[Sums<T>],
    matrix: fn(&Sums<T>) -> &Vec<T>,
    plane: usize,
    sign: T,
) -> Vec<T> {
    let (n, h) = (plan.shape.state, plan.shape.hidden);
    let mut rows = vec![T::ZERO; h * n];
    rows.par_chunks_exact_mut(n)
        .with_min_len(COPIED_AT_ONCE.div_ceil(n))
        .enumerate()
        .for_each(|(j, row)| {
            vectorized::<T, _>(
                #[inline(always)]
                || {
                    for (panel, to) in row.chunks_mut(plan.lanes).enumerate() {
                        let from = matrix(&groups[panel / plan.panels]);
                        let start =
                            (panel % plan.panels * h + j) * plan.width() + plane * plan.lanes;
                        for (to, from) in to.iter_mut().zip(&from[start..]) {
                            *to = *from * sign;
                        }
                    }
                },
            );
        });
    rows
}

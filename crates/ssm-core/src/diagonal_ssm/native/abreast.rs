//! Wide layers and few batch rows: chunks of a row side by side.
//!
//! Only the scan goes from chunk to chunk, and it is a small part of the work. So the products of several chunks run in
//! parallel, and between them the scan, in parallel over panels, from the first to the last of these chunks. That costs no
//! operation more than one chunk after the other, however few states and rows there are. Rows themselves are parallel too.

use std::{mem::MaybeUninit, ops::Range};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{
    FeedThrough, Packed, Plan,
    backward::multiply_conjugate,
    fill_states,
    packed::PackedAdjoint,
    recurrence::{adjoint_scan, scan},
    sums::Sums,
};
use crate::cpu::{Destination, MatrixRef, Real, dispatch, product, vectorized};

/// States of the chunks side by side, `[panels, abreast, steps, 2 * lanes]`; of a short chunk only the first steps count.
struct Buffer<'a, T> {
    plan: &'a Plan,
    values: Vec<T>,
}

impl<'a, T: Real> Buffer<'a, T> {
    fn new(plan: &'a Plan) -> Self {
        Self {
            plan,
            values: vec![T::ZERO; plan.abreast * plan.steps * plan.group_width()],
        }
    }

    fn chunk_len(&self) -> usize {
        self.plan.steps * self.plan.width()
    }

    fn panel_len(&self) -> usize {
        self.plan.abreast * self.chunk_len()
    }

    /// A panel of the chunk at `place`, of this many steps.
    fn panel(&self, panel: usize, place: usize, steps: usize) -> &[T] {
        let start = panel * self.panel_len() + place * self.chunk_len();
        &self.values[start..start + steps * self.plan.width()]
    }
}

/// Chunks side by side, all of one row.
#[derive(Clone, Copy)]
struct Rank<'a> {
    plan: &'a Plan,
    /// Number of the first.
    first: usize,
    count: usize,
}

impl<'a> Rank<'a> {
    /// All chunks of a row, in order.
    fn all(plan: &'a Plan) -> impl DoubleEndedIterator<Item = Self> {
        let chunks = plan.chunks();
        (0..chunks.div_ceil(plan.abreast)).map(move |index| {
            let first = index * plan.abreast;
            let count = plan.abreast.min(chunks - first);
            Self { plan, first, count }
        })
    }

    /// Steps of the chunk at `place`, from the first step of the row.
    fn chunk(self, place: usize) -> Range<usize> {
        self.plan.chunk(self.first + place)
    }

    /// Elements of the row that the chunks cover.
    fn span(self) -> Range<usize> {
        let h = self.plan.shape.hidden;
        self.chunk(0).start * h..self.chunk(self.count - 1).end * h
    }

    /// Steps of the chunk at `place` of `values`, `[steps, hidden]`, which are those of the row.
    fn rows<'b, T>(self, values: &'b [T], place: usize) -> MatrixRef<'b, T> {
        let (h, chunk) = (self.plan.shape.hidden, self.chunk(place));
        MatrixRef::new(&values[chunk.start * h..chunk.end * h], chunk.len(), h)
    }
}

/// One batch row forward. `state` is x before the first step and becomes the one after the last; `boundaries`, `[chunks,
/// group width]`, become the states before every chunk.
pub(super) fn forward<T: Real>(
    plan: &Plan,
    packed: &Packed<T>,
    input: &[T],
    output: &mut [MaybeUninit<T>],
    state: &mut [T],
    boundaries: &mut [T],
) {
    let (h, width) = (plan.shape.hidden, plan.width());
    let mut states = Buffer::new(plan);
    let (chunk_len, panel_len) = (states.chunk_len(), states.panel_len());
    let mut before = vec![T::ZERO; plan.abreast * plan.group_width()];
    for rank in Rank::all(plan) {
        let chunks = states.values.par_chunks_mut(chunk_len).enumerate();
        chunks.for_each(|(index, states)| {
            let (panel, place) = (index / plan.abreast, index % plan.abreast);
            if place < rank.count {
                let inputs = rank.rows(input, place);
                let states = &mut states[..rank.chunk(place).len() * width];
                let matrix = packed.input(plan, panel);
                product(states, Destination::Overwrite, inputs, matrix);
            }
        });
        let panels = states.values.par_chunks_mut(panel_len);
        panels
            .zip(state.par_chunks_mut(width))
            .zip(before.par_chunks_mut(plan.abreast * width))
            .enumerate()
            .for_each(|(panel, ((states, state), before))| {
                dispatch::<T, _>(ScanChunks {
                    rank,
                    lambda: packed.lambda(plan, panel),
                    states,
                    state,
                    before,
                });
            });
        for place in 0..rank.count {
            let to = &mut boundaries[(rank.first + place) * plan.group_width()..];
            for (panel, to) in to.chunks_exact_mut(width).take(plan.panels).enumerate() {
                to.copy_from_slice(&before[(panel * plan.abreast + place) * width..][..width]);
            }
        }
        let outputs = output[rank.span()].par_chunks_mut(plan.steps * h);
        outputs.enumerate().for_each(|(place, output)| {
            let (steps, inputs) = (rank.chunk(place).len(), rank.rows(input, place));
            let output = dispatch::<T, _>(FeedThrough {
                feedthrough: &packed.feedthrough,
                inputs: inputs.values(),
                outputs: output,
            });
            for panel in 0..plan.panels {
                let states = MatrixRef::new(states.panel(panel, place, steps), steps, width);
                let matrix = packed.output(plan, panel);
                product(output, Destination::Accumulate, states, matrix);
            }
        });
    }
}

/// One panel of all chunks of a rank: from what drives the states to the states.
struct ScanChunks<'a, T> {
    rank: Rank<'a>,
    lambda: &'a [T],
    /// `[abreast, steps, 2 * lanes]`.
    states: &'a mut [T],
    /// x before the first chunk; becomes the one after the last.
    state: &'a mut [T],
    /// Becomes x before every chunk, `[abreast, 2 * lanes]`.
    before: &'a mut [T],
}

impl<T: Real> WithSimd for ScanChunks<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plan = self.rank.plan;
        let chunks = self
            .states
            .chunks_exact_mut(plan.steps * plan.width())
            .zip(self.before.chunks_exact_mut(plan.width()));
        for (place, (states, before)) in chunks.take(self.rank.count).enumerate() {
            before.copy_from_slice(self.state);
            let states = &mut states[..self.rank.chunk(place).len() * plan.width()];
            scan(simd, self.lambda, self.state, states);
        }
    }
}

/// One batch row back. `adjoint` is s behind the last step and becomes the gradient of the state before the first; returns
/// what the row contributes to the gradients of the parameters.
pub(super) fn backward<T: Real>(
    plan: &Plan,
    (packed, packed_adjoint): (&Packed<T>, &PackedAdjoint<T>),
    [input, output_gradient]: [&[T]; 2],
    boundaries: &[T],
    input_gradient: &mut [MaybeUninit<T>],
    adjoint: &mut [T],
) -> Sums<T> {
    let (h, width) = (plan.shape.hidden, plan.width());
    let [mut states, mut adjoints] = [(); 2].map(|()| Buffer::new(plan));
    let (chunk_len, panel_len) = (states.chunk_len(), states.panel_len());
    let mut lambda = vec![T::ZERO; plan.group_width()];
    // Every place sums on its own.
    let mut pieces: Vec<Sums<T>> = (0..plan.abreast).map(|_| Sums::new(plan)).collect();
    for rank in Rank::all(plan).rev() {
        let before = |panel: usize, place: usize| {
            let start = (rank.first + place) * plan.group_width() + panel * width;
            &boundaries[start..start + width]
        };
        let chunks = states
            .values
            .par_chunks_mut(chunk_len)
            .zip(adjoints.values.par_chunks_mut(chunk_len));
        chunks.enumerate().for_each(|(index, (states, adjoints))| {
            let (panel, place) = (index / plan.abreast, index % plan.abreast);
            if place < rank.count {
                let [inputs, gradients] =
                    [input, output_gradient].map(|values| rank.rows(values, place));
                let len = rank.chunk(place).len() * width;
                dispatch::<T, _>(FillStates {
                    plan,
                    packed,
                    panel,
                    inputs,
                    before: before(panel, place),
                    states: &mut states[..len],
                });
                let matrix = packed_adjoint.output(plan, panel);
                let drive = &mut adjoints[..len];
                product(drive, Destination::Overwrite, gradients, matrix);
            }
        });
        let panels = adjoints.values.par_chunks_mut(panel_len);
        panels
            .zip(states.values.par_chunks(panel_len))
            .zip(adjoint.par_chunks_mut(width))
            .zip(lambda.par_chunks_mut(width))
            .enumerate()
            .for_each(
                |(panel, (((adjoints, states), adjoint), lambda_gradient))| {
                    let before = (0..rank.count).map(|place| before(panel, place)).collect();
                    dispatch::<T, _>(AdjointScanChunks {
                        rank,
                        lambda: packed.lambda(plan, panel),
                        before,
                        states,
                        adjoints,
                        adjoint,
                        lambda_gradient,
                    });
                },
            );
        let gradients = input_gradient[rank.span()].par_chunks_mut(plan.steps * h);
        gradients
            .zip(&mut pieces)
            .enumerate()
            .for_each(|(place, (input_gradient, sums))| {
                let steps = rank.chunk(place).len();
                let [u, g] = [input, output_gradient].map(|values| rank.rows(values, place));
                vectorized::<T, _>(
                    #[inline(always)]
                    || sums.add_feedthrough(u.values(), g.values()),
                );
                let input_gradient = dispatch::<T, _>(FeedThrough {
                    feedthrough: &packed.feedthrough,
                    inputs: g.values(),
                    outputs: input_gradient,
                });
                for panel in 0..plan.panels {
                    let [states, adjoints] = [&states, &adjoints].map(|buffer| {
                        MatrixRef::new(buffer.panel(panel, place, steps), steps, width)
                    });
                    let matrix = packed_adjoint.input(plan, panel);
                    product(input_gradient, Destination::Accumulate, adjoints, matrix);
                    let part = panel * h * width..(panel + 1) * h * width;
                    let sums = [
                        (&mut sums.input[part.clone()], u, adjoints),
                        (&mut sums.output[part], g, states),
                    ];
                    for (sum, lhs, rhs) in sums {
                        product(sum, Destination::Accumulate, lhs.transpose(), rhs);
                    }
                }
            });
    }
    for (panel, adjoint) in adjoint.chunks_exact_mut(width).enumerate() {
        multiply_conjugate(packed.lambda(plan, panel), adjoint);
    }
    pieces[0].lambda = lambda;
    Sums::total(&pieces)
}

/// States of one panel over one chunk, from those before it.
struct FillStates<'a, T> {
    plan: &'a Plan,
    packed: &'a Packed<T>,
    panel: usize,
    inputs: MatrixRef<'a, T>,
    before: &'a [T],
    states: &'a mut [T],
}

impl<T: Real> WithSimd for FillStates<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (plan, panel, inputs) = (self.plan, self.panel, self.inputs);
        let mut state = self.before.to_vec();
        fill_states(
            simd,
            plan,
            self.packed,
            panel,
            inputs,
            &mut state,
            self.states,
        );
    }
}

/// One panel of all chunks of a rank, last one first: from what drives the adjoint states to the adjoint states.
struct AdjointScanChunks<'a, T> {
    rank: Rank<'a>,
    lambda: &'a [T],
    /// x before every chunk.
    before: Vec<&'a [T]>,
    /// `[abreast, steps, 2 * lanes]`.
    states: &'a [T],
    /// The same.
    adjoints: &'a mut [T],
    /// s behind the last chunk; becomes the first of the first chunk.
    adjoint: &'a mut [T],
    lambda_gradient: &'a mut [T],
}

impl<T: Real> WithSimd for AdjointScanChunks<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let plan = self.rank.plan;
        let chunk_len = plan.steps * plan.width();
        for (place, before) in self.before.iter().enumerate().rev() {
            let len = self.rank.chunk(place).len() * plan.width();
            let part = place * chunk_len..place * chunk_len + len;
            adjoint_scan(
                simd,
                self.lambda,
                [before, &self.states[part.clone()]],
                self.adjoint,
                &mut self.adjoints[part],
                self.lambda_gradient,
            );
        }
    }
}

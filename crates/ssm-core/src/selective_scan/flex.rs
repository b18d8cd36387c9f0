//! Native CPU kernel: a block of channels walks the sequence chunk by chunk, state by state.
//!
//! Vectors run along the channels. B and C are the same for all of them, so a state costs the same whatever the number
//! of states is, and the sums over states need no reduction across a vector. Within a chunk one state after the other
//! walks all steps: what it needs of them stays in the first cache, and its value and its gradients in registers. The
//! forward pass keeps the states at chunk boundaries; the backward pass computes the states and decays of a chunk again,
//! and runs back over them at once.
//!
//! Where states are few, what a block costs whatever their number decides: every exponential of a step is taken once, and
//! while the states of one block are walked the rows of the next are fetched.

mod backward;
mod forward;
mod lanes;

use std::ops::Range;

use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::SelectiveParts;
use crate::cpu::{Real, add_assign, dims, dispatch, tensor, vectorized, zeros};
use backward::{Backward, Shares};
use forward::Forward;
use lanes::{CHUNK, Lanes, WIDTH};

/// Pieces of work over all batch rows: fixed, so that sums are taken in the same order whatever the number of threads.
const PIECES: usize = 16;

/// Sizes of a scan and how it is divided.
#[derive(Clone, Copy)]
struct Plan {
    batch: usize,
    length: usize,
    channels: usize,
    state: usize,
    /// Blocks of channels that one piece of work walks, the last piece of a row perhaps fewer.
    blocks_per_piece: usize,
}

impl Plan {
    fn of(scan: &SelectiveParts<FlexTensor>) -> Self {
        let [batch, length, channels] = dims(&scan.input);
        let [_, state] = dims(&scan.decay);
        let blocks = channels.div_ceil(WIDTH);
        let pieces_per_row = PIECES.div_ceil(batch.max(1)).min(blocks);
        Self {
            batch,
            length,
            channels,
            state,
            blocks_per_piece: blocks.div_ceil(pieces_per_row),
        }
    }

    fn pieces_per_row(&self) -> usize {
        self.channels.div_ceil(WIDTH * self.blocks_per_piece)
    }

    fn chunks(&self) -> usize {
        self.length.div_ceil(CHUNK)
    }

    /// Steps of chunk `index`.
    fn steps(&self, index: usize) -> Range<usize> {
        let start = index * CHUNK;
        start..(start + CHUNK).min(self.length)
    }

    /// Channels of piece `piece` of a row.
    fn piece_channels(&self, piece: usize) -> Range<usize> {
        let width = WIDTH * self.blocks_per_piece;
        piece * width..((piece + 1) * width).min(self.channels)
    }

    /// States of one piece.
    fn piece_states(&self) -> usize {
        self.blocks_per_piece * self.state
    }
}

/// The contiguous memory of all parts.
struct Parts<'a, T> {
    plan: Plan,
    input: &'a [T],
    step: &'a [T],
    /// A log₂ e, `[block, state]` of channels: decays are powers of two.
    decay: Vec<Lanes<T>>,
    /// B, `[batch, chunk, state, CHUNK]`.
    input_vector: Vec<[T; CHUNK]>,
    /// C, likewise.
    output_vector: Vec<[T; CHUNK]>,
    feedthrough: &'a [T],
    gate: &'a [T],
}

impl<'a, T: Real> Parts<'a, T> {
    fn of(plan: Plan, scan: &'a SelectiveParts<FlexTensor>) -> Self {
        Self {
            plan,
            input: scan.input.storage::<T>(),
            step: scan.step.storage::<T>(),
            decay: blocked(scan.decay.storage::<T>(), plan),
            input_vector: chunked(scan.input_vector.storage::<T>(), plan),
            output_vector: chunked(scan.output_vector.storage::<T>(), plan),
            feedthrough: scan.feedthrough.storage::<T>(),
            gate: scan.gate.storage::<T>(),
        }
    }

    /// B or C of a chunk of a row, `[state, CHUNK]`.
    fn chunk_of<'b>(
        &self,
        vectors: &'b [[T; CHUNK]],
        row: usize,
        index: usize,
    ) -> &'b [[T; CHUNK]] {
        let n = self.plan.state;
        &vectors[(row * self.plan.chunks() + index) * n..][..n]
    }

    /// The channels of one step of `[batch, length, channels]`.
    #[inline(always)]
    fn step_of<'b>(&self, values: &'b [T], row: usize, t: usize) -> &'b [T] {
        &values[(row * self.plan.length + t) * self.plan.channels..][..self.plan.channels]
    }

    /// Where a channel of one step of `[batch, length, channels]` is, or would be if there were more steps.
    fn address(&self, values: &[T], row: usize, t: usize, channel: usize) -> *const T {
        let step = row * self.plan.length + t;
        values
            .as_ptr()
            .wrapping_add(step * self.plan.channels + channel)
    }

    /// A log₂ e of one block.
    fn rates(&self, block: usize) -> &[Lanes<T>] {
        &self.decay[block * self.plan.state..][..self.plan.state]
    }
}

/// `[channels, state]` as `[block, state]` of channels, times log₂ e, zero beyond the last channel.
fn blocked<T: Real>(matrix: &[T], plan: Plan) -> Vec<Lanes<T>> {
    let log2_e = T::from_f64(std::f64::consts::LOG2_E);
    let n = plan.state;
    let blocks = plan.channels.div_ceil(WIDTH);
    let mut lanes = vec![[T::ZERO; WIDTH]; blocks * n];
    for (channel, row) in matrix.chunks_exact(n).enumerate() {
        for (i, value) in row.iter().enumerate() {
            lanes[channel / WIDTH * n + i][channel % WIDTH] = *value * log2_e;
        }
    }
    lanes
}

/// `[batch, length, state]` as `[batch, chunk, state, CHUNK]`.
fn chunked<T: Real>(vectors: &[T], plan: Plan) -> Vec<[T; CHUNK]> {
    let n = plan.state;
    let mut chunks = vec![[T::ZERO; CHUNK]; plan.batch * plan.chunks() * n];
    chunks
        .par_chunks_mut(n)
        .enumerate()
        .for_each(|(chunk, to)| {
            let (row, index) = (chunk / plan.chunks(), chunk % plan.chunks());
            for (k, t) in plan.steps(index).enumerate() {
                let vector = &vectors[(row * plan.length + t) * n..][..n];
                for (to, value) in to.iter_mut().zip(vector) {
                    to[k] = *value;
                }
            }
        });
    chunks
}

/// Cuts `[length, channels]` into the channels of every piece: `[piece][length]` slices.
fn cut<'a, T>(values: &'a mut [T], plan: &Plan) -> Vec<Vec<&'a mut [T]>> {
    let pieces = plan.pieces_per_row();
    let mut cut: Vec<Vec<&mut [T]>> = Vec::new();
    cut.resize_with(pieces, || Vec::with_capacity(plan.length));
    for row in values.chunks_exact_mut(plan.channels) {
        let parts = row.chunks_mut(WIDTH * plan.blocks_per_piece);
        for (piece, part) in cut.iter_mut().zip(parts) {
            piece.push(part);
        }
    }
    cut
}

/// The output, and the states before every chunk.
pub(super) fn forward<T: Real>(scan: &SelectiveParts<FlexTensor>) -> [FlexTensor; 2] {
    let plan = Plan::of(scan);
    let parts = &Parts::<T>::of(plan, scan);
    let pieces = plan.pieces_per_row();
    let per_piece = plan.chunks() * plan.piece_states() * WIDTH;
    let mut output = Box::new_uninit_slice(plan.batch * plan.length * plan.channels);
    let mut chunk_states = Box::new_uninit_slice(plan.batch * pieces * per_piece);
    output
        .par_chunks_mut(plan.length * plan.channels)
        .zip(chunk_states.par_chunks_mut(pieces * per_piece))
        .enumerate()
        .for_each(|(row, (output, chunk_states))| {
            cut(output, &plan)
                .into_par_iter()
                .zip(chunk_states.par_chunks_mut(per_piece))
                .enumerate()
                .for_each(|(piece, (output, chunk_states))| {
                    dispatch::<T, _>(Forward {
                        parts,
                        row,
                        channels: plan.piece_channels(piece),
                        output,
                        chunk_states,
                    });
                });
        });
    // SAFETY: every piece wrote all steps of its channels, and its states at the start of every chunk.
    let [output, chunk_states] =
        [output, chunk_states].map(|written| unsafe { written.assume_init() }.into_vec());
    let len = chunk_states.len();
    [
        tensor(output, [plan.batch, plan.length, plan.channels]),
        tensor(chunk_states, [len]),
    ]
}

/// Gradients of the parts in their order.
pub(super) fn backward<T: Real>(
    scan: &SelectiveParts<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> [FlexTensor; 7] {
    let plan = Plan::of(scan);
    let parts = &Parts::<T>::of(plan, scan);
    let output_gradient = output_gradient.storage::<T>();
    let pieces = plan.pieces_per_row();
    let per_piece = plan.chunks() * plan.piece_states() * WIDTH;
    let per_row = plan.length * plan.channels;
    let [mut of_input, mut of_step, mut of_gate] =
        [(); 3].map(|()| Box::new_uninit_slice(plan.batch * per_row));
    let shares: Vec<Vec<Shares<T>>> = of_input
        .par_chunks_mut(per_row)
        .zip(of_step.par_chunks_mut(per_row))
        .zip(of_gate.par_chunks_mut(per_row))
        .zip(chunk_states.storage::<T>().par_chunks(pieces * per_piece))
        .enumerate()
        .map(|(row, (((of_input, of_step), of_gate), chunk_states))| {
            let gradients = [of_input, of_step, of_gate].map(|values| cut(values, &plan));
            let [of_input, of_step, of_gate] = gradients;
            of_input
                .into_par_iter()
                .zip(of_step)
                .zip(of_gate)
                .zip(chunk_states.par_chunks(per_piece))
                .enumerate()
                .map(|(piece, (((of_input, of_step), of_gate), chunk_states))| {
                    dispatch::<T, _>(Backward {
                        parts,
                        row,
                        channels: plan.piece_channels(piece),
                        chunk_states,
                        output_gradient,
                        gradients: [of_input, of_step, of_gate],
                    })
                })
                .collect()
        })
        .collect();

    // SAFETY: every piece wrote all steps of its channels.
    let [of_input, of_step, of_gate] =
        [of_input, of_step, of_gate].map(|written| unsafe { written.assume_init() }.into_vec());

    let n = plan.state;
    let width = [plan.batch, plan.length, plan.channels];
    let mut of_decay = vec![T::ZERO; plan.channels * n];
    let mut of_feedthrough = vec![T::ZERO; plan.channels];
    vectorized::<T, _>(
        #[inline(always)]
        || {
            for (piece, shares) in shares.iter().flat_map(|pieces| pieces.iter().enumerate()) {
                for (index, channel) in plan.piece_channels(piece).enumerate() {
                    let (block, lane) = (index / WIDTH, index % WIDTH);
                    of_feedthrough[channel] += shares.feedthrough[block][lane];
                    let rates = &shares.decay[block * n..][..n];
                    for (sum, share) in of_decay[channel * n..][..n].iter_mut().zip(rates) {
                        *sum += share[lane];
                    }
                }
            }
        },
    );
    let [of_b, of_c] = [0, 1].map(|vector| {
        let shape = [plan.batch, plan.length, n];
        tensor(joined(&shares, vector, plan), shape)
    });
    [
        tensor(of_input, width),
        tensor(of_step, width),
        tensor(of_decay, [plan.channels, n]),
        of_b,
        of_c,
        tensor(of_feedthrough, [plan.channels]),
        tensor(of_gate, width),
    ]
}

/// What the pieces of every row found for B or C, added up, `[batch, length, state]`.
fn joined<T: Real>(shares: &[Vec<Shares<T>>], vector: usize, plan: Plan) -> Vec<T> {
    let n = plan.state;
    let mut joined = zeros::<T>(plan.batch * plan.length * n);
    joined
        .par_chunks_mut(plan.length * n)
        .zip(shares)
        .for_each(|(row, pieces)| {
            row.par_chunks_mut(CHUNK * n)
                .enumerate()
                .for_each(|(index, steps)| {
                    // Pieces began with the last chunk.
                    let at = (plan.chunks() - 1 - index) * n;
                    vectorized::<T, _>(
                        #[inline(always)]
                        || {
                            for j in 0..n {
                                let mut sums = [T::ZERO; CHUNK];
                                for piece in pieces {
                                    add_assign(&mut sums, &piece.vectors[vector][at + j]);
                                }
                                for (step, sum) in steps.chunks_exact_mut(n).zip(sums) {
                                    step[j] = sum;
                                }
                            }
                        },
                    );
                });
        });
    joined
}

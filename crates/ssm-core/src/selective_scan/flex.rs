//! Native CPU kernel: a block of channels walks the sequence chunk by chunk, its states in the nearest cache.
//!
//! Vectors run along the channels. B and C are the same for all of them, so a state costs the same whatever the number
//! of states is, and the sums over states need no reduction across a vector. The forward pass keeps the states at chunk
//! boundaries; the backward pass computes the states and decays of a chunk again and then runs back over it.

use std::ops::Range;

use burn::tensor::DType;
use burn_flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::{SelectiveScan, SelectiveScanForward};
use crate::cpu::{Real, add_assign, dims, tensor, zeros};

/// Channels of a block: two of the widest vectors, so that loops over them neither need a remainder nor unroll away.
const WIDTH: usize = 32;
type Lanes<T> = [T; WIDTH];

/// Pieces of work over all batch rows: fixed, so that sums are taken in the same order whatever the number of threads.
const PIECES: usize = 16;

/// What the scratch of the backward pass may take of a level-2 cache, in elements of `f32`: states, decays and two sums.
const SCRATCH: usize = 1 << 17;

pub(crate) fn forward(scan: &SelectiveScan<FlexTensor>) -> SelectiveScanForward<FlexTensor> {
    match scan.input.dtype() {
        DType::F64 => forward_typed::<f64>(scan),
        _ => forward_typed::<f32>(scan),
    }
}

pub(crate) fn backward(
    scan: &SelectiveScan<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> SelectiveScan<FlexTensor> {
    match scan.input.dtype() {
        DType::F64 => backward_typed::<f64>(scan, chunk_states, output_gradient),
        _ => backward_typed::<f32>(scan, chunk_states, output_gradient),
    }
}

/// Sizes of a scan and how it is divided.
#[derive(Clone, Copy)]
struct Plan {
    batch: usize,
    length: usize,
    channels: usize,
    state: usize,
    /// Steps of a chunk.
    chunk: usize,
    /// Blocks of channels that one piece of work walks, the last piece of a row perhaps fewer.
    blocks_per_piece: usize,
}

impl Plan {
    fn of(scan: &SelectiveScan<FlexTensor>) -> Self {
        let [batch, length, channels] = dims(&scan.input);
        let [_, state] = dims(&scan.decay);
        let blocks = channels.div_ceil(WIDTH);
        let pieces_per_row = PIECES.div_ceil(batch.max(1)).min(blocks);
        Self {
            batch,
            length,
            channels,
            state,
            chunk: (SCRATCH / (4 * WIDTH * state)).clamp(8, 64),
            blocks_per_piece: blocks.div_ceil(pieces_per_row),
        }
    }

    fn pieces_per_row(&self) -> usize {
        self.channels.div_ceil(WIDTH * self.blocks_per_piece)
    }

    fn chunks(&self) -> usize {
        self.length.div_ceil(self.chunk)
    }

    /// Steps of chunk `index`.
    fn steps(&self, index: usize) -> Range<usize> {
        let start = index * self.chunk;
        start..(start + self.chunk).min(self.length)
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
    /// A, `[block, state]` of channels.
    decay: Vec<Lanes<T>>,
    input_vector: &'a [T],
    output_vector: &'a [T],
    feedthrough: &'a [T],
    gate: &'a [T],
}

impl<'a, T: Real> Parts<'a, T> {
    fn of(plan: Plan, contiguous: &'a SelectiveScan<FlexTensor>) -> Self {
        Self {
            plan,
            input: contiguous.input.storage::<T>(),
            step: contiguous.step.storage::<T>(),
            decay: blocked(contiguous.decay.storage::<T>(), plan),
            input_vector: contiguous.input_vector.storage::<T>(),
            output_vector: contiguous.output_vector.storage::<T>(),
            feedthrough: contiguous.feedthrough.storage::<T>(),
            gate: contiguous.gate.storage::<T>(),
        }
    }

    /// B or C of one step.
    fn vector(&self, all: &'a [T], row: usize, t: usize) -> &'a [T] {
        let n = self.plan.state;
        &all[(row * self.plan.length + t) * n..][..n]
    }

    /// A of one block.
    fn rates(&self, block: usize) -> &[Lanes<T>] {
        &self.decay[block * self.plan.state..][..self.plan.state]
    }
}

fn contiguous(scan: &SelectiveScan<FlexTensor>) -> SelectiveScan<FlexTensor> {
    SelectiveScan::of_parts(scan.parts().map(FlexTensor::to_contiguous))
}

/// `[channels, state]` as `[block, state]` of channels, zero beyond the last channel.
fn blocked<T: Real>(matrix: &[T], plan: Plan) -> Vec<Lanes<T>> {
    let n = plan.state;
    let blocks = plan.channels.div_ceil(WIDTH);
    let mut lanes = vec![[T::ZERO; WIDTH]; blocks * n];
    for (channel, row) in matrix.chunks_exact(n).enumerate() {
        for (i, value) in row.iter().enumerate() {
            lanes[channel / WIDTH * n + i][channel % WIDTH] = *value;
        }
    }
    lanes
}

/// Channels `first..` of a block, zero beyond the last channel of all.
#[inline(always)]
fn load<T: Real>(channels: &[T], first: usize) -> Lanes<T> {
    let count = WIDTH.min(channels.len() - first);
    let from = &channels[first..first + count];
    let mut lanes = [T::ZERO; WIDTH];
    match count {
        WIDTH => lanes.copy_from_slice(from),
        _ => lanes[..count].copy_from_slice(from),
    }
    lanes
}

/// The same of one step of `[batch, length, channels]`.
#[inline(always)]
fn gather<T: Real>(values: &[T], plan: &Plan, row: usize, t: usize, first: usize) -> Lanes<T> {
    let step = &values[(row * plan.length + t) * plan.channels..][..plan.channels];
    load(step, first)
}

/// What a block needs of one step besides its states.
#[derive(Clone, Copy)]
struct Step<T> {
    /// Δ.
    dt: Lanes<T>,
    /// Δ u.
    driven: Lanes<T>,
    input: Lanes<T>,
}

#[inline(always)]
fn step_of<S: Simd, T: Real>(parts: &Parts<'_, T>, row: usize, t: usize, first: usize) -> Step<T> {
    let input = gather(parts.input, &parts.plan, row, t, first);
    let mut dt = gather(parts.step, &parts.plan, row, t, first);
    for dt in &mut dt {
        *dt = dt.softplus::<S>();
    }
    let mut driven = input;
    for i in 0..WIDTH {
        driven[i] = driven[i] * dt[i];
    }
    Step { dt, driven, input }
}

/// One piece of the forward pass.
struct Forward<'a, 'b, T> {
    parts: &'a Parts<'a, T>,
    row: usize,
    channels: Range<usize>,
    /// `[length]` of the piece's channels.
    output: Vec<&'b mut [T]>,
    /// `[chunk, block, state, WIDTH]`.
    chunk_states: &'b mut [T],
}

impl<T: Real> WithSimd for Forward<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self {
            parts,
            row,
            channels,
            mut output,
            chunk_states,
        } = self;
        let plan = parts.plan;
        let n = plan.state;
        let mut states = vec![[T::ZERO; WIDTH]; plan.piece_states()];
        let per_chunk = plan.piece_states() * WIDTH;
        for (index, saved) in chunk_states.chunks_exact_mut(per_chunk).enumerate() {
            saved.copy_from_slice(states.as_flattened());
            for (block, first) in channels.clone().step_by(WIDTH).enumerate() {
                let rates = parts.rates(first / WIDTH);
                let states = &mut states[block * n..][..n];
                let direct = load(parts.feedthrough, first);
                for t in plan.steps(index) {
                    let step = step_of::<S, T>(parts, row, t, first);
                    let b = parts.vector(parts.input_vector, row, t);
                    let c = parts.vector(parts.output_vector, row, t);
                    let mut y = [T::ZERO; WIDTH];
                    for (((h, a), b), c) in states.iter_mut().zip(rates).zip(b).zip(c) {
                        for i in 0..WIDTH {
                            let decay = (step.dt[i] * a[i]).exp::<S>();
                            h[i] = decay.fused::<S>(h[i], step.driven[i] * *b);
                            y[i] = c.fused::<S>(h[i], y[i]);
                        }
                    }
                    let gate = gather(parts.gate, &plan, row, t, first);
                    for i in 0..WIDTH {
                        let open = gate[i] * gate[i].sigmoid::<S>();
                        y[i] = direct[i].fused::<S>(step.input[i], y[i]) * open;
                    }
                    let to = first - channels.start;
                    let count = WIDTH.min(channels.end - first);
                    output[t][to..to + count].copy_from_slice(&y[..count]);
                }
            }
        }
    }
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

fn forward_typed<T: Real>(scan: &SelectiveScan<FlexTensor>) -> SelectiveScanForward<FlexTensor> {
    let plan = Plan::of(scan);
    let scan = contiguous(scan);
    let parts = &Parts::<T>::of(plan, &scan);
    let mut output = zeros::<T>(plan.batch * plan.length * plan.channels);
    let pieces = plan.pieces_per_row();
    let per_piece = plan.chunks() * plan.piece_states() * WIDTH;
    let mut chunk_states = zeros::<T>(plan.batch * pieces * per_piece);
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
                    Arch::new().dispatch(Forward {
                        parts,
                        row,
                        channels: plan.piece_channels(piece),
                        output,
                        chunk_states,
                    });
                });
        });
    let len = chunk_states.len();
    SelectiveScanForward {
        output: tensor(output, [plan.batch, plan.length, plan.channels]),
        chunk_states: tensor(chunk_states, [len]),
    }
}

/// Gradients with respect to what a piece of a row has for itself, and its share of the others.
struct Shares<T> {
    /// A, `[block, state]` of channels.
    decay: Vec<Lanes<T>>,
    /// D, `[block]` of channels.
    feedthrough: Vec<Lanes<T>>,
    /// B and C, `[length, state]`.
    vectors: [Vec<T>; 2],
}

/// One piece of the backward pass.
struct Backward<'a, 'b, T> {
    parts: &'a Parts<'a, T>,
    row: usize,
    channels: Range<usize>,
    chunk_states: &'a [T],
    output_gradient: &'a [T],
    /// Gradients of u, the step and the gate, `[length]` of the piece's channels each.
    gradients: [Vec<&'b mut [T]>; 3],
}

impl<T: Real> WithSimd for Backward<'_, '_, T> {
    type Output = Shares<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Shares<T> {
        let Self {
            parts,
            row,
            channels,
            chunk_states,
            output_gradient,
            gradients: [mut of_input, mut of_step, mut of_gate],
        } = self;
        let plan = parts.plan;
        let n = plan.state;
        let zero = [T::ZERO; WIDTH];
        let mut shares = Shares {
            decay: vec![zero; plan.piece_states()],
            feedthrough: vec![zero; plan.blocks_per_piece],
            vectors: [(); 2].map(|()| vec![T::ZERO; plan.length * n]),
        };
        // What the chunk after asks of the states at its start.
        let mut carries = vec![zero; plan.piece_states()];
        // Of one block over a chunk: states, decays; of the piece over a chunk: gradients of B and C by channel.
        let [mut states, mut decays, mut of_b, mut of_c] =
            [(); 4].map(|()| vec![zero; plan.chunk * n]);
        let mut outputs = vec![zero; plan.chunk];
        let per_chunk = plan.piece_states() * WIDTH;
        let starts: Vec<&[T]> = chunk_states.chunks_exact(per_chunk).collect();
        for (index, starts) in starts.into_iter().enumerate().rev() {
            let (starts, _) = starts.as_chunks::<WIDTH>();
            let steps = plan.steps(index);
            of_b.fill(zero);
            of_c.fill(zero);
            for (block, first) in channels.clone().step_by(WIDTH).enumerate() {
                let rates = parts.rates(first / WIDTH);
                let start = &starts[block * n..][..n];
                let carry = &mut carries[block * n..][..n];
                let of_rates = &mut shares.decay[block * n..][..n];
                let of_direct = &mut shares.feedthrough[block];
                let direct = load(parts.feedthrough, first);

                for t in steps.clone() {
                    let step = step_of::<S, T>(parts, row, t, first);
                    let b = parts.vector(parts.input_vector, row, t);
                    let c = parts.vector(parts.output_vector, row, t);
                    let k = t - steps.start;
                    let (before, after) = states.split_at_mut(k * n);
                    let before = match k {
                        0 => start,
                        _ => &before[(k - 1) * n..],
                    };
                    let (after, decays) = (&mut after[..n], &mut decays[k * n..][..n]);
                    let mut y = zero;
                    for j in 0..n {
                        let (h, past, decay) = (&mut after[j], &before[j], &mut decays[j]);
                        let (a, b, c) = (&rates[j], b[j], c[j]);
                        for i in 0..WIDTH {
                            decay[i] = (step.dt[i] * a[i]).exp::<S>();
                            h[i] = decay[i].fused::<S>(past[i], step.driven[i] * b);
                            y[i] = c.fused::<S>(h[i], y[i]);
                        }
                    }
                    outputs[k] = y;
                }

                for t in steps.clone().rev() {
                    let step = step_of::<S, T>(parts, row, t, first);
                    let b = parts.vector(parts.input_vector, row, t);
                    let c = parts.vector(parts.output_vector, row, t);
                    let k = t - steps.start;
                    let before = match k {
                        0 => start,
                        _ => &states[(k - 1) * n..][..n],
                    };
                    let gate = gather(parts.gate, &plan, row, t, first);
                    let mut g = gather(output_gradient, &plan, row, t, first);
                    let mut through_gate = zero;
                    for i in 0..WIDTH {
                        let open = gate[i].sigmoid::<S>();
                        let y = direct[i].fused::<S>(step.input[i], outputs[k][i]);
                        let slope = open * gate[i].fused::<S>(T::ONE - open, T::ONE);
                        through_gate[i] = g[i] * y * slope;
                        g[i] = g[i] * gate[i] * open;
                        of_direct[i] = g[i].fused::<S>(step.input[i], of_direct[i]);
                    }
                    let (mut of_dt, mut of_driven) = (zero, zero);
                    for j in 0..n {
                        let at = k * n + j;
                        let (carry, of_rate) = (&mut carry[j], &mut of_rates[j]);
                        let (of_b, of_c) = (&mut of_b[at], &mut of_c[at]);
                        let (h, past, decay) = (&states[at], &before[j], &decays[at]);
                        let (a, b, c) = (&rates[j], b[j], c[j]);
                        for i in 0..WIDTH {
                            let of_state = c.fused::<S>(g[i], carry[i]);
                            of_b[i] = of_state.fused::<S>(step.driven[i], of_b[i]);
                            of_c[i] = g[i].fused::<S>(h[i], of_c[i]);
                            of_driven[i] = b.fused::<S>(of_state, of_driven[i]);
                            carry[i] = decay[i] * of_state;
                            // Gradient of the exponent Δ A.
                            let of_exponent = carry[i] * past[i];
                            of_dt[i] = of_exponent.fused::<S>(a[i], of_dt[i]);
                            of_rate[i] = of_exponent.fused::<S>(step.dt[i], of_rate[i]);
                        }
                    }
                    let before_softplus = gather(parts.step, &plan, row, t, first);
                    let mut of_u = zero;
                    for i in 0..WIDTH {
                        of_u[i] = of_driven[i].fused::<S>(step.dt[i], g[i] * direct[i]);
                        let total = of_driven[i].fused::<S>(step.input[i], of_dt[i]);
                        of_dt[i] = total * before_softplus[i].sigmoid::<S>();
                    }
                    let to = first - channels.start;
                    let count = WIDTH.min(channels.end - first);
                    for (slice, values) in [
                        (&mut of_input[t], &of_u),
                        (&mut of_step[t], &of_dt),
                        (&mut of_gate[t], &through_gate),
                    ] {
                        slice[to..to + count].copy_from_slice(&values[..count]);
                    }
                }
            }
            for (vector, sums) in shares.vectors.iter_mut().zip([&of_b, &of_c]) {
                let vector = &mut vector[steps.start * n..steps.end * n];
                for (value, sums) in vector.iter_mut().zip(sums) {
                    *value = sums.iter().copied().sum();
                }
            }
        }
        shares
    }
}

fn backward_typed<T: Real>(
    scan: &SelectiveScan<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> SelectiveScan<FlexTensor> {
    let plan = Plan::of(scan);
    let scan = contiguous(scan);
    let parts = &Parts::<T>::of(plan, &scan);
    let (chunk_states, output_gradient) = (
        chunk_states.to_contiguous(),
        output_gradient.to_contiguous(),
    );
    let output_gradient = output_gradient.storage::<T>();
    let pieces = plan.pieces_per_row();
    let per_piece = plan.chunks() * plan.piece_states() * WIDTH;
    let per_row = plan.length * plan.channels;
    let [mut of_input, mut of_step, mut of_gate] =
        [(); 3].map(|()| zeros::<T>(plan.batch * per_row));
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
                    Arch::new().dispatch(Backward {
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

    let n = plan.state;
    let width = [plan.batch, plan.length, plan.channels];
    let mut of_decay = vec![T::ZERO; plan.channels * n];
    let mut of_feedthrough = vec![T::ZERO; plan.channels];
    let mut of_vectors = [(); 2].map(|()| zeros::<T>(plan.batch * plan.length * n));
    for (row, pieces) in shares.iter().enumerate() {
        for (piece, shares) in pieces.iter().enumerate() {
            for (of_vector, share) in of_vectors.iter_mut().zip(&shares.vectors) {
                add_assign(&mut of_vector[row * plan.length * n..], share);
            }
            for (index, channel) in plan.piece_channels(piece).enumerate() {
                let (block, lane) = (index / WIDTH, index % WIDTH);
                of_feedthrough[channel] += shares.feedthrough[block][lane];
                let rates = &shares.decay[block * n..][..n];
                for (sum, share) in of_decay[channel * n..][..n].iter_mut().zip(rates) {
                    *sum += share[lane];
                }
            }
        }
    }
    let [of_b, of_c] = of_vectors.map(|values| tensor(values, [plan.batch, plan.length, n]));
    SelectiveScan {
        input: tensor(of_input, width),
        step: tensor(of_step, width),
        decay: tensor(of_decay, [plan.channels, n]),
        input_vector: of_b,
        output_vector: of_c,
        feedthrough: tensor(of_feedthrough, [plan.channels]),
        gate: tensor(of_gate, width),
    }
}

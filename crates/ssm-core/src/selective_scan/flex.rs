//! Native CPU kernel: a block of channels walks the sequence chunk by chunk, state by state.
//!
//! Vectors run along the channels. B and C are the same for all of them, so a state costs the same whatever the number
//! of states is, and the sums over states need no reduction across a vector. Within a chunk one state after the other
//! walks all steps: what it needs of them stays in the first cache, and its value and its gradients in registers. The
//! forward pass keeps the states at chunk boundaries; the backward pass computes the states and decays of a chunk again,
//! and runs back over them at once.

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

/// Steps of a chunk: the seven arrays of a block that the backward pass walks for every state fill a first cache of
/// 32 KiB.
const CHUNK: usize = 32;
type Steps<T> = [Lanes<T>; CHUNK];

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

    /// B or C of a chunk with the states outermost, `[state, CHUNK]`.
    fn transpose(&self, all: &[T], row: usize, steps: &Range<usize>, to: &mut [[T; CHUNK]]) {
        let n = self.plan.state;
        for (k, t) in steps.clone().enumerate() {
            let vector = &all[(row * self.plan.length + t) * n..][..n];
            for (to, value) in to.iter_mut().zip(vector) {
                to[k] = *value;
            }
        }
    }

    /// A log₂ e of one block.
    fn rates(&self, block: usize) -> &[Lanes<T>] {
        &self.decay[block * self.plan.state..][..self.plan.state]
    }
}

fn contiguous(scan: &SelectiveScan<FlexTensor>) -> SelectiveScan<FlexTensor> {
    SelectiveScan::of_parts(scan.parts().map(FlexTensor::to_contiguous))
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

/// What a block needs of the steps of a chunk, whatever the state.
struct Prepared<T> {
    input: Steps<T>,
    /// Δ.
    dt: Steps<T>,
    /// Δ u.
    driven: Steps<T>,
}

impl<T: Real> Prepared<T> {
    fn new() -> Box<Self> {
        let zero = [[T::ZERO; WIDTH]; CHUNK];
        Box::new(Self {
            input: zero,
            dt: zero,
            driven: zero,
        })
    }

    #[inline(always)]
    fn fill<S: Simd>(
        &mut self,
        parts: &Parts<'_, T>,
        row: usize,
        steps: &Range<usize>,
        first: usize,
    ) {
        for (k, t) in steps.clone().enumerate() {
            self.input[k] = gather(parts.input, &parts.plan, row, t, first);
            self.dt[k] = gather(parts.step, &parts.plan, row, t, first);
            for i in 0..WIDTH {
                self.dt[k][i] = self.dt[k][i].softplus::<S>();
                self.driven[k][i] = self.dt[k][i] * self.input[k][i];
            }
        }
    }
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
        let mut prepared = Prepared::<T>::new();
        let [mut b, mut c] = [(); 2].map(|()| vec![[T::ZERO; CHUNK]; n]);
        let per_chunk = plan.piece_states() * WIDTH;
        for (index, saved) in chunk_states.chunks_exact_mut(per_chunk).enumerate() {
            saved.copy_from_slice(states.as_flattened());
            let steps = plan.steps(index);
            parts.transpose(parts.input_vector, row, &steps, &mut b);
            parts.transpose(parts.output_vector, row, &steps, &mut c);
            for (block, first) in channels.clone().step_by(WIDTH).enumerate() {
                prepared.fill::<S>(parts, row, &steps, first);
                let direct = load(parts.feedthrough, first);
                let mut outputs = [[T::ZERO; WIDTH]; CHUNK];
                for (j, rate) in parts.rates(first / WIDTH).iter().enumerate() {
                    let mut h = states[block * n + j];
                    for k in 0..steps.len() {
                        let (b, c) = (b[j][k], c[j][k]);
                        let (dt, driven) = (&prepared.dt[k], &prepared.driven[k]);
                        let y = &mut outputs[k];
                        for i in 0..WIDTH {
                            let decay = (dt[i] * rate[i]).exp2_of_negative::<S>();
                            h[i] = decay.fused::<S>(h[i], driven[i] * b);
                            y[i] = c.fused::<S>(h[i], y[i]);
                        }
                    }
                    states[block * n + j] = h;
                }
                let to = first - channels.start;
                let count = WIDTH.min(channels.end - first);
                for (k, t) in steps.clone().enumerate() {
                    let gate = gather(parts.gate, &plan, row, t, first);
                    let (y, input) = (&mut outputs[k], &prepared.input[k]);
                    for i in 0..WIDTH {
                        let open = gate[i] * gate[i].sigmoid::<S>();
                        y[i] = direct[i].fused::<S>(input[i], y[i]) * open;
                    }
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

/// Lanes that sums over the channels are kept in.
const SUM_LANES: usize = 8;

/// Adds the lanes of a product, `WIDTH` of them, to as few as are kept.
#[inline(always)]
fn fold<T: Real>(product: &Lanes<T>, sums: &mut [T; SUM_LANES]) {
    let mut half = [T::ZERO; WIDTH / 2];
    for i in 0..WIDTH / 2 {
        half[i] = product[i] + product[i + WIDTH / 2];
    }
    for i in 0..SUM_LANES {
        sums[i] += half[i] + half[i + SUM_LANES];
    }
}

/// The sum of the lanes that are kept.
#[inline(always)]
fn total<T: Real>(sums: &[T; SUM_LANES]) -> T {
    let [a, b, c, d, e, f, g, h] = *sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
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
        let mut prepared = Prepared::<T>::new();
        let [mut b, mut c] = [(); 2].map(|()| vec![[T::ZERO; CHUNK]; n]);
        // Gradients of B and C over a chunk, `[state, CHUNK]`.
        let [mut of_b, mut of_c] = [(); 2].map(|()| vec![[[T::ZERO; SUM_LANES]; CHUNK]; n]);
        let ln_2 = T::from_f64(std::f64::consts::LN_2);
        let per_chunk = plan.piece_states() * WIDTH;
        let starts: Vec<&[T]> = chunk_states.chunks_exact(per_chunk).collect();
        for (index, starts) in starts.into_iter().enumerate().rev() {
            let (starts, _) = starts.as_chunks::<WIDTH>();
            let steps = plan.steps(index);
            parts.transpose(parts.input_vector, row, &steps, &mut b);
            parts.transpose(parts.output_vector, row, &steps, &mut c);
            for sums in [&mut of_b, &mut of_c] {
                sums.fill([[T::ZERO; SUM_LANES]; CHUNK]);
            }
            for (block, first) in channels.clone().step_by(WIDTH).enumerate() {
                prepared.fill::<S>(parts, row, &steps, first);
                let prepared = &*prepared;
                let direct = load(parts.feedthrough, first);
                // Gradient of y, which the gate lets through.
                let mut gradients = [zero; CHUNK];
                for (k, t) in steps.clone().enumerate() {
                    let gate = gather(parts.gate, &plan, row, t, first);
                    let g = gather(output_gradient, &plan, row, t, first);
                    for i in 0..WIDTH {
                        gradients[k][i] = g[i] * gate[i] * gate[i].sigmoid::<S>();
                    }
                }

                let [mut outputs, mut of_exponents, mut of_driven] = [[zero; CHUNK]; 3];
                let [mut states, mut decays] = [[zero; CHUNK]; 2];
                for (j, rate) in parts.rates(first / WIDTH).iter().enumerate() {
                    let start = &starts[block * n + j];
                    let mut h = *start;
                    for k in 0..steps.len() {
                        let (b, c) = (b[j][k], c[j][k]);
                        let (dt, driven) = (&prepared.dt[k], &prepared.driven[k]);
                        let (state, decay, y) = (&mut states[k], &mut decays[k], &mut outputs[k]);
                        for i in 0..WIDTH {
                            decay[i] = (dt[i] * rate[i]).exp2_of_negative::<S>();
                            h[i] = decay[i].fused::<S>(h[i], driven[i] * b);
                            state[i] = h[i];
                            y[i] = c.fused::<S>(h[i], y[i]);
                        }
                    }

                    let mut carry = carries[block * n + j];
                    let mut of_rate = shares.decay[block * n + j];
                    for k in (0..steps.len()).rev() {
                        let past = match k {
                            0 => start,
                            _ => &states[k - 1],
                        };
                        let (b, c) = (b[j][k], c[j][k]);
                        let (dt, driven) = (&prepared.dt[k], &prepared.driven[k]);
                        let (g, state, decay) = (&gradients[k], &states[k], &decays[k]);
                        let (of_exponent, of_driven) = (&mut of_exponents[k], &mut of_driven[k]);
                        let (mut along_b, mut along_c) = (zero, zero);
                        for i in 0..WIDTH {
                            let of_state = c.fused::<S>(g[i], carry[i]);
                            along_b[i] = of_state * driven[i];
                            along_c[i] = g[i] * state[i];
                            of_driven[i] = b.fused::<S>(of_state, of_driven[i]);
                            carry[i] = decay[i] * of_state;
                            // Gradient of the exponent Δ A.
                            let through = carry[i] * past[i];
                            of_exponent[i] = through.fused::<S>(rate[i], of_exponent[i]);
                            of_rate[i] = through.fused::<S>(dt[i], of_rate[i]);
                        }
                        fold(&along_b, &mut of_b[j][k]);
                        fold(&along_c, &mut of_c[j][k]);
                    }
                    carries[block * n + j] = carry;
                    shares.decay[block * n + j] = of_rate;
                }

                let of_direct = &mut shares.feedthrough[block];
                let to = first - channels.start;
                let count = WIDTH.min(channels.end - first);
                for (k, t) in steps.clone().enumerate() {
                    let gate = gather(parts.gate, &plan, row, t, first);
                    let of_output = gather(output_gradient, &plan, row, t, first);
                    let before_softplus = gather(parts.step, &plan, row, t, first);
                    let (input, dt, g) = (&prepared.input[k], &prepared.dt[k], &gradients[k]);
                    let (mut of_u, mut of_dt, mut through_gate) = (zero, zero, zero);
                    for i in 0..WIDTH {
                        let open = gate[i].sigmoid::<S>();
                        let y = direct[i].fused::<S>(input[i], outputs[k][i]);
                        let slope = open * gate[i].fused::<S>(T::ONE - open, T::ONE);
                        through_gate[i] = of_output[i] * y * slope;
                        of_direct[i] = g[i].fused::<S>(input[i], of_direct[i]);
                        let of_driven = of_driven[k][i];
                        of_u[i] = of_driven.fused::<S>(dt[i], g[i] * direct[i]);
                        // The rates were times log₂ e.
                        let total = of_driven.fused::<S>(input[i], of_exponents[k][i] * ln_2);
                        of_dt[i] = total * before_softplus[i].sigmoid::<S>();
                    }
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
                for (j, sums) in sums.iter().enumerate() {
                    for (k, t) in steps.clone().enumerate() {
                        vector[t * n + j] = total(&sums[k]);
                    }
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

//! The forward pass of one piece.

use std::{mem::MaybeUninit, ops::Range};

use pulp::{Simd, WithSimd};

use super::{
    Parts,
    lanes::{Ahead, CHUNK, Lanes, Steps, WIDTH, load, store},
};
use crate::cpu::{Real, outlined};

/// One piece of the forward pass.
pub(super) struct Forward<'a, 'b, T> {
    pub(super) parts: &'a Parts<'a, T>,
    pub(super) row: usize,
    pub(super) channels: Range<usize>,
    /// `[length]` of the piece's channels.
    pub(super) output: Vec<&'b mut [MaybeUninit<T>]>,
    /// `[chunk, block, state]` of channels.
    pub(super) chunk_states: &'b mut [MaybeUninit<T>],
}

impl<T: Real> WithSimd for Forward<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let parts = self.parts;
        let n = parts.plan.state;
        let mut states = vec![[T::ZERO; WIDTH]; parts.plan.piece_states()];
        let mut walked = Box::new(Block::zero());
        let per_chunk = states.as_flattened().len();
        let saved = std::mem::take(&mut self.chunk_states);
        for (index, saved) in saved.chunks_exact_mut(per_chunk).enumerate() {
            saved.write_copy_of_slice(states.as_flattened());
            let steps = parts.plan.steps(index);
            let b = parts.chunk_of(&parts.input_vector, self.row, index);
            let c = parts.chunk_of(&parts.output_vector, self.row, index);
            for (block, first) in self.channels.clone().step_by(WIDTH).enumerate() {
                let ahead = match first + WIDTH < self.channels.end {
                    true => self.ahead(steps.start, first + WIDTH),
                    false => self.ahead(steps.end, self.channels.start),
                };
                walked.fill::<S>(parts, self.row, &steps, first);
                let rates = parts.rates(first / WIDTH);
                for j in 0..n {
                    ahead.prefetch(j, n);
                    let state = State {
                        rate: &rates[j],
                        b: &b[j],
                        c: &c[j],
                        steps: steps.len(),
                        block: &mut walked,
                        h: &mut states[block * n + j],
                    };
                    outlined(simd, state);
                }
                for (k, t) in steps.clone().enumerate() {
                    let gate = load(parts.step_of(parts.gate, self.row, t), first);
                    let mut y = walked.output[k];
                    for i in 0..WIDTH {
                        y[i] = y[i] * gate[i] * gate[i].sigmoid::<S>();
                    }
                    store(self.output[t], first - self.channels.start, &y);
                }
            }
        }
    }
}

impl<T: Real> Forward<'_, '_, T> {
    /// For a block of the channels from `first` on, in a chunk that begins with step `t`.
    fn ahead(&self, t: usize, first: usize) -> Ahead<T, 4> {
        let (parts, channels) = (self.parts, self.parts.plan.channels);
        let read = |values| parts.address(values, self.row, t, first);
        let write = self.output[0].as_ptr().cast::<T>();
        Ahead {
            arrays: [
                read(parts.input),
                read(parts.step),
                read(parts.gate),
                write.wrapping_add(t * channels + first - self.channels.start),
            ],
            stride: channels,
        }
    }
}

/// What a block holds of the steps of a chunk.
struct Block<T> {
    /// Δ.
    dt: Steps<T>,
    /// Δ u.
    driven: Steps<T>,
    /// D u, and h C of the states so far.
    output: Steps<T>,
}

impl<T: Real> Block<T> {
    fn zero() -> Self {
        Self {
            dt: Steps::zero(),
            driven: Steps::zero(),
            output: Steps::zero(),
        }
    }

    #[inline(always)]
    fn fill<S: Simd>(
        &mut self,
        parts: &Parts<'_, T>,
        row: usize,
        steps: &Range<usize>,
        first: usize,
    ) {
        let direct = load(parts.feedthrough, first);
        for (k, t) in steps.clone().enumerate() {
            let input = load(parts.step_of(parts.input, row, t), first);
            let before_softplus = load(parts.step_of(parts.step, row, t), first);
            for i in 0..WIDTH {
                let dt = before_softplus[i].softplus::<S>();
                self.dt[k][i] = dt;
                self.driven[k][i] = dt * input[i];
                self.output[k][i] = direct[i] * input[i];
            }
        }
    }
}

/// One state of a block over a chunk.
struct State<'a, 'b, T> {
    /// A log₂ e.
    rate: &'a Lanes<T>,
    b: &'a [T; CHUNK],
    c: &'a [T; CHUNK],
    steps: usize,
    block: &'b mut Block<T>,
    /// At the start of the chunk, then at its end.
    h: &'b mut Lanes<T>,
}

impl<T: Real> WithSimd for State<'_, '_, T> {
    type Output = ();

    // Lanes are copied out and in again: the compiler does not know that what is behind these references differs.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let block = self.block;
        let (rate, mut h) = (*self.rate, *self.h);
        for k in 0..self.steps {
            let (b, c) = (self.b[k], self.c[k]);
            let (dt, driven, mut y) = (block.dt[k], block.driven[k], block.output[k]);
            for i in 0..WIDTH {
                let decay = (dt[i] * rate[i]).exp2_of_negative::<S>();
                h[i] = decay.fused::<S>(h[i], driven[i] * b);
                y[i] = c.fused::<S>(h[i], y[i]);
            }
            block.output[k] = y;
        }
        *self.h = h;
    }
}

//! The backward pass of one piece.

use std::{mem::MaybeUninit, ops::Range};

use pulp::{Simd, WithSimd};

use super::{
    Parts,
    lanes::{Ahead, CHUNK, Lanes, SUM_LANES, Steps, WIDTH, fold, load, store, totals},
};
use crate::cpu::{Real, outlined};

/// Gradients with respect to what a piece of a row has for itself, and its share of the others.
pub(super) struct Shares<T> {
    /// A, `[block, state]` of channels.
    pub(super) decay: Vec<Lanes<T>>,
    /// D, `[block]` of channels.
    pub(super) feedthrough: Vec<Lanes<T>>,
    /// B and C, `[chunk, state, CHUNK]`, last chunk first.
    pub(super) vectors: [Vec<[T; CHUNK]>; 2],
}

/// One piece of the backward pass.
pub(super) struct Backward<'a, 'b, T> {
    pub(super) parts: &'a Parts<'a, T>,
    pub(super) row: usize,
    pub(super) channels: Range<usize>,
    pub(super) chunk_states: &'a [T],
    pub(super) output_gradient: &'a [T],
    /// Gradients of u, the step and the gate, `[length]` of the piece's channels each.
    pub(super) gradients: [Vec<&'b mut [MaybeUninit<T>]>; 3],
}

impl<T: Real> WithSimd for Backward<'_, '_, T> {
    type Output = Shares<T>;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> Shares<T> {
        let parts = self.parts;
        let (plan, n) = (parts.plan, parts.plan.state);
        let zero = [T::ZERO; WIDTH];
        let mut decay = vec![zero; plan.piece_states()];
        let mut feedthrough = vec![zero; plan.blocks_per_piece];
        let mut vectors = [(); 2].map(|()| Vec::with_capacity(plan.chunks() * n));
        // What the chunk after asks of the states at its start.
        let mut carries = vec![zero; plan.piece_states()];
        let mut walked = Box::new(Block::zero());
        // Sums for the gradients of B and C over a chunk.
        let mut of_b = vec![[[T::ZERO; SUM_LANES]; CHUNK]; n];
        let mut of_c = of_b.clone();
        let (starts, _) = self.chunk_states.as_chunks::<WIDTH>();
        let starts = starts.chunks_exact(plan.piece_states()).enumerate();
        for (index, starts) in starts.rev() {
            let steps = plan.steps(index);
            let b = parts.chunk_of(&parts.input_vector, self.row, index);
            let c = parts.chunk_of(&parts.output_vector, self.row, index);
            for sums in [&mut of_b, &mut of_c] {
                sums.fill([[T::ZERO; SUM_LANES]; CHUNK]);
            }
            for (block, first) in self.channels.clone().step_by(WIDTH).enumerate() {
                let ahead = match first + WIDTH < self.channels.end {
                    true => self.ahead(steps.start, first + WIDTH),
                    false => self.ahead(steps.start.saturating_sub(CHUNK), self.channels.start),
                };
                walked.fill::<S>(&self, &steps, first);
                let rates = parts.rates(first / WIDTH);
                for j in 0..n {
                    ahead.prefetch(j, n);
                    let state = State {
                        rate: &rates[j],
                        b: &b[j],
                        c: &c[j],
                        steps: steps.len(),
                        start: &starts[block * n + j],
                        block: &mut walked,
                        carry: &mut carries[block * n + j],
                        of_rate: &mut decay[block * n + j],
                        of_b: &mut of_b[j],
                        of_c: &mut of_c[j],
                    };
                    outlined(simd, state);
                }
                walked.finish::<S>(&mut self, &steps, first, &mut feedthrough[block]);
            }
            for (vector, sums) in vectors.iter_mut().zip([&of_b, &of_c]) {
                for sums in sums {
                    vector.push(totals(sums));
                }
            }
        }
        Shares {
            decay,
            feedthrough,
            vectors,
        }
    }
}

impl<T: Real> Backward<'_, '_, T> {
    /// For a block of the channels from `first` on, in a chunk that begins with step `t`.
    fn ahead(&self, t: usize, first: usize) -> Ahead<T, 7> {
        let (parts, channels) = (self.parts, self.parts.plan.channels);
        let read = |values| parts.address(values, self.row, t, first);
        let [of_input, of_step, of_gate] = self.gradients.each_ref().map(|rows| {
            let write = rows[0].as_ptr().cast::<T>();
            write.wrapping_add(t * channels + first - self.channels.start)
        });
        Ahead {
            arrays: [
                read(parts.input),
                read(parts.step),
                read(parts.gate),
                read(self.output_gradient),
                of_input,
                of_step,
                of_gate,
            ],
            stride: channels,
        }
    }
}

/// What a block holds of the steps of a chunk.
struct Block<T> {
    input: Steps<T>,
    /// Δ.
    dt: Steps<T>,
    /// Derivative of Δ by what it is the softplus of.
    dt_slope: Steps<T>,
    /// Δ u.
    driven: Steps<T>,
    /// Gradient of y, which the gate lets through.
    gradient: Steps<T>,
    /// Gradient of the gate, but for the factor y.
    of_gate: Steps<T>,
    /// D u, and h C of the states so far: y.
    output: Steps<T>,
    /// Gradients of the exponents Δ A times A, and of Δ u, sums over the states so far.
    of_exponent: Steps<T>,
    of_driven: Steps<T>,
    /// Of one state.
    states: Steps<T>,
    decays: Steps<T>,
}

impl<T: Real> Block<T> {
    fn zero() -> Self {
        let zero = Steps::zero();
        Self {
            input: zero,
            dt: zero,
            dt_slope: zero,
            driven: zero,
            gradient: zero,
            of_gate: zero,
            output: zero,
            of_exponent: zero,
            of_driven: zero,
            states: zero,
            decays: zero,
        }
    }

    #[inline(always)]
    fn fill<S: Simd>(&mut self, pass: &Backward<'_, '_, T>, steps: &Range<usize>, first: usize) {
        let parts = pass.parts;
        let direct = load(parts.feedthrough, first);
        for (k, t) in steps.clone().enumerate() {
            let input = load(parts.step_of(parts.input, pass.row, t), first);
            let before_softplus = load(parts.step_of(parts.step, pass.row, t), first);
            for i in 0..WIDTH {
                let (dt, slope) = before_softplus[i].softplus_with_slope::<S>();
                self.dt[k][i] = dt;
                self.dt_slope[k][i] = slope;
                self.driven[k][i] = dt * input[i];
                self.output[k][i] = direct[i] * input[i];
            }
            self.input[k] = input;
            let gate = load(parts.step_of(parts.gate, pass.row, t), first);
            let g = load(parts.step_of(pass.output_gradient, pass.row, t), first);
            for i in 0..WIDTH {
                let open = gate[i].sigmoid::<S>();
                let through = g[i] * open;
                self.gradient[k][i] = through * gate[i];
                self.of_gate[k][i] = through * gate[i].fused::<S>(T::ONE - open, T::ONE);
            }
            self.of_exponent[k] = [T::ZERO; WIDTH];
            self.of_driven[k] = [T::ZERO; WIDTH];
        }
    }

    /// Writes the gradients of u, the step and the gate, and adds to that of D.
    #[inline(always)]
    fn finish<S: Simd>(
        &self,
        pass: &mut Backward<'_, '_, T>,
        steps: &Range<usize>,
        first: usize,
        of_direct: &mut Lanes<T>,
    ) {
        let ln_2 = T::from_f64(std::f64::consts::LN_2);
        let direct = load(pass.parts.feedthrough, first);
        let mut sum = *of_direct;
        for (k, t) in steps.clone().enumerate() {
            let (input, g) = (&self.input[k], &self.gradient[k]);
            let zero = [T::ZERO; WIDTH];
            let (mut of_input, mut of_step, mut of_gate) = (zero, zero, zero);
            for i in 0..WIDTH {
                sum[i] = g[i].fused::<S>(input[i], sum[i]);
                let of_driven = self.of_driven[k][i];
                of_input[i] = of_driven.fused::<S>(self.dt[k][i], g[i] * direct[i]);
                // The rates were times log₂ e.
                let of_dt = of_driven.fused::<S>(input[i], self.of_exponent[k][i] * ln_2);
                of_step[i] = of_dt * self.dt_slope[k][i];
                of_gate[i] = self.of_gate[k][i] * self.output[k][i];
            }
            let to = first - pass.channels.start;
            let [to_input, to_step, to_gate] = &mut pass.gradients;
            store(to_input[t], to, &of_input);
            store(to_step[t], to, &of_step);
            store(to_gate[t], to, &of_gate);
        }
        *of_direct = sum;
    }
}

/// One state of a block over a chunk, and back.
struct State<'a, 'b, T> {
    /// A log₂ e.
    rate: &'a Lanes<T>,
    b: &'a [T; CHUNK],
    c: &'a [T; CHUNK],
    steps: usize,
    start: &'a Lanes<T>,
    block: &'b mut Block<T>,
    /// What the chunk after asks of the state at its start, then what this one asks.
    carry: &'b mut Lanes<T>,
    /// Sum so far of the gradient of A.
    of_rate: &'b mut Lanes<T>,
    /// Sums over the channels for the gradients of B and C.
    of_b: &'b mut [[T; SUM_LANES]; CHUNK],
    of_c: &'b mut [[T; SUM_LANES]; CHUNK],
}

impl<T: Real> WithSimd for State<'_, '_, T> {
    type Output = ();

    // Lanes are copied out and in again: the compiler does not know that what is behind these references differs.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let block = self.block;
        let (rate, mut h) = (*self.rate, *self.start);
        for k in 0..self.steps {
            let (b, c) = (self.b[k], self.c[k]);
            let (dt, driven, mut y) = (block.dt[k], block.driven[k], block.output[k]);
            let mut decay = [T::ZERO; WIDTH];
            for i in 0..WIDTH {
                decay[i] = (dt[i] * rate[i]).exp2_of_negative::<S>();
                h[i] = decay[i].fused::<S>(h[i], driven[i] * b);
                y[i] = c.fused::<S>(h[i], y[i]);
            }
            block.states[k] = h;
            block.decays[k] = decay;
            block.output[k] = y;
        }

        let (mut carry, mut of_rate) = (*self.carry, *self.of_rate);
        for k in (0..self.steps).rev() {
            let past = *match k {
                0 => self.start,
                _ => &block.states[k - 1],
            };
            let (b, c) = (self.b[k], self.c[k]);
            let (dt, driven, g) = (block.dt[k], block.driven[k], block.gradient[k]);
            let (state, decay) = (block.states[k], block.decays[k]);
            let (mut of_exponent, mut of_driven) = (block.of_exponent[k], block.of_driven[k]);
            let mut of_state = [T::ZERO; WIDTH];
            for i in 0..WIDTH {
                of_state[i] = c.fused::<S>(g[i], carry[i]);
                of_driven[i] = b.fused::<S>(of_state[i], of_driven[i]);
                carry[i] = decay[i] * of_state[i];
                // Gradient of the exponent Δ A.
                let through = carry[i] * past[i];
                of_exponent[i] = through.fused::<S>(rate[i], of_exponent[i]);
                of_rate[i] = through.fused::<S>(dt[i], of_rate[i]);
            }
            block.of_exponent[k] = of_exponent;
            block.of_driven[k] = of_driven;
            fold::<S, T>(&of_state, &driven, &mut self.of_b[k]);
            fold::<S, T>(&g, &state, &mut self.of_c[k]);
        }
        *self.carry = carry;
        *self.of_rate = of_rate;
    }
}

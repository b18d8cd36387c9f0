//! The kernels behind [`super::forward`] and [`super::backward`].
//!
//! All tensors are contiguous and read by flat position. A thread keeps what it needs of the steps of its chunk in arrays
//! whose indices are known when it is compiled: in registers.

use cubecl::prelude::*;

use crate::scan::cube::Direction;

/// Steps of a chunk, see [`super`].
pub(super) const CHUNK: usize = 16;

/// Channels of a cube of [`gradients`]: as many threads, whose shares of the gradients of B and C are added up in it.
pub(super) const CHANNELS: usize = 64;

/// Values that a cube of [`gradients`] adds up at a time: a gradient of B and one of C for every step of the chunk.
const SUMS: usize = 2 * CHUNK;

/// Threads that share one of these sums.
const PARTS: usize = CHANNELS / SUMS;

/// Distance between the shares of two sums: threads that read at the same time then read from different banks.
const STRIDE: usize = CHANNELS + PARTS;

/// Chunks whose summaries are loaded before the first of them is used: loads wait for memory together.
const AHEAD: usize = 8;

/// Terms of the series in [`softplus`]: what is left out is below 2e-9 of the result.
const TERMS: usize = 8;

/// Where a thread works: a channel in a chunk of a row of the batch.
#[derive(CubeType, Clone, Copy)]
struct Place {
    batch: usize,
    chunk: usize,
    channel: usize,
    channels: usize,
    states: usize,
    /// Row of the chunk among those of all chunks.
    chunk_row: usize,
    /// Row of its first step among those of all steps, and how many of its steps there are.
    first_row: usize,
    steps: usize,
}

/// Of a channel in the chunk `chunk_row` of all batches; `wide` is `[batch, length, channels]`.
#[cube]
fn place<F: Float>(
    chunk_row: usize,
    channel: usize,
    wide: &Tensor<F>,
    chunks: usize,
    states: usize,
) -> Place {
    let length = wide.shape(1);
    let batch = chunk_row / chunks;
    let chunk = chunk_row % chunks;
    let first = chunk * CHUNK;
    Place {
        batch,
        chunk,
        channel,
        channels: wide.shape(2),
        states,
        chunk_row,
        first_row: batch * length + first,
        steps: min(CHUNK, length - first),
    }
}

/// Row of a step. Beyond the last one that of the last one: what is read there does not count.
#[cube]
fn row(place: &Place, step: usize) -> usize {
    place.first_row + min(step, place.steps - 1)
}

/// Flat position in `[batch, length, channels]`.
#[cube]
fn in_wide(place: &Place, step: usize) -> usize {
    row(place, step) * place.channels + place.channel
}

/// Flat position in `[batch, length, state]`.
#[cube]
fn in_vector(place: &Place, step: usize, state: usize) -> usize {
    row(place, step) * place.states + state
}

/// Flat position in `[batch, chunks, state, channels]`.
#[cube]
fn in_states(place: &Place, state: usize) -> usize {
    (place.chunk_row * place.states + state) * place.channels + place.channel
}

/// A value if its step is one of the chunk's, else zero. A step of size zero leaves the state as it is.
#[cube]
fn inside<A: Float>(place: &Place, step: usize, value: A) -> A {
    select(step < place.steps, value, A::new(0.0))
}

/// e^-|x|, of which softplus, the sigmoid and its slope are made without a difference of close numbers.
#[cube]
fn faded_exp<A: Float>(x: A) -> A {
    (-x.abs()).exp()
}

/// log(1 + e^x) with all digits. Shaders have no log1p, and what is made of log(1 + y) and the rounding error of 1 + y
/// their compilers simplify. So log(1 + y) = 2 artanh(y / (2 + y)): all terms of its series are positive.
#[cube]
fn softplus<A: Float>(x: A, #[comptime] double: bool) -> A {
    let y = faded_exp::<A>(x);
    let log = if comptime!(double) {
        y.log1p()
    } else {
        let s = y / (y + A::new(2.0));
        let square = s * s;
        let mut series = A::new(0.0);
        #[unroll]
        for i in 0..TERMS {
            let odd = 2 * (TERMS - i) - 1;
            series = series * square + A::new(1.0) / A::cast_from(odd);
        }
        A::new(2.0) * s * series
    };
    max(x, A::new(0.0)) + log
}

/// 1 / (1 + e^-x).
#[cube]
fn sigmoid<A: Float>(x: A) -> A {
    let y = faded_exp::<A>(x);
    select(x < A::new(0.0), y, A::new(1.0)) / (y + A::new(1.0))
}

/// Δ of every step; zero beyond the last one.
#[cube]
fn load_steps<F: Float, A: Float>(
    step: &Tensor<F>,
    place: &Place,
    #[comptime] double: bool,
) -> Array<A> {
    let mut dt = Array::<A>::new(CHUNK);
    #[unroll]
    for t in 0..CHUNK {
        let value = softplus::<A>(A::cast_from(step[in_wide(place, t)]), double);
        dt[t] = inside::<A>(place, t, value);
    }
    dt
}

/// u of every step.
#[cube]
fn load_input<F: Float, A: Float>(input: &Tensor<F>, place: &Place) -> Array<A> {
    let mut u = Array::<A>::new(CHUNK);
    #[unroll]
    for t in 0..CHUNK {
        u[t] = A::cast_from(input[in_wide(place, t)]);
    }
    u
}

/// What the output asks of h C + D u at every step, through the gate; zero beyond the last one.
#[cube]
fn load_asked<F: Float, A: Float>(
    output_gradient: &Tensor<F>,
    gate: &Tensor<F>,
    place: &Place,
) -> Array<A> {
    let mut asked = Array::<A>::new(CHUNK);
    #[unroll]
    for t in 0..CHUNK {
        let z = A::cast_from(gate[in_wide(place, t)]);
        let gradient = A::cast_from(output_gradient[in_wide(place, t)]);
        asked[t] = inside::<A>(place, t, gradient * z * sigmoid::<A>(z));
    }
    asked
}

/// The sizes of all steps of a chunk together: what a state fades by over it is one exponential of this.
#[cube]
fn store_span<A: Float>(dt: &Array<A>, spans: &mut Tensor<A>, place: &Place) {
    let mut span = A::new(0.0);
    #[unroll]
    for t in 0..CHUNK {
        span += dt[t];
    }
    spans[place.chunk_row * place.channels + place.channel] = span;
}

/// Where each chunk ends that starts from nothing, `[batch, chunks, state, channels]`, and its span,
/// `[batch, chunks, channels]`. The last chunk is left out: nothing reads what it would write.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn summaries<F: Float, A: Float>(
    input: &Tensor<F>,
    step: &Tensor<F>,
    rates: &Tensor<F>,
    input_vector: &Tensor<F>,
    ends: &mut Tensor<A>,
    spans: &mut Tensor<A>,
    #[comptime] double: bool,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let chunks = spans.shape(1);
    let channels = input.shape(2);
    let chunk_row = ABSOLUTE_POS / channels;
    if chunk_row >= input.shape(0) * chunks {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let place = place::<F>(chunk_row, channel, input, chunks, rates.shape(0));
    if place.chunk == chunks - 1 {
        terminate!();
    }

    let dt = load_steps::<F, A>(step, &place, double);
    let u = load_input::<F, A>(input, &place);
    store_span::<A>(&dt, spans, &place);
    for n in 0..place.states {
        let rate = A::cast_from(rates[n * channels + channel]);
        let mut state = A::new(0.0);
        #[unroll]
        for t in 0..CHUNK {
            let b = A::cast_from(input_vector[in_vector(&place, t, n)]);
            state = (rate * dt[t]).exp() * state + dt[t] * u[t] * b;
        }
        ends[in_states(&place, n)] = state;
    }
}

/// The same of the adjoint, which walks backwards. The first chunk is left out.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn adjoint_summaries<F: Float, A: Float>(
    step: &Tensor<F>,
    rates: &Tensor<F>,
    output_vector: &Tensor<F>,
    gate: &Tensor<F>,
    output_gradient: &Tensor<F>,
    ends: &mut Tensor<A>,
    spans: &mut Tensor<A>,
    #[comptime] double: bool,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let chunks = spans.shape(1);
    let channels = step.shape(2);
    let chunk_row = ABSOLUTE_POS / channels;
    if chunk_row >= step.shape(0) * chunks {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let place = place::<F>(chunk_row, channel, step, chunks, rates.shape(0));
    if place.chunk == 0 {
        terminate!();
    }

    let dt = load_steps::<F, A>(step, &place, double);
    let asked = load_asked::<F, A>(output_gradient, gate, &place);
    store_span::<A>(&dt, spans, &place);
    for n in 0..place.states {
        let rate = A::cast_from(rates[n * channels + channel]);
        let mut carry = A::new(0.0);
        #[unroll]
        for i in 0..CHUNK {
            let t = CHUNK - 1 - i;
            let c = A::cast_from(output_vector[in_vector(&place, t, n)]);
            carry = (rate * dt[t]).exp() * (asked[t] * c + carry);
        }
        ends[in_states(&place, n)] = carry;
    }
}

/// What enters each chunk, in place of where each would end that starts from nothing. What enters first is zero.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn carries<F: Float, A: Float>(
    rates: &Tensor<F>,
    spans: &Tensor<A>,
    states: &mut Tensor<A>,
    #[comptime] direction: Direction,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let chunks = spans.shape(1);
    let channels = rates.shape(1);
    // Of a state in a channel.
    let width = rates.shape(0) * channels;
    let batch = ABSOLUTE_POS / width;
    if batch >= spans.shape(0) {
        terminate!();
    }
    let column = ABSOLUTE_POS % width;
    let rate = A::cast_from(rates[column]);
    let channel = column % channels;

    let mut carry = A::new(0.0);
    let mut ends = Array::<A>::new(AHEAD);
    let mut fading = Array::<A>::new(AHEAD);
    let mut done = 0usize.runtime();
    while done < chunks {
        #[unroll]
        for k in 0..AHEAD {
            // The end of the chunk reached last was never written. It only reaches a carry that nothing is entered by.
            let chunk_row = batch * chunks + nth(min(done + k, chunks - 1), chunks, direction);
            ends[k] = states[chunk_row * width + column];
            fading[k] = (rate * spans[chunk_row * channels + channel]).exp();
        }
        #[unroll]
        for k in 0..AHEAD {
            if done + k < chunks {
                let chunk_row = batch * chunks + nth(done + k, chunks, direction);
                states[chunk_row * width + column] = carry;
                carry = fading[k] * carry + ends[k];
            }
        }
        done += AHEAD;
    }
}

/// The chunk reached after `count` others.
#[cube]
fn nth(count: usize, chunks: usize, #[comptime] direction: Direction) -> usize {
    if comptime!(direction == Direction::Backward) {
        chunks - 1 - count
    } else {
        count
    }
}

/// The output, each chunk from the states that enter it.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn outputs<F: Float, A: Float>(
    input: &Tensor<F>,
    step: &Tensor<F>,
    rates: &Tensor<F>,
    input_vector: &Tensor<F>,
    output_vector: &Tensor<F>,
    feedthrough: &Tensor<F>,
    gate: &Tensor<F>,
    chunk_states: &Tensor<A>,
    output: &mut Tensor<F>,
    #[comptime] double: bool,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let chunks = chunk_states.shape(1);
    let channels = input.shape(2);
    let chunk_row = ABSOLUTE_POS / channels;
    if chunk_row >= input.shape(0) * chunks {
        terminate!();
    }
    let channel = ABSOLUTE_POS % channels;
    let place = place::<F>(chunk_row, channel, input, chunks, rates.shape(0));

    let dt = load_steps::<F, A>(step, &place, double);
    let u = load_input::<F, A>(input, &place);
    let mut read = zeros::<A>();
    for n in 0..place.states {
        let rate = A::cast_from(rates[n * channels + channel]);
        let mut state = chunk_states[in_states(&place, n)];
        #[unroll]
        for t in 0..CHUNK {
            let b = A::cast_from(input_vector[in_vector(&place, t, n)]);
            let c = A::cast_from(output_vector[in_vector(&place, t, n)]);
            state = (rate * dt[t]).exp() * state + dt[t] * u[t] * b;
            read[t] += state * c;
        }
    }
    let skip = A::cast_from(feedthrough[channel]);
    #[unroll]
    for t in 0..CHUNK {
        if t < place.steps {
            let z = A::cast_from(gate[in_wide(&place, t)]);
            let gated = (read[t] + skip * u[t]) * z * sigmoid::<A>(z);
            output[in_wide(&place, t)] = F::cast_from(gated);
        }
    }
}

#[cube]
fn zeros<A: Float>() -> Array<A> {
    let mut zeros = Array::<A>::new(CHUNK);
    #[unroll]
    for t in 0..CHUNK {
        zeros[t] = A::new(0.0);
    }
    zeros
}

/// Gradients, each chunk from the states that enter it at its start and the adjoints that enter it at its end. A cube
/// takes [`CHANNELS`] channels of a chunk.
///
/// Of A and D it leaves the sums within the chunk: those of A, `[batch, chunks, state, channels]`, in place of the
/// `adjoints`, those of D, `[batch, chunks, channels]`. Of B and C it leaves the sums within the cube, in
/// `[groups of channels, batch, B or C, state, length]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn gradients<F: Float, A: Float>(
    input: &Tensor<F>,
    step: &Tensor<F>,
    rates: &Tensor<F>,
    input_vector: &Tensor<F>,
    output_vector: &Tensor<F>,
    feedthrough: &Tensor<F>,
    gate: &Tensor<F>,
    output_gradient: &Tensor<F>,
    chunk_states: &Tensor<A>,
    adjoints: &mut Tensor<A>,
    of_input: &mut Tensor<F>,
    of_step: &mut Tensor<F>,
    of_vectors: &mut Tensor<A>,
    of_feedthrough: &mut Tensor<A>,
    of_gate: &mut Tensor<F>,
    #[comptime] double: bool,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let chunks = chunk_states.shape(1);
    let length = input.shape(1);
    let channels = input.shape(2);
    let groups = of_vectors.shape(0);
    let chunk_row = CUBE_POS / groups;
    if chunk_row >= input.shape(0) * chunks {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let group = CUBE_POS % groups;
    let of_unit = group * CHANNELS + unit;
    let exists = of_unit < channels;
    // Beyond the last channel that one again, asked for nothing and driven by nothing: it adds nothing to the sums.
    let channel = min(of_unit, channels - 1);
    let place = place::<F>(chunk_row, channel, input, chunks, rates.shape(0));

    let dt = load_steps::<F, A>(step, &place, double);
    let mut u = load_input::<F, A>(input, &place);
    let mut asked = load_asked::<F, A>(output_gradient, gate, &place);
    #[unroll]
    for t in 0..CHUNK {
        u[t] = select(exists, u[t], A::new(0.0));
        asked[t] = select(exists, asked[t], A::new(0.0));
    }

    let mut read = zeros::<A>();
    let mut along_input = zeros::<A>();
    let mut through_decay = zeros::<A>();
    let mut decays = Array::<A>::new(CHUNK);
    let mut faded = Array::<A>::new(CHUNK);
    let mut shares = SharedMemory::<A>::new(comptime!(SUMS * STRIDE));
    let mut part_sums = SharedMemory::<A>::new(CHANNELS);
    for n in 0..place.states {
        // The states once more: what is left of each by the next step.
        let rate = A::cast_from(rates[n * channels + channel]);
        let mut state = chunk_states[in_states(&place, n)];
        #[unroll]
        for t in 0..CHUNK {
            let b = A::cast_from(input_vector[in_vector(&place, t, n)]);
            decays[t] = (rate * dt[t]).exp();
            faded[t] = decays[t] * state;
            state = faded[t] + dt[t] * u[t] * b;
        }

        // Back over them with the adjoint.
        let mut carry = adjoints[in_states(&place, n)];
        let mut of_rate = A::new(0.0);
        #[unroll]
        for i in 0..CHUNK {
            let t = CHUNK - 1 - i;
            let b = A::cast_from(input_vector[in_vector(&place, t, n)]);
            let c = A::cast_from(output_vector[in_vector(&place, t, n)]);
            let driven = dt[t] * u[t];
            let state = faded[t] + driven * b;
            let adjoint = asked[t] * c + carry;
            read[t] += state * c;
            along_input[t] += adjoint * b;
            // a = exp(Δ A): the gradient of its exponent is that of a times a.
            let of_exponent = adjoint * faded[t];
            through_decay[t] += of_exponent * rate;
            of_rate += of_exponent * dt[t];
            shares[t * STRIDE + unit] = adjoint * driven;
            shares[(CHUNK + t) * STRIDE + unit] = asked[t] * state;
            carry = decays[t] * adjoint;
        }
        if exists {
            adjoints[in_states(&place, n)] = of_rate;
        }
        sync_cube();

        // The shares of all channels: PARTS threads each of a sum, then one.
        let mut part_sum = A::new(0.0);
        for i in 0..SUMS {
            part_sum += shares[unit / PARTS * STRIDE + unit % PARTS + i * PARTS];
        }
        part_sums[unit] = part_sum;
        sync_cube();

        if unit < SUMS {
            let mut sum = A::new(0.0);
            #[unroll]
            for part in 0..PARTS {
                sum += part_sums[unit * PARTS + part];
            }
            let vector = unit / CHUNK;
            let step_of_sum = unit % CHUNK;
            if step_of_sum < place.steps {
                let row = ((group * input.shape(0) + place.batch) * 2 + vector) * place.states + n;
                of_vectors[row * length + place.chunk * CHUNK + step_of_sum] = sum;
            }
        }
    }

    if exists {
        let skip = A::cast_from(feedthrough[channel]);
        let mut of_skip = A::new(0.0);
        #[unroll]
        for t in 0..CHUNK {
            if t < place.steps {
                let at = in_wide(&place, t);
                of_skip += asked[t] * u[t];
                of_input[at] = F::cast_from(along_input[t] * dt[t] + asked[t] * skip);

                let of_dt = through_decay[t] + along_input[t] * u[t];
                of_step[at] = F::cast_from(of_dt * sigmoid::<A>(A::cast_from(step[at])));

                let z = A::cast_from(gate[at]);
                let gradient = A::cast_from(output_gradient[at]);
                let slope = sigmoid::<A>(z) * (A::new(1.0) + z * sigmoid::<A>(-z));
                of_gate[at] = F::cast_from(gradient * (read[t] + skip * u[t]) * slope);
            }
        }
        of_feedthrough[place.chunk_row * channels + channel] = of_skip;
    }
}

/// Gradients of B and C, `[batch, length, state]`, from the sums that [`gradients`] leaves of groups of channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn vector_gradients<F: Float, A: Float>(
    parts: &Tensor<A>,
    of_input_vector: &mut Tensor<F>,
    of_output_vector: &mut Tensor<F>,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let groups = parts.shape(0);
    let states = parts.shape(3);
    let length = parts.shape(4);
    // Steps fastest, as in the parts.
    let width = states * length;
    let batch = ABSOLUTE_POS / width;
    if batch >= parts.shape(1) {
        terminate!();
    }
    let state = ABSOLUTE_POS / length % states;
    let step = ABSOLUTE_POS % length;

    let mut of_b = A::new(0.0);
    let mut of_c = A::new(0.0);
    for group in 0..groups {
        let row = (group * parts.shape(1) + batch) * 2;
        of_b += parts[row * width + state * length + step];
        of_c += parts[(row + 1) * width + state * length + step];
    }
    let at = (batch * length + step) * states + state;
    of_input_vector[at] = F::cast_from(of_b);
    of_output_vector[at] = F::cast_from(of_c);
}

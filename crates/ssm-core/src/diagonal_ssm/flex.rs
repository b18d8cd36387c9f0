//! Native CPU kernel: one pass over the sequence in chunks that stay in the cache.
//!
//! Per batch row and chunk: B u by a matrix product, the recurrence in place, C x by a matrix product. The
//! states of a chunk live in a scratch buffer of about [`CHUNK_BYTES`]; only the state at every chunk boundary
//! is kept, and the backward pass recomputes the rest from there. Batch rows run in parallel; sums over the
//! batch are taken over a fixed number of groups in a fixed order, so results do not depend on the number of threads.

use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::{DiagonalSsm, DiagonalSsmForward, DiagonalSsmGradients, DiagonalSsmOutput};
use crate::cpu::{
    Destination, MatrixRef, REDUCTION_PIECES, Real, add_assign, dims, product, tensor, vectorized,
};

/// Size of the state buffer of one chunk. The backward pass holds two; both fit a 256 KiB L2 cache.
const CHUNK_BYTES: usize = 96 * 1024;

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    hidden: usize,
    state: usize,
    chunk: usize,
}

impl Sizes {
    fn new<T>(input: &FlexTensor, system: &DiagonalSsm<FlexTensor>) -> Self {
        let [batch, length, hidden] = dims(input);
        let [state] = dims(&system.lambda_re);
        let fitting = CHUNK_BYTES / (2 * state * size_of::<T>());
        Self {
            batch,
            length,
            hidden,
            state,
            chunk: fitting.clamp(16, 512).min(length),
        }
    }

    fn chunks(&self) -> usize {
        self.length.div_ceil(self.chunk)
    }

    /// First step and number of steps of chunk `index`.
    fn chunk_range(&self, index: usize) -> (usize, usize) {
        let start = index * self.chunk;
        (start, self.chunk.min(self.length - start))
    }

    /// Elements of one batch row of the input.
    fn row(&self) -> usize {
        self.length * self.hidden
    }
}

/// Parameters packed so that real and imaginary parts share one product.
struct Packed<T> {
    lambda_re: Vec<T>,
    lambda_im: Vec<T>,
    /// `[hidden, 2 * state]`: Re Bᵀ, then Im Bᵀ.
    input: Vec<T>,
    /// `[2 * state, hidden]`: Re Cᵀ, then −Im Cᵀ.
    output: Vec<T>,
    feedthrough: Vec<T>,
}

impl<T: Real> Packed<T> {
    fn new(sizes: &Sizes, system: &DiagonalSsm<FlexTensor>) -> Self {
        let (n, h) = (sizes.state, sizes.hidden);
        let read = |t: &FlexTensor| t.to_contiguous().storage::<T>().to_vec();
        let (b_re, b_im) = (read(&system.input_re), read(&system.input_im));
        let (c_re, c_im) = (read(&system.output_re), read(&system.output_im));
        let mut input = vec![T::ZERO; h * 2 * n];
        let mut output = vec![T::ZERO; 2 * n * h];
        for i in 0..n {
            for j in 0..h {
                input[j * 2 * n + i] = b_re[i * h + j];
                input[j * 2 * n + n + i] = b_im[i * h + j];
                output[i * h + j] = c_re[j * n + i];
                output[(n + i) * h + j] = -c_im[j * n + i];
            }
        }
        Self {
            lambda_re: read(&system.lambda_re),
            lambda_im: read(&system.lambda_im),
            input,
            output,
            feedthrough: read(&system.feedthrough),
        }
    }

    fn input(&self, sizes: &Sizes) -> MatrixRef<'_, T> {
        MatrixRef::new(&self.input, sizes.hidden, 2 * sizes.state)
    }

    fn output(&self, sizes: &Sizes) -> MatrixRef<'_, T> {
        MatrixRef::new(&self.output, 2 * sizes.state, sizes.hidden)
    }
}

pub(crate) fn forward(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    initial_state: &FlexTensor,
) -> DiagonalSsmForward<FlexTensor> {
    match input.dtype() {
        DType::F64 => forward_typed::<f64>(input, system, initial_state),
        _ => forward_typed::<f32>(input, system, initial_state),
    }
}

pub(crate) fn backward(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> DiagonalSsmGradients<FlexTensor> {
    match input.dtype() {
        DType::F64 => backward_typed::<f64>(input, system, chunk_states, output_gradient),
        _ => backward_typed::<f32>(input, system, chunk_states, output_gradient),
    }
}

fn forward_typed<T: Real>(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    initial_state: &FlexTensor,
) -> DiagonalSsmForward<FlexTensor> {
    let sizes = Sizes::new::<T>(input, system);
    let packed = Packed::<T>::new(&sizes, system);
    let input = input.to_contiguous();
    let u = input.storage::<T>();
    let (chunks, width) = (sizes.chunks(), 2 * sizes.state);
    let initial_state = initial_state.to_contiguous();

    let mut final_state = initial_state.storage::<T>().to_vec();
    let mut output = vec![T::ZERO; u.len()];
    let mut chunk_states = vec![T::ZERO; sizes.batch * chunks * width];
    output
        .par_chunks_mut(sizes.row())
        .zip(u.par_chunks(sizes.row()))
        .zip(chunk_states.par_chunks_mut(chunks * width))
        .zip(final_state.par_chunks_mut(width))
        .for_each_init(
            || vec![T::ZERO; sizes.chunk * width],
            |states, (((y, u), chunk_states), carry)| {
                forward_row(&sizes, &packed, u, y, [chunk_states, carry], states)
            },
        );
    DiagonalSsmForward {
        result: DiagonalSsmOutput {
            output: tensor(output, [sizes.batch, sizes.length, sizes.hidden]),
            final_state: tensor(final_state, [sizes.batch, width]),
        },
        chunk_states: tensor(chunk_states, [sizes.batch, chunks, width]),
    }
}

/// One batch row: `u` and `y` are `[length, hidden]`, `carry` is the state before the first step and becomes the one
/// after the last, `states` is scratch for one chunk.
fn forward_row<T: Real>(
    sizes: &Sizes,
    packed: &Packed<T>,
    u: &[T],
    y: &mut [T],
    [chunk_states, carry]: [&mut [T]; 2],
    states: &mut [T],
) {
    let (h, width) = (sizes.hidden, 2 * sizes.state);
    for (index, boundary) in chunk_states.chunks_exact_mut(width).enumerate() {
        let (start, steps) = sizes.chunk_range(index);
        let (u, y) = (
            &u[start * h..][..steps * h],
            &mut y[start * h..][..steps * h],
        );
        let states = &mut states[..steps * width];
        boundary.copy_from_slice(carry);

        fill_states(sizes, packed, u, carry, states);
        product(
            y,
            Destination::Overwrite,
            MatrixRef::new(states, steps, width),
            packed.output(sizes),
        );
        for (y, u) in y.chunks_exact_mut(h).zip(u.chunks_exact(h)) {
            for ((y, u), d) in y.iter_mut().zip(u).zip(&packed.feedthrough) {
                *y += *d * *u;
            }
        }
        carry.copy_from_slice(&states[(steps - 1) * width..]);
    }
}

/// States of one chunk, `[steps, 2 * state]`, from its inputs and the state before it.
fn fill_states<T: Real>(
    sizes: &Sizes,
    packed: &Packed<T>,
    u: &[T],
    before: &[T],
    states: &mut [T],
) {
    let width = 2 * sizes.state;
    let steps = states.len() / width;
    product(
        states,
        Destination::Overwrite,
        MatrixRef::new(u, steps, sizes.hidden),
        packed.input(sizes),
    );
    vectorized(
        #[inline(always)]
        || scan(&packed.lambda_re, &packed.lambda_im, before, states),
    );
}

/// x_k = λ x_{k-1} + x_k in place over rows of real, then imaginary parts.
#[inline(always)]
fn scan<T: Real>(lambda_re: &[T], lambda_im: &[T], before: &[T], states: &mut [T]) {
    let n = lambda_re.len();
    let lambda_im = &lambda_im[..n];
    let mut past = before;
    let mut rest = states;
    while !rest.is_empty() {
        let (row, tail) = rest.split_at_mut(2 * n);
        let (re, im) = row.split_at_mut(n);
        let (past_re, past_im) = (&past[..n], &past[n..2 * n]);
        let im = &mut im[..n];
        for i in 0..n {
            let (a, b) = (past_re[i], past_im[i]);
            re[i] += lambda_re[i] * a - lambda_im[i] * b;
            im[i] += lambda_re[i] * b + lambda_im[i] * a;
        }
        past = row;
        rest = tail;
    }
}

/// s_k = conj(λ) s_{k+1} + s_k in place, last row first; `after` is the adjoint state behind the chunk. Adds
/// Σ s_k conj(x_{k-1}) to `lambda_gradient` (real parts, then imaginary).
#[inline(always)]
fn adjoint_scan<T: Real>(
    lambda_re: &[T],
    lambda_im: &[T],
    [before, states]: [&[T]; 2],
    after: &[T],
    adjoints: &mut [T],
    lambda_gradient: &mut [T],
) {
    let n = lambda_re.len();
    let lambda_im = &lambda_im[..n];
    let (grad_re, grad_im) = lambda_gradient.split_at_mut(n);
    let grad_im = &mut grad_im[..n];
    let steps = adjoints.len() / (2 * n);
    for k in (0..steps).rev() {
        let (head, tail) = adjoints.split_at_mut((k + 1) * 2 * n);
        let (re, im) = head[k * 2 * n..].split_at_mut(n);
        let im = &mut im[..n];
        let next = if k + 1 == steps { after } else { &*tail };
        let (next_re, next_im) = (&next[..n], &next[n..2 * n]);
        let past = if k == 0 {
            before
        } else {
            &states[(k - 1) * 2 * n..]
        };
        let (past_re, past_im) = (&past[..n], &past[n..2 * n]);
        for i in 0..n {
            let (a, b) = (next_re[i], next_im[i]);
            let s_re = re[i] + lambda_re[i] * a + lambda_im[i] * b;
            let s_im = im[i] + lambda_re[i] * b - lambda_im[i] * a;
            re[i] = s_re;
            im[i] = s_im;
            grad_re[i] += s_re * past_re[i] + s_im * past_im[i];
            grad_im[i] += s_im * past_re[i] - s_re * past_im[i];
        }
    }
}

/// Gradients of the packed parameters, summed over some batch rows.
struct Accumulators<T> {
    lambda: Vec<T>,
    input: Vec<T>,
    output: Vec<T>,
    feedthrough: Vec<T>,
}

impl<T: Real> Accumulators<T> {
    fn new(sizes: &Sizes) -> Self {
        let (h, width) = (sizes.hidden, 2 * sizes.state);
        Self {
            lambda: vec![T::ZERO; width],
            input: vec![T::ZERO; h * width],
            output: vec![T::ZERO; width * h],
            feedthrough: vec![T::ZERO; h],
        }
    }

    fn add(mut self, other: &Self) -> Self {
        add_assign(&mut self.lambda, &other.lambda);
        add_assign(&mut self.input, &other.input);
        add_assign(&mut self.output, &other.output);
        add_assign(&mut self.feedthrough, &other.feedthrough);
        self
    }

    fn unpack(self, sizes: &Sizes) -> DiagonalSsm<FlexTensor> {
        let (n, h) = (sizes.state, sizes.hidden);
        let from_input = |part: usize| {
            let at = |i: usize, j: usize| self.input[j * 2 * n + part * n + i];
            (0..n * h).map(|k| at(k / h, k % h)).collect::<Vec<T>>()
        };
        let from_output = |part: usize, sign: T| {
            let at = |j: usize, i: usize| sign * self.output[(part * n + i) * h + j];
            (0..h * n).map(|k| at(k / n, k % n)).collect::<Vec<T>>()
        };
        DiagonalSsm {
            lambda_re: tensor(self.lambda[..n].to_vec(), [n]),
            lambda_im: tensor(self.lambda[n..].to_vec(), [n]),
            input_re: tensor(from_input(0), [n, h]),
            input_im: tensor(from_input(1), [n, h]),
            output_re: tensor(from_output(0, T::ONE), [h, n]),
            output_im: tensor(from_output(1, -T::ONE), [h, n]),
            feedthrough: tensor(self.feedthrough, [h]),
        }
    }
}

fn backward_typed<T: Real>(
    input: &FlexTensor,
    system: &DiagonalSsm<FlexTensor>,
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> DiagonalSsmGradients<FlexTensor> {
    let sizes = Sizes::new::<T>(input, system);
    let packed = Packed::<T>::new(&sizes, system);
    let (input, output_gradient) = (input.to_contiguous(), output_gradient.to_contiguous());
    let (u, g) = (input.storage::<T>(), output_gradient.storage::<T>());
    let chunk_states = chunk_states.to_contiguous();
    let boundaries = chunk_states.storage::<T>();
    let (row, boundary_row) = (sizes.row(), sizes.chunks() * 2 * sizes.state);

    let rows_per_piece = sizes.batch.div_ceil(REDUCTION_PIECES);
    let mut input_gradient = vec![T::ZERO; u.len()];
    let width = 2 * sizes.state;
    let mut initial_gradient = vec![T::ZERO; sizes.batch * width];
    let pieces: Vec<Accumulators<T>> = input_gradient
        .par_chunks_mut(row * rows_per_piece)
        .zip(u.par_chunks(row * rows_per_piece))
        .zip(g.par_chunks(row * rows_per_piece))
        .zip(boundaries.par_chunks(boundary_row * rows_per_piece))
        .zip(initial_gradient.par_chunks_mut(width * rows_per_piece))
        .map(|((((du, u), g), boundaries), initial)| {
            let mut sums = Accumulators::new(&sizes);
            let mut scratch = Scratch::new(&sizes);
            let rows = du
                .chunks_exact_mut(row)
                .zip(u.chunks_exact(row))
                .zip(g.chunks_exact(row))
                .zip(boundaries.chunks_exact(boundary_row))
                .zip(initial.chunks_exact_mut(width));
            for ((((du, u), g), boundaries), initial) in rows {
                backward_row(
                    &sizes,
                    &packed,
                    [u, g, boundaries],
                    [du, initial],
                    &mut sums,
                    &mut scratch,
                );
            }
            sums
        })
        .collect();
    let mut pieces = pieces.into_iter();
    let first = pieces.next().unwrap_or_else(|| Accumulators::new(&sizes));
    let sums = pieces.fold(first, |sums, piece| sums.add(&piece));
    DiagonalSsmGradients {
        input: tensor(input_gradient, [sizes.batch, sizes.length, sizes.hidden]),
        system: sums.unpack(&sizes),
        initial_state: tensor(initial_gradient, [sizes.batch, width]),
    }
}

/// States and adjoint states of one chunk.
struct Scratch<T> {
    states: Vec<T>,
    adjoints: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new(sizes: &Sizes) -> Self {
        let chunk = vec![T::ZERO; sizes.chunk * 2 * sizes.state];
        Self {
            states: chunk.clone(),
            adjoints: chunk,
        }
    }
}

/// One batch row, last chunk first. With g the gradient of y, the adjoint state is
/// s_k = C^H g_k + conj(λ) s_{k+1}; then ∂B = Σ s_k u_kᵀ, ∂C = Σ g_k x_k^H (conjugated), ∂u_k = Re(B^H s_k) + D g_k.
fn backward_row<T: Real>(
    sizes: &Sizes,
    packed: &Packed<T>,
    [u, g, boundaries]: [&[T]; 3],
    [du, initial_gradient]: [&mut [T]; 2],
    sums: &mut Accumulators<T>,
    scratch: &mut Scratch<T>,
) {
    let (n, h, width) = (sizes.state, sizes.hidden, 2 * sizes.state);
    let mut after = vec![T::ZERO; width];
    for index in (0..sizes.chunks()).rev() {
        let (start, steps) = sizes.chunk_range(index);
        let part = start * h..(start + steps) * h;
        let (u, g, du) = (&u[part.clone()], &g[part.clone()], &mut du[part]);
        let before = &boundaries[index * width..][..width];
        let states = &mut scratch.states[..steps * width];
        let adjoints = &mut scratch.adjoints[..steps * width];
        let (u_matrix, g_matrix) = (MatrixRef::new(u, steps, h), MatrixRef::new(g, steps, h));

        fill_states(sizes, packed, u, before, states);
        product(
            adjoints,
            Destination::Overwrite,
            g_matrix,
            packed.output(sizes).transpose(),
        );
        vectorized(
            #[inline(always)]
            || {
                adjoint_scan(
                    &packed.lambda_re,
                    &packed.lambda_im,
                    [before, states],
                    &after,
                    adjoints,
                    &mut sums.lambda,
                )
            },
        );

        after.copy_from_slice(&adjoints[..width]);
        let adjoints = MatrixRef::new(adjoints, steps, width);
        product(
            du,
            Destination::Overwrite,
            adjoints,
            packed.input(sizes).transpose(),
        );
        product(
            &mut sums.input,
            Destination::Accumulate,
            u_matrix.transpose(),
            adjoints,
        );
        let states = MatrixRef::new(states, steps, width);
        product(
            &mut sums.output,
            Destination::Accumulate,
            states.transpose(),
            g_matrix,
        );
        for ((du, u), g) in du
            .chunks_exact_mut(h)
            .zip(u.chunks_exact(h))
            .zip(g.chunks_exact(h))
        {
            for j in 0..h {
                du[j] += packed.feedthrough[j] * g[j];
                sums.feedthrough[j] += u[j] * g[j];
            }
        }
    }
    for i in 0..n {
        let (re, im) = (packed.lambda_re[i], packed.lambda_im[i]);
        initial_gradient[i] = re * after[i] + im * after[n + i];
        initial_gradient[n + i] = re * after[n + i] - im * after[i];
    }
}

//! The selective scan on CubeCL devices: in chunks that run in parallel, with the states carried over.
//!
//! Every (row of the batch, chunk, channel) is one thread, channels fastest, so that neighboring threads read neighboring
//! addresses. A thread holds what its steps are made of in registers and takes one state after the other over them, so
//! that any number of states will do, sums over states are within a thread, and nothing of the size of all states exists
//! but at the boundaries of chunks. The forward pass is three launches:
//!
//! 1. every chunk but the last is walked from zero states; kept are the states at its end and the sum of its step sizes,
//!    which together say what the chunk does to any states that enter it: they fade by exp(A ΣΔ);
//! 2. one thread per state of a channel walks over these summaries and leaves the state that enters each chunk;
//! 3. every chunk is walked again, now from the states that enter it, and its outputs are written.
//!
//! The backward pass restarts from the states of the second launch. The adjoint is carried over chunks in the same way
//! in reverse. In the last walk a thread computes the states of its chunk again, one state at a time, and comes back over
//! them with the adjoint. The gradients of B and C are sums over channels: within a cube by shared memory, and over the
//! cubes of a step by another launch, from one partial sum for each.
//!
//! Arithmetic decides the speed, above all the exponentials: two for every state of a channel and step in each pass. Memory,
//! in tensors of the size of the input and with sums in its type: N / 16 from the forward to the backward pass, and as
//! much again and N / 32 in the backward pass. Longer chunks would need less and no longer fit into registers.
//!
//! Sums and products are at least `f32`, whatever the tensors are. There are no atomics, and chunks do not depend on the
//! device, so that a result repeats from run to run.

mod kernels;

use burn::tensor::{DType, Shape};
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, ir::AddressType, prelude::*};

use super::SelectiveParts;
use crate::{
    cube::{empty, rows::sum_of_rows, sums_of},
    scan::cube::Direction,
};
use kernels::{CHANNELS, CHUNK};

/// Threads per cube: a multiple of every warp size, and few, because they need many registers.
const CUBE_SIZE: u32 = 128;

/// Shape and type of the states that [`forward`] leaves: what enters each chunk, `[batch, chunks, state, channels]`.
///
/// # Shapes
/// - `input`: `[batch, length, channels]`
/// - `decay`: `[channels, state]`
pub(super) fn chunk_states(input: &Shape, decay: &Shape, dtype: DType) -> (Shape, DType) {
    let ([batch, length, channels], [_, state]) = (input.dims(), decay.dims());
    let shape = [batch, length.div_ceil(CHUNK), state, channels];
    (Shape::new(shape), sums_of(dtype))
}

/// The output, and the states that enter each chunk. The parts are contiguous.
pub(super) fn forward<R: CubeRuntime>(scan: SelectiveParts<CubeTensor<R>>) -> [CubeTensor<R>; 2] {
    let launch = Launch::new(scan);
    let SelectiveParts {
        input,
        step,
        input_vector,
        output_vector,
        feedthrough,
        gate,
        ..
    } = launch.scan.clone();
    let (states, spans) = (launch.empty_states(), launch.empty_spans());
    // SAFETY: every thread checks its position against the number of chunks. What it reads of steps beyond the last one is
    // read at the last one, and it writes none of them.
    unsafe {
        if launch.chunks > 1 {
            kernels::summaries::launch_unchecked(
                launch.client(),
                launch.cube_count(launch.chunk_threads()),
                CubeDim::new_1d(CUBE_SIZE),
                launch.address_type(),
                input.clone().into_tensor_arg(),
                step.clone().into_tensor_arg(),
                launch.rates.clone().into_tensor_arg(),
                input_vector.clone().into_tensor_arg(),
                states.clone().into_tensor_arg(),
                spans.clone().into_tensor_arg(),
                launch.is_double(),
                launch.types(),
            );
        }
    }
    launch.carry(&states, spans, Direction::Forward);
    let output = launch.empty_like(&input);
    // SAFETY: as above.
    unsafe {
        kernels::outputs::launch_unchecked(
            launch.client(),
            launch.cube_count(launch.chunk_threads()),
            CubeDim::new_1d(CUBE_SIZE),
            launch.address_type(),
            input.into_tensor_arg(),
            step.into_tensor_arg(),
            launch.rates.clone().into_tensor_arg(),
            input_vector.into_tensor_arg(),
            output_vector.into_tensor_arg(),
            feedthrough.into_tensor_arg(),
            gate.into_tensor_arg(),
            states.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            launch.is_double(),
            launch.types(),
        );
    }
    [output, states]
}

/// Gradients of every part in their order, given the states that the forward pass left. The parts are contiguous.
pub(super) fn backward<R: CubeRuntime>(
    scan: SelectiveParts<CubeTensor<R>>,
    chunk_states: CubeTensor<R>,
    output_gradient: CubeTensor<R>,
) -> [CubeTensor<R>; 7] {
    let launch = Launch::new(scan);
    let output_gradient = into_contiguous(output_gradient);
    let chunk_states = into_contiguous(chunk_states);
    let adjoints = launch.adjoints(&output_gradient);

    let scan = launch.scan.clone();
    let [of_input, of_step, of_gate] = [(); 3].map(|()| launch.empty_like(&scan.input));
    let groups = launch.channels.div_ceil(CHANNELS);
    let shape = [groups, launch.batch, 2, launch.state, launch.length];
    let of_vectors = empty(&scan.input, shape, launch.sums);
    let of_feedthrough = launch.empty_spans();
    let cubes = groups * launch.batch * launch.chunks;
    let cube_dim = CubeDim::new_1d(CHANNELS as u32);
    // SAFETY: every cube checks its position against the number of chunks. Steps are handled as in the forward pass; what
    // a thread beyond the last channel reads is that of the last one, and it writes nothing of a channel.
    unsafe {
        kernels::gradients::launch_unchecked(
            launch.client(),
            calculate_cube_count_elemwise(launch.client(), cubes * CHANNELS, cube_dim),
            cube_dim,
            launch.address_type(),
            scan.input.into_tensor_arg(),
            scan.step.into_tensor_arg(),
            launch.rates.clone().into_tensor_arg(),
            scan.input_vector.clone().into_tensor_arg(),
            scan.output_vector.clone().into_tensor_arg(),
            scan.feedthrough.into_tensor_arg(),
            scan.gate.into_tensor_arg(),
            output_gradient.into_tensor_arg(),
            chunk_states.into_tensor_arg(),
            adjoints.clone().into_tensor_arg(),
            of_input.clone().into_tensor_arg(),
            of_step.clone().into_tensor_arg(),
            of_vectors.clone().into_tensor_arg(),
            of_feedthrough.clone().into_tensor_arg(),
            of_gate.clone().into_tensor_arg(),
            launch.is_double(),
            launch.types(),
        );
    }

    let of_input_vector = launch.empty_like(&scan.input_vector);
    let of_output_vector = launch.empty_like(&scan.output_vector);
    // SAFETY: every thread checks its position against the number of rows of the batch.
    unsafe {
        kernels::vector_gradients::launch_unchecked(
            launch.client(),
            launch.cube_count(launch.batch * launch.state * launch.length),
            CubeDim::new_1d(CUBE_SIZE),
            launch.address_type(),
            of_vectors.into_tensor_arg(),
            of_input_vector.clone().into_tensor_arg(),
            of_output_vector.clone().into_tensor_arg(),
            launch.types(),
        );
    }
    let rates_shape = [launch.state, launch.channels];
    [
        of_input,
        of_step,
        // The kernel is done with the adjoints and has left the gradients of A instead.
        transposed(sum_of_rows(adjoints, rates_shape, launch.dtype)),
        of_input_vector,
        of_output_vector,
        sum_of_rows(of_feedthrough, [launch.channels], launch.dtype),
        of_gate,
    ]
}

/// A contiguous matrix, rows and columns exchanged.
fn transposed<R: CubeRuntime>(mut matrix: CubeTensor<R>) -> CubeTensor<R> {
    matrix.meta.swap(0, 1);
    into_contiguous(matrix)
}

/// What the launches of one scan share.
struct Launch<R: CubeRuntime> {
    /// Contiguous.
    scan: SelectiveParts<CubeTensor<R>>,
    /// A, `[state, channels]`: channels fastest, as threads are.
    rates: CubeTensor<R>,
    batch: usize,
    length: usize,
    channels: usize,
    state: usize,
    chunks: usize,
    /// Type of the tensors, and of sums and products.
    dtype: DType,
    sums: DType,
}

impl<R: CubeRuntime> Launch<R> {
    fn new(scan: SelectiveParts<CubeTensor<R>>) -> Self {
        let [batch, length, channels] = scan.input.meta.shape().dims();
        let [_, state] = scan.decay.meta.shape().dims();
        let dtype = scan.input.dtype;
        Self {
            rates: transposed(scan.decay.clone()),
            scan,
            batch,
            length,
            channels,
            state,
            chunks: length.div_ceil(CHUNK),
            dtype,
            sums: sums_of(dtype),
        }
    }

    /// The adjoint that enters each chunk at its end, `[batch, chunks, state, channels]`.
    fn adjoints(&self, output_gradient: &CubeTensor<R>) -> CubeTensor<R> {
        let (adjoints, spans) = (self.empty_states(), self.empty_spans());
        // SAFETY: as in the forward pass.
        unsafe {
            if self.chunks > 1 {
                kernels::adjoint_summaries::launch_unchecked(
                    self.client(),
                    self.cube_count(self.chunk_threads()),
                    CubeDim::new_1d(CUBE_SIZE),
                    self.address_type(),
                    self.scan.step.clone().into_tensor_arg(),
                    self.rates.clone().into_tensor_arg(),
                    self.scan.output_vector.clone().into_tensor_arg(),
                    self.scan.gate.clone().into_tensor_arg(),
                    output_gradient.clone().into_tensor_arg(),
                    adjoints.clone().into_tensor_arg(),
                    spans.clone().into_tensor_arg(),
                    self.is_double(),
                    self.types(),
                );
            }
        }
        self.carry(&adjoints, spans, Direction::Backward);
        adjoints
    }

    /// Turns the ends of chunks into what enters them: step 2.
    fn carry(&self, states: &CubeTensor<R>, spans: CubeTensor<R>, direction: Direction) {
        // SAFETY: every thread checks its position against the number of rows of the batch, and chunks against theirs.
        unsafe {
            kernels::carries::launch_unchecked(
                self.client(),
                self.cube_count(self.batch * self.state * self.channels),
                CubeDim::new_1d(CUBE_SIZE),
                self.address_type(),
                self.rates.clone().into_tensor_arg(),
                spans.into_tensor_arg(),
                states.clone().into_tensor_arg(),
                direction,
                self.types(),
            );
        }
    }

    fn empty_states(&self) -> CubeTensor<R> {
        let [input, decay] = [&self.scan.input, &self.scan.decay].map(|x| x.meta.shape());
        let (shape, dtype) = chunk_states(input, decay, self.dtype);
        empty(&self.scan.input, shape, dtype)
    }

    /// A number per chunk and channel, `[batch, chunks, channels]`.
    fn empty_spans(&self) -> CubeTensor<R> {
        let shape = [self.batch, self.chunks, self.channels];
        empty(&self.scan.input, shape, self.sums)
    }

    fn empty_like(&self, tensor: &CubeTensor<R>) -> CubeTensor<R> {
        empty(tensor, tensor.meta.shape().clone(), self.dtype)
    }

    fn client(&self) -> &ComputeClient<R> {
        &self.scan.input.client
    }

    fn chunk_threads(&self) -> usize {
        self.batch * self.chunks * self.channels
    }

    fn cube_count(&self, threads: usize) -> CubeCount {
        calculate_cube_count_elemwise(self.client(), threads, CubeDim::new_1d(CUBE_SIZE))
    }

    /// Wide enough for the largest of the tensors.
    fn address_type(&self) -> AddressType {
        let wide = self.batch * self.length * self.channels;
        let states = self.chunk_threads() * self.state;
        let groups = self.channels.div_ceil(CHANNELS);
        let vectors = 2 * groups * self.batch * self.length * self.state;
        AddressType::from_len(wide.max(states).max(vectors))
    }

    fn is_double(&self) -> bool {
        self.sums == DType::F64
    }

    fn types(&self) -> [StorageType; 2] {
        [self.dtype.into(), self.sums.into()]
    }
}

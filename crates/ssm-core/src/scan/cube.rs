//! The scan on CubeCL devices: in chunks that run in parallel, with the state carried over.
//!
//! Every (row of the batch, chunk, state) is one thread, states fastest, so that neighboring threads read
//! neighboring addresses. Three launches:
//!
//! 1. every chunk but the last is walked from a zero state; kept are its end state and the product of its
//!    decays if they vary, which together say what the chunk does to any state that enters it;
//! 2. one thread per state walks over these summaries and leaves the state that enters each chunk;
//! 3. every chunk is walked again, now from the state that enters it, and its states are written.
//!
//! Memory traffic decides the speed: the input is read twice and the states are written once. Correcting the
//! states of the first walk instead of walking again would read and write one tensor more. The backward pass
//! is the same in reverse: the adjoint is the state, the conjugate decays carry it.
//!
//! Nothing is ever divided by a power of a decay, so that `|a| <= 1` cannot overflow, and a chunk's product
//! underflows to the zero that it stands for. The power of a constant decay has twice the digits of the rest
//! ([`power`]). Sums and products are at least `f32`, whatever the tensors are.
//! There are no atomics: the gradient of a constant decay is summed per chunk and then over chunks in a fixed
//! order, and chunks depend on shapes only, so that a result repeats from run to run and device to device.

mod kernels;
mod power;

use burn::tensor::DType;
use burn_cubecl::{CubeRuntime, kernel::into_contiguous, tensor::CubeTensor};
use cubecl::{calculate_cube_count_elemwise, ir::AddressType, prelude::*};

use super::{Decay, Field, ScanParts};
use crate::cube::{empty, rows::sum_of_rows, sums_of};
pub(crate) use kernels::Direction;
use kernels::Recurrence;

/// Threads that a launch should reach: what one H200 holds at a time, 132 multiprocessors with 2048 each. With
/// fewer, too few loads are under way to keep the memory busy. A smaller device runs them in turns, at little
/// cost. It is a constant rather than the device's own number, so that the result does not depend on the device.
const THREADS: usize = 1 << 18;

/// Shortest chunk: a summary is written and read twice, so that chunks of this length add an eighth to the
/// traffic at most.
const SHORTEST_CHUNK: usize = 32;

/// Threads per cube: a multiple of every warp size, small enough for every device.
const CUBE_SIZE: u32 = 256;

/// How `length` steps are cut.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Chunks {
    length: usize,
    count: usize,
}

impl Chunks {
    /// As many chunks as fill the device with `lanes` independent recurrences, but none shorter than
    /// [`SHORTEST_CHUNK`], nor than what keeps the serial walk over chunks (`length / chunk` steps) as short as
    /// the two walks inside (`2 * chunk` steps): √(length / 2).
    fn new(length: usize, lanes: usize) -> Self {
        let filling = length.div_ceil(THREADS.div_ceil(lanes));
        let shortest = SHORTEST_CHUNK.max((length / 2).isqrt());
        let chunk = filling.max(shortest).min(length);
        Self {
            length: chunk,
            count: length.div_ceil(chunk),
        }
    }
}

/// All states `[batch, length, width]`.
pub(super) fn forward<R: CubeRuntime>(scan: &ScanParts<CubeTensor<R>>) -> CubeTensor<R> {
    let launch = Launch::new(scan, Direction::Forward);
    let initial_state = into_contiguous(scan.initial_state.clone());
    let carries = launch.carries(&launch.sequence, &initial_state);
    let states = launch.empty([launch.batch, launch.length, launch.width], launch.dtype);
    // SAFETY: every thread checks its position against the number of chunks and its steps against the length.
    unsafe {
        kernels::states::launch_unchecked(
            &launch.sequence.client,
            launch.cube_count(launch.lanes() * launch.chunks.count),
            CubeDim::new_1d(CUBE_SIZE),
            launch.address_type(),
            launch.decay.clone().into_tensor_arg(),
            launch.sequence.clone().into_tensor_arg(),
            carries.into_tensor_arg(),
            states.clone().into_tensor_arg(),
            launch.chunks.length,
            launch.recurrence,
            launch.types(),
        );
    }
    states
}

/// Gradients of factors, input and initial state, from the states and the gradient of them.
pub(super) fn backward<R: CubeRuntime>(
    scan: &ScanParts<CubeTensor<R>>,
    output_gradient: &CubeTensor<R>,
) -> [CubeTensor<R>; 3] {
    let launch = Launch::new(scan, Direction::Backward);
    let (batch, length, width) = (launch.batch, launch.length, launch.width);
    let output_gradient = into_contiguous(output_gradient.clone());
    let initial_state = into_contiguous(scan.initial_state.clone());

    let carries = launch.carries(&output_gradient, &initial_state);
    let input = launch.empty([batch, length, width], launch.dtype);
    let initial_gradient = launch.empty([batch, width], launch.dtype);
    let decay = match scan.decay {
        Decay::Constant(_) => launch.empty([batch, launch.chunks.count, width], launch.sums),
        Decay::PerStep(_) => launch.empty([batch, length, width], launch.dtype),
    };
    // SAFETY: as in the forward pass.
    unsafe {
        kernels::gradients::launch_unchecked(
            &launch.sequence.client,
            launch.cube_count(launch.lanes() * launch.chunks.count),
            CubeDim::new_1d(CUBE_SIZE),
            launch.address_type(),
            launch.decay.clone().into_tensor_arg(),
            output_gradient.into_tensor_arg(),
            launch.sequence.clone().into_tensor_arg(),
            initial_state.into_tensor_arg(),
            carries.into_tensor_arg(),
            input.clone().into_tensor_arg(),
            decay.clone().into_tensor_arg(),
            initial_gradient.clone().into_tensor_arg(),
            launch.chunks.length,
            launch.recurrence,
            [launch.dtype.into(), launch.sums.into(), decay.dtype.into()],
        );
    }
    let decay = match scan.decay {
        Decay::Constant(_) => sum_of_rows(decay, [width], launch.dtype),
        Decay::PerStep(_) => decay,
    };
    [decay, input, initial_gradient]
}

/// What the launches of one scan share. Its tensors are contiguous.
struct Launch<R: CubeRuntime> {
    decay: CubeTensor<R>,
    sequence: CubeTensor<R>,
    batch: usize,
    length: usize,
    width: usize,
    chunks: Chunks,
    recurrence: Recurrence,
    /// Type of the tensors, and of sums and products.
    dtype: DType,
    sums: DType,
}

impl<R: CubeRuntime> Launch<R> {
    fn new(scan: &ScanParts<CubeTensor<R>>, direction: Direction) -> Self {
        let [batch, length, width] = scan.sequence.meta.shape().dims();
        let (decay, per_step) = match &scan.decay {
            Decay::Constant(decay) => (decay, false),
            Decay::PerStep(decay) => (decay, true),
        };
        let recurrence = Recurrence {
            complex: scan.field == Field::Complex,
            per_step,
            direction,
        };
        let dtype = scan.sequence.dtype;
        Self {
            decay: into_contiguous(decay.clone()),
            sequence: into_contiguous(scan.sequence.clone()),
            batch,
            length,
            width,
            chunks: Chunks::new(length, batch * recurrence.states(width)),
            recurrence,
            dtype,
            sums: sums_of(dtype),
        }
    }

    /// Recurrences that do not know of each other.
    fn lanes(&self) -> usize {
        self.batch * self.recurrence.states(self.width)
    }

    /// The state that enters each chunk, `[batch, chunks, width]`: steps 1 and 2.
    fn carries(&self, input: &CubeTensor<R>, initial_state: &CubeTensor<R>) -> CubeTensor<R> {
        let shape = [self.batch, self.chunks.count, self.width];
        let ends = self.empty(shape, self.sums);
        let products = match self.recurrence.per_step {
            true => self.empty(shape, self.sums),
            false => self.empty([1; 3], self.sums),
        };
        let carries = self.empty(shape, self.sums);
        let cube_dim = CubeDim::new_1d(CUBE_SIZE);
        // SAFETY: every thread checks its position against the number of chunks, or states, and its steps
        // against the length. The summary that the first launch leaves out is not read by the second.
        unsafe {
            if self.chunks.count > 1 {
                kernels::summaries::launch_unchecked(
                    &self.sequence.client,
                    self.cube_count(self.lanes() * self.chunks.count),
                    cube_dim,
                    self.address_type(),
                    self.decay.clone().into_tensor_arg(),
                    input.clone().into_tensor_arg(),
                    ends.clone().into_tensor_arg(),
                    products.clone().into_tensor_arg(),
                    self.chunks.length,
                    self.recurrence,
                    self.types(),
                );
            }
            kernels::carries::launch_unchecked(
                &self.sequence.client,
                self.cube_count(self.lanes()),
                cube_dim,
                self.address_type(),
                self.decay.clone().into_tensor_arg(),
                ends.into_tensor_arg(),
                products.into_tensor_arg(),
                initial_state.clone().into_tensor_arg(),
                carries.clone().into_tensor_arg(),
                self.chunks.length,
                self.recurrence,
                power::Kind {
                    complex: self.recurrence.complex,
                    double: self.sums == DType::F64,
                },
                self.types(),
            );
        }
        carries
    }

    fn empty<const D: usize>(&self, shape: [usize; D], dtype: DType) -> CubeTensor<R> {
        empty(&self.sequence, shape, dtype)
    }

    fn cube_count(&self, threads: usize) -> CubeCount {
        calculate_cube_count_elemwise(&self.sequence.client, threads, CubeDim::new_1d(CUBE_SIZE))
    }

    /// Wide enough for the largest of the tensors, which has the shape of the input.
    fn address_type(&self) -> AddressType {
        AddressType::from_len(self.batch * self.length * self.width)
    }

    fn types(&self) -> [StorageType; 2] {
        [self.dtype.into(), self.sums.into()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_sequence_without_an_empty_one() {
        for length in [1, 2, 31, 32, 33, 784, 1000, 16_384, 65_536] {
            for lanes in [1, 16, 12_800, 1 << 18, 1 << 20] {
                let chunks = Chunks::new(length, lanes);
                assert!(chunks.length * chunks.count >= length, "{chunks:?}");
                assert!(chunks.length * (chunks.count - 1) < length, "{chunks:?}");
            }
        }
    }

    #[test]
    fn a_full_device_is_not_cut_and_a_long_sequence_is() {
        let whole = Chunks {
            length: 784,
            count: 1,
        };
        assert_eq!(Chunks::new(784, THREADS), whole);
        assert_eq!(Chunks::new(65_536, 1).length, 181);
        assert_eq!(Chunks::new(784, 50 * 256).count, 21);
    }
}

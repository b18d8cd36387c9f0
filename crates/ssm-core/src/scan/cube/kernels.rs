//! The kernels behind [`super::forward`] and [`super::backward`].
//!
//! All tensors are contiguous and read by flat position. A complex tensor has its real parts in the first half
//! of the last axis and its imaginary parts in the second; a thread handles both parts of one state.

use cubecl::prelude::*;

use super::power::{Kind, head, power, tail};

/// Which way a scan runs. Backward it carries the adjoint, with conjugate decays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// What is known of a scan when its kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Recurrence {
    pub(super) complex: bool,
    /// The decay has the shape of the input, else it is one row for all.
    pub(super) per_step: bool,
    pub(super) direction: Direction,
}

impl Recurrence {
    /// Number of states in a row of `width` numbers.
    pub(super) fn states(self, width: usize) -> usize {
        if self.complex { width / 2 } else { width }
    }

    fn backward(self) -> bool {
        self.direction == Direction::Backward
    }
}

/// A number; `im` is dead in a real scan.
#[derive(CubeType, CubeTypeMut, Clone, Copy)]
pub(super) struct Number<A: Float> {
    pub(super) re: A,
    pub(super) im: A,
}

/// Where a thread works: which state, and the flat positions that follow from it.
#[derive(CubeType, Clone, Copy)]
struct Place {
    /// Row of the batch, chunk within it, state within that.
    batch: usize,
    chunk: usize,
    state: usize,
    /// Distance from a real part to its imaginary part: the number of states.
    states: usize,
    /// Numbers in a row of one step.
    width: usize,
}

#[cube]
fn place(position: usize, chunks: usize, width: usize, #[comptime] complex: bool) -> Place {
    let states = if comptime!(complex) { width / 2 } else { width };
    Place {
        batch: position / (states * chunks),
        chunk: position / states % chunks,
        state: position % states,
        states,
        width,
    }
}

/// Flat position of a state's real part in row `row` of a tensor.
#[cube]
fn at(place: &Place, row: usize) -> usize {
    row * place.width + place.state
}

#[cube]
fn load<F: Float, A: Float>(
    tensor: &Tensor<F>,
    position: usize,
    place: &Place,
    #[comptime] complex: bool,
) -> Number<A> {
    let re = A::cast_from(tensor[position]);
    let im = if comptime!(complex) {
        A::cast_from(tensor[position + place.states])
    } else {
        A::new(0.0)
    };
    Number::<A> { re, im }
}

#[cube]
fn store<F: Float, A: Float>(
    tensor: &mut Tensor<F>,
    position: usize,
    place: &Place,
    number: Number<A>,
    #[comptime] complex: bool,
) {
    tensor[position] = F::cast_from(number.re);
    if comptime!(complex) {
        tensor[position + place.states] = F::cast_from(number.im);
    }
}

/// The decay of a step, conjugate in the backward direction.
#[cube]
fn load_decay<F: Float, A: Float>(
    decay: &Tensor<F>,
    row: usize,
    place: &Place,
    #[comptime] recurrence: Recurrence,
) -> Number<A> {
    let position = if comptime!(recurrence.per_step) {
        at(place, row)
    } else {
        place.state
    };
    let number = load::<F, A>(decay, position, place, recurrence.complex);
    if comptime!(recurrence.backward()) {
        conjugate::<A>(number)
    } else {
        number
    }
}

#[cube]
fn real<A: Float>(re: A) -> Number<A> {
    Number::<A> {
        re,
        im: A::new(0.0),
    }
}

#[cube]
fn conjugate<A: Float>(number: Number<A>) -> Number<A> {
    Number::<A> {
        re: number.re,
        im: -number.im,
    }
}

#[cube]
fn sum<A: Float>(x: Number<A>, y: Number<A>) -> Number<A> {
    Number::<A> {
        re: x.re + y.re,
        im: x.im + y.im,
    }
}

#[cube]
fn product<A: Float>(x: Number<A>, y: Number<A>, #[comptime] complex: bool) -> Number<A> {
    if comptime!(complex) {
        Number::<A> {
            re: x.re * y.re - x.im * y.im,
            im: x.re * y.im + x.im * y.re,
        }
    } else {
        Number::<A> {
            re: x.re * y.re,
            im: x.im,
        }
    }
}

/// What a chunk does to a state that enters it: `state -> products * state + ends`, `[batch, chunks, width]`. The
/// chunk that the scan reaches last is left out, nothing reads what it would write. The products of a constant decay
/// are its powers, and left to [`carries`].
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn summaries<F: Float, A: Float>(
    decay: &Tensor<F>,
    input: &Tensor<F>,
    ends: &mut Tensor<A>,
    products: &mut Tensor<A>,
    chunk_length: usize,
    #[comptime] recurrence: Recurrence,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let length = input.shape(1);
    let width = input.shape(2);
    let chunks = ends.shape(1);
    let place = place(ABSOLUTE_POS, chunks, width, recurrence.complex);
    let backward = comptime!(recurrence.backward());
    let last = if backward {
        0usize.runtime()
    } else {
        chunks - 1
    };
    if place.batch >= input.shape(0) || place.chunk == last {
        terminate!();
    }

    let first = place.chunk * chunk_length;
    let steps = min(chunk_length, length - first);
    let mut end = real::<A>(A::new(0.0));
    let mut decays = real::<A>(A::new(1.0));
    for i in 0..steps {
        let step = if backward {
            first + steps - 1 - i
        } else {
            first + i
        };
        let row = place.batch * length + step;
        let a = load_decay::<F, A>(decay, row, &place, recurrence);
        let b = load::<F, A>(input, at(&place, row), &place, recurrence.complex);
        end = if backward {
            product::<A>(a, sum::<A>(b, end), recurrence.complex)
        } else {
            sum::<A>(product::<A>(a, end, recurrence.complex), b)
        };
        if comptime!(recurrence.per_step) {
            decays = product::<A>(a, decays, recurrence.complex);
        }
    }
    let row = at(&place, place.batch * chunks + place.chunk);
    store::<A, A>(ends, row, &place, end, recurrence.complex);
    if comptime!(recurrence.per_step) {
        store::<A, A>(products, row, &place, decays, recurrence.complex);
    }
}

/// The state that enters each chunk, `[batch, chunks, width]`. The adjoint starts from zero.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn carries<F: Float, A: Float>(
    decay: &Tensor<F>,
    ends: &Tensor<A>,
    products: &Tensor<A>,
    initial_state: &Tensor<F>,
    carries: &mut Tensor<A>,
    chunk_length: usize,
    #[comptime] recurrence: Recurrence,
    #[comptime] kind: Kind,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let complex = comptime!(recurrence.complex);
    let chunks = ends.shape(1);
    let place = place(ABSOLUTE_POS, 1, ends.shape(2), complex);
    if place.batch >= ends.shape(0) {
        terminate!();
    }

    let backward = comptime!(recurrence.backward());
    let mut carry = if backward {
        real::<A>(A::new(0.0))
    } else {
        load::<F, A>(initial_state, at(&place, place.batch), &place, complex)
    };
    if comptime!(recurrence.per_step) {
        for i in 0..chunks - 1 {
            let chunk = if backward { chunks - 1 - i } else { i };
            let row = at(&place, place.batch * chunks + chunk);
            store::<A, A>(carries, row, &place, carry, complex);
            let decays = load::<A, A>(products, row, &place, complex);
            let end = load::<A, A>(ends, row, &place, complex);
            carry = sum::<A>(product::<A>(decays, carry, complex), end);
        }
    } else {
        // The last chunk may be shorter. Forward nothing enters a chunk behind it, backward it is entered by zero.
        let a = load_decay::<F, A>(decay, 0, &place, recurrence);
        let decays = power::<A>(a, chunk_length, kind);
        let decays_head = head::<A>(decays);
        let decays_tail = tail::<A>(decays);
        for i in 0..chunks - 1 {
            let chunk = if backward { chunks - 1 - i } else { i };
            let row = at(&place, place.batch * chunks + chunk);
            store::<A, A>(carries, row, &place, carry, complex);
            let end = load::<A, A>(ends, row, &place, complex);
            let small = sum::<A>(product::<A>(decays_tail, carry, complex), end);
            carry = sum::<A>(product::<A>(decays_head, carry, complex), small);
        }
    }
    let last = if backward {
        0usize.runtime()
    } else {
        chunks - 1
    };
    let row = at(&place, place.batch * chunks + last);
    store::<A, A>(carries, row, &place, carry, complex);
}

/// All states, each chunk from the state that enters it.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn states<F: Float, A: Float>(
    decay: &Tensor<F>,
    input: &Tensor<F>,
    carries: &Tensor<A>,
    states: &mut Tensor<F>,
    chunk_length: usize,
    #[comptime] recurrence: Recurrence,
    #[define(F, A)] _types: [StorageType; 2],
) {
    let length = input.shape(1);
    let width = input.shape(2);
    let chunks = carries.shape(1);
    let place = place(ABSOLUTE_POS, chunks, width, recurrence.complex);
    if place.batch >= input.shape(0) {
        terminate!();
    }

    let row = at(&place, place.batch * chunks + place.chunk);
    let mut state = load::<A, A>(carries, row, &place, recurrence.complex);
    let first = place.chunk * chunk_length;
    for step in first..min(first + chunk_length, length) {
        let row = place.batch * length + step;
        let a = load_decay::<F, A>(decay, row, &place, recurrence);
        let b = load::<F, A>(input, at(&place, row), &place, recurrence.complex);
        state = sum::<A>(product::<A>(a, state, recurrence.complex), b);
        store::<F, A>(states, at(&place, row), &place, state, recurrence.complex);
    }
}

/// Gradients, each chunk from the adjoint that enters it at its end. `decay_gradient` is `[batch, length, width]`
/// for a decay per step, else the sum within each chunk, `[batch, chunks, width]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn gradients<F: Float, A: Float, D: Float>(
    decay: &Tensor<F>,
    output_gradient: &Tensor<F>,
    states: &Tensor<F>,
    initial_state: &Tensor<F>,
    carries: &Tensor<A>,
    input_gradient: &mut Tensor<F>,
    decay_gradient: &mut Tensor<D>,
    initial_gradient: &mut Tensor<F>,
    chunk_length: usize,
    #[comptime] recurrence: Recurrence,
    #[define(F, A, D)] _types: [StorageType; 3],
) {
    let complex = comptime!(recurrence.complex);
    let length = states.shape(1);
    let width = states.shape(2);
    let chunks = carries.shape(1);
    let place = place(ABSOLUTE_POS, chunks, width, complex);
    if place.batch >= states.shape(0) {
        terminate!();
    }

    let chunk_row = at(&place, place.batch * chunks + place.chunk);
    let mut carry = load::<A, A>(carries, chunk_row, &place, complex);
    let mut decay_sum = real::<A>(A::new(0.0));
    let first = place.chunk * chunk_length;
    let steps = min(chunk_length, length - first);
    for i in 0..steps {
        let step = first + steps - 1 - i;
        let row = place.batch * length + step;
        let gradient = load::<F, A>(output_gradient, at(&place, row), &place, complex);
        let adjoint = sum::<A>(gradient, carry);
        store::<F, A>(input_gradient, at(&place, row), &place, adjoint, complex);

        let previous = if step == 0 {
            load::<F, A>(initial_state, at(&place, place.batch), &place, complex)
        } else {
            load::<F, A>(states, at(&place, row - 1), &place, complex)
        };
        let decay_part = product::<A>(adjoint, conjugate::<A>(previous), complex);
        if comptime!(recurrence.per_step) {
            store::<D, A>(decay_gradient, at(&place, row), &place, decay_part, complex);
        } else {
            decay_sum = sum::<A>(decay_sum, decay_part);
        }
        let a = load_decay::<F, A>(decay, row, &place, recurrence);
        carry = product::<A>(a, adjoint, complex);
    }
    if !comptime!(recurrence.per_step) {
        store::<D, A>(decay_gradient, chunk_row, &place, decay_sum, complex);
    }
    if place.chunk == 0 {
        store::<F, A>(
            initial_gradient,
            at(&place, place.batch),
            &place,
            carry,
            complex,
        );
    }
}

//! The diagonal state space map (u, Λ, B, C, D) → y: the operation that training time goes into.

mod composed;
mod flex;
pub(crate) mod native;

use burn::tensor::{Tensor, backend::Backend as BurnBackend, ops::FloatTensor, s};
use burn_flex::FlexTensor;

use crate::{
    backend::{Backend, Kernels},
    cpu::Real,
    operation::{Operation, Pullback, Run},
    primitive::{primitive, tensor},
    scan::zero_state,
};

/// Of u, Re λ, Im λ, Re B, Im B, Re C, Im C, D and x_{-1} to y, the state after the last step, and the states before the first
/// step of every chunk, in whatever order a kernel has them: see [`diagonal_ssm_from`](crate::diagonal_ssm_from()).
#[derive(Clone, Copy, Debug)]
pub struct DiagonalSsm;

impl Operation<9> for DiagonalSsm {
    const NAME: &'static str = "diagonal_ssm";
    const LENT: bool = true;

    type Settings = ();
    type Outputs<T> = [T; 3];
    /// The inputs with the states of chunks instead of the initial one.
    type Saved<T> = [T; 9];

    fn save<T: Clone>(mut inputs: [T; 9], [.., chunk_states]: &[T; 3]) -> [T; 9] {
        inputs[8] = chunk_states.clone();
        inputs
    }

    fn forward<B: Backend>(inputs: [FloatTensor<B>; 9], _: &()) -> [FloatTensor<B>; 3] {
        let [input, system @ .., initial_state] = inputs;
        composed::forward::<B>(input, DiagonalSystem::of_parts(system), initial_state)
    }

    fn backward<B: Kernels>(
        back: Pullback<[FloatTensor<B>; 9], FloatTensor<B>, 9>,
        _: &(),
    ) -> [Option<FloatTensor<B>>; 9] {
        let [input, system @ .., chunk_states] = back.saved;
        let system = DiagonalSystem::of_parts(system);
        composed::backward::<B>(input, system, chunk_states, back.gradient).map(Some)
    }

    fn native_forward<T: Real>(inputs: [FlexTensor; 9], _: &()) -> [FlexTensor; 3] {
        let [input, system @ .., initial_state] = inputs;
        flex::forward::<T>(&input, &DiagonalSystem::of_parts(system), &initial_state)
    }

    fn native_backward<T: Real>(
        back: Pullback<[FlexTensor; 9], FlexTensor, 9>,
        _: &(),
    ) -> [Option<FlexTensor>; 9] {
        let [input, system @ .., chunk_states] = back.saved;
        let system = DiagonalSystem::of_parts(system);
        flex::backward::<T>(&input, &system, &chunk_states, &back.gradient).map(Some)
    }
}

/// Parameters of a discrete diagonal system with complex states and real inputs and outputs.
#[derive(Clone, Debug)]
pub(crate) struct DiagonalSystem<T> {
    /// Re λ, `[state]`.
    pub(crate) lambda_re: T,
    /// Im λ, `[state]`.
    pub(crate) lambda_im: T,
    /// Re B, `[state, hidden]`; any input normalization is already in it.
    pub(crate) input_re: T,
    /// Im B, `[state, hidden]`.
    pub(crate) input_im: T,
    /// Re C, `[hidden, state]`.
    pub(crate) output_re: T,
    /// Im C, `[hidden, state]`.
    pub(crate) output_im: T,
    /// D, `[hidden]`.
    pub(crate) feedthrough: T,
}

impl<T> DiagonalSystem<T> {
    /// From parts in the order of the fields.
    fn of_parts(parts: [T; 7]) -> Self {
        let [
            lambda_re,
            lambda_im,
            input_re,
            input_im,
            output_re,
            output_im,
            feedthrough,
        ] = parts;
        Self {
            lambda_re,
            lambda_im,
            input_re,
            input_im,
            output_re,
            output_im,
            feedthrough,
        }
    }

    /// Every parameter through `f`.
    fn map<'a, U>(&'a self, f: impl Fn(&'a T) -> U) -> DiagonalSystem<U> {
        DiagonalSystem {
            lambda_re: f(&self.lambda_re),
            lambda_im: f(&self.lambda_im),
            input_re: f(&self.input_re),
            input_im: f(&self.input_im),
            output_re: f(&self.output_re),
            output_im: f(&self.output_im),
            feedthrough: f(&self.feedthrough),
        }
    }
}

/// The parameters as tensors.
#[derive(Clone, Debug)]
pub struct DiagonalSsmTensors<B: BurnBackend> {
    /// Λ as real and imaginary part, `[state]` each.
    pub lambda: [Tensor<B, 1>; 2],
    /// B as real and imaginary part, `[state, hidden]` each.
    pub input_matrix: [Tensor<B, 2>; 2],
    /// C as real and imaginary part, `[hidden, state]` each.
    pub output_matrix: [Tensor<B, 2>; 2],
    /// D, `[hidden]`.
    pub feedthrough: Tensor<B, 1>,
}

/// y_k = Re(C x_k) + D ∘ u_k with x_k = Λ x_{k-1} + B u_k and x_{-1} = 0.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - returns `[batch, length, hidden]`
///
/// # Cost
/// O(batch · length · state · hidden) operations. On the CPU, memory beyond input and output is one chunk of states
/// per thread and, under autodiff, one state per chunk.
///
/// # Source
/// `LRU23`, equations 3 to 5 (B̂ = Γ B).
pub fn diagonal_ssm<B: Backend>(
    input: Tensor<B, 3>,
    system: DiagonalSsmTensors<B>,
) -> Tensor<B, 3> {
    diagonal_ssm_from(input, system, None).0
}

/// [`diagonal_ssm`] from a given state x_{-1}; returns the state after the last step too.
///
/// A sequence may be cut anywhere: the second part, started from the final state of the first, gives the output of the
/// whole. The initial state is differentiated through, the final state is not: that is truncated back-propagation.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - `initial_state`: `[batch, 2 * state]`, real parts, then imaginary; zero if `None`
/// - returns `[batch, length, hidden]` and `[batch, 2 * state]`
pub fn diagonal_ssm_from<B: Backend>(
    input: Tensor<B, 3>,
    system: DiagonalSsmTensors<B>,
    initial_state: Option<Tensor<B, 2>>,
) -> (Tensor<B, 3>, Tensor<B, 2>) {
    let width = 2 * system.lambda[0].dims()[0];
    let initial_state = initial_state.unwrap_or_else(|| zero_state(&input, width));
    let [lambda_re, lambda_im] = system.lambda.map(primitive);
    let [input_re, input_im] = system.input_matrix.map(primitive);
    let [output_re, output_im] = system.output_matrix.map(primitive);
    let inputs = [
        primitive(input),
        lambda_re,
        lambda_im,
        input_re,
        input_im,
        output_re,
        output_im,
        primitive(system.feedthrough),
        primitive(initial_state),
    ];
    let [output, final_state, _] = <B as Run<DiagonalSsm, 9>>::run(inputs, &());
    (tensor(output), tensor(final_state))
}

/// The output of [`diagonal_ssm_from`] in plain tensor operations: the twin that every kernel is tested against.
///
/// The recurrence is unrolled in log2(length) doubling steps, `x_k += λ^s x_{k-s}` for s = 1, 2, 4, …, each
/// on the whole `[batch, length, state]`: readable, and far too slow to train with.
pub fn diagonal_ssm_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    system: DiagonalSsmTensors<B>,
    initial_state: Option<Tensor<B, 2>>,
) -> Tensor<B, 3> {
    let [batch, length, hidden] = input.dims();
    let rows = input.clone().reshape([batch * length, hidden]);
    let [b_re, b_im] = system.input_matrix;
    let state = b_re.dims()[0];
    let drive = |b: Tensor<B, 2>| {
        rows.clone()
            .matmul(b.transpose())
            .reshape([batch, length, state])
    };
    let (mut x_re, mut x_im) = (drive(b_re), drive(b_im));

    let [mut power_re, mut power_im] = system.lambda.map(|part| part.reshape([1, 1, state]));
    if let Some(before) = initial_state {
        // Λ x_{-1} is one more drive of the first step.
        let part = |start| {
            before
                .clone()
                .slice(s![.., start..start + state])
                .unsqueeze_dim(1)
        };
        let (before_re, before_im): (Tensor<B, 3>, Tensor<B, 3>) = (part(0), part(state));
        let add_first = |x: Tensor<B, 3>, drive: Tensor<B, 3>| {
            let first = x.clone().slice(s![.., ..1, ..]) + drive;
            x.slice_assign(s![.., ..1, ..], first)
        };
        let (re, im) = (power_re.clone(), power_im.clone());
        let carried_re = before_re.clone() * re.clone() - before_im.clone() * im.clone();
        x_re = add_first(x_re, carried_re);
        x_im = add_first(x_im, before_im * re + before_re * im);
    }
    let mut shift = 1;
    while shift < length {
        let delayed = |x: &Tensor<B, 3>| {
            let zeros = Tensor::zeros([batch, shift, state], (&x.device(), x.dtype()));
            Tensor::cat(
                vec![zeros, x.clone().slice(s![.., ..length - shift, ..])],
                1,
            )
        };
        let (past_re, past_im) = (delayed(&x_re), delayed(&x_im));
        x_re = x_re + past_re.clone() * power_re.clone() - past_im.clone() * power_im.clone();
        x_im = x_im + past_im * power_re.clone() + past_re * power_im.clone();
        let squared_re = power_re.clone().square() - power_im.clone().square();
        power_im = power_re * power_im * 2.0;
        power_re = squared_re;
        shift *= 2;
    }

    let [c_re, c_im] = system.output_matrix;
    let read =
        |x: Tensor<B, 3>, c: Tensor<B, 2>| x.reshape([batch * length, state]).matmul(c.transpose());
    let output =
        read(x_re, c_re) - read(x_im, c_im) + rows * system.feedthrough.reshape([1, hidden]);
    output.reshape([batch, length, hidden])
}

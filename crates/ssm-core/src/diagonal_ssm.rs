//! The diagonal state space map (u, Λ, B, C, D) → y: the operation that training time goes into.

pub(crate) mod autodiff;
pub(crate) mod flex;

use burn::tensor::{Tensor, TensorPrimitive, backend::Backend as BurnBackend, s};

use crate::backend::Backend;

/// Parameters of a discrete diagonal system with complex states and real inputs and outputs.
///
/// `T` is a tensor for layers and a backend's primitive for kernels.
#[derive(Clone, Debug)]
pub struct DiagonalSsm<T> {
    /// Re λ, `[state]`.
    pub lambda_re: T,
    /// Im λ, `[state]`.
    pub lambda_im: T,
    /// Re B, `[state, hidden]`; any input normalization is already in it.
    pub input_re: T,
    /// Im B, `[state, hidden]`.
    pub input_im: T,
    /// Re C, `[hidden, state]`.
    pub output_re: T,
    /// Im C, `[hidden, state]`.
    pub output_im: T,
    /// D, `[hidden]`.
    pub feedthrough: T,
}

/// The same parameters as tensors.
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

/// What a forward kernel leaves behind.
#[derive(Clone, Debug)]
pub struct DiagonalSsmForward<T> {
    /// y, `[batch, length, hidden]`.
    pub output: T,
    /// States before the first step of every chunk, `[batch, chunks, 2 * state]` (real parts, then imaginary).
    pub chunk_states: T,
}

/// Gradients of every input.
#[derive(Clone, Debug)]
pub struct DiagonalSsmGradients<T> {
    /// Gradient of u.
    pub input: T,
    /// Gradients of the parameters.
    pub system: DiagonalSsm<T>,
}

/// y_k = Re(C x_k) + D ∘ u_k with x_k = Λ x_{k-1} + B u_k and x_{-1} = 0.
///
/// # Shapes
/// - `input`: `[batch, length, hidden]`
/// - returns `[batch, length, hidden]`
///
/// # Cost
/// O(batch · length · state · hidden) operations; memory beyond input and output is one chunk of states per
/// thread and, under autodiff, one state per chunk.
///
/// # Source
/// `LRU23`, equations 3 to 5 (B̂ = Γ B).
pub fn diagonal_ssm<B: Backend>(
    input: Tensor<B, 3>,
    system: DiagonalSsmTensors<B>,
) -> Tensor<B, 3> {
    let [lambda_re, lambda_im] = system.lambda.map(|t| t.into_primitive().tensor());
    let [input_re, input_im] = system.input_matrix.map(|t| t.into_primitive().tensor());
    let [output_re, output_im] = system.output_matrix.map(|t| t.into_primitive().tensor());
    let output = B::diagonal_ssm(
        input.into_primitive().tensor(),
        DiagonalSsm {
            lambda_re,
            lambda_im,
            input_re,
            input_im,
            output_re,
            output_im,
            feedthrough: system.feedthrough.into_primitive().tensor(),
        },
    );
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// The same map in plain tensor operations: the twin that every kernel is tested against.
///
/// The recurrence is unrolled in log2(length) doubling steps, `x_k += λ^s x_{k-s}` for s = 1, 2, 4, …, each
/// on the whole `[batch, length, state]`: readable, and far too slow to train with.
pub fn diagonal_ssm_reference<B: BurnBackend>(
    input: Tensor<B, 3>,
    system: DiagonalSsmTensors<B>,
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

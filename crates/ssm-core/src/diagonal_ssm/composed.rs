//! The map as matrix products around a plain scan: for backends without a kernel of their own.
//!
//! x = scan(Λ, u [Re B; Im B]ᵀ) and y = x [Re C, -Im C]ᵀ + D ∘ u, with states as planes. Nothing but the states at
//! segment boundaries is kept for the backward pass, which computes the states again.

use std::ops::Range;

use burn::tensor::{Tensor, ops::FloatTensor, s};

use super::{DiagonalSsm, DiagonalSsmForward, DiagonalSsmGradients, DiagonalSsmOutput};
use crate::{
    axis_sum::sum_along,
    backend::Kernels,
    primitive::{primitive, tensor},
    scan::{Decay, Field, LinearScan},
};

/// Elements of a segment's states, `[batch, steps, 2 * state]`.
///
/// The backward pass holds about six tensors of this size: 0.75 GiB in f32. Launching the operations of a segment of
/// this size costs next to nothing beside running them.
const SEGMENT_ELEMENTS: usize = 1 << 25;

/// The steps of one segment after the other.
fn segments([batch, length, width]: [usize; 3], elements: usize) -> Vec<Range<usize>> {
    let steps = (elements / (batch * width).max(1)).max(1);
    (0..length)
        .step_by(steps)
        .map(|start| start..length.min(start + steps))
        .collect()
}

/// The parameters with real and imaginary parts side by side.
struct Planes<B: Kernels> {
    /// `[2 * state]`.
    lambda: Tensor<B, 1>,
    /// [Re B; Im B], `[2 * state, hidden]`.
    input: Tensor<B, 2>,
    /// [Re C, -Im C], `[hidden, 2 * state]`.
    output: Tensor<B, 2>,
    /// D, `[1, hidden]`.
    feedthrough: Tensor<B, 2>,
}

impl<B: Kernels> Planes<B> {
    fn new(system: &DiagonalSsm<FloatTensor<B>>) -> Self {
        let matrix = |part: &FloatTensor<B>| tensor::<B, 2>(part.clone());
        let [lambda_re, lambda_im] =
            [&system.lambda_re, &system.lambda_im].map(|part| tensor(part.clone()));
        let (input_re, input_im) = (matrix(&system.input_re), matrix(&system.input_im));
        let (output_re, output_im) = (matrix(&system.output_re), matrix(&system.output_im));
        Self {
            lambda: Tensor::cat(vec![lambda_re, lambda_im], 0),
            input: Tensor::cat(vec![input_re, input_im], 0),
            output: Tensor::cat(vec![output_re, -output_im], 1),
            feedthrough: tensor::<B, 1>(system.feedthrough.clone()).unsqueeze(),
        }
    }

    /// The scan over one segment, from the input's rows.
    fn scan(
        &self,
        rows: &Tensor<B, 2>,
        initial_state: &Tensor<B, 2>,
    ) -> LinearScan<FloatTensor<B>> {
        let [batch, width] = initial_state.dims();
        let drive = rows.clone().matmul(self.input.clone().transpose());
        let steps = drive.dims()[0] / batch;
        LinearScan {
            decay: Decay::Constant(primitive(self.lambda.clone())),
            input: primitive(drive.reshape([batch, steps, width])),
            initial_state: primitive(initial_state.clone()),
            field: Field::Complex,
        }
    }
}

/// The steps of a segment as rows, `[batch * steps, hidden]`.
fn segment_rows<B: Kernels>(sequence: &Tensor<B, 3>, steps: &Range<usize>) -> Tensor<B, 2> {
    let [batch, _, hidden] = sequence.dims();
    let segment = sequence.clone().slice(s![.., steps.clone(), ..]);
    segment.reshape([batch * steps.len(), hidden])
}

pub(crate) fn forward<B: Kernels>(
    input: &FloatTensor<B>,
    system: &DiagonalSsm<FloatTensor<B>>,
    initial_state: &FloatTensor<B>,
) -> DiagonalSsmForward<FloatTensor<B>> {
    forward_in_segments::<B>(input, system, initial_state, SEGMENT_ELEMENTS)
}

fn forward_in_segments<B: Kernels>(
    input: &FloatTensor<B>,
    system: &DiagonalSsm<FloatTensor<B>>,
    initial_state: &FloatTensor<B>,
    segment_elements: usize,
) -> DiagonalSsmForward<FloatTensor<B>> {
    let planes = Planes::<B>::new(system);
    let input: Tensor<B, 3> = tensor(input.clone());
    let [batch, length, hidden] = input.dims();
    let mut state: Tensor<B, 2> = tensor(initial_state.clone());
    let width = state.dims()[1];

    let (mut outputs, mut boundaries) = (Vec::new(), Vec::new());
    for steps in segments([batch, length, width], segment_elements) {
        let rows = segment_rows(&input, &steps);
        let states = tensor::<B, 3>(B::linear_scan_forward(&planes.scan(&rows, &state)));
        boundaries.push(state);
        state = states
            .clone()
            .slice(s![.., steps.len() - 1, ..])
            .reshape([batch, width]);
        let read = states
            .reshape([batch * steps.len(), width])
            .matmul(planes.output.clone().transpose());
        let output = read + rows * planes.feedthrough.clone();
        outputs.push(output.reshape([batch, steps.len(), hidden]));
    }
    DiagonalSsmForward {
        result: DiagonalSsmOutput {
            output: primitive(Tensor::cat(outputs, 1)),
            final_state: primitive(state),
        },
        chunk_states: primitive(Tensor::stack::<3>(boundaries, 1)),
    }
}

/// Sums over the segments.
struct Sums<B: Kernels> {
    lambda: Tensor<B, 1>,
    input: Tensor<B, 2>,
    output: Tensor<B, 2>,
    feedthrough: Tensor<B, 2>,
}

impl<B: Kernels> Sums<B> {
    fn zeros(planes: &Planes<B>) -> Self {
        Self {
            lambda: planes.lambda.zeros_like(),
            input: planes.input.zeros_like(),
            output: planes.output.zeros_like(),
            feedthrough: planes.feedthrough.zeros_like(),
        }
    }

    /// Planes back into parts; y reads -Im C.
    fn unpack(self) -> DiagonalSsm<FloatTensor<B>> {
        let n = self.lambda.dims()[0] / 2;
        let hidden = self.output.dims()[0];
        DiagonalSsm {
            lambda_re: primitive(self.lambda.clone().slice(s![..n])),
            lambda_im: primitive(self.lambda.slice(s![n..])),
            input_re: primitive(self.input.clone().slice(s![..n, ..])),
            input_im: primitive(self.input.slice(s![n.., ..])),
            output_re: primitive(self.output.clone().slice(s![.., ..n])),
            output_im: primitive(-self.output.slice(s![.., n..])),
            feedthrough: primitive(self.feedthrough.reshape([hidden])),
        }
    }
}

pub(crate) fn backward<B: Kernels>(
    input: &FloatTensor<B>,
    system: &DiagonalSsm<FloatTensor<B>>,
    chunk_states: &FloatTensor<B>,
    output_gradient: &FloatTensor<B>,
) -> DiagonalSsmGradients<FloatTensor<B>> {
    backward_in_segments::<B>(
        input,
        system,
        chunk_states,
        output_gradient,
        SEGMENT_ELEMENTS,
    )
}

fn backward_in_segments<B: Kernels>(
    input: &FloatTensor<B>,
    system: &DiagonalSsm<FloatTensor<B>>,
    chunk_states: &FloatTensor<B>,
    output_gradient: &FloatTensor<B>,
    segment_elements: usize,
) -> DiagonalSsmGradients<FloatTensor<B>> {
    let planes = Planes::<B>::new(system);
    let input: Tensor<B, 3> = tensor(input.clone());
    let output_gradient: Tensor<B, 3> = tensor(output_gradient.clone());
    let chunk_states: Tensor<B, 3> = tensor(chunk_states.clone());
    let [batch, length, hidden] = input.dims();
    let width = chunk_states.dims()[2];

    let mut sums = Sums::zeros(&planes);
    let mut input_gradients = Vec::new();
    // Gradient of the state that a segment ends in, from the segments behind it.
    let mut carry: Option<Tensor<B, 2>> = None;
    let segments = segments([batch, length, width], segment_elements);
    for (index, steps) in segments.into_iter().enumerate().rev() {
        let rows = segment_rows(&input, &steps);
        let gradient = segment_rows(&output_gradient, &steps);
        let initial_state = chunk_states
            .clone()
            .slice(s![.., index, ..])
            .reshape([batch, width]);
        let scan = planes.scan(&rows, &initial_state);
        let states = B::linear_scan_forward(&scan);
        let mut state_gradient =
            gradient
                .clone()
                .matmul(planes.output.clone())
                .reshape([batch, steps.len(), width]);
        if let Some(carry) = carry {
            let last = s![.., steps.len() - 1, ..];
            let total = state_gradient.clone().slice(last) + carry.unsqueeze_dim(1);
            state_gradient = state_gradient.slice_assign(last, total);
        }
        let scanned = B::linear_scan_backward(&scan, &states, &primitive(state_gradient));

        let states = tensor::<B, 3>(states).reshape([batch * steps.len(), width]);
        let drive = tensor::<B, 3>(scanned.input).reshape([batch * steps.len(), width]);
        sums.lambda = sums.lambda + tensor::<B, 1>(scanned.decay);
        sums.input = sums.input + drive.clone().transpose().matmul(rows.clone());
        sums.output = sums.output + gradient.clone().transpose().matmul(states);
        sums.feedthrough = sums.feedthrough + sum_along(gradient.clone() * rows, 0);
        let input_gradient =
            drive.matmul(planes.input.clone()) + gradient * planes.feedthrough.clone();
        input_gradients.push(input_gradient.reshape([batch, steps.len(), hidden]));
        carry = Some(tensor(scanned.initial_state));
    }
    input_gradients.reverse();
    DiagonalSsmGradients {
        input: primitive(Tensor::cat(input_gradients, 1)),
        system: sums.unpack(),
        initial_state: primitive(carry.expect("a sequence has at least one step")),
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        diagonal_ssm::flex,
        testing::{assert_close, random},
    };

    type Primitive = FloatTensor<Flex>;

    fn system(state: usize, hidden: usize) -> DiagonalSsm<Primitive> {
        let matrix = |seed, rows, cols| primitive(random::<Flex, 2>(seed, [rows, cols]));
        let lambda = |seed| primitive(random::<Flex, 1>(seed, [state]) * 0.7);
        DiagonalSsm {
            lambda_re: lambda(1),
            lambda_im: lambda(2),
            input_re: matrix(3, state, hidden),
            input_im: matrix(4, state, hidden),
            output_re: matrix(5, hidden, state),
            output_im: matrix(6, hidden, state),
            feedthrough: primitive(random::<Flex, 1>(7, [hidden])),
        }
    }

    fn parts(s: DiagonalSsm<Primitive>) -> [Primitive; 7] {
        let DiagonalSsm {
            lambda_re,
            lambda_im,
            input_re,
            input_im,
            output_re,
            output_im,
            feedthrough,
        } = s;
        [
            lambda_re,
            lambda_im,
            input_re,
            input_im,
            output_re,
            output_im,
            feedthrough,
        ]
    }

    #[test]
    fn any_segmentation_equals_the_native_kernel() {
        for [batch, length, hidden, state] in [[1, 1, 1, 1], [3, 50, 4, 6], [2, 33, 1, 1]] {
            let system = system(state, hidden);
            let input = primitive(random::<Flex, 3>(8, [batch, length, hidden]));
            let gradient = primitive(random::<Flex, 3>(9, [batch, length, hidden]));
            let initial = primitive(random::<Flex, 2>(10, [batch, 2 * state]));
            let want = flex::forward(&input, &system, &initial);
            let want_back = flex::backward(&input, &system, &want.chunk_states, &gradient);
            // One step, seven steps, the whole sequence.
            for steps in [1, 7, length] {
                let elements = steps * batch * 2 * state;
                let got = forward_in_segments::<Flex>(&input, &system, &initial, elements);
                assert_close::<Flex>(&got.result.output, &want.result.output);
                assert_close::<Flex>(&got.result.final_state, &want.result.final_state);
                let chunk_states: Tensor<Flex, 3> = tensor(got.chunk_states.clone());
                assert_eq!(chunk_states.dims()[1], length.div_ceil(steps));

                let states = &got.chunk_states;
                let got =
                    backward_in_segments::<Flex>(&input, &system, states, &gradient, elements);
                assert_close::<Flex>(&got.input, &want_back.input);
                assert_close::<Flex>(&got.initial_state, &want_back.initial_state);
                let (got, want) = (parts(got.system), parts(want_back.system.clone()));
                for (got, want) in got.iter().zip(&want) {
                    assert_close::<Flex>(got, want);
                }
            }
        }
    }
}

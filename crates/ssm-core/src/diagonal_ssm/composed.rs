//! The map as matrix products around a plain scan: for backends without a kernel of their own.
//!
//! x = scan(Λ, u [Re B; Im B]ᵀ) and y = x [Re C, -Im C]ᵀ + D ∘ u, with states as planes. Nothing but the states at
//! segment boundaries is kept for the backward pass, which computes the states again.

use std::ops::Range;

use burn::tensor::{Tensor, ops::FloatTensor, s};

use super::DiagonalSystem;
use crate::{
    axis_sum::sum_along,
    backend::{Backend, Kernels},
    primitive::{primitive, tensor},
    scan::{Decay, Field, ScanParts, scan_gradients, scan_states},
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
struct Planes<B: Backend> {
    /// `[2 * state]`.
    lambda: Tensor<B, 1>,
    /// [Re B; Im B], `[2 * state, hidden]`.
    input: Tensor<B, 2>,
    /// [Re C, -Im C], `[hidden, 2 * state]`.
    output: Tensor<B, 2>,
    /// D, `[1, hidden]`.
    feedthrough: Tensor<B, 2>,
}

impl<B: Backend> Planes<B> {
    fn new(system: DiagonalSystem<FloatTensor<B>>) -> Self {
        let [lambda_re, lambda_im] = [system.lambda_re, system.lambda_im].map(tensor);
        let [input_re, input_im] = [system.input_re, system.input_im].map(tensor);
        let [output_re, output_im]: [Tensor<B, 2>; 2] =
            [system.output_re, system.output_im].map(tensor);
        Self {
            lambda: Tensor::cat(vec![lambda_re, lambda_im], 0),
            input: Tensor::cat(vec![input_re, input_im], 0),
            output: Tensor::cat(vec![output_re, -output_im], 1),
            feedthrough: tensor::<B, 1>(system.feedthrough).unsqueeze(),
        }
    }

    /// The scan over one segment, from the input's rows.
    fn scan(&self, rows: &Tensor<B, 2>, initial_state: &Tensor<B, 2>) -> ScanParts<FloatTensor<B>> {
        let [batch, width] = initial_state.dims();
        let drive = rows.clone().matmul(self.input.clone().transpose());
        let steps = drive.dims()[0] / batch;
        ScanParts {
            decay: Decay::Constant(primitive(self.lambda.clone())),
            sequence: primitive(drive.reshape([batch, steps, width])),
            initial_state: primitive(initial_state.clone()),
            field: Field::Complex,
        }
    }
}

/// The steps of a segment as rows, `[batch * steps, hidden]`.
fn segment_rows<B: Backend>(sequence: &Tensor<B, 3>, steps: &Range<usize>) -> Tensor<B, 2> {
    let [batch, _, hidden] = sequence.dims();
    let segment = sequence.clone().slice(s![.., steps.clone(), ..]);
    segment.reshape([batch * steps.len(), hidden])
}

pub(super) fn forward<B: Backend>(
    input: FloatTensor<B>,
    system: DiagonalSystem<FloatTensor<B>>,
    initial_state: FloatTensor<B>,
) -> [FloatTensor<B>; 3] {
    forward_in_segments::<B>(input, system, initial_state, SEGMENT_ELEMENTS)
}

fn forward_in_segments<B: Backend>(
    input: FloatTensor<B>,
    system: DiagonalSystem<FloatTensor<B>>,
    initial_state: FloatTensor<B>,
    segment_elements: usize,
) -> [FloatTensor<B>; 3] {
    let planes = Planes::<B>::new(system);
    let input: Tensor<B, 3> = tensor(input);
    let [batch, length, hidden] = input.dims();
    let mut state: Tensor<B, 2> = tensor(initial_state);
    let width = state.dims()[1];

    let (mut outputs, mut boundaries) = (Vec::new(), Vec::new());
    for steps in segments([batch, length, width], segment_elements) {
        let rows = segment_rows(&input, &steps);
        let states = tensor::<B, 3>(scan_states::<B>(&planes.scan(&rows, &state)));
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
    [
        primitive(Tensor::cat(outputs, 1)),
        primitive(state),
        primitive(Tensor::stack::<3>(boundaries, 1)),
    ]
}

/// Sums over the segments.
struct Sums<B: Backend> {
    lambda: Tensor<B, 1>,
    input: Tensor<B, 2>,
    output: Tensor<B, 2>,
    feedthrough: Tensor<B, 2>,
}

impl<B: Backend> Sums<B> {
    fn zeros(planes: &Planes<B>) -> Self {
        Self {
            lambda: planes.lambda.zeros_like(),
            input: planes.input.zeros_like(),
            output: planes.output.zeros_like(),
            feedthrough: planes.feedthrough.zeros_like(),
        }
    }

    /// Planes back into parts; y reads -Im C.
    fn unpack(self) -> [FloatTensor<B>; 7] {
        let n = self.lambda.dims()[0] / 2;
        let hidden = self.output.dims()[0];
        [
            primitive(self.lambda.clone().slice(s![..n])),
            primitive(self.lambda.slice(s![n..])),
            primitive(self.input.clone().slice(s![..n, ..])),
            primitive(self.input.slice(s![n.., ..])),
            primitive(self.output.clone().slice(s![.., ..n])),
            primitive(-self.output.slice(s![.., n..])),
            primitive(self.feedthrough.reshape([hidden])),
        ]
    }
}

/// Gradients of input, system and initial state.
pub(super) fn backward<B: Kernels>(
    input: FloatTensor<B>,
    system: DiagonalSystem<FloatTensor<B>>,
    chunk_states: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 9] {
    let elements = SEGMENT_ELEMENTS;
    backward_in_segments::<B>(input, system, chunk_states, output_gradient, elements)
}

fn backward_in_segments<B: Kernels>(
    input: FloatTensor<B>,
    system: DiagonalSystem<FloatTensor<B>>,
    chunk_states: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
    segment_elements: usize,
) -> [FloatTensor<B>; 9] {
    let planes = Planes::<B>::new(system);
    let input: Tensor<B, 3> = tensor(input);
    let output_gradient: Tensor<B, 3> = tensor(output_gradient);
    let chunk_states: Tensor<B, 3> = tensor(chunk_states);
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
        let states = scan_states::<B>(&scan);
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
        let state_gradient = primitive(state_gradient);
        let [of_lambda, of_drive, of_initial_state] =
            scan_gradients::<B>(&scan, states.clone(), state_gradient);

        let states = tensor::<B, 3>(states).reshape([batch * steps.len(), width]);
        let drive = tensor::<B, 3>(of_drive).reshape([batch * steps.len(), width]);
        sums.lambda = sums.lambda + tensor::<B, 1>(of_lambda);
        sums.input = sums.input + drive.clone().transpose().matmul(rows.clone());
        sums.output = sums.output + gradient.clone().transpose().matmul(states);
        sums.feedthrough = sums.feedthrough + sum_along(gradient.clone() * rows, 0);
        let input_gradient =
            drive.matmul(planes.input.clone()) + gradient * planes.feedthrough.clone();
        input_gradients.push(input_gradient.reshape([batch, steps.len(), hidden]));
        carry = Some(tensor(of_initial_state));
    }
    input_gradients.reverse();
    let [
        lambda_re,
        lambda_im,
        input_re,
        input_im,
        output_re,
        output_im,
        feedthrough,
    ] = sums.unpack();
    [
        primitive(Tensor::cat(input_gradients, 1)),
        lambda_re,
        lambda_im,
        input_re,
        input_im,
        output_re,
        output_im,
        feedthrough,
        primitive(carry.expect("a sequence has at least one step")),
    ]
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::{
        diagonal_ssm::flex,
        testing::{assert_close, random},
    };

    fn system(state: usize, hidden: usize) -> DiagonalSystem<FloatTensor<Flex>> {
        let matrix = |seed, rows, cols| primitive(random::<Flex, 2>(seed, [rows, cols]));
        let lambda = |seed| primitive(random::<Flex, 1>(seed, [state]) * 0.7);
        DiagonalSystem {
            lambda_re: lambda(1),
            lambda_im: lambda(2),
            input_re: matrix(3, state, hidden),
            input_im: matrix(4, state, hidden),
            output_re: matrix(5, hidden, state),
            output_im: matrix(6, hidden, state),
            feedthrough: primitive(random::<Flex, 1>(7, [hidden])),
        }
    }

    #[test]
    fn any_segmentation_equals_the_native_kernel() {
        for [batch, length, hidden, state] in [[1, 1, 1, 1], [3, 50, 4, 6], [2, 33, 1, 1]] {
            let system = system(state, hidden);
            let input = primitive(random::<Flex, 3>(8, [batch, length, hidden]));
            let gradient = primitive(random::<Flex, 3>(9, [batch, length, hidden]));
            let initial = primitive(random::<Flex, 2>(10, [batch, 2 * state]));
            let want = flex::forward::<f64>(&input, &system, &initial);
            let want_back = flex::backward::<f64>(&input, &system, &want[2], &gradient);
            // One step, seven steps, the whole sequence.
            for steps in [1, 7, length] {
                let elements = steps * batch * 2 * state;
                let (input, system) = (input.clone(), system.clone());
                let (initial, gradient) = (initial.clone(), gradient.clone());
                let [output, final_state, chunk_states] =
                    forward_in_segments::<Flex>(input.clone(), system.clone(), initial, elements);
                assert_close::<Flex>(&output, &want[0]);
                assert_close::<Flex>(&final_state, &want[1]);
                let [_, count, _] = tensor::<Flex, 3>(chunk_states.clone()).dims();
                assert_eq!(count, length.div_ceil(steps));

                let got =
                    backward_in_segments::<Flex>(input, system, chunk_states, gradient, elements);
                for (got, want) in got.iter().zip(&want_back) {
                    assert_close::<Flex>(got, want);
                }
            }
        }
    }
}

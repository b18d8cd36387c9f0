//! The selective scan from tensor operations around the plain scan: what backends without a kernel of their own run.
//!
//! Chunk by chunk, so that no `[batch, length, channels, state]` tensor exists; the backward pass computes the states of a
//! chunk again from the one before it.

use std::ops::Range;

use burn::tensor::{
    Tensor,
    activation::{sigmoid, silu},
    ops::FloatTensor,
    s,
};

use super::{SelectiveParts, softplus};
use crate::{
    backend::{Backend, Kernels},
    primitive::{primitive, tensor},
    scan::{Decay, Field, ScanParts, scan_gradients, scan_states},
};

/// Steps whose states exist at the same time.
const CHUNK: usize = 64;

/// What the parts of a scan are made into before its recurrence.
struct Prepared<B: Backend> {
    sizes: Sizes,
    input: Tensor<B, 3>,
    step: Tensor<B, 3>,
    decay: Tensor<B, 2>,
    input_vector: Tensor<B, 3>,
    output_vector: Tensor<B, 3>,
    feedthrough: Tensor<B, 3>,
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    channels: usize,
    state: usize,
}

impl Sizes {
    fn chunks(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + ExactSizeIterator + use<> {
        let length = self.length;
        (0..length.div_ceil(CHUNK)).map(move |i| i * CHUNK..((i + 1) * CHUNK).min(length))
    }
}

impl<B: Backend> Prepared<B> {
    fn of(scan: &SelectiveParts<FloatTensor<B>>) -> Self {
        let input: Tensor<B, 3> = tensor(scan.input.clone());
        let decay: Tensor<B, 2> = tensor(scan.decay.clone());
        let [batch, length, channels] = input.dims();
        let feedthrough: Tensor<B, 1> = tensor(scan.feedthrough.clone());
        Self {
            sizes: Sizes {
                batch,
                length,
                channels,
                state: decay.dims()[1],
            },
            input,
            step: softplus(tensor::<B, 3>(scan.step.clone())),
            decay,
            input_vector: tensor(scan.input_vector.clone()),
            output_vector: tensor(scan.output_vector.clone()),
            feedthrough: feedthrough.reshape([1, 1, channels]),
        }
    }

    /// The recurrence of a chunk, `[batch, chunk, channels · state]`.
    fn recurrence(
        &self,
        chunk: Range<usize>,
        initial_state: Tensor<B, 2>,
    ) -> ScanParts<FloatTensor<B>> {
        let Sizes {
            batch,
            channels,
            state,
            ..
        } = self.sizes;
        let width = [batch, chunk.len(), channels * state];
        let [step, input] = [&self.step, &self.input].map(|x| self.steps(x, &chunk));
        let rates = self.decay.clone().reshape([1, 1, channels, state]);
        let decay = (step.clone().unsqueeze_dim::<4>(3) * rates).exp();
        let vector = self.steps(&self.input_vector, &chunk).unsqueeze_dim(2);
        let input = (step * input).unsqueeze_dim::<4>(3) * vector;
        ScanParts {
            decay: Decay::PerStep(primitive(decay.reshape(width))),
            sequence: primitive(input.reshape(width)),
            initial_state: primitive(initial_state),
            field: Field::Real,
        }
    }

    fn steps(&self, x: &Tensor<B, 3>, chunk: &Range<usize>) -> Tensor<B, 3> {
        x.clone().slice(s![.., chunk.clone(), ..])
    }

    /// A chunk's states as they are read, `[batch, chunk, channels, state]`.
    fn unfold(&self, states: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch, steps, _] = states.dims();
        states.reshape([batch, steps, self.sizes.channels, self.sizes.state])
    }

    /// h C + D u, before the gate.
    fn output(&self, chunk: &Range<usize>, states: Tensor<B, 3>) -> Tensor<B, 3> {
        let vector = self.steps(&self.output_vector, chunk).unsqueeze_dim(3);
        let read: Tensor<B, 3> = self.unfold(states).matmul(vector).squeeze_dim(3);
        read + self.steps(&self.input, chunk) * self.feedthrough.clone()
    }
}

/// The output, and the states before every chunk.
pub(super) fn forward<B: Backend>(scan: &SelectiveParts<FloatTensor<B>>) -> [FloatTensor<B>; 2] {
    let prepared = Prepared::<B>::of(scan);
    let Sizes {
        batch,
        channels,
        state,
        ..
    } = prepared.sizes;
    let options = (&prepared.input.device(), prepared.input.dtype());
    let mut last: Tensor<B, 2> = Tensor::zeros([batch, channels * state], options);
    let (mut outputs, mut starts) = (Vec::new(), Vec::new());
    for chunk in prepared.sizes.chunks() {
        starts.push(last.clone());
        let recurrence = prepared.recurrence(chunk.clone(), last);
        let states: Tensor<B, 3> = tensor(scan_states::<B>(&recurrence));
        last = states
            .clone()
            .slice(s![.., chunk.len() - 1, ..])
            .squeeze_dim(1);
        outputs.push(prepared.output(&chunk, states));
    }
    let gate: Tensor<B, 3> = tensor(scan.gate.clone());
    [
        primitive(Tensor::cat(outputs, 1) * silu(gate)),
        primitive(Tensor::stack::<3>(starts, 0)),
    ]
}

/// Gradients of the parts in their order.
pub(super) fn backward<B: Kernels>(
    scan: &SelectiveParts<FloatTensor<B>>,
    chunk_states: FloatTensor<B>,
    output_gradient: FloatTensor<B>,
) -> [FloatTensor<B>; 7] {
    let prepared = Prepared::<B>::of(scan);
    let Sizes {
        batch,
        channels,
        state,
        ..
    } = prepared.sizes;
    let starts: Tensor<B, 3> = tensor(chunk_states);
    let gradient: Tensor<B, 3> = tensor(output_gradient);
    let gate: Tensor<B, 3> = tensor(scan.gate.clone());
    let options = (&gate.device(), gate.dtype());
    let mut carry: Tensor<B, 2> = Tensor::zeros([batch, channels * state], options);
    let mut of_decay: Tensor<B, 2> = Tensor::zeros([channels, state], options);
    let mut of_feedthrough: Tensor<B, 1> = Tensor::zeros([channels], options);
    // Of every chunk, last one first: input, step, B, C, gate.
    let mut of_steps: [Vec<Tensor<B, 3>>; 5] = Default::default();

    for (index, chunk) in prepared.sizes.chunks().enumerate().rev() {
        let start = starts.clone().slice(s![index, .., ..]).squeeze_dim(0);
        let recurrence = prepared.recurrence(chunk.clone(), start);
        let states = scan_states::<B>(&recurrence);
        let y = prepared.output(&chunk, tensor(states.clone()));

        let [z, g] = [&gate, &gradient].map(|x| prepared.steps(x, &chunk));
        let opening = sigmoid(z.clone());
        let slope = opening.clone() * (z.clone() * (opening.clone().neg() + 1.0) + 1.0);
        let of_gate = g.clone() * y * slope;
        let g = g * z * opening;

        let c = prepared.steps(&prepared.output_vector, &chunk);
        let of_states = g.clone().unsqueeze_dim::<4>(3) * c.unsqueeze_dim(2);
        let mut of_states = of_states.reshape([batch, chunk.len(), channels * state]);
        // What the next chunk asks of the last state.
        let end = chunk.len() - 1;
        let last = of_states.clone().slice(s![.., end, ..]) + carry.unsqueeze_dim(1);
        of_states = of_states.slice_assign(s![.., end, ..], last);
        let [of_factors, of_input, of_start] =
            scan_gradients::<B>(&recurrence, states.clone(), primitive(of_states));
        carry = tensor(of_start);

        let unfolded = prepared.unfold(tensor(states));
        let of_c: Tensor<B, 3> = unfolded
            .swap_dims(2, 3)
            .matmul(g.clone().unsqueeze_dim(3))
            .squeeze_dim(3);
        // a = exp(Δ A): the gradient of its exponent is that of a times a.
        let exponent = tensor::<B, 3>(of_factors) * tensor(recurrence.decay.tensor().clone());
        let exponent = prepared.unfold(exponent);
        let [u, dt] = [&prepared.input, &prepared.step].map(|x| prepared.steps(x, &chunk));
        let rates = prepared.decay.clone().reshape([1, 1, channels, state]);
        let through_decay: Tensor<B, 3> = (exponent.clone() * rates).sum_dim(3).squeeze_dim(3);
        let of_rates = exponent * dt.clone().unsqueeze_dim::<4>(3);
        of_decay = of_decay + of_rates.sum_dim(0).sum_dim(1).reshape([channels, state]);

        // The input of the recurrence is Δ u Bᵀ.
        let of_product = prepared.unfold(tensor(of_input));
        let b = prepared.steps(&prepared.input_vector, &chunk);
        let along_b: Tensor<B, 3> = of_product.clone().matmul(b.unsqueeze_dim(3)).squeeze_dim(3);
        let of_b: Tensor<B, 3> = of_product
            .swap_dims(2, 3)
            .matmul((dt.clone() * u.clone()).unsqueeze_dim(3))
            .squeeze_dim(3);
        let direct = (g.clone() * u.clone()).sum_dim(0).sum_dim(1);
        of_feedthrough = of_feedthrough + direct.reshape([channels]);
        let of_u = along_b.clone() * dt + g * prepared.feedthrough.clone();
        let of_dt = through_decay + along_b * u;
        let before: Tensor<B, 3> = tensor(scan.step.clone());
        let of_step = of_dt * sigmoid(prepared.steps(&before, &chunk));
        for (all, part) in of_steps
            .iter_mut()
            .zip([of_u, of_step, of_b, of_c, of_gate])
        {
            all.push(part);
        }
    }
    let [input, step, input_vector, output_vector, gate] = of_steps.map(|mut parts| {
        parts.reverse();
        primitive(Tensor::cat(parts, 1))
    });
    let (decay, feedthrough) = (primitive(of_decay), primitive(of_feedthrough));
    [
        input,
        step,
        decay,
        input_vector,
        output_vector,
        feedthrough,
        gate,
    ]
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use crate::{
        primitive::primitive,
        selective_scan::SelectiveScan,
        testing::{assert_composed_equals_native, random},
    };

    #[test]
    fn composed_operations_equal_the_native_kernel() {
        let (batch, length, channels, state) = (2, 150, 35, 6);
        let wide = |seed| random::<Flex, 3>(seed, [batch, length, channels]);
        let narrow = |seed| random::<Flex, 3>(seed, [batch, length, state]);
        let inputs = [
            primitive(wide(1)),
            primitive(wide(2) * 2.5 - 1.5),
            primitive(random::<Flex, 2>(3, [channels, state]) * 1.45 - 1.55),
            primitive(narrow(4)),
            primitive(narrow(5)),
            primitive(random::<Flex, 1>(6, [channels])),
            primitive(wide(7) * 3.0),
        ];
        let gradient = primitive(wide(8));
        assert_composed_equals_native::<SelectiveScan, 7>(inputs, (), gradient, 1);
    }
}

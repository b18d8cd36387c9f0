//! Native CPU kernel: that of the diagonal map for every channel, as a system with one input and one output.

use burn_flex::FlexTensor;
use rayon::prelude::*;

use crate::{
    cpu::{Real, dims, tensor},
    diagonal_ssm::{
        DiagonalSystem,
        native::{self, Shape},
    },
};

/// Sizes, and every channel's part of the parameters.
struct Channels<'a, T> {
    shape: Shape,
    channels: usize,
    parts: [&'a [T]; 5],
    /// What goes into every state, 1 + 0 i.
    input: [Vec<T>; 2],
}

impl<'a, T: Real> Channels<'a, T> {
    fn new(input: &FlexTensor, systems: &'a [FlexTensor; 5]) -> Self {
        let [batch, length, channels] = dims(input);
        let [_, state] = dims::<2>(&systems[0]);
        Self {
            shape: Shape {
                batch,
                length,
                hidden: 1,
                state,
            },
            channels,
            parts: systems.each_ref().map(FlexTensor::storage::<T>),
            input: [1.0, 0.0].map(|value| vec![T::from_f64(value); state]),
        }
    }

    fn system(&self, channel: usize) -> DiagonalSystem<&[T]> {
        let [l_re, l_im, c_re, c_im, d] = self.parts;
        let state = self.shape.state;
        let of = |part: &'a [T]| &part[channel * state..][..state];
        DiagonalSystem {
            lambda_re: of(l_re),
            lambda_im: of(l_im),
            input_re: &self.input[0],
            input_im: &self.input[1],
            output_re: of(c_re),
            output_im: of(c_im),
            feedthrough: &d[channel..=channel],
        }
    }

    fn steps(&self) -> usize {
        self.shape.batch * self.shape.length
    }

    /// Channel after channel, `[channels, batch · length]`.
    fn apart(&self, values: &[T]) -> Vec<T> {
        let (channels, steps) = (self.channels, self.steps());
        let mut apart = vec![T::from_f64(0.0); values.len()];
        apart
            .par_chunks_mut(steps)
            .enumerate()
            .for_each(|(channel, row)| {
                for (to, from) in row
                    .iter_mut()
                    .zip(values[channel..].iter().step_by(channels))
                {
                    *to = *from;
                }
            });
        apart
    }

    /// Step after step again.
    fn together(&self, rows: &[Vec<T>]) -> Vec<T> {
        let (channels, steps) = (self.channels, self.steps());
        let mut together = vec![T::from_f64(0.0); channels * steps];
        together
            .par_chunks_mut(channels)
            .enumerate()
            .for_each(|(step, values)| {
                for (to, row) in values.iter_mut().zip(rows) {
                    *to = row[step];
                }
            });
        together
    }
}

/// Output, and the states of chunks of all channels.
pub(super) fn forward<T: Real>(input: &FlexTensor, systems: &[FlexTensor; 5]) -> [FlexTensor; 2] {
    let channels = Channels::<T>::new(input, systems);
    let Shape {
        batch,
        length,
        state,
        ..
    } = channels.shape;
    let inputs = channels.apart(input.storage::<T>());
    let initial = vec![T::from_f64(0.0); batch * 2 * state];
    let (mut outputs, mut states) = (Vec::new(), Vec::new());
    for (channel, input) in inputs.chunks(channels.steps()).enumerate() {
        let system = channels.system(channel);
        let found = native::forward(channels.shape, input, &system, &initial);
        outputs.push(found.output);
        states.extend(found.chunk_states);
    }
    let count = states.len();
    [
        tensor(
            channels.together(&outputs),
            [batch, length, channels.channels],
        ),
        tensor(states, [count]),
    ]
}

/// Gradients of input and systems.
pub(super) fn backward<T: Real>(
    input: &FlexTensor,
    systems: &[FlexTensor; 5],
    chunk_states: &FlexTensor,
    output_gradient: &FlexTensor,
) -> [FlexTensor; 6] {
    let channels = Channels::<T>::new(input, systems);
    let Shape {
        batch,
        length,
        state,
        ..
    } = channels.shape;
    let [inputs, gradients] =
        [input, output_gradient].map(|values| channels.apart(values.storage::<T>()));
    let states = chunk_states.storage::<T>();
    let count = channels.channels;
    let (steps, each) = (channels.steps(), states.len() / count);
    let mut of_inputs = Vec::with_capacity(count);
    let mut of_systems = [const { Vec::new() }; 5];
    for channel in 0..count {
        let found = native::backward(
            channels.shape,
            &inputs[channel * steps..][..steps],
            &channels.system(channel),
            &states[channel * each..][..each],
            &gradients[channel * steps..][..steps],
        );
        of_inputs.push(found.input);
        let system = found.system;
        let parts = [
            system.lambda_re,
            system.lambda_im,
            system.output_re,
            system.output_im,
            system.feedthrough,
        ];
        for (all, part) in of_systems.iter_mut().zip(parts) {
            all.extend(part);
        }
    }
    let input = tensor(channels.together(&of_inputs), [batch, length, count]);
    let [l_re, l_im, c_re, c_im, d] = of_systems;
    let [l_re, l_im, c_re, c_im] =
        [l_re, l_im, c_re, c_im].map(|part: Vec<T>| tensor(part, [count, state]));
    [input, l_re, l_im, c_re, c_im, tensor(d, [count])]
}

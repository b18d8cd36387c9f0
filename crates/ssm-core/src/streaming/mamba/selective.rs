//! One step of the mixer of Mamba.

use std::f32::consts::LOG2_E;

use burn::tensor::backend::Backend;
use pulp::Scalar;

use super::super::{affine::Affine, matrix::LaneMatrix, values};
use super::{
    Mixer,
    parts::{Filters, Memory, MixerScratch, advance_state, resize, silu},
};
use crate::{cpu::Real, mamba::SelectiveMixer};

/// The weights of a [`SelectiveMixer`].
#[derive(Debug)]
pub(super) struct Selective {
    in_proj: LaneMatrix,
    filters: Filters,
    x_proj: LaneMatrix,
    dt_proj: Affine,
    /// A log₂ e, `[state, channels]`: decays are powers of two.
    rates: Vec<f32>,
    feedthrough: Vec<f32>,
    out_proj: LaneMatrix,
    step_rank: usize,
}

impl Selective {
    pub(super) fn new<B: Backend>(mixer: &SelectiveMixer<B>) -> Self {
        let rates = mixer.A_log.val().exp() * -LOG2_E;
        Self {
            in_proj: LaneMatrix::of(mixer.in_proj.weight.val()),
            filters: Filters::new(&mixer.conv1d),
            x_proj: LaneMatrix::of(mixer.x_proj.weight.val()),
            dt_proj: Affine::new(&mixer.dt_proj),
            rates: values(rates.transpose()),
            feedthrough: values(mixer.D.val()),
            out_proj: LaneMatrix::of(mixer.out_proj.weight.val()),
            step_rank: mixer.step_rank(),
        }
    }

    fn channels(&self) -> usize {
        self.feedthrough.len()
    }
}

impl Mixer for Selective {
    fn memory(&self) -> Memory {
        Memory::new(&self.filters, self.rates.len())
    }

    fn scratch(&self) -> MixerScratch {
        let mut scratch = MixerScratch::default();
        let channels = self.channels();
        resize(&mut scratch.projected, 2 * channels);
        resize(&mut scratch.parameters, self.x_proj.rows());
        for values in [
            &mut scratch.convolved,
            &mut scratch.step,
            &mut scratch.driven,
            &mut scratch.decay,
            &mut scratch.output,
        ] {
            resize(values, channels);
        }
        scratch
    }

    #[inline(always)]
    fn advance(
        &self,
        memory: &mut Memory,
        scratch: &mut MixerScratch,
        input: &[f32],
        output: &mut [f32],
    ) {
        let channels = self.channels();
        let projected = &mut scratch.projected[..2 * channels];
        self.in_proj.apply(input, projected);
        let (x, z) = projected.split_at(channels);
        let u = &mut scratch.convolved[..channels];
        self.filters.apply(memory, x, u);

        let parameters = &mut scratch.parameters[..self.x_proj.rows()];
        self.x_proj.apply(u, parameters);
        let (low_rank, vectors) = parameters.split_at(self.step_rank);
        let (b, c) = vectors.split_at(vectors.len() / 2);
        let (step, driven) = (
            &mut scratch.step[..channels],
            &mut scratch.driven[..channels],
        );
        self.dt_proj.apply(low_rank, step);
        for ((step, driven), u) in step.iter_mut().zip(&mut *driven).zip(&*u) {
            *step = step.softplus::<Scalar>();
            *driven = *step * u;
        }

        let (decay, y) = (
            &mut scratch.decay[..channels],
            &mut scratch.output[..channels],
        );
        for ((y, d), u) in y.iter_mut().zip(&self.feedthrough).zip(&*u) {
            *y = d * u;
        }
        let states = memory.states.chunks_exact_mut(channels);
        let rates = self.rates.chunks_exact(channels);
        for ((state, rates), vectors) in states.zip(rates).zip(b.iter().zip(c)) {
            for ((decay, step), rate) in decay.iter_mut().zip(&*step).zip(rates) {
                *decay = (step * rate).exp2_of_negative::<Scalar>();
            }
            advance_state(state, decay, driven, [*vectors.0, *vectors.1], y);
        }

        for (y, z) in y.iter_mut().zip(z) {
            *y *= silu(*z);
        }
        self.out_proj.apply(y, output);
    }
}

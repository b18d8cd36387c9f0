//! One step of the mixer of Mamba-2.

use std::f32::consts::LOG2_E;

use burn::tensor::backend::Backend;
use pulp::Scalar;

use super::super::{matrix::LaneMatrix, rms_norm::RmsNorm, values};
use super::{
    Mixer,
    parts::{Filters, Memory, MixerScratch, advance_state, resize, silu},
};
use crate::{cpu::Real, mamba::DualMixer};

/// The weights of a [`DualMixer`].
#[derive(Debug)]
pub(super) struct Dual {
    in_proj: LaneMatrix,
    filters: Filters,
    /// Of B and of C, where the heads have bases of their own.
    maps: Option<[LaneMatrix; 2]>,
    step_bias: Vec<f32>,
    /// A log₂ e, `[heads]`: decays are powers of two.
    rates: Vec<f32>,
    /// `[heads]`.
    feedthrough: Vec<f32>,
    norm: RmsNorm,
    out_proj: LaneMatrix,
    channels: usize,
}

impl Dual {
    pub(super) fn new<B: Backend>(mixer: &DualMixer<B>) -> Self {
        let [_, channels] = mixer.out_proj.weight.dims();
        Self {
            in_proj: LaneMatrix::of(mixer.in_proj.weight.val()),
            filters: Filters::new(&mixer.conv1d),
            maps: match (&mixer.key_map, &mixer.query_map) {
                (Some(keys), Some(queries)) => {
                    Some([keys, queries].map(|map| LaneMatrix::of(map.weight.val())))
                }
                _ => None,
            },
            step_bias: values(mixer.dt_bias.val()),
            rates: values(mixer.A_log.val().exp() * -LOG2_E),
            feedthrough: values(mixer.D.val()),
            norm: RmsNorm::new(&mixer.norm),
            out_proj: LaneMatrix::of(mixer.out_proj.weight.val()),
            channels,
        }
    }

    /// Groups of heads with B and C of their own.
    fn groups(&self) -> usize {
        match &self.maps {
            Some(_) => self.rates.len(),
            None => 1,
        }
    }

    /// Entries of B for all groups.
    fn vector(&self) -> usize {
        match &self.maps {
            Some([keys, _]) => keys.rows(),
            None => (self.filters.channels() - self.channels) / 2,
        }
    }
}

impl Mixer for Dual {
    fn memory(&self) -> Memory {
        let state = self.vector() / self.groups();
        Memory::new(&self.filters, state * self.channels)
    }

    fn scratch(&self) -> MixerScratch {
        let mut scratch = MixerScratch::default();
        resize(&mut scratch.projected, self.in_proj.rows());
        resize(&mut scratch.convolved, self.filters.channels());
        resize(&mut scratch.parameters, 2 * self.vector());
        for values in [&mut scratch.driven, &mut scratch.decay, &mut scratch.output] {
            resize(values, self.channels);
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
        let channels = self.channels;
        let projected = &mut scratch.projected[..self.in_proj.rows()];
        self.in_proj.apply(input, projected);
        let (z, rest) = projected.split_at(channels);
        let (unfiltered, steps) = rest.split_at(self.filters.channels());
        let convolved = &mut scratch.convolved[..self.filters.channels()];
        self.filters.apply(memory, unfiltered, convolved);
        let (x, vectors) = convolved.split_at(channels);
        let (b, c) = vectors.split_at(vectors.len() / 2);
        let (groups, states) = (self.groups(), self.vector() / self.groups());
        let mapped = &mut scratch.parameters[..2 * self.vector()];
        let (mapped_b, mapped_c) = mapped.split_at_mut(self.vector());
        match &self.maps {
            Some([keys, queries]) => {
                keys.apply(b, mapped_b);
                queries.apply(c, mapped_c);
            }
            None => {
                mapped_b.copy_from_slice(b);
                mapped_c.copy_from_slice(c);
            }
        }

        let (decay, driven, y) = (
            &mut scratch.decay[..channels],
            &mut scratch.driven[..channels],
            &mut scratch.output[..channels],
        );
        let width = channels / steps.len();
        for (head, step) in steps.iter().enumerate() {
            let step = (step + self.step_bias[head]).softplus::<Scalar>();
            let of_head = head * width..(head + 1) * width;
            decay[of_head.clone()].fill((step * self.rates[head]).exp2_of_negative::<Scalar>());
            for i in of_head {
                driven[i] = step * x[i];
                y[i] = self.feedthrough[head] * x[i];
            }
        }
        let share = channels / groups;
        for (n, state) in memory.states.chunks_exact_mut(channels).enumerate() {
            for (group, state) in state.chunks_exact_mut(share).enumerate() {
                let of_group = group * share..(group + 1) * share;
                let at = group * states + n;
                advance_state(
                    state,
                    &decay[of_group.clone()],
                    &driven[of_group.clone()],
                    [mapped_b[at], mapped_c[at]],
                    &mut y[of_group],
                );
            }
        }

        for (y, z) in y.iter_mut().zip(z) {
            *y *= silu(*z);
        }
        self.norm.apply(y, driven);
        self.out_proj.apply(driven, output);
    }
}

//! What a step of either kind of mixer is made of.

use burn::tensor::backend::Backend;
use pulp::Scalar;

use super::super::values;
use crate::{cpu::Real, mamba::Conv1d};

/// What a mixer remembers of the steps before.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    /// Inputs of the convolution, oldest first, `[taps, convolved]`; the last is that of the step under way.
    window: Vec<f32>,
    /// `[state, channels]`: vectors run along the channels.
    pub states: Vec<f32>,
}

impl Memory {
    /// Of no step.
    pub(super) fn new(filters: &Filters, states: usize) -> Self {
        Self {
            window: vec![0.0; filters.taps.len()],
            states: vec![0.0; states],
        }
    }

    pub(super) fn reset(&mut self) {
        self.window.fill(0.0);
        self.states.fill(0.0);
    }
}

/// Values within a mixer.
#[derive(Clone, Debug, Default)]
pub(super) struct MixerScratch {
    /// By the projection in front.
    pub projected: Vec<f32>,
    /// What the convolution makes of its part of them.
    pub convolved: Vec<f32>,
    /// Step, B and C, where they are projected from the input of the scan.
    pub parameters: Vec<f32>,
    /// Δ, `[channels]`, where every channel has its own.
    pub step: Vec<f32>,
    /// Δ x, `[channels]`.
    pub driven: Vec<f32>,
    /// Factors of one state, `[channels]`.
    pub decay: Vec<f32>,
    /// y, `[channels]`.
    pub output: Vec<f32>,
}

/// Makes room for `len` values.
pub(super) fn resize(values: &mut Vec<f32>, len: usize) {
    values.resize(len, 0.0);
}

/// x / (1 + e^-x).
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x * x.sigmoid::<Scalar>()
}

/// A causal filter per channel.
#[derive(Debug)]
pub(super) struct Filters {
    /// `[taps, channels]`, the last tap on the current step.
    taps: Vec<f32>,
    bias: Vec<f32>,
}

impl Filters {
    pub(super) fn new<B: Backend>(conv: &Conv1d<B>) -> Self {
        let [channels, _, taps] = conv.weight.dims();
        Self {
            taps: values(conv.weight.val().reshape([channels, taps]).transpose()),
            bias: values(conv.bias.val()),
        }
    }

    /// Number of channels.
    pub(super) fn channels(&self) -> usize {
        self.bias.len()
    }

    /// SiLU of the filtered input, both `[channels]`.
    #[inline(always)]
    pub(super) fn apply(&self, memory: &mut Memory, input: &[f32], output: &mut [f32]) {
        let (window, channels) = (&mut memory.window, self.channels());
        let last = window.len() - channels;
        window.copy_within(channels.., 0);
        window[last..].copy_from_slice(input);
        output.copy_from_slice(&self.bias);
        let taps = self.taps.chunks_exact(channels);
        for (taps, inputs) in taps.zip(window.chunks_exact(channels)) {
            for ((y, tap), x) in output.iter_mut().zip(taps).zip(inputs) {
                *y += tap * x;
            }
        }
        for y in output {
            *y = silu(*y);
        }
    }
}

/// One state of all channels: h ← decay ∘ h + b driven, y ← y + c h.
#[inline(always)]
pub(super) fn advance_state(
    state: &mut [f32],
    decay: &[f32],
    driven: &[f32],
    [b, c]: [f32; 2],
    output: &mut [f32],
) {
    let channels = state.len();
    let (decay, driven) = (&decay[..channels], &driven[..channels]);
    let output = &mut output[..channels];
    for i in 0..channels {
        state[i] = decay[i] * state[i] + driven[i] * b;
        output[i] += c * state[i];
    }
}

//! The mixers of Mamba and Mamba-2 one step at a time.

mod dual;
mod parts;
mod selective;

use std::{fmt::Debug, sync::Arc};

use burn::tensor::backend::Backend;

use self::{
    dual::Dual,
    parts::{Memory, MixerScratch},
    selective::Selective,
};
use super::LayerStream;
use crate::{
    cpu::vectorized,
    mamba::{DualMixer, SelectiveMixer},
};

/// The weights of a mixer.
trait Mixer: Debug + Send + Sync + 'static {
    /// What it remembers of no step.
    fn memory(&self) -> Memory;

    /// Room for its values.
    fn scratch(&self) -> MixerScratch;

    /// `[hidden]` to the same.
    fn advance(
        &self,
        memory: &mut Memory,
        scratch: &mut MixerScratch,
        input: &[f32],
        output: &mut [f32],
    );
}

/// A mixer under way.
#[derive(Debug)]
struct MixerStream<M> {
    weights: Arc<M>,
    memory: Memory,
    scratch: MixerScratch,
}

impl<M: Mixer> MixerStream<M> {
    /// Of no step yet.
    fn boxed_from(weights: M) -> Box<dyn LayerStream> {
        Box::new(Self {
            memory: weights.memory(),
            scratch: weights.scratch(),
            weights: Arc::new(weights),
        })
    }
}

impl<M: Mixer> LayerStream for MixerStream<M> {
    fn step(&mut self, input: &[f32], output: &mut [f32]) {
        vectorized::<f32, _>(
            #[inline(always)]
            || {
                self.weights
                    .advance(&mut self.memory, &mut self.scratch, input, output);
            },
        );
    }

    fn reset(&mut self) {
        self.memory.reset();
    }

    fn boxed(&self) -> Box<dyn LayerStream> {
        Box::new(Self {
            weights: self.weights.clone(),
            memory: self.memory.clone(),
            scratch: self.scratch.clone(),
        })
    }
}

impl<B: Backend> SelectiveMixer<B> {
    /// This layer one step at a time, from a zero state.
    pub fn stream(&self) -> Box<dyn LayerStream> {
        MixerStream::boxed_from(Selective::new(self))
    }
}

impl<B: Backend> DualMixer<B> {
    /// This layer one step at a time, from a zero state.
    pub fn stream(&self) -> Box<dyn LayerStream> {
        MixerStream::boxed_from(Dual::new(self))
    }
}

//! Mamba and Mamba-2 one step at a time.

mod dual;
mod parts;
mod selective;

use std::sync::Arc;

use burn::tensor::backend::Backend;

use self::{
    dual::Dual,
    parts::{Memory, MixerScratch, RmsNorm},
    selective::Selective,
};
use super::{affine::Affine, encoder::Encoder, matrix::LaneMatrix, mean::RunningMean};
use crate::{
    cpu::vectorized,
    mamba::{self, Mamba, MambaLayer},
};

/// A model of selective mixers reading one sequence: features or tokens go in, and its logits come out: of a language
/// model those of the next token, of a classifier those for all that it has read so far.
///
/// # Example
/// ```
/// use burn::backend::Flex;
/// use ssm_core::{Encoder, Mamba, MambaConfig, MambaHead, MixerKind};
///
/// let config = MambaConfig {
///     encoder: Encoder::Embedding { vocabulary: 20 },
///     hidden_dim: 8,
///     state_dims: vec![16, 16],
///     channels: 16,
///     taps: 4,
///     mixer: MixerKind::Selective { step_rank: 1 },
///     head: MambaHead::Tokens { tied: true },
/// };
/// let model = Mamba::<Flex>::init(&config, 1, &Default::default());
///
/// // Greedy generation: every token is the likeliest one after those before.
/// let (mut stream, mut logits, mut token) = (model.stream(), [0.0; 20], 3);
/// for _ in 0..5 {
///     stream.push_token(token);
///     stream.logits(&mut logits);
///     let likeliest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
///     token = likeliest.expect("there are tokens").0;
/// }
/// assert_eq!(stream.steps(), 5);
/// ```
#[derive(Clone, Debug)]
pub struct MambaStream {
    weights: Arc<Weights>,
    /// What every layer remembers.
    memories: Vec<Memory>,
    /// Of what comes out of the last norm; only a head over classes reads it.
    mean: RunningMean,
    scratch: Scratch,
}

/// Values between the layers of the step under way, `[hidden]` each, and those within a mixer.
#[derive(Clone, Debug)]
struct Scratch {
    features: Vec<f32>,
    /// Of the features, by the norm of the layer under way or, after the step, by the last one.
    normalized: Vec<f32>,
    mixed: Vec<f32>,
    mixer: MixerScratch,
}

#[derive(Debug)]
struct Weights {
    encoder: Encoder,
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Head,
}

#[derive(Debug)]
struct Layer {
    norm: RmsNorm,
    mixer: Mixer,
}

#[derive(Debug)]
enum Mixer {
    Selective(Selective),
    Dual(Dual),
}

#[derive(Debug)]
enum Head {
    Classes(Affine),
    Tokens(LaneMatrix),
    /// The encoder's table.
    Tied,
}

impl Layer {
    fn new<B: Backend>(layer: &MambaLayer<B>) -> Self {
        Self {
            norm: RmsNorm::new(&layer.norm),
            mixer: match &layer.mixer {
                mamba::Mixer::Selective(mixer) => Mixer::Selective(Selective::new(mixer)),
                mamba::Mixer::Dual(mixer) => Mixer::Dual(Dual::new(mixer)),
            },
        }
    }

    fn memory(&self) -> Memory {
        match &self.mixer {
            Mixer::Selective(mixer) => mixer.memory(),
            Mixer::Dual(mixer) => mixer.memory(),
        }
    }

    /// Room for this layer within `scratch`.
    fn reserve(&self, scratch: &mut MixerScratch) {
        match &self.mixer {
            Mixer::Selective(mixer) => mixer.reserve(scratch),
            Mixer::Dual(mixer) => mixer.reserve(scratch),
        }
    }

    /// r ← r + mixer(norm(r)) for the features in `scratch`.
    #[inline(always)]
    fn advance(&self, memory: &mut Memory, scratch: &mut Scratch) {
        let Scratch {
            features,
            normalized,
            mixed,
            mixer: inner,
        } = scratch;
        self.norm.apply(features, normalized);
        match &self.mixer {
            Mixer::Selective(mixer) => mixer.advance(memory, inner, normalized, mixed),
            Mixer::Dual(mixer) => mixer.advance(memory, inner, normalized, mixed),
        }
        for (x, mixed) in features.iter_mut().zip(mixed) {
            *x += *mixed;
        }
    }
}

impl Weights {
    /// Number of logits.
    fn outputs(&self) -> usize {
        match &self.head {
            Head::Classes(linear) => linear.rows(),
            Head::Tokens(matrix) => matrix.rows(),
            Head::Tied => self.table().rows(),
        }
    }

    /// The table of the encoder, of a model whose head it is.
    #[inline(always)]
    fn table(&self) -> &LaneMatrix {
        match &self.encoder {
            Encoder::Tokens(table) => table,
            Encoder::Features(_) => unreachable!("a model without a table has a head of its own"),
        }
    }
}

impl<B: Backend> Mamba<B> {
    /// This model one step at a time, before the first step.
    pub fn stream(&self) -> MambaStream {
        let backbone = &self.backbone;
        let layers: Vec<Layer> = backbone.layers.iter().map(Layer::new).collect();
        let head = match (&self.linear_layer, &self.lm_head) {
            (Some(linear), _) => Head::Classes(Affine::new(linear)),
            (None, Some(head)) => Head::Tokens(LaneMatrix::of(head.weight.val())),
            (None, None) => Head::Tied,
        };
        let mut mixer = MixerScratch::default();
        for layer in &layers {
            layer.reserve(&mut mixer);
        }
        let [hidden] = backbone.norm_f.weight.dims();
        MambaStream {
            memories: layers.iter().map(Layer::memory).collect(),
            mean: RunningMean::new(hidden),
            scratch: Scratch {
                features: vec![0.0; hidden],
                normalized: vec![0.0; hidden],
                mixed: vec![0.0; hidden],
                mixer,
            },
            weights: Arc::new(Weights {
                encoder: Encoder::new(
                    backbone.linear_encoder.as_ref(),
                    backbone.embeddings.as_ref(),
                ),
                layers,
                norm: RmsNorm::new(&backbone.norm_f),
                head,
            }),
        }
    }
}

impl MambaStream {
    /// Takes the real channels of one step, `[channels]`.
    ///
    /// # Panics
    /// If the model reads tokens, or `features` has another length than the model has channels.
    pub fn push_features(&mut self, features: &[f32]) {
        vectorized::<f32, _>(
            #[inline(always)]
            || {
                let encoder = &self.weights.encoder;
                encoder.encode_features(features, &mut self.scratch.features);
                self.advance();
            },
        );
    }

    /// Takes one token.
    ///
    /// # Panics
    /// If the model reads features, or `token` is outside its vocabulary.
    pub fn push_token(&mut self, token: usize) {
        vectorized::<f32, _>(
            #[inline(always)]
            || {
                let encoder = &self.weights.encoder;
                encoder.encode_token(token, &mut self.scratch.features);
                self.advance();
            },
        );
    }

    /// All layers, the last norm and the mean over time, for the features in `scratch`.
    #[inline(always)]
    fn advance(&mut self) {
        let (weights, scratch) = (&*self.weights, &mut self.scratch);
        for (layer, memory) in weights.layers.iter().zip(&mut self.memories) {
            layer.advance(memory, scratch);
        }
        weights
            .norm
            .apply(&scratch.features, &mut scratch.normalized);
        self.mean.add(&scratch.normalized);
    }

    /// Steps since the start or the last [`reset`](Self::reset).
    pub fn steps(&self) -> u64 {
        self.mean.count()
    }

    /// Writes the logits of the sequence read so far: of a language model `[vocabulary]`, for the token after the last
    /// step; of a classifier `[classes]`, for the mean over all steps.
    ///
    /// # Panics
    /// If nothing was read yet, or `logits` has another length.
    pub fn logits(&mut self, logits: &mut [f32]) {
        assert!(self.steps() > 0, "an answer needs a step");
        let (weights, scratch) = (&*self.weights, &mut self.scratch);
        assert_eq!(
            logits.len(),
            weights.outputs(),
            "one logit per class or token"
        );
        vectorized::<f32, _>(
            #[inline(always)]
            || match &weights.head {
                Head::Classes(linear) => {
                    self.mean.write(&mut scratch.mixed);
                    linear.apply(&scratch.mixed, logits);
                }
                Head::Tokens(matrix) => matrix.apply(&scratch.normalized, logits),
                Head::Tied => weights.table().apply(&scratch.normalized, logits),
            },
        );
    }

    /// Forgets everything: the next step is the first.
    pub fn reset(&mut self) {
        self.memories.iter_mut().for_each(Memory::reset);
        self.mean.reset();
    }
}

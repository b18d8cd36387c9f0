//! A classifier that can be asked after every step.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use pulp::Scalar;

use super::{affine::Affine, encoder::Encoder, lru::LruStream, mean::RunningMean, values};
use crate::{
    block::{BATCH_NORM_EPSILON, Block},
    classifier::Classifier,
    cpu::{Real, vectorized},
    gated_unit::flex::gelu,
};

/// A classifier reading one sequence: features or tokens go in, and its logits for what it has read so far come out.
///
/// # Example
/// ```
/// use burn::backend::Flex;
/// use ssm_core::{Classifier, ClassifierConfig, Encoder, LruInit};
///
/// let config = ClassifierConfig {
///     encoder: Encoder::Linear { channels: 1 },
///     hidden_dim: 8,
///     state_dims: vec![32, 32],
///     classes: 10,
/// };
/// let init = LruInit { r_min: 0.9, r_max: 0.999, max_phase: 6.0 };
/// let model = Classifier::<Flex>::init(&config, init, 1, &Default::default());
///
/// let (mut stream, mut logits) = (model.stream(), [0.0; 10]);
/// for sample in [0.1, 0.7, 0.2] {
///     stream.push_features(&[sample]);
/// }
/// stream.logits(&mut logits);
/// assert!(logits.iter().all(|logit| logit.is_finite()));
/// ```
#[derive(Clone, Debug)]
pub struct ClassifierStream {
    weights: Arc<Weights>,
    recurrences: Vec<LruStream>,
    /// Of the last block's outputs.
    mean: RunningMean,
    scratch: Scratch,
}

/// Values between the layers of the step under way, `[hidden]` each.
#[derive(Clone, Debug)]
struct Scratch {
    features: Vec<f32>,
    normalized: Vec<f32>,
    activation: Vec<f32>,
    value: Vec<f32>,
    gate: Vec<f32>,
}

#[derive(Debug)]
struct Weights {
    encoder: Encoder,
    blocks: Vec<BlockWeights>,
    head: Affine,
}

#[derive(Debug)]
struct BlockWeights {
    mean: Vec<f32>,
    /// 1 / √(variance + ε).
    scale: Vec<f32>,
    value: Affine,
    gate: Affine,
}

impl BlockWeights {
    fn new<B: Backend>(block: &Block<B>) -> Self {
        let scale = (block.norm.var.val() + BATCH_NORM_EPSILON).sqrt().recip();
        Self {
            mean: values(block.norm.mean.val()),
            scale: values(scale),
            value: Affine::new(&block.glu.w1),
            gate: Affine::new(&block.glu.w2),
        }
    }

    /// x ← x + GLU(GELU(LRU(norm(x)))) for the features in `scratch`.
    #[inline(always)]
    fn advance(&self, recurrence: &mut LruStream, scratch: &mut Scratch) {
        let Scratch {
            features,
            normalized,
            activation,
            value,
            gate,
        } = scratch;
        for (((y, x), mean), scale) in normalized
            .iter_mut()
            .zip(&*features)
            .zip(&self.mean)
            .zip(&self.scale)
        {
            *y = (x - mean) * scale;
        }
        recurrence.advance(normalized, activation);
        for a in activation.iter_mut() {
            *a = gelu::<Scalar, f32>(*a);
        }
        self.value.apply(activation, value);
        self.gate.apply(activation, gate);
        for ((x, value), gate) in features.iter_mut().zip(value).zip(gate) {
            *x += *value * gate.sigmoid::<Scalar>();
        }
    }
}

impl<B: Backend> Classifier<B> {
    /// This model one step at a time, before the first step: running statistics, no dropout.
    pub fn stream(&self) -> ClassifierStream {
        let weights = Weights {
            encoder: Encoder::new(self.linear_encoder.as_ref(), self.embedding.as_ref()),
            blocks: self.blocks.iter().map(BlockWeights::new).collect(),
            head: Affine::new(&self.linear_layer),
        };
        let hidden = self.config().hidden_dim;
        let zeros = vec![0.0; hidden];
        ClassifierStream {
            weights: Arc::new(weights),
            recurrences: self.blocks.iter().map(|block| block.lru.stream()).collect(),
            mean: RunningMean::new(hidden),
            scratch: Scratch {
                features: zeros.clone(),
                normalized: zeros.clone(),
                activation: zeros.clone(),
                value: zeros.clone(),
                gate: zeros,
            },
        }
    }
}

impl ClassifierStream {
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

    /// All blocks, and the mean over time, for the features in `scratch`.
    #[inline(always)]
    fn advance(&mut self) {
        let weights = &*self.weights;
        for (block, recurrence) in weights.blocks.iter().zip(&mut self.recurrences) {
            block.advance(recurrence, &mut self.scratch);
        }
        self.mean.add(&self.scratch.features);
    }

    /// Steps since the start or the last [`reset`](Self::reset).
    pub fn steps(&self) -> u64 {
        self.mean.count()
    }

    /// Writes the logits, `[classes]`, of the sequence read so far.
    ///
    /// # Panics
    /// If nothing was read yet, or `logits` has another length than the model has classes.
    pub fn logits(&mut self, logits: &mut [f32]) {
        let head = &self.weights.head;
        assert_eq!(logits.len(), head.rows(), "one logit per class");
        let mean = &mut self.scratch.activation;
        self.mean.write(mean);
        vectorized::<f32, _>(
            #[inline(always)]
            || head.apply(mean, logits),
        );
    }

    /// Forgets everything: the next step is the first.
    pub fn reset(&mut self) {
        self.recurrences.iter_mut().for_each(LruStream::reset);
        self.mean.reset();
    }
}

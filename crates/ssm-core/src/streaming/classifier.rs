//! A classifier that can be asked after every step.

use std::sync::Arc;

use burn::tensor::backend::Backend;
use pulp::Scalar;

use super::lru::LruStream;
use super::matrix::LaneMatrix;
use super::values;
use crate::{
    block::{BATCH_NORM_EPSILON, Block},
    classifier::Classifier,
    cpu::{Real, vectorized},
    gated_unit::flex::gelu,
    linear::Linear,
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
    /// Sum of the last block's outputs, `[hidden]`.
    sum: Vec<f32>,
    /// What rounding took from the sum so far, `[hidden]`.
    lost: Vec<f32>,
    steps: u64,
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
enum Encoder {
    Linear(Affine),
    /// `[vocabulary, hidden]`.
    Embedding(Vec<f32>),
}

#[derive(Debug)]
struct BlockWeights {
    mean: Vec<f32>,
    /// 1 / √(variance + ε).
    scale: Vec<f32>,
    value: Affine,
    gate: Affine,
}

/// W x + b.
#[derive(Debug)]
struct Affine {
    weight: LaneMatrix,
    bias: Vec<f32>,
}

impl Affine {
    fn new<B: Backend>(linear: &Linear<B>) -> Self {
        let [output, input] = linear.weight.dims();
        let weight = values(linear.weight.val());
        Self {
            weight: LaneMatrix::from_fn([output, input], |row, column| {
                weight[row * input + column]
            }),
            bias: values(linear.bias.val()),
        }
    }

    #[inline(always)]
    fn apply(&self, input: &[f32], output: &mut [f32]) {
        self.weight.apply(input, output);
        for (output, bias) in output.iter_mut().zip(&self.bias) {
            *output += bias;
        }
    }
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
        let encoder = match (&self.linear_encoder, &self.embedding) {
            (Some(linear), _) => Encoder::Linear(Affine::new(linear)),
            (None, Some(embedding)) => Encoder::Embedding(values(embedding.weight.val())),
            (None, None) => unreachable!("both constructors set an encoder"),
        };
        let weights = Weights {
            encoder,
            blocks: self.blocks.iter().map(BlockWeights::new).collect(),
            head: Affine::new(&self.linear_layer),
        };
        let zeros = vec![0.0; self.config().hidden_dim];
        ClassifierStream {
            weights: Arc::new(weights),
            recurrences: self.blocks.iter().map(|block| block.lru.stream()).collect(),
            sum: zeros.clone(),
            lost: zeros.clone(),
            steps: 0,
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
        vectorized(
            #[inline(always)]
            || {
                let Encoder::Linear(encoder) = &self.weights.encoder else {
                    panic!("the model reads tokens, not features");
                };
                encoder.apply(features, &mut self.scratch.features);
                self.advance();
            },
        );
    }

    /// Takes one token.
    ///
    /// # Panics
    /// If the model reads features, or `token` is outside its vocabulary.
    pub fn push_token(&mut self, token: usize) {
        let Encoder::Embedding(table) = &self.weights.encoder else {
            panic!("the model reads features, not tokens");
        };
        let hidden = self.scratch.features.len();
        let vocabulary = table.len() / hidden;
        assert!(
            token < vocabulary,
            "token {token} of a vocabulary of {vocabulary}"
        );
        self.scratch
            .features
            .copy_from_slice(&table[token * hidden..][..hidden]);
        vectorized(
            #[inline(always)]
            || self.advance(),
        );
    }

    /// All blocks, and the sum over time, for the features in `scratch`.
    #[inline(always)]
    fn advance(&mut self) {
        let weights = &*self.weights;
        for (block, recurrence) in weights.blocks.iter().zip(&mut self.recurrences) {
            block.advance(recurrence, &mut self.scratch);
        }
        // Kahan's summation: a long stream must not lose what it adds to a large sum.
        for ((sum, lost), x) in self
            .sum
            .iter_mut()
            .zip(&mut self.lost)
            .zip(&self.scratch.features)
        {
            let term = x - *lost;
            let total = *sum + term;
            *lost = (total - *sum) - term;
            *sum = total;
        }
        self.steps += 1;
    }

    /// Steps since the start or the last [`reset`](Self::reset).
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Writes the logits, `[classes]`, of the sequence read so far.
    ///
    /// # Panics
    /// If nothing was read yet, or `logits` has another length than the model has classes.
    pub fn logits(&mut self, logits: &mut [f32]) {
        assert!(self.steps > 0, "the mean over time needs a step");
        let head = &self.weights.head;
        assert_eq!(logits.len(), head.bias.len(), "one logit per class");
        let mean = &mut self.scratch.activation;
        let share = 1.0 / self.steps as f32;
        for (mean, sum) in mean.iter_mut().zip(&self.sum) {
            *mean = sum * share;
        }
        vectorized(
            #[inline(always)]
            || head.apply(mean, logits),
        );
    }

    /// Forgets everything: the next step is the first.
    pub fn reset(&mut self) {
        self.recurrences.iter_mut().for_each(LruStream::reset);
        self.sum.fill(0.0);
        self.lost.fill(0.0);
        self.steps = 0;
    }
}

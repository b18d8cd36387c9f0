//! A model that can be asked after every step.

use std::sync::Arc;

use burn::tensor::backend::Backend as BurnBackend;
use pulp::Scalar;

use super::{
    LayerStream, affine::Affine, encoder::Encoder, matrix::LaneMatrix, mean::RunningMean,
    rms_norm::RmsNorm, values,
};
use crate::{
    backend::Backend,
    block::{BATCH_NORM_EPSILON, BatchNorm, Block, Glu, Norm},
    cpu::{Real, vectorized},
    gated_unit::flex::gelu,
    head::HeadLayer,
    model::Model,
};

/// A model reading one sequence: features or tokens go in, and its logits come out: of a language model those of the
/// next token, of a classifier those for all that it has read so far.
///
/// # Example
/// ```
/// use burn::backend::Flex;
/// use ssm_core::{Architecture, Encoder, Head, LayerSettings, Model, SelectiveSettings};
///
/// let architecture = Architecture {
///     encoder: Encoder::Embedding { vocabulary: 20 },
///     hidden_dim: 8,
///     state_dims: vec![16, 16],
///     layer: LayerSettings::Mamba(SelectiveSettings::default()),
///     head: Head::Tokens { tied: true },
/// };
/// let model = Model::<Flex>::init(&architecture, 1, &Default::default());
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
pub struct ModelStream {
    weights: Arc<Weights>,
    layers: Vec<Box<dyn LayerStream>>,
    /// Of what the head reads; only a head over classes asks for it.
    mean: RunningMean,
    scratch: Scratch,
}

/// Values between the layers of the step under way, `[hidden]` each.
#[derive(Clone, Debug)]
struct Scratch {
    features: Vec<f32>,
    /// Of the features, by the norm of the block under way or, after the step, by the last one.
    normalized: Vec<f32>,
    mixed: Vec<f32>,
    value: Vec<f32>,
    gate: Vec<f32>,
}

#[derive(Debug)]
struct Weights {
    encoder: Encoder,
    blocks: Vec<BlockWeights>,
    /// After the last block, if there is one.
    norm: Option<RmsNorm>,
    head: Head,
}

#[derive(Debug)]
enum Head {
    Classes(Affine),
    Tokens(LaneMatrix),
    /// The encoder's table.
    Tied,
}

#[derive(Debug)]
enum NormWeights {
    Batch {
        mean: Vec<f32>,
        /// 1 / √(variance + ε).
        scale: Vec<f32>,
    },
    Rms(RmsNorm),
}

impl NormWeights {
    fn new<B: BurnBackend>(norm: &Norm<B>) -> Self {
        match norm {
            Norm::Batch(BatchNorm { mean, var }) => Self::Batch {
                mean: values(mean.val()),
                scale: values((var.val() + BATCH_NORM_EPSILON).sqrt().recip()),
            },
            Norm::Rms(norm) => Self::Rms(RmsNorm::new(norm)),
        }
    }

    #[inline(always)]
    fn apply(&self, input: &[f32], output: &mut [f32]) {
        match self {
            Self::Batch { mean, scale } => {
                let statistics = mean.iter().zip(scale);
                for ((y, x), (mean, scale)) in output.iter_mut().zip(input).zip(statistics) {
                    *y = (x - mean) * scale;
                }
            }
            Self::Rms(norm) => norm.apply(input, output),
        }
    }
}

#[derive(Debug)]
struct BlockWeights {
    norm: NormWeights,
    /// Value and gate of the gated unit, if there is one.
    unit: Option<[Affine; 2]>,
}

impl BlockWeights {
    fn new<B: BurnBackend>(block: &Block<B>) -> Self {
        let unit = |Glu { w1, w2 }: &Glu<B>| [w1, w2].map(Affine::new);
        Self {
            norm: NormWeights::new(&block.norm),
            unit: block.unit.as_ref().map(unit),
        }
    }

    /// x ← x + unit(layer(norm(x))) for the features in `scratch`.
    #[inline(always)]
    fn advance(&self, layer: &mut dyn LayerStream, scratch: &mut Scratch) {
        let Scratch {
            features,
            normalized,
            mixed,
            value,
            gate,
        } = scratch;
        self.norm.apply(features, normalized);
        layer.step(normalized, mixed);
        let Some([value_map, gate_map]) = &self.unit else {
            for (x, mixed) in features.iter_mut().zip(mixed) {
                *x += *mixed;
            }
            return;
        };
        for a in mixed.iter_mut() {
            *a = gelu::<Scalar, f32>(*a);
        }
        value_map.apply(mixed, value);
        gate_map.apply(mixed, gate);
        for ((x, value), gate) in features.iter_mut().zip(value).zip(gate) {
            *x += *value * gate.sigmoid::<Scalar>();
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

impl<B: Backend> Model<B> {
    /// This model one step at a time, before the first step: running statistics, no dropout.
    ///
    /// # Panics
    /// If its head is over pairs of sequences, which a stream reads one of.
    pub fn stream(&self) -> ModelStream {
        let head = match &self.head {
            HeadLayer::Classes(linear) => Head::Classes(Affine::new(linear)),
            HeadLayer::Tokens(head) => match &head.lm_head {
                Some(head) => Head::Tokens(LaneMatrix::of(head.weight.val())),
                None => Head::Tied,
            },
            HeadLayer::Pair(_) => panic!("a stream reads one sequence, this model two"),
        };
        let hidden = self.hidden_dim();
        let zeros = vec![0.0; hidden];
        ModelStream {
            layers: self.blocks.iter().map(|b| b.layer.stream()).collect(),
            mean: RunningMean::new(hidden),
            scratch: Scratch {
                features: zeros.clone(),
                normalized: zeros.clone(),
                mixed: zeros.clone(),
                value: zeros.clone(),
                gate: zeros,
            },
            weights: Arc::new(Weights {
                encoder: Encoder::new(&self.encoder),
                blocks: self.blocks.iter().map(BlockWeights::new).collect(),
                norm: self.norm.as_ref().map(RmsNorm::new),
                head,
            }),
        }
    }
}

impl ModelStream {
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

    /// All blocks, the last norm and the mean over time, for the features in `scratch`.
    #[inline(always)]
    fn advance(&mut self) {
        let (weights, scratch) = (&*self.weights, &mut self.scratch);
        for (block, layer) in weights.blocks.iter().zip(&mut self.layers) {
            block.advance(layer.as_mut(), scratch);
        }
        match &weights.norm {
            Some(norm) => norm.apply(&scratch.features, &mut scratch.normalized),
            None => scratch.normalized.copy_from_slice(&scratch.features),
        }
        self.mean.add(&scratch.normalized);
    }

    /// Steps since the start or the last [`reset`](Self::reset).
    pub fn steps(&self) -> u64 {
        self.mean.count()
    }

    /// Number of logits: classes, or tokens of a language model.
    pub fn outputs(&self) -> usize {
        self.weights.outputs()
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
        self.layers.iter_mut().for_each(|layer| layer.reset());
        self.mean.reset();
    }
}

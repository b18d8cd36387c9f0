//! What becomes of the last block's output.

use burn::{
    module::Module,
    tensor::{Tensor, activation::relu, backend::Backend as BurnBackend},
};
use rand_chacha::ChaCha8Rng;

use crate::{
    backend::Backend,
    encoder::{Encoder, EncoderLayer, table},
    linear::Linear,
    mamba::Projection,
    model::names::{CLASS_HEAD, Names, TOKEN_HEAD},
    tensors::{NamedTensors, WeightsError},
};

/// What becomes of the last block's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// An affine map to classes.
    Classes {
        /// How many.
        classes: usize,
    },
    /// A linear map to the tokens of the encoder.
    Tokens {
        /// Whether it is the encoder's table itself.
        tied: bool,
    },
    /// Three affine maps with ReLU between them, from what is read out of two sequences to classes (`CompreSSM26`).
    Pair {
        /// How many.
        classes: usize,
    },
}

/// The map from what is read out to logits.
#[derive(Module, Debug)]
pub enum HeadLayer<B: BurnBackend> {
    /// To classes.
    Classes(Linear<B>),
    /// To tokens.
    Tokens(TokenHead<B>),
    /// Of two sequences to classes.
    Pair(PairHead<B>),
}

/// A head over the tokens of the encoder.
#[derive(Module, Debug)]
pub struct TokenHead<B: BurnBackend> {
    /// `[vocabulary, hidden]`, if it is not the encoder's table.
    pub lm_head: Option<Projection<B>>,
}

/// A head over two sequences.
#[derive(Module, Debug)]
pub struct PairHead<B: BurnBackend> {
    /// `[hidden, 2 hidden]`, `[hidden / 2, hidden]` and `[classes, hidden / 2]`.
    pub layers: Vec<Linear<B>>,
}

/// Sizes of the three maps of a pair head, `[output, input]`.
fn pair_shapes(hidden: usize, classes: usize) -> [[usize; 2]; 3] {
    let half = hidden.div_ceil(2);
    [[hidden, 2 * hidden], [half, hidden], [classes, half]]
}

/// Path of one of the maps of a pair head.
fn pair_layer(index: usize) -> String {
    format!("{CLASS_HEAD}.{index}")
}

impl Head {
    /// Reads the sizes off the weights of a model with this encoder.
    pub(crate) fn sizes(
        tensors: &NamedTensors,
        names: Names,
        encoder: Encoder,
    ) -> Result<Self, WeightsError> {
        let [class_head, token_head] =
            [CLASS_HEAD, TOKEN_HEAD].map(|name| format!("{name}.weight"));
        if tensors.has_any(&pair_layer(0)) {
            let last = format!("{}.weight", pair_layer(2));
            let [classes, _] = tensors.sizes(&last, &["classes", "half of hidden"])?;
            return Ok(Self::Pair { classes });
        }
        match (
            [tensors.has(&class_head), tensors.has(&token_head)],
            encoder,
        ) {
            ([true, true], _) => Err(WeightsError::Exclusive {
                names: [class_head, token_head],
            }),
            ([true, false], _) => {
                let [classes, _] = tensors.sizes(&class_head, &["classes", "hidden"])?;
                Ok(Self::Classes { classes })
            }
            ([false, _], Encoder::Linear { .. }) => Err(WeightsError::NoClasses {
                head: class_head,
                encoder: format!("{}.weight", names.linear_encoder),
            }),
            ([false, repeated], Encoder::Embedding { .. }) => {
                if repeated {
                    tensors.sizes(&token_head, &["vocabulary", "hidden"])?;
                }
                let table = table(tensors, names).and_then(|name| tensors.0.get(&name));
                let tied = !repeated || tensors.0.get(&token_head) == table;
                Ok(Self::Tokens { tied })
            }
        }
    }
}

impl<B: BurnBackend> HeadLayer<B> {
    pub(crate) fn init(
        head: Head,
        encoder: Encoder,
        hidden: usize,
        rng: &mut ChaCha8Rng,
        device: &B::Device,
    ) -> Self {
        match (head, encoder) {
            (Head::Classes { classes }, _) => {
                Self::Classes(Linear::init(hidden, classes, rng, device))
            }
            (Head::Pair { classes }, _) => Self::Pair(PairHead {
                layers: pair_shapes(hidden, classes)
                    .map(|[output, input]| Linear::init(input, output, rng, device))
                    .into(),
            }),
            (Head::Tokens { tied: false }, Encoder::Embedding { vocabulary }) => {
                let head = Projection::init(hidden, vocabulary, 1.0, rng, device);
                Self::Tokens(TokenHead {
                    lm_head: Some(head),
                })
            }
            (Head::Tokens { .. }, _) => Self::Tokens(TokenHead { lm_head: None }),
        }
    }

    pub(crate) fn load(
        tensors: &mut NamedTensors,
        head: Head,
        encoder: Encoder,
        hidden: usize,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        match (head, encoder) {
            (Head::Classes { classes }, _) => {
                let shape = [classes, hidden];
                Linear::load(tensors, CLASS_HEAD, shape, device).map(Self::Classes)
            }
            (Head::Pair { classes }, _) => {
                let shapes = pair_shapes(hidden, classes).into_iter().enumerate();
                let layers = shapes
                    .map(|(index, shape)| Linear::load(tensors, &pair_layer(index), shape, device));
                let layers = layers.collect::<Result<_, _>>()?;
                Ok(Self::Pair(PairHead { layers }))
            }
            (Head::Tokens { tied: false }, Encoder::Embedding { vocabulary }) => {
                let shape = [vocabulary, hidden];
                let head = Projection::load(tensors, TOKEN_HEAD, shape, device)?;
                Ok(Self::Tokens(TokenHead {
                    lm_head: Some(head),
                }))
            }
            // A head that repeats the table is left out.
            (Head::Tokens { .. }, _) => {
                tensors.0.remove(&format!("{TOKEN_HEAD}.weight"));
                Ok(Self::Tokens(TokenHead { lm_head: None }))
            }
        }
    }

    /// Its sizes.
    pub fn sizes(&self) -> Head {
        match self {
            Self::Classes(linear) => Head::Classes {
                classes: linear.weight.dims()[0],
            },
            Self::Tokens(head) => Head::Tokens {
                tied: head.lm_head.is_none(),
            },
            Self::Pair(head) => Head::Pair {
                classes: head.layers.last().map_or(0, |last| last.bias.dims()[0]),
            },
        }
    }
}

impl<B: Backend> HeadLayer<B> {
    /// Logits of features, `[rows, hidden]`. Of pairs the first half of the rows is of the first sequences, the other one
    /// of the second ones in the same order: half as many logits.
    ///
    /// # Panics
    /// If a head over pairs is given an odd number of rows.
    pub(crate) fn forward(
        &self,
        features: Tensor<B, 2>,
        encoder: &EncoderLayer<B>,
    ) -> Tensor<B, 2> {
        match self {
            Self::Classes(linear) => linear.forward(features),
            Self::Pair(head) => {
                let [rows, _] = features.dims();
                assert!(rows.is_multiple_of(2), "a pair has two sequences");
                let pairs = Tensor::cat(features.chunk(2, 0), 1);
                let last = head.layers.len() - 1;
                let layers = head.layers.iter().enumerate();
                layers.fold(pairs, |x, (index, layer)| match index == last {
                    true => layer.forward(x),
                    false => relu(layer.forward(x)),
                })
            }
            Self::Tokens(head) => {
                let weight = match (&head.lm_head, encoder.table()) {
                    (Some(head), _) => head.weight.val(),
                    (None, Some(table)) => table.weight.val(),
                    (None, None) => {
                        unreachable!("a model without a table has a head of its own")
                    }
                };
                features.matmul(weight.transpose())
            }
        }
    }
}

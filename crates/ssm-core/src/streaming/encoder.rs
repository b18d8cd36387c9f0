//! What a model makes of the input of one step.

use burn::tensor::backend::Backend;

use super::{affine::Affine, matrix::LaneMatrix};
use crate::encoder::EncoderLayer;

/// An affine map of real channels, or a row of a table for every token.
#[derive(Debug)]
pub(super) enum Encoder {
    Features(Affine),
    /// `[vocabulary, hidden]`.
    Tokens(LaneMatrix),
}

impl Encoder {
    pub(super) fn new<B: Backend>(encoder: &EncoderLayer<B>) -> Self {
        match encoder {
            EncoderLayer::Linear(linear) => Self::Features(Affine::new(linear)),
            EncoderLayer::Embedding(table) => Self::Tokens(LaneMatrix::of(table.weight.val())),
        }
    }

    /// # Panics
    /// If the model reads tokens, or `features` has another length than the model has channels.
    #[inline(always)]
    pub(super) fn encode_features(&self, features: &[f32], output: &mut [f32]) {
        match self {
            Self::Features(linear) => linear.apply(features, output),
            Self::Tokens(_) => panic!("the model reads tokens, not features"),
        }
    }

    /// # Panics
    /// If the model reads features, or `token` is outside its vocabulary.
    #[inline(always)]
    pub(super) fn encode_token(&self, token: usize, output: &mut [f32]) {
        let Self::Tokens(table) = self else {
            panic!("the model reads features, not tokens");
        };
        let vocabulary = table.rows();
        assert!(
            token < vocabulary,
            "token {token} of a vocabulary of {vocabulary}"
        );
        table.copy_row(token, output);
    }
}

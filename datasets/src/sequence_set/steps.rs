//! How the steps of examples are stored: in as few bytes as they need.

use std::ops::Range;

use crate::error::DatasetError;
use crate::shape::{Content, Shape};

/// Tokens or values of many sequences, one behind the other.
///
/// # Examples
/// ```
/// use datasets::Steps;
///
/// assert_eq!(Steps::from(vec![7_u8]), Steps::Bytes(vec![7]));
/// assert_eq!(Steps::from(vec![300_u16]), Steps::Words(vec![300]));
/// assert_eq!(Steps::from(vec![-0.5_f32]), Steps::Floats(vec![-0.5]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// Tokens below 256, or values in `[0, 1]`, of which `b` stands for `b / 255`.
    Bytes(Vec<u8>),
    /// Tokens of a vocabulary above 256.
    Words(Vec<u16>),
    /// Values as they are, all of them finite.
    Floats(Vec<f32>),
}

/// Tokens or values of one sequence, as they are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepsOf<'a> {
    /// As [`Steps::Bytes`].
    Bytes(&'a [u8]),
    /// As [`Steps::Words`].
    Words(&'a [u16]),
    /// As [`Steps::Floats`].
    Floats(&'a [f32]),
}

impl From<Vec<u8>> for Steps {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u16>> for Steps {
    fn from(words: Vec<u16>) -> Self {
        Self::Words(words)
    }
}

impl From<Vec<f32>> for Steps {
    fn from(floats: Vec<f32>) -> Self {
        Self::Floats(floats)
    }
}

impl Steps {
    /// Number of tokens or values.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Words(words) => words.len(),
            Self::Floats(floats) => floats.len(),
        }
    }

    pub(super) fn slice(&self, range: Range<usize>) -> StepsOf<'_> {
        match self {
            Self::Bytes(bytes) => StepsOf::Bytes(&bytes[range]),
            Self::Words(words) => StepsOf::Words(&words[range]),
            Self::Floats(floats) => StepsOf::Floats(&floats[range]),
        }
    }

    /// Whether examples of this shape can be stored so.
    pub(super) fn check_kind(&self, shape: &Shape) -> Result<(), DatasetError> {
        match (shape.content, self) {
            (Content::Tokens { .. }, Self::Floats(_)) => Err(DatasetError::TokensAsFloats),
            (Content::Values, Self::Words(_)) => Err(DatasetError::ValuesAsWords),
            _ => Ok(()),
        }
    }

    /// The first token that is not in `0..vocabulary`, with its position.
    pub(super) fn token_outside(&self, vocabulary: usize) -> Option<(usize, usize)> {
        match self {
            Self::Bytes(bytes) => outside(bytes, vocabulary),
            Self::Words(words) => outside(words, vocabulary),
            Self::Floats(_) => None,
        }
    }

    /// Position of the first value that is no number.
    pub(super) fn not_finite(&self) -> Option<usize> {
        match self {
            Self::Floats(floats) => floats.iter().position(|value| !value.is_finite()),
            Self::Bytes(_) | Self::Words(_) => None,
        }
    }
}

pub(super) fn outside<T: Copy + Into<usize>>(tokens: &[T], limit: usize) -> Option<(usize, usize)> {
    let position = tokens.iter().position(|token| (*token).into() >= limit)?;
    Some((position, tokens[position].into()))
}

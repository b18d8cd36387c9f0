//! The published names of a model's tensors: where a parameter stands in a file, whatever the structs are called.

use crate::{
    kinds::LayerKind,
    layer::{Frame, Group},
};

/// Names of what stands around the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// Of the encoder of real channels.
    pub linear_encoder: &'static str,
    /// Of the encoder of tokens.
    pub table: &'static str,
    /// The same in other authors' files.
    pub other_tables: &'static [&'static str],
    /// Of the blocks, before their index.
    pub blocks: &'static str,
    /// Of the norm after the last block, if there is one.
    pub last_norm: Option<&'static str>,
}

/// Of the norm before a layer, in its block.
pub(crate) const NORM: &str = "norm";
/// Of the gated unit behind it.
pub(crate) const UNIT: &str = "glu";
/// Of a head over classes.
pub(crate) const CLASS_HEAD: &str = "linear_layer";
/// Of a head over tokens.
pub(crate) const TOKEN_HEAD: &str = "lm_head";

impl Names {
    /// Those of the models that have this frame around their layers.
    pub(crate) const fn of(frame: Frame) -> Self {
        match frame {
            Frame::Gated => Self {
                linear_encoder: "linear_encoder",
                table: "embedding",
                other_tables: &[],
                blocks: "blocks",
                last_norm: None,
            },
            Frame::Residual => Self {
                linear_encoder: "backbone.linear_encoder",
                table: "backbone.embeddings",
                // In the code of Mamba's authors.
                other_tables: &["backbone.embedding"],
                blocks: "backbone.layers",
                last_norm: Some("backbone.norm_f"),
            },
        }
    }

    /// Path of a block.
    pub(crate) fn block(&self, index: usize) -> String {
        format!("{}.{index}", self.blocks)
    }

    /// Path of the layer in a block.
    pub(crate) fn layer(&self, index: usize, kind: LayerKind) -> String {
        format!("{}.{index}.{}", self.blocks, kind.name())
    }
}

impl LayerKind {
    /// What an optimizer may treat alike, by the published name of a parameter in a model of this kind.
    pub fn group_of(self, name: &str) -> Group {
        // blocks . index . layer . parameter
        let inside = name
            .strip_prefix(Names::of(self.frame()).blocks)
            .and_then(|rest| {
                let (_, rest) = rest.strip_prefix('.')?.split_once('.')?;
                rest.strip_prefix(self.name())?.strip_prefix('.')
            });
        inside.map_or(Group::Main, |parameter| self.group(parameter))
    }
}

/// The published name of the parameter at a path in a [`Model`](crate::Model), variants of enums included.
pub(crate) fn published(path: &[String], kind: LayerKind) -> String {
    let names = Names::of(kind.frame());
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (start, rest): (Vec<&str>, &[&str]) = match path.as_slice() {
        ["encoder", "Linear", rest @ ..] => (vec![names.linear_encoder], rest),
        ["encoder", "Embedding", rest @ ..] => (vec![names.table], rest),
        ["blocks", index, "norm", _, rest @ ..] => (vec![names.blocks, index, NORM], rest),
        ["blocks", index, "layer", _, rest @ ..] => (vec![names.blocks, index, kind.name()], rest),
        ["blocks", index, "unit", rest @ ..] => (vec![names.blocks, index, UNIT], rest),
        ["norm", rest @ ..] => (names.last_norm.into_iter().collect(), rest),
        ["head", "Classes", rest @ ..] => (vec![CLASS_HEAD], rest),
        ["head", "Tokens", "lm_head", rest @ ..] => (vec![TOKEN_HEAD], rest),
        ["head", "Pair", "layers", rest @ ..] => (vec![CLASS_HEAD], rest),
        _ => unreachable!("{path:?} is no path in a model"),
    };
    let all: Vec<&str> = start.into_iter().chain(rest.iter().copied()).collect();
    all.join(".")
}

//! What a section says of its keys: which of them decide which others are read.

use ssm_core::LayerKind;

/// What a section says of its keys, besides their types and ranges.
pub(super) struct Rules {
    pub(super) section: &'static str,
    /// Keys, `section.key`, that decide which others are read. Each owns the tables that are named after its words.
    pub(super) choices: &'static [&'static str],
    /// Keys that are read under some choices, of this section or another, and stand in no table.
    pub(super) readers: &'static [Readers],
    /// Keys that are read by some kinds of layers, which say so themselves.
    pub(super) by_kind: &'static [KindReaders],
    /// What reads a key, `section.key`, of which the chosen says itself that it reads it.
    pub(super) declared: fn(&str) -> Option<When>,
    /// Names that stand for the key of the same name in the table of what is chosen.
    pub(super) short_forms: &'static [&'static str],
    /// Several keys for one matter: a layer that gives any of them overrules all in the layers below.
    pub(super) alternatives: &'static [&'static [&'static str]],
}

impl Rules {
    /// Of a section whose keys are always read.
    pub(super) const NONE: Self = Self {
        section: "",
        choices: &[],
        readers: &[],
        by_kind: &[],
        declared: |_| None,
        short_forms: &[],
        alternatives: &[],
    };
}

/// Keys that are read when every one of these choices is one of its words. A key of several entries is read when any of
/// them holds, a key of none always.
pub(super) struct Readers {
    pub(super) when: fn() -> When,
    /// As `section.key`.
    pub(super) keys: &'static [&'static str],
}

/// Keys that are read by the kinds of layers of which something holds, when every one of the choices is one of its words.
pub(super) struct KindReaders {
    pub(super) reads: fn(LayerKind) -> bool,
    pub(super) when: fn() -> When,
    /// As `section.key`.
    pub(super) keys: &'static [&'static str],
}

/// Choices, with their words, that read a key together.
pub(super) type When = Vec<(&'static str, Vec<&'static str>)>;

//! What a policy looks at before it says how far to go.

use serde::{Deserialize, Serialize};

/// What a policy looks at before it says how far to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every layer for itself: each meets the tolerance or loses the fraction; a target shrinks all of them alike.
    #[default]
    Layer,
    /// All layers share one budget, and a state goes from where it is worth least: singular values are compared as
    /// shares of their layer's sum ([`hsv::GlobalBudget`] with [`hsv::Normalization::SumOfLayer`]).
    Global,
}

impl Scope {
    /// What the words of a cut end with.
    pub(crate) fn beside(self) -> &'static str {
        match self {
            Self::Layer => "",
            Self::Global => ", all layers together",
        }
    }
}

//! Section `model`: what learns.
//!
//! Every kind of layer has a table of its own settings, `[model.lru]` and so on.

use burn::backend::Flex;
use serde::{Deserialize, Serialize};
use ssm_core::{Frame, LayerSettings, SequenceLayer};

use super::ConfigError;
use super::range::{at_least_one, in_table, require};
use super::rules::{KindReaders, Rules};

pub use ssm_core::LayerKind;

/// The choice of a kind of layer.
pub(super) const KIND: &str = "model.kind";

pub(super) const RULES: Rules = Rules {
    section: "model",
    choices: &[KIND],
    by_kind: &[KindReaders {
        reads: |kind| kind.frame() == Frame::Gated,
        when: Vec::new,
        keys: &["model.dropout"],
    }],
    short_forms: &[
        "r_min",
        "r_max",
        "max_phase",
        "expand",
        "conv_kernel",
        "dt_rank",
        "head_dim",
    ],
    ..Rules::NONE
};

macro_rules! model_section {
    ($($word:literal $Kind:ident $field:ident $Layer:ident,)+) => {
        /// Section `model`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(
            default,
            deny_unknown_fields,
            expecting = "a section of keys, as in `[model]`"
        )]
        pub struct ModelConfig {
            /// The state space layer inside each block. What only one kind reads stands in its table.
            pub kind: LayerKind,
            /// Number of blocks, at least 1.
            pub blocks: usize,
            /// States of each layer at the start of training, at least 1.
            pub state_dim: usize,
            /// Channels between the blocks, at least 1.
            pub hidden_dim: usize,
            /// Probability that dropout zeroes an activation, in `[0, 1)`. Read by the kinds in gated blocks; the others have
            /// none.
            pub dropout: f64,
            $(
                #[doc = concat!("Settings of the kind `", $word, "`.")]
                #[serde(rename = $word)]
                pub $field: <ssm_core::$Layer<Flex> as SequenceLayer<Flex>>::Settings,
            )+
        }

        impl Default for ModelConfig {
            fn default() -> Self {
                Self {
                    kind: LayerKind::default(),
                    blocks: 1,
                    state_dim: 256,
                    hidden_dim: 8,
                    dropout: 0.0,
                    $($field: Default::default(),)+
                }
            }
        }

        impl ModelConfig {
            /// The layers, and how they begin.
            pub fn layer(&self) -> LayerSettings {
                match self.kind {
                    $(LayerKind::$Kind => LayerSettings::$Kind(self.$field.clone()),)+
                }
            }
        }
    };
}

ssm_core::with_layers!(model_section);

/// With its gradient and two moments a parameter takes 16 bytes while it is trained: 64 GiB.
const MOST_PARAMETERS: f64 = 4_294_967_296.0;

impl ModelConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        at_least_one("model.blocks", self.blocks)?;
        at_least_one("model.state_dim", self.state_dim)?;
        at_least_one("model.hidden_dim", self.hidden_dim)?;
        require(
            (0.0..1.0).contains(&self.dropout),
            "model.dropout",
            self.dropout,
            "it is a probability, at least 0 and below 1",
        )?;
        let layer = self.layer();
        let checked = layer.check(self.hidden_dim, self.state_dim);
        checked.map_err(|fault| {
            let table = match RULES.short_forms.contains(&fault.key) {
                true => "model".to_owned(),
                false => format!("model.{}", self.kind),
            };
            in_table(&table, fault.key, fault.value, fault.expected)
        })?;
        // Before anything of that size is asked of the memory.
        let each = layer.parameters(self.hidden_dim as f64, self.state_dim as f64);
        let parameters = self.blocks as f64 * each;
        if parameters <= MOST_PARAMETERS {
            return Ok(());
        }
        Err(ConfigError::ModelSize {
            keys: [&["blocks", "state_dim", "hidden_dim"], layer.sizes()].concat(),
            parameters,
            limit: MOST_PARAMETERS,
        })
    }
}

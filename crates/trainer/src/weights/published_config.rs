//! Configurations as models are published with them: every key is read, known to be without effect on what a model
//! computes, or refused by name.
//!
//! # Source
//! `MambaConfig` and `Mamba2Config` of transformers 5.24 and earlier (`config.json` at the top level), and
//! `MambaConfig` of the authors' mamba-ssm 2 with the arguments of `Mamba` and `Mamba2` in its table `ssm_cfg`.

use serde_json::{Map, Value};
use ssm_core::{Encoder, Head, ModelSizes, RMS_NORM_EPSILON};
use thiserror::Error;

/// A configuration that the weights or this program do not fit.
#[derive(Debug, Error)]
pub enum ModelConfigError {
    /// It cannot be parsed.
    #[error("the configuration is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is JSON, but no table of keys.
    #[error("the configuration is no JSON object, `{{\"key\": value, ...}}`")]
    NoObject,
    /// A size is not the one that the tensors have.
    #[error("`{key}` is {found}, but the tensors say {expected}")]
    Size {
        /// The key.
        key: String,
        /// Its value.
        found: Value,
        /// What would fit.
        expected: String,
    },
    /// It asks for something that this program does not compute.
    #[error("`{key}` is {found}, but this program computes only models where it is {expected}")]
    Arithmetic {
        /// The key.
        key: String,
        /// Its value.
        found: Value,
        /// What would do.
        expected: String,
    },
    /// A key of unknown meaning.
    #[error(
        "`{key}` is {found}, a key that this program does not know; remove it if it changes nothing about what the model computes"
    )]
    Unknown {
        /// The key.
        key: String,
        /// Its value.
        found: Value,
    },
}

/// What the tensors say about a model.
pub(super) struct Facts<'a> {
    sizes: &'a ModelSizes,
    /// What this program would write down of it.
    own: Map<String, Value>,
    /// Whether there is a head over tokens, be it the table of the encoder once more.
    token_head: bool,
}

impl<'a> Facts<'a> {
    pub(super) fn new(sizes: &'a ModelSizes, token_head: bool) -> Result<Self, ModelConfigError> {
        let Value::Object(own) = serde_json::to_value(sizes)? else {
            return Err(ModelConfigError::NoObject);
        };
        Ok(Self {
            sizes,
            own,
            token_head,
        })
    }

    /// A size that the layers of some kinds have.
    fn own(&self, key: &str) -> Option<usize> {
        let size = self.own.get(key).and_then(Value::as_u64)?;
        usize::try_from(size).ok()
    }

    /// Channels of a mixer.
    fn channels(&self) -> Option<usize> {
        let expanded = || Some(self.own("expand")? * self.sizes.hidden_dim);
        self.own("intermediate_size").or_else(expanded)
    }
}

/// Initialization, precision, generation, choices among equivalent kernels, and what files are made by.
const WITHOUT_EFFECT: [&str; 64] = [
    // Initialization.
    "A_init_range",
    "conv_init",
    "dt_init",
    "dt_init_floor",
    "dt_max",
    "dt_min",
    "dt_scale",
    "initializer_cfg",
    "initializer_range",
    "rescale_prenorm_residual",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_scale",
    // Precision: everything here is f32.
    "dtype",
    "residual_in_fp32",
    "torch_dtype",
    "use_bfloat16",
    // Equivalent kernels.
    "_attn_implementation_autoset",
    "attn_implementation",
    "chunk_size",
    "chunk_size_feed_forward",
    "fused_add_norm",
    "process_group",
    "sequence_parallel",
    "torchscript",
    "use_associative_scan",
    "use_cache",
    "use_fast_path",
    "use_mambapy",
    "use_mem_eff_path",
    // Of layers that `attn_layer_idx` says there are none of.
    "attn_cfg",
    // What is returned besides logits, and what is done with them.
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "do_sample",
    "max_length",
    "max_new_tokens",
    "min_length",
    "num_beams",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    // Tokens with a meaning.
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "unk_token_id",
    // Names and versions.
    "_name_or_path",
    "architectures",
    "finetuning_task",
    "id2label",
    "is_decoder",
    "label2id",
    "name_or_path",
    "tokenizer_class",
    "transformers_version",
    // Read with `vocab_size` and `expand`.
    "pad_vocab_size_multiple",
    "task_specific_params",
];

/// What a value was compared with.
enum Against {
    /// The tensors, which have this.
    Tensors(String),
    /// The arithmetic of this program, which is for this.
    Program(String),
}

/// Refuses what does not fit.
pub(super) fn check(text: &str, facts: &Facts<'_>) -> Result<(), ModelConfigError> {
    // Python's JSON writes infinity as a word.
    let Value::Object(keys) = serde_json::from_str(&text.replace("Infinity", "1e308"))? else {
        return Err(ModelConfigError::NoObject);
    };
    for (key, value) in &keys {
        match (key.as_str(), value) {
            // Arguments of the mixers in the authors' configurations.
            ("ssm_cfg", Value::Object(arguments)) => {
                for (key, value) in arguments {
                    check_key(key, value, arguments, facts, true)?;
                }
            }
            _ => check_key(key, value, &keys, facts, false)?,
        }
    }
    Ok(())
}

fn check_key(
    key: &str,
    value: &Value,
    table: &Map<String, Value>,
    facts: &Facts<'_>,
    of_mixer: bool,
) -> Result<(), ModelConfigError> {
    // Python's `None` stands for a default.
    if value.is_null() || WITHOUT_EFFECT.contains(&key) {
        return Ok(());
    }
    let (key, found) = (key.to_owned(), value.clone());
    match compare(&key, value, table, facts, of_mixer) {
        None => Err(ModelConfigError::Unknown { key, found }),
        Some((true, _)) => Ok(()),
        Some((false, Against::Tensors(expected))) => Err(ModelConfigError::Size {
            key,
            found,
            expected,
        }),
        Some((false, Against::Program(expected))) => Err(ModelConfigError::Arithmetic {
            key,
            found,
            expected,
        }),
    }
}

/// Whether a value fits, and what was expected; `None` for a key that is not known.
fn compare(
    key: &str,
    value: &Value,
    table: &Map<String, Value>,
    facts: &Facts<'_>,
    of_mixer: bool,
) -> Option<(bool, Against)> {
    let sizes = facts.sizes;
    let number = value.as_f64();
    let size = |size: usize| {
        (
            number == Some(size as f64),
            Against::Tensors(size.to_string()),
        )
    };
    let is = |wanted: Value| (*value == wanted, Against::Program(wanted.to_string()));
    Some(match key {
        "hidden_size" | "d_model" => size(sizes.hidden_dim),
        "num_hidden_layers" | "n_layer" => size(sizes.state_dims.len()),
        "state_size" | "d_state" => size(sizes.state_dims.iter().copied().max().unwrap_or(0)),
        "state_sizes" => (
            *value == Value::from(sizes.state_dims.clone()),
            Against::Tensors(format!("{:?}", sizes.state_dims)),
        ),
        "conv_kernel" | "d_conv" => size(facts.own("conv_kernel")?),
        "intermediate_size" | "d_inner" | "d_ssm" => size(facts.channels()?),
        "expand" => expand(number, table, facts)?,
        "vocab_size" => vocabulary(number, table, sizes)?,
        "input_size" => match sizes.encoder {
            Encoder::Linear { channels } => size(channels),
            Encoder::Embedding { .. } => return None,
        },
        "num_labels" => match sizes.head {
            Head::Classes { classes } => size(classes),
            _ => (true, Against::Tensors(String::new())),
        },
        "tie_word_embeddings" | "tie_embeddings" => tied(value, facts),
        "model_type" | "layer" => kind(value, facts),
        "time_step_rank" | "dt_rank" => step_rank(value, facts),
        "num_heads" => size(facts.own("num_heads")?),
        "head_dim" | "headdim" => size(facts.own("head_dim")?),
        "n_groups" | "ngroups" => is(Value::from(1)),
        "hidden_act" => (
            value == "silu" || value == "swish",
            Against::Program("\"silu\"".to_owned()),
        ),
        "use_bias" | "bias" | "D_has_hdim" | "is_encoder_decoder" => is(Value::from(false)),
        "use_conv_bias" | "conv_bias" | "rms_norm" | "rmsnorm" => is(Value::from(true)),
        // The authors' kernels heed it, those of transformers never did.
        "norm_before_gate" if of_mixer => is(Value::from(false)),
        "norm_before_gate" => (true, Against::Program(String::new())),
        "layer_norm_epsilon" | "norm_epsilon" => (
            number.is_some_and(|e| (e / RMS_NORM_EPSILON - 1.0).abs() < 1e-9),
            Against::Program(RMS_NORM_EPSILON.to_string()),
        ),
        "time_step_limit" | "dt_limit" => (
            is_without_bounds(value),
            Against::Program("[0, Infinity]".to_owned()),
        ),
        // Layers of other kinds between those of Mamba.
        "attn_layer_idx" => is(Value::Array(Vec::new())),
        "d_intermediate" => is(Value::from(0)),
        "layer_types" => (
            (value.as_array()).is_some_and(|types| types.iter().all(|t| t == "linear_attention")),
            Against::Program("\"linear_attention\"".to_owned()),
        ),
        _ => return None,
    })
}

/// Channels are `expand` times the width, unless they are given by themselves and are no multiple of it.
fn expand(
    found: Option<f64>,
    table: &Map<String, Value>,
    facts: &Facts<'_>,
) -> Option<(bool, Against)> {
    let (hidden, channels) = (facts.sizes.hidden_dim as f64, facts.channels()? as f64);
    let ratio = channels / hidden;
    // As transformers rounds it.
    let product = found.map(|expand| (expand * hidden).floor());
    let rounded = table.contains_key("intermediate_size") && found == Some(ratio.floor());
    let fits = rounded || product == Some(channels);
    Some((fits, Against::Tensors(ratio.to_string())))
}

/// The table of tokens has a row for each, and for as many more as make it a multiple of something.
fn vocabulary(
    found: Option<f64>,
    table: &Map<String, Value>,
    sizes: &ModelSizes,
) -> Option<(bool, Against)> {
    let Encoder::Embedding { vocabulary } = sizes.encoder else {
        return None;
    };
    let multiple = table.get("pad_vocab_size_multiple").and_then(Value::as_f64);
    let multiple = multiple.filter(|multiple| *multiple >= 1.0).unwrap_or(1.0);
    let padded = found.map(|found| (found / multiple).ceil() * multiple);
    let fits = padded == Some(vocabulary as f64);
    Some((fits, Against::Tensors(vocabulary.to_string())))
}

fn tied(value: &Value, facts: &Facts<'_>) -> (bool, Against) {
    let expected = match (facts.sizes.head, facts.token_head) {
        // A head over tokens is no part of a classifier.
        (Head::Classes { .. } | Head::Pair { .. }, _) => {
            return (value.is_boolean(), Against::Tensors("false".to_owned()));
        }
        (Head::Tokens { tied: true }, true) => {
            return (value.is_boolean(), Against::Tensors("true".to_owned()));
        }
        (Head::Tokens { tied }, _) => tied,
    };
    (*value == expected, Against::Tensors(expected.to_string()))
}

fn kind(value: &Value, facts: &Facts<'_>) -> (bool, Against) {
    let own = facts.own.get("model_type").and_then(Value::as_str);
    let own = own.unwrap_or_default();
    // In the authors' configurations with a capital, and the first one numbered as well.
    let number = if own.ends_with(|c: char| c.is_ascii_digit()) {
        ""
    } else {
        "1"
    };
    let theirs = value.as_str().and_then(|word| word.strip_suffix(number));
    let fits = value == own || theirs.is_some_and(|word| word.to_lowercase() == own);
    (fits, Against::Tensors(format!("\"{own}\"")))
}

/// Mamba-2 has no such rank, whatever its configurations say.
fn step_rank(value: &Value, facts: &Facts<'_>) -> (bool, Against) {
    let Some(step_rank) = facts.own("time_step_rank") else {
        return (true, Against::Tensors(String::new()));
    };
    let found = match value.as_str() {
        Some("auto") => Some(facts.sizes.hidden_dim.div_ceil(16) as f64),
        _ => value.as_f64(),
    };
    let fits = found == Some(step_rank as f64);
    (fits, Against::Tensors(step_rank.to_string()))
}

/// Steps are positive: bounds at 0 and infinity leave each as it is.
fn is_without_bounds(value: &Value) -> bool {
    // Since version 5, transformers writes `{"__float__": "Infinity"}`; the word is a number by now, and quoted.
    let infinite = |value: &Value| match value.get("__float__") {
        Some(word) => word == "1e308",
        None => value.as_f64().is_some_and(|number| number >= 1e308),
    };
    match value.as_array().map(Vec::as_slice) {
        Some([low, high]) => low.as_f64() == Some(0.0) && infinite(high),
        _ => false,
    }
}

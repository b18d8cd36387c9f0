//! Weights in safetensors files, under the published names.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View, serialize};
use serde_json::Value;
use ssm_core::{Model, ModelConfig, NamedTensor, NamedTensors, RMS_NORM_EPSILON, WeightsError};
use thiserror::Error;

use crate::checkpoint::model_metadata;
use crate::files::{FileError, write_atomically};

/// Metadata key of the model config.
pub const CONFIG_KEY: &str = "config";

/// A weights file that cannot be used.
#[derive(Debug, Error)]
pub enum WeightsFileError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a safetensors file, or is damaged.
    #[error("{} is not a readable safetensors file: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the format's reader said.
        source: SafeTensorError,
    },
    /// A tensor has an element type that holds no real numbers.
    #[error("{}: tensor `{name}` has type {dtype}; expected F32, F64, F16 or BF16", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// The tensors are no model.
    #[error("{}: {source}", path.display())]
    NoModel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// The configuration beside the tensors is one of another model, or not readable.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file that holds the configuration.
        path: PathBuf,
        /// What about it.
        reason: String,
    },
}

/// A tensor on its way into a file.
struct Stored<'a>(&'a NamedTensor);

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.0.values.iter().flat_map(|v| v.to_le_bytes());
        Cow::Owned(bytes.collect())
    }

    fn data_len(&self) -> usize {
        4 * self.0.values.len()
    }
}

/// Writes tensors as F32 with the given metadata, atomically.
pub fn write_tensors(
    path: &Path,
    tensors: &NamedTensors,
    metadata: HashMap<String, String>,
) -> Result<(), WeightsFileError> {
    let views = tensors
        .0
        .iter()
        .map(|(name, tensor)| (name, Stored(tensor)));
    // An empty map in an otherwise empty file would come out as two JSON values (safetensors 0.8).
    let metadata = (!metadata.is_empty()).then_some(metadata);
    let bytes = serialize(views, metadata).map_err(|source| WeightsFileError::Format {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(write_atomically(path, &bytes)?)
}

/// Reads every tensor of a file as F32.
pub fn read_tensors(path: &Path) -> Result<NamedTensors, WeightsFileError> {
    with_file(path, |file| {
        file.iter()
            .map(|(name, view)| {
                let values = to_f32(view.dtype(), view.data()).ok_or(WeightsFileError::Dtype {
                    path: path.to_path_buf(),
                    name: name.to_string(),
                    dtype: view.dtype(),
                })?;
                let shape = view.shape().to_vec();
                Ok((name.to_string(), NamedTensor { shape, values }))
            })
            .collect::<Result<_, _>>()
            .map(NamedTensors)
    })
}

/// Reads the tensors of a model, whose sizes they tell, under the names that this program writes. A configuration of a published model in the file's metadata, or
/// in a `config.json` beside it, must not contradict them, nor ask for what this program does not compute.
pub fn read_model(path: &Path) -> Result<NamedTensors, WeightsFileError> {
    let tensors = read_tensors(path)?;
    let model = Model::<Flex>::from_tensors(tensors, &Default::default()).map_err(|source| {
        WeightsFileError::NoModel {
            path: path.to_path_buf(),
            source,
        }
    })?;
    let config = model.config();
    if let ModelConfig::Mamba(_) = config {
        let within = metadata(path)?.map(|text| (path.to_path_buf(), text));
        let beside = path.with_file_name("config.json");
        let beside = fs::read_to_string(&beside).ok().map(|text| (beside, text));
        for (path, text) in within.into_iter().chain(beside) {
            let refuse = |reason| WeightsFileError::Config {
                path: path.clone(),
                reason,
            };
            // Python's JSON writes infinity as a word.
            let values: Value = serde_json::from_str(&text.replace("Infinity", "1e308"))
                .map_err(|e| refuse(format!("the configuration is not JSON: {e}")))?;
            check_config(&values, &config).map_err(refuse)?;
        }
    }
    Ok(model.to_tensors())
}

/// The configuration in the metadata of a file.
fn metadata(path: &Path) -> Result<Option<String>, WeightsFileError> {
    let bytes = fs::read(path).map_err(FileError::during("read", path))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|source| WeightsFileError::Format {
            path: path.to_path_buf(),
            source,
        })?;
    let metadata = header.metadata().as_ref();
    Ok(metadata.and_then(|metadata| metadata.get(CONFIG_KEY).cloned()))
}

/// Refuses a published configuration, in the keys of the authors' code or of `transformers`, that these sizes or this
/// program's arithmetic do not fit.
fn check_config(values: &Value, config: &ModelConfig) -> Result<(), String> {
    let ModelConfig::Mamba(sizes) = config else {
        return Ok(());
    };
    let states = sizes.state_dims.iter().copied().max().unwrap_or_default();
    let numbers: [(&[&str], f64); 5] = [
        (&["n_groups", "ngroups"], 1.0),
        (&["layer_norm_epsilon", "norm_epsilon"], RMS_NORM_EPSILON),
        (&["hidden_size", "d_model"], sizes.hidden_dim as f64),
        (
            &["num_hidden_layers", "n_layer"],
            sizes.state_dims.len() as f64,
        ),
        (&["state_size", "d_state"], states as f64),
    ];
    for (keys, wanted) in numbers {
        for key in keys {
            // The authors' code keeps what belongs to a mixer in a table of its own.
            let value = values.get(key).or_else(|| values.get("ssm_cfg")?.get(key));
            if let Some(found) = value.and_then(Value::as_f64)
                && (found - wanted).abs() > 1e-9 * wanted
            {
                return Err(format!(
                    "`{key}` is {found}, but {wanted} is what the tensors say or this program computes"
                ));
            }
        }
    }
    if let Some([low, high]) = values
        .get("time_step_limit")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        && (low.as_f64() != Some(0.0) || high.as_f64().is_some_and(|high| high < 1e300))
    {
        return Err(
            "`time_step_limit` keeps steps within bounds, which this program does not".to_owned(),
        );
    }
    Ok(())
}

/// Copies the weights of a model to another file, with its sizes as metadata.
pub fn export(source: &Path, output: &Path) -> Result<(), WeightsFileError> {
    let tensors = read_model(source)?;
    let metadata = model_metadata(&tensors);
    write_tensors(output, &tensors, metadata)
}

/// Opens a safetensors file and hands it to `read`.
pub(crate) fn with_file<T>(
    path: &Path,
    read: impl FnOnce(&SafeTensors<'_>) -> Result<T, WeightsFileError>,
) -> Result<T, WeightsFileError> {
    let bytes = fs::read(path).map_err(FileError::during("read", path))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|source| WeightsFileError::Format {
        path: path.to_path_buf(),
        source,
    })?;
    read(&file)
}

fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let half = |bits: u16, exponent_bits: u32| f32_from_half(bits, exponent_bits);
    match dtype {
        Dtype::F32 => Some(map_words(bytes, f32::from_le_bytes)),
        Dtype::F64 => Some(map_words(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::F16 => Some(map_words(bytes, |b| half(u16::from_le_bytes(b), 5))),
        Dtype::BF16 => Some(map_words(bytes, |b| half(u16::from_le_bytes(b), 8))),
        _ => None,
    }
}

pub(crate) fn map_words<const N: usize, T>(bytes: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|word| f(*word)).collect()
}

/// A 16-bit float with this many exponent bits (5: IEEE half, 8: bfloat16), exactly.
fn f32_from_half(bits: u16, exponent_bits: u32) -> f32 {
    let mantissa_bits = 15 - exponent_bits;
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits & 0x7fff) >> mantissa_bits);
    let mantissa = f32::from(bits & ((1 << mantissa_bits) - 1)) / f32::from(1u16 << mantissa_bits);
    let (largest, bias) = ((1 << exponent_bits) - 1, (1 << (exponent_bits - 1)) - 1);
    let magnitude = match exponent {
        0 => mantissa * 2.0_f32.powi(1 - bias),
        e if e == largest && mantissa == 0.0 => f32::INFINITY,
        e if e == largest => f32::NAN,
        e => (1.0 + mantissa) * 2.0_f32.powi(e - bias),
    };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_floats_widen_exactly() {
        for (bits, want) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
        ] {
            assert_eq!(f32_from_half(bits, 5), want);
        }
        for bits in [0x3f80_u16, 0xc2f7, 0x0001, 0x7f80] {
            assert_eq!(
                f32_from_half(bits, 8),
                f32::from_bits(u32::from(bits) << 16)
            );
        }
        assert!(f32_from_half(0x7e00, 5).is_nan());
    }

    #[test]
    fn tensors_survive_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let tensor = NamedTensor {
            shape: vec![2, 1],
            values: vec![1.5, -0.0],
        };
        let tensors = NamedTensors([("a.b".to_string(), tensor)].into());
        write_tensors(&path, &tensors, HashMap::new()).unwrap();
        assert_eq!(read_tensors(&path).unwrap(), tensors);
    }

    #[test]
    fn a_file_without_tensors_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        write_tensors(&path, &NamedTensors::default(), HashMap::new()).unwrap();
        assert_eq!(read_tensors(&path).unwrap(), NamedTensors::default());
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        fs::write(&path, b"not tensors").unwrap();
        let message = read_tensors(&path).unwrap_err().to_string();
        assert!(
            message.contains("w.safetensors is not a readable safetensors file"),
            "{message}"
        );
    }
}

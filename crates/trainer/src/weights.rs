//! Weights of models in files, under the published names: written as safetensors, read as the hubs publish them.

mod element;
mod pickle;
mod published_config;
mod pytorch;
mod sharded;

pub use pickle::PickleError;
pub use published_config::ModelConfigError;
pub use pytorch::PytorchError;

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::backend::Flex;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors, View, serialize};
use serde::Deserialize;
use ssm_core::{Frame, Model, ModelSizes, NamedTensor, NamedTensors, WeightsError};
use thiserror::Error;

use self::element::to_f32;
use self::published_config::Facts;
use crate::checkpoint::model_metadata;
use crate::files::{FileError, write_atomically};

pub(crate) use self::element::map_words;

/// Metadata key of the model config.
pub const CONFIG_KEY: &str = "config";

/// The files that a folder as the hubs publish it may have weights in, in the order in which they are looked for.
pub const PUBLISHED_FILES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Beside the weights.
const CONFIG_FILE: &str = "config.json";

/// Name of the head over tokens.
const TOKEN_HEAD: &str = "lm_head.weight";

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
    /// The file is not one of PyTorch, or not one of weights.
    #[error("{} is not a readable PyTorch file: {source}", path.display())]
    Pytorch {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PytorchError,
    },
    /// The file is in PyTorch's older format, which has no archive.
    #[error("{} was written by PyTorch before 1.6 or as a bare pickle; load it and save it again with a newer one", path.display())]
    Legacy {
        /// The file.
        path: PathBuf,
    },
    /// The file was not fetched.
    #[error("{} is a Git LFS pointer instead of the weights; fetch them with `git lfs pull`", path.display())]
    Pointer {
        /// The file.
        path: PathBuf,
    },
    /// The index of a model in several files cannot be read.
    #[error("{} is not a readable index of weights: {source}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// An index names a file that is not beside it.
    #[error("{} puts tensor `{name}` in `{file}`, which is no name of a file beside it", path.display())]
    ShardName {
        /// The index.
        path: PathBuf,
        /// A tensor.
        name: String,
        /// Where it is said to be.
        file: String,
    },
    /// A tensor is not where the index says.
    #[error("{} has no tensor `{name}`, which its index says is there; is the file complete?", path.display())]
    NotInShard {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor is where the index does not say.
    #[error("{} has a tensor `{name}` that its index does not have there; are both from one model?", path.display())]
    NotInIndex {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
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
    #[error("{}: {source}", path.display())]
    Config {
        /// The file that holds the configuration.
        path: PathBuf,
        /// What about it.
        source: ModelConfigError,
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

/// Reads every tensor of a safetensors file as F32.
pub fn read_tensors(path: &Path) -> Result<NamedTensors, WeightsFileError> {
    with_file(path, |file| {
        let tensors = file.iter().map(|(name, view)| {
            let tensor = read_tensor(path, name, &view)?;
            Ok((name.to_owned(), tensor))
        });
        tensors.collect::<Result<_, _>>().map(NamedTensors)
    })
}

/// A tensor of a safetensors file as F32.
pub(crate) fn read_tensor(
    path: &Path,
    name: &str,
    view: &TensorView<'_>,
) -> Result<NamedTensor, WeightsFileError> {
    let values = to_f32(view.dtype(), view.data()).ok_or_else(|| WeightsFileError::Dtype {
        path: path.to_path_buf(),
        name: name.to_owned(),
        dtype: view.dtype(),
    })?;
    let shape = view.shape().to_vec();
    Ok(NamedTensor { shape, values })
}

/// Reads the tensors of a model, whose sizes they tell, under the names that this program writes.
///
/// The file is safetensors, or of PyTorch since 1.6, or the index of a model in several of them
/// ([`PUBLISHED_FILES`]). A configuration of a published model in the file's metadata, or in a `config.json` beside it,
/// must not contradict the tensors, nor ask for what this program does not compute: every key of it is read, known to
/// be without effect, or refused.
pub fn read_model(path: &Path) -> Result<NamedTensors, WeightsFileError> {
    let tensors = read_published(path)?;
    let no_model = |source| WeightsFileError::NoModel {
        path: path.to_path_buf(),
        source,
    };
    // Before the tensors are looked at one by one: what a configuration asks for says more than a tensor too many.
    let sizes = ModelSizes::infer(&tensors).map_err(no_model)?;
    if sizes.kind().frame() == Frame::Residual {
        let token_head = tensors.shape(TOKEN_HEAD).is_some();
        for (path, text) in configurations(path)? {
            let checked = Facts::new(&sizes, token_head)
                .and_then(|facts| published_config::check(&text, &facts));
            checked.map_err(|source| WeightsFileError::Config { path, source })?;
        }
    }
    let model = Model::<Flex>::from_tensors(tensors, &Default::default()).map_err(no_model)?;
    Ok(model.to_tensors())
}

fn read_published(path: &Path) -> Result<NamedTensors, WeightsFileError> {
    let at = || path.to_path_buf();
    match Format::of(path)? {
        Format::Safetensors => read_tensors(path),
        Format::Index => sharded::read(path),
        Format::Pytorch => {
            let bytes = fs::read(path).map_err(FileError::during("read", path))?;
            pytorch::read(&bytes).map_err(|source| WeightsFileError::Pytorch { path: at(), source })
        }
        Format::Pickle => Err(WeightsFileError::Legacy { path: at() }),
        Format::Pointer => Err(WeightsFileError::Pointer { path: at() }),
    }
}

/// What a file of weights is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Safetensors,
    /// Of several files.
    Index,
    Pytorch,
    /// Of PyTorch without an archive.
    Pickle,
    /// To what Git LFS is to fetch.
    Pointer,
}

impl Format {
    /// By its first bytes, whatever its name is; an index alone is known by its name.
    fn of(path: &Path) -> Result<Self, FileError> {
        const POINTER: &[u8] = b"version https://git-lfs";
        if path.to_string_lossy().ends_with(".index.json") {
            return Ok(Self::Index);
        }
        let start = first_bytes(path, POINTER.len())?;
        Ok(match start.as_slice() {
            POINTER => Self::Pointer,
            // Behind its length, the header is a JSON object.
            [_, _, _, _, _, _, _, _, b'{', ..] => Self::Safetensors,
            [b'P', b'K', 3, 4, ..] => Self::Pytorch,
            [0x80, ..] => Self::Pickle,
            // Whatever else: its reader says what is wrong.
            _ => Self::Safetensors,
        })
    }
}

/// The first bytes of a file, as many as there are of `count`.
fn first_bytes(path: &Path, count: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(count as u64).read_to_end(&mut bytes));
    file.map_err(FileError::during("read", path))?;
    Ok(bytes)
}

/// The configurations of a model, and the files that they are in: in the metadata of its weights, and beside them.
fn configurations(path: &Path) -> Result<Vec<(PathBuf, String)>, WeightsFileError> {
    let mut found = Vec::new();
    if Format::of(path)? == Format::Safetensors {
        let within = metadata(path)?.map(|text| (path.to_path_buf(), text));
        found.extend(within);
    }
    let beside = path.with_file_name(CONFIG_FILE);
    match fs::read_to_string(&beside) {
        Ok(text) => found.push((beside, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(FileError::during("read", &beside)(error).into()),
    }
    Ok(found)
}

/// The configuration in the metadata of a safetensors file, whose header is a JSON object behind its length.
fn metadata(path: &Path) -> Result<Option<String>, WeightsFileError> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(default, rename = "__metadata__")]
        metadata: HashMap<String, String>,
    }
    let length = first_bytes(path, 8)?
        .try_into()
        .map_or(0, u64::from_le_bytes);
    let header = first_bytes(path, 8_usize.saturating_add(length as usize))?;
    let header = serde_json::from_slice(header.get(8..).unwrap_or_default());
    let Header { mut metadata } = header.map_err(|source| WeightsFileError::Format {
        path: path.to_path_buf(),
        source: SafeTensorError::InvalidHeaderDeserialization(source),
    })?;
    Ok(metadata.remove(CONFIG_KEY))
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

#[cfg(test)]
mod tests {
    use super::*;

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

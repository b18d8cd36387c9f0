//! Weights as `torch.save` writes them since PyTorch 1.6: a zip archive of a pickle that describes tensors, and the
//! storages that their values are in.

use std::io::{self, Cursor, Read};

use safetensors::Dtype;
use ssm_core::{NamedTensor, NamedTensors};
use thiserror::Error;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::element::to_f32;
use super::pickle::{Id, Object, Pickle, PickleError};

/// A PyTorch file that cannot be used.
#[derive(Debug, Error)]
pub enum PytorchError {
    /// It is no zip archive, or a damaged one.
    #[error("it is no readable zip archive: {0}")]
    Archive(#[from] ZipError),
    /// A file in the archive cannot be read to its end.
    #[error("`{entry}` in it cannot be read: {source}")]
    Entry {
        /// The file.
        entry: String,
        /// What the reader said.
        source: io::Error,
    },
    /// There is no pickle in the archive.
    #[error("it has no `data.pkl`: no file of `torch.save`")]
    NoPickle,
    /// The pickle cannot be read.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// Numbers are stored with the most significant byte first.
    #[error("it was written by a big-endian machine; save it again on a little-endian one")]
    ByteOrder,
    /// What was saved is not a table of tensors.
    #[error("it holds no table of tensors; save the model's `state_dict()`")]
    NoStateDict,
    /// An entry of the table is no tensor.
    #[error("its entry `{name}` is no tensor; save the model's `state_dict()` alone")]
    NoTensor {
        /// Name of the entry.
        name: String,
    },
    /// A tensor holds no real numbers.
    #[error("tensor `{name}` is in a {storage}; expected Float, Double, Half or BFloat16")]
    Storage {
        /// The tensor.
        name: String,
        /// Type of its storage.
        storage: String,
    },
    /// A tensor reaches beyond the values that are stored.
    #[error(
        "tensor `{name}` of shape {shape:?} and strides {strides:?} reaches beyond its storage of {stored} values"
    )]
    Bounds {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values from an entry to the next along every axis.
        strides: Vec<usize>,
        /// Values that are stored.
        stored: usize,
    },
}

/// A tensor as the pickle describes it.
struct View<'a> {
    storage_type: &'a str,
    /// Name of the storage.
    key: &'a str,
    /// Position of the first value.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The tensors of a state dictionary, as `f32`.
pub(super) fn read(bytes: &[u8]) -> Result<NamedTensors, PytorchError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let root = archive
        .file_names()
        .find_map(|name| Some(name.strip_suffix("data.pkl")?.to_owned()))
        .ok_or(PytorchError::NoPickle)?;
    let order = format!("{root}byteorder");
    if archive.index_for_name(&order).is_some() && entry(&mut archive, &order)? != b"little" {
        return Err(PytorchError::ByteOrder);
    }
    let pickle = Pickle::read(&entry(&mut archive, &format!("{root}data.pkl"))?)?;
    let Object::Dictionary(entries) = pickle.root() else {
        return Err(PytorchError::NoStateDict);
    };
    let mut tensors = NamedTensors::default();
    for (key, value) in entries {
        let Object::Text(name) = pickle.get(*key) else {
            return Err(PytorchError::NoStateDict);
        };
        let view = view(&pickle, *value);
        let view = view.ok_or_else(|| PytorchError::NoTensor { name: name.clone() })?;
        let storage = entry(&mut archive, &format!("{root}data/{}", view.key))?;
        let tensor = view.tensor(name, &storage)?;
        tensors.0.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

/// All of a file in the archive. None is compressed, so that none is larger than the archive.
fn entry(archive: &mut ZipArchive<Cursor<&[u8]>>, name: &str) -> Result<Vec<u8>, PytorchError> {
    let mut content = Vec::new();
    let file = archive.by_name(name).map_err(io::Error::from);
    let read = file.and_then(|mut file| match file.compression() {
        CompressionMethod::Stored => file.read_to_end(&mut content),
        _ => Err(io::Error::other(
            "it is compressed, which `torch.save` never does",
        )),
    });
    match read {
        Ok(_) => Ok(content),
        Err(source) => Err(PytorchError::Entry {
            entry: name.to_owned(),
            source,
        }),
    }
}

fn items<const N: usize>(pickle: &Pickle, id: Id) -> Option<[Id; N]> {
    match pickle.get(id) {
        Object::Tuple(items) => items.first_chunk().copied(),
        _ => None,
    }
}

fn sizes(pickle: &Pickle, id: Id) -> Option<Vec<usize>> {
    let Object::Tuple(items) = pickle.get(id) else {
        return None;
    };
    let size = |id: &Id| match pickle.get(*id) {
        Object::Integer(size) => usize::try_from(*size).ok(),
        _ => None,
    };
    items.iter().map(size).collect()
}

/// What `torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)` makes, or a parameter around it.
fn view(pickle: &Pickle, mut id: Id) -> Option<View<'_>> {
    loop {
        let Object::Call {
            function,
            arguments,
        } = pickle.get(id)
        else {
            return None;
        };
        let Object::Global(function) = pickle.get(*function) else {
            return None;
        };
        match function.as_str() {
            "torch._utils._rebuild_parameter" => [id] = items(pickle, *arguments)?,
            "torch._utils._rebuild_tensor_v2" => {
                let [storage, offset, shape, strides] = items(pickle, *arguments)?;
                let Object::External(storage) = pickle.get(storage) else {
                    return None;
                };
                let [_, kind, key] = items(pickle, *storage)?;
                let (Object::Global(kind), Object::Text(key), Object::Integer(offset)) =
                    (pickle.get(kind), pickle.get(key), pickle.get(offset))
                else {
                    return None;
                };
                return Some(View {
                    storage_type: kind,
                    key,
                    offset: usize::try_from(*offset).ok()?,
                    shape: sizes(pickle, shape)?,
                    strides: sizes(pickle, strides)?,
                });
            }
            _ => return None,
        }
    }
}

impl View<'_> {
    fn tensor(self, name: &str, storage: &[u8]) -> Result<NamedTensor, PytorchError> {
        let dtype = match self.storage_type {
            "torch.FloatStorage" => Some(Dtype::F32),
            "torch.DoubleStorage" => Some(Dtype::F64),
            "torch.HalfStorage" => Some(Dtype::F16),
            "torch.BFloat16Storage" => Some(Dtype::BF16),
            _ => None,
        };
        let stored = dtype.and_then(|dtype| to_f32(dtype, storage));
        let stored = stored.ok_or_else(|| PytorchError::Storage {
            name: name.to_owned(),
            storage: self.storage_type.to_owned(),
        })?;
        match self.gather(&stored) {
            Some(values) => Ok(NamedTensor {
                shape: self.shape,
                values,
            }),
            None => Err(PytorchError::Bounds {
                name: name.to_owned(),
                shape: self.shape,
                strides: self.strides,
                stored: stored.len(),
            }),
        }
    }

    /// The values in row-major order; `None` if they are not all there, or more than there are.
    fn gather(&self, stored: &[f32]) -> Option<Vec<f32>> {
        if self.shape.len() != self.strides.len() {
            return None;
        }
        let mut count = 1_usize;
        let mut contiguous = true;
        let mut last = self.offset;
        for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
            contiguous &= *size == 1 || *stride == count;
            count = count.checked_mul(*size)?;
            last = last.checked_add(size.saturating_sub(1).checked_mul(*stride)?)?;
        }
        match count {
            0 => return Some(Vec::new()),
            // Axes without a stride would make any number of values out of few.
            count if count > stored.len() || last >= stored.len() => return None,
            count if contiguous => return Some(stored[self.offset..][..count].to_vec()),
            _ => {}
        }
        let position = |mut index: usize| {
            let mut position = self.offset;
            for (size, stride) in self.shape.iter().zip(&self.strides).rev() {
                position += index % size * stride;
                index /= size;
            }
            position
        };
        Some((0..count).map(|index| stored[position(index)]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(
        offset: usize,
        shape: &[usize],
        strides: &[usize],
        stored: usize,
    ) -> Option<Vec<f32>> {
        let view = View {
            storage_type: "torch.FloatStorage",
            key: "0",
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        let stored: Vec<f32> = (0..stored).map(|value| value as f32).collect();
        view.gather(&stored)
    }

    #[test]
    fn views_are_read_by_their_strides() {
        let rows = gathered(1, &[2, 3], &[3, 1], 7);
        assert_eq!(rows.unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let transposed = gathered(0, &[3, 2], &[1, 3], 6);
        assert_eq!(transposed.unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let every_other_row = gathered(0, &[2, 2], &[4, 1], 6);
        assert_eq!(every_other_row.unwrap(), [0.0, 1.0, 4.0, 5.0]);
        // A stride along an axis of one entry says nothing.
        assert_eq!(gathered(2, &[1, 2], &[99, 1], 4).unwrap(), [2.0, 3.0]);
        assert_eq!(gathered(3, &[], &[], 4).unwrap(), [3.0]);
        assert_eq!(gathered(9, &[0, 2], &[2, 1], 4).unwrap(), [0.0; 0]);
    }

    #[test]
    fn a_view_beyond_its_storage_is_refused() {
        assert_eq!(gathered(1, &[2, 3], &[3, 1], 6), None);
        assert_eq!(gathered(0, &[2, 3], &[4, 1], 6), None);
        assert_eq!(gathered(0, &[7], &[0], 6), None);
        assert_eq!(gathered(0, &[2], &[1, 1], 6), None);
        assert_eq!(gathered(0, &[usize::MAX, 2], &[1, 1], 6), None);
        assert_eq!(gathered(usize::MAX, &[2], &[1], 6), None);
    }
}

//! Weights in several files, and the index that says which tensor is in which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use ssm_core::NamedTensors;

use super::{Format, WeightsFileError, read_published};
use crate::files::FileError;

#[derive(Deserialize)]
struct Index {
    /// File of every tensor.
    weight_map: BTreeMap<String, String>,
}

/// The tensors of all files that an index names.
pub(super) fn read(index: &Path) -> Result<NamedTensors, WeightsFileError> {
    let text = fs::read(index).map_err(FileError::during("read", index))?;
    let Index { weight_map } =
        serde_json::from_slice(&text).map_err(|source| WeightsFileError::Index {
            path: index.to_path_buf(),
            source,
        })?;
    let mut shards: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
    for (name, file) in weight_map {
        let path = beside(index, &file).ok_or_else(|| WeightsFileError::ShardName {
            path: index.to_path_buf(),
            name: name.clone(),
            file,
        })?;
        shards.entry(path).or_default().insert(name);
    }
    let mut tensors = NamedTensors::default();
    for (path, names) in shards {
        tensors.0.extend(shard(&path, &names)?.0);
    }
    Ok(tensors)
}

/// A file of the same folder, which is no index itself.
fn beside(index: &Path, file: &str) -> Option<PathBuf> {
    let mut parts = Path::new(file).components();
    let path = index.with_file_name(file);
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(_)), None) if !is_index(&path) => Some(path),
        _ => None,
    }
}

fn is_index(path: &Path) -> bool {
    matches!(Format::of(path), Ok(Format::Index))
}

/// The tensors of one file, which are those that the index has there.
fn shard(path: &Path, names: &BTreeSet<String>) -> Result<NamedTensors, WeightsFileError> {
    let tensors = read_published(path)?;
    if let Some(name) = names.iter().find(|name| tensors.shape(name).is_none()) {
        return Err(WeightsFileError::NotInShard {
            path: path.to_path_buf(),
            name: name.clone(),
        });
    }
    match tensors.0.keys().find(|name| !names.contains(*name)) {
        Some(name) => Err(WeightsFileError::NotInIndex {
            path: path.to_path_buf(),
            name: name.clone(),
        }),
        None => Ok(tensors),
    }
}

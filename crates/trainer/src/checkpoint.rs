//! Checkpoints: everything a run needs to go on as if it had never been broken off.
//!
//! One folder per checkpoint, `checkpoints/step-00001000/`, made under another name and renamed when complete:
//! `model.safetensors`, `optimizer.safetensors`, `best.safetensors` (the weights of the best evaluation so far),
//! `state.json`, and `SHA256SUMS` over the others in the format of `sha256sum`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ssm_core::{ClassifierConfig, NamedTensors};
use thiserror::Error;

use crate::files::{FileError, sync_folder, write_atomically, write_json};
use crate::weights::{CONFIG_KEY, WeightsFileError, read_tensors, write_tensors};

/// Version of the layout described above.
const FORMAT_VERSION: u32 = 1;

/// How many checkpoints a run keeps.
const KEPT: usize = 2;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const BEST: &str = "best.safetensors";
const STATE: &str = "state.json";
const CHECKSUMS: &str = "SHA256SUMS";

/// How the names of complete and of unfinished checkpoints begin.
const COMPLETE: &str = "step-";
const DRAFT: &str = ".draft-";

/// A checkpoint that cannot be written or used.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A weights file cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightsFileError),
    /// A file's content is not what was written.
    #[error("checkpoint file {} is damaged; remove the folder {} to fall back to the checkpoint before", path.display(), folder_of(path).display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint was written by another version.
    #[error("checkpoint {} has format version {found}; this program reads version {FORMAT_VERSION}", path.display())]
    Version {
        /// The checkpoint.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// There is nothing to go on from.
    #[error("no checkpoint in {}; pass the folder of a run that `train` has made", folder.display())]
    NoCheckpoint {
        /// Where it was looked for.
        folder: PathBuf,
    },
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// What a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Checkpoint<S> {
    /// Weights and statistics of the model.
    pub model: NamedTensors,
    /// State of the optimizer.
    pub optimizer: NamedTensors,
    /// Weights at the best evaluation so far, if there was one.
    pub best: Option<NamedTensors>,
    /// Everything else.
    pub state: S,
}

#[derive(Serialize, Deserialize)]
struct Versioned<S> {
    format_version: u32,
    state: S,
}

/// Metadata of a weights file: the sizes of the model.
pub(crate) fn model_metadata(tensors: &NamedTensors) -> HashMap<String, String> {
    let config = ClassifierConfig::infer(tensors).expect("a model's own tensors describe it");
    let json = serde_json::to_string(&config).expect("sizes are plain numbers");
    HashMap::from([(CONFIG_KEY.to_string(), json)])
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those in `folder`, which need not exist yet.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes the checkpoint of `step` and removes the oldest ones.
    pub fn save<S: Serialize>(
        &self,
        step: u64,
        checkpoint: &Checkpoint<S>,
    ) -> Result<PathBuf, CheckpointError> {
        fs::create_dir_all(&self.folder).map_err(FileError::during("create", &self.folder))?;
        // Drafts of a process that was killed while it wrote.
        for stale in self.entries(DRAFT)? {
            fs::remove_dir_all(&stale).map_err(FileError::during("remove", &stale))?;
        }
        let draft = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempdir_in(&self.folder)
            .map_err(FileError::during("write to", &self.folder))?;
        write_files(draft.path(), checkpoint)?;

        let path = self.folder.join(format!("{COMPLETE}{step:08}"));
        let publish = || -> io::Result<()> {
            if path.exists() {
                fs::remove_dir_all(&path)?;
            }
            fs::rename(draft.path(), &path)?;
            sync_folder(&self.folder)
        };
        publish().map_err(FileError::during("write", &path))?;
        // Renamed: there is nothing left to clean up under the draft's name.
        let _ = draft.keep();
        self.remove_old()?;
        Ok(path)
    }

    /// The newest checkpoint.
    pub fn latest(&self) -> Result<PathBuf, CheckpointError> {
        self.entries(COMPLETE)?
            .pop()
            .ok_or_else(|| CheckpointError::NoCheckpoint {
                folder: self.folder.clone(),
            })
    }

    /// The folders whose names begin with `prefix`, in the order of their names: oldest checkpoint first.
    fn entries(&self, prefix: &str) -> Result<Vec<PathBuf>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::during("read", &self.folder))?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(FileError::during("read", &self.folder))?;
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    fn remove_old(&self) -> Result<(), CheckpointError> {
        let paths = self.entries(COMPLETE)?;
        for path in &paths[..paths.len().saturating_sub(KEPT)] {
            fs::remove_dir_all(path).map_err(FileError::during("remove", path))?;
        }
        Ok(())
    }
}

fn write_files<S: Serialize>(
    folder: &Path,
    checkpoint: &Checkpoint<S>,
) -> Result<(), CheckpointError> {
    let metadata = model_metadata(&checkpoint.model);
    write_tensors(&folder.join(MODEL), &checkpoint.model, metadata)?;
    write_tensors(
        &folder.join(OPTIMIZER),
        &checkpoint.optimizer,
        HashMap::new(),
    )?;
    if let Some(best) = &checkpoint.best {
        write_tensors(&folder.join(BEST), best, model_metadata(best))?;
    }
    let state = Versioned {
        format_version: FORMAT_VERSION,
        state: &checkpoint.state,
    };
    write_json(&folder.join(STATE), &state)?;

    let mut sums = String::new();
    for name in [MODEL, OPTIMIZER, BEST, STATE] {
        let path = folder.join(name);
        if path.exists() {
            let _ = writeln!(sums, "{}  {name}", checksum(&path)?);
        }
    }
    Ok(write_atomically(&folder.join(CHECKSUMS), sums.as_bytes())?)
}

fn checksum(path: &Path) -> Result<String, FileError> {
    let bytes = fs::read(path).map_err(FileError::during("read", path))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Checks every file of a checkpoint against its checksum.
fn verify(folder: &Path) -> Result<(), CheckpointError> {
    let list = folder.join(CHECKSUMS);
    let sums = fs::read_to_string(&list).map_err(FileError::during("read", &list))?;
    for name in [MODEL, OPTIMIZER, BEST, STATE] {
        let path = folder.join(name);
        let expected = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .find(|(_, file)| *file == name);
        let good = match expected {
            Some((sum, _)) => path.exists() && checksum(&path)? == sum,
            None => name == BEST && !path.exists(),
        };
        if !good {
            return Err(CheckpointError::Damaged { path });
        }
    }
    Ok(())
}

/// Reads and verifies one checkpoint.
pub fn load<S: DeserializeOwned>(folder: &Path) -> Result<Checkpoint<S>, CheckpointError> {
    verify(folder)?;
    let path = folder.join(STATE);
    let text = fs::read_to_string(&path).map_err(FileError::during("read", &path))?;
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let damaged = || CheckpointError::Damaged { path: path.clone() };
    let Version { format_version } = serde_json::from_str(&text).map_err(|_| damaged())?;
    if format_version != FORMAT_VERSION {
        return Err(CheckpointError::Version {
            path: folder.to_path_buf(),
            found: format_version,
        });
    }
    let Versioned { state, .. } = serde_json::from_str(&text).map_err(|_| damaged())?;
    let best = folder.join(BEST);
    Ok(Checkpoint {
        model: read_tensors(&folder.join(MODEL))?,
        optimizer: read_tensors(&folder.join(OPTIMIZER))?,
        best: best.exists().then(|| read_tensors(&best)).transpose()?,
        state,
    })
}

/// The weights file that a path stands for: itself, the model of a checkpoint, or of a run's newest checkpoint.
pub fn resolve_weights(path: &Path) -> Result<PathBuf, CheckpointError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    if path.join(MODEL).exists() {
        return Ok(path.join(MODEL));
    }
    let newest = Checkpoints::in_folder(path.join("checkpoints")).latest();
    match newest {
        Ok(checkpoint) => Ok(checkpoint.join(MODEL)),
        Err(CheckpointError::NoCheckpoint { .. }) => Err(CheckpointError::NoCheckpoint {
            folder: path.to_path_buf(),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use ssm_core::{Classifier, Encoder, LruInit};

    fn checkpoint(state: u64) -> Checkpoint<u64> {
        let config = ClassifierConfig {
            encoder: Encoder::Linear { channels: 1 },
            hidden_dim: 2,
            state_dims: vec![3],
            classes: 2,
        };
        let init = LruInit {
            r_min: 0.5,
            r_max: 0.9,
            max_phase: 6.0,
        };
        let model = Classifier::<Flex>::init(&config, init, 1, &Default::default()).to_tensors();
        Checkpoint {
            optimizer: NamedTensors::default(),
            best: (state > 1).then(|| model.clone()),
            model,
            state,
        }
    }

    #[test]
    fn a_checkpoint_comes_back_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().join("checkpoints"));
        fs::create_dir_all(checkpoints.folder.join(".draft-of-a-killed-process")).unwrap();
        for step in 1..=4 {
            checkpoints.save(step, &checkpoint(step)).unwrap();
        }
        let latest = checkpoints.latest().unwrap();
        assert!(latest.ends_with("step-00000004"));
        let loaded = load::<u64>(&latest).unwrap();
        assert_eq!((loaded.state, loaded.model), (4, checkpoint(4).model));
        assert!(loaded.best.is_some());
        assert_eq!(checkpoints.entries(COMPLETE).unwrap().len(), KEPT);
        assert!(
            fs::read_dir(&checkpoints.folder).unwrap().count() == KEPT,
            "no drafts are left"
        );
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().to_path_buf());
        let path = checkpoints.save(7, &checkpoint(7)).unwrap();
        for name in [MODEL, OPTIMIZER, BEST, STATE] {
            let file = path.join(name);
            let good = fs::read(&file).unwrap();
            let mut bad = good.clone();
            let middle = bad.len() / 2;
            bad[middle] ^= 1;
            fs::write(&file, bad).unwrap();
            let error = load::<u64>(&path).unwrap_err();
            assert!(
                matches!(&error, CheckpointError::Damaged { path } if *path == file),
                "{error}"
            );
            fs::write(&file, good).unwrap();
        }
        load::<u64>(&path).unwrap();
    }

    #[test]
    fn a_folder_without_checkpoints_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = resolve_weights(folder.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::NoCheckpoint { .. }));
    }
}

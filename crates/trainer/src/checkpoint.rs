//! Checkpoints: everything a run needs to go on as if it had never been broken off.
//!
//! One folder per checkpoint, `checkpoints/step-00001000/` or, right before a cut, `step-00001000-before-cut/`, made
//! under another name and renamed when complete: `model.safetensors` (weights and normalization statistics),
//! `optimizer.safetensors`, `best.safetensors` (the weights of the best evaluation since the last cut),
//! `best-before-cut.safetensors` (those of the best evaluation before it), `snapshot.safetensors` (the weights at the last
//! snapshot of the spectra), `state.json` (schedule, counters, scores), and `SHA256SUMS` over the others in the format of
//! `sha256sum`. The order of the examples and every random stream are functions of the seed and the step, so that the step
//! is all that has to be kept of them.
//!
//! Version 2 of the format had one `best.safetensors` for the whole run, and is read as well.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ssm_core::{ModelSizes, NamedTensors};
use thiserror::Error;

use crate::files::{FileError, sync_folder, write_atomically, write_json};
use crate::weights::{CONFIG_KEY, PUBLISHED_FILES, WeightsFileError, read_tensors, write_tensors};

/// Version of the layout described above, and the oldest one that is read.
const FORMAT_VERSION: u32 = 3;
const OLDEST_VERSION: u32 = 2;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
/// Weights of the best evaluation since the last cut, and before it: in a checkpoint and in the folder of a run.
pub(crate) const BEST: &str = "best.safetensors";
pub(crate) const BEST_BEFORE_CUT: &str = "best-before-cut.safetensors";
const SNAPSHOT: &str = "snapshot.safetensors";
const STATE: &str = "state.json";
const CHECKSUMS: &str = "SHA256SUMS";

/// Files that are not in every checkpoint.
const OPTIONAL: [&str; 3] = [BEST, BEST_BEFORE_CUT, SNAPSHOT];

/// All files that the checksums are over.
const FILES: [&str; 6] = [MODEL, OPTIMIZER, BEST, BEST_BEFORE_CUT, SNAPSHOT, STATE];

/// How the names of complete and of unfinished checkpoints begin, and those of a cut end.
const COMPLETE: &str = "step-";
const DRAFT: &str = ".draft-";
const BEFORE_CUT: &str = "-before-cut";

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
    #[error("checkpoint {} has format version {found}; this program reads versions {OLDEST_VERSION} to {FORMAT_VERSION}", path.display())]
    Version {
        /// The checkpoint.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// No checkpoint was written at this step, or it is gone.
    #[error("no checkpoint of step {step} in {}; there are: {}", folder.display(), listed(.available))]
    NoSuchStep {
        /// The step asked for.
        step: u64,
        /// Where it was looked for.
        folder: PathBuf,
        /// What is there.
        available: Vec<Moment>,
    },
    /// A folder is neither one of a run nor one of a published model.
    #[error("no weights in {}; expected a folder of a run that `train` has made, or one with {}", folder.display(), PUBLISHED_FILES.join(" or "))]
    NoWeights {
        /// Where they were looked for.
        folder: PathBuf,
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

fn listed(moments: &[Moment]) -> String {
    let names: Vec<String> = moments.iter().map(ToString::to_string).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// When in a run a checkpoint was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Moment {
    /// Optimizer steps taken.
    pub step: u64,
    /// After everything that happens at that step, or before the cut that does.
    pub place: Place,
}

/// Where a checkpoint stands within its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// Right before a cut: kept for good.
    BeforeCut,
    /// At the end of the step.
    End,
}

impl Moment {
    /// The end of a step.
    pub fn end(step: u64) -> Self {
        Self {
            step,
            place: Place::End,
        }
    }

    /// Right before a cut.
    pub fn before_cut(step: u64) -> Self {
        Self {
            step,
            place: Place::BeforeCut,
        }
    }

    fn folder_name(self) -> String {
        let suffix = match self.place {
            Place::BeforeCut => BEFORE_CUT,
            Place::End => "",
        };
        format!("{COMPLETE}{:08}{suffix}", self.step)
    }

    fn of_folder(name: &str) -> Option<Self> {
        let name = name.strip_prefix(COMPLETE)?;
        let (digits, place) = match name.strip_suffix(BEFORE_CUT) {
            Some(digits) => (digits, Place::BeforeCut),
            None => (name, Place::End),
        };
        let step = digits.parse().ok()?;
        Some(Self { step, place })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::BeforeCut => write!(f, "{} (before a cut)", self.step),
            Place::End => write!(f, "{}", self.step),
        }
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone)]
pub struct Checkpoint<S> {
    /// Weights and statistics of the model.
    pub model: NamedTensors,
    /// State of the optimizer.
    pub optimizer: NamedTensors,
    /// Weights at the best evaluation since the last cut, if there was one.
    pub best: Option<NamedTensors>,
    /// Weights at the best evaluation before the last cut, if there was one.
    pub best_before_cut: Option<NamedTensors>,
    /// Weights at the last snapshot of the spectra, if there was one.
    pub snapshot: Option<NamedTensors>,
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
    let config = ModelSizes::infer(tensors).expect("a model's own tensors describe it");
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

    /// Where the checkpoint of a moment is, or would be.
    pub fn path(&self, moment: Moment) -> PathBuf {
        self.folder.join(moment.folder_name())
    }

    /// Writes a checkpoint, and then removes the oldest ones but for `kept` and those before a cut.
    pub fn save<S: Serialize>(
        &self,
        moment: Moment,
        checkpoint: &Checkpoint<S>,
        kept: usize,
    ) -> Result<PathBuf, CheckpointError> {
        fs::create_dir_all(&self.folder).map_err(FileError::during("create", &self.folder))?;
        self.remove_drafts()?;
        let draft = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempdir_in(&self.folder)
            .map_err(FileError::during("write to", &self.folder))?;
        write_files(draft.path(), checkpoint)?;

        let path = self.path(moment);
        if path.exists() {
            self.retire(&path)?;
        }
        let publish = || -> io::Result<()> {
            fs::rename(draft.path(), &path)?;
            sync_folder(&self.folder)
        };
        publish().map_err(FileError::during("write", &path))?;
        // Renamed: there is nothing left to clean up under the draft's name.
        let _ = draft.keep();

        let ends = self.moments()?;
        let mut ends: Vec<Moment> = ends.into_iter().filter(|m| m.place == Place::End).collect();
        ends.truncate(ends.len().saturating_sub(kept));
        for old in ends {
            self.retire(&self.path(old))?;
        }
        self.remove_drafts()?;
        Ok(path)
    }

    /// Takes a checkpoint out of the list, whole: a process killed while it removes the files leaves a draft, not half
    /// a checkpoint.
    fn retire(&self, path: &Path) -> Result<(), CheckpointError> {
        let retired = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempdir_in(&self.folder)
            .map_err(FileError::during("write to", &self.folder))?
            .keep();
        fs::rename(path, retired.join("retired")).map_err(FileError::during("remove", path))?;
        Ok(())
    }

    /// Removes what a process left that was killed while it wrote or removed a checkpoint, and what is retired.
    fn remove_drafts(&self) -> Result<(), CheckpointError> {
        for name in self.names()? {
            if name.starts_with(DRAFT) {
                let stale = self.folder.join(name);
                fs::remove_dir_all(&stale).map_err(FileError::during("remove", &stale))?;
            }
        }
        Ok(())
    }

    /// When the checkpoints were written, oldest first.
    pub fn moments(&self) -> Result<Vec<Moment>, CheckpointError> {
        let names = self.names()?;
        let mut moments: Vec<Moment> = names
            .iter()
            .filter_map(|name| Moment::of_folder(name))
            .collect();
        moments.sort();
        Ok(moments)
    }

    /// The newest checkpoint.
    pub fn latest(&self) -> Result<PathBuf, CheckpointError> {
        match self.moments()?.last() {
            Some(moment) => Ok(self.path(*moment)),
            None => Err(CheckpointError::NoCheckpoint {
                folder: self.folder.clone(),
            }),
        }
    }

    /// The earliest checkpoint of a step: the one before a cut where there is one.
    pub fn at(&self, step: u64) -> Result<Moment, CheckpointError> {
        let available = self.moments()?;
        match available.iter().find(|moment| moment.step == step) {
            Some(moment) => Ok(*moment),
            None => Err(CheckpointError::NoSuchStep {
                step,
                folder: self.folder.clone(),
                available,
            }),
        }
    }

    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(FileError::during("read", &self.folder))?,
        };
        entries
            .map(|entry| {
                let entry = entry.map_err(FileError::during("read", &self.folder))?;
                Ok(entry.file_name().to_string_lossy().into_owned())
            })
            .collect()
    }
}

fn write_files<S: Serialize>(
    folder: &Path,
    checkpoint: &Checkpoint<S>,
) -> Result<(), CheckpointError> {
    let models = [
        (MODEL, Some(&checkpoint.model)),
        (BEST, checkpoint.best.as_ref()),
        (BEST_BEFORE_CUT, checkpoint.best_before_cut.as_ref()),
        (SNAPSHOT, checkpoint.snapshot.as_ref()),
    ];
    for (name, tensors) in models {
        if let Some(tensors) = tensors {
            write_tensors(&folder.join(name), tensors, model_metadata(tensors))?;
        }
    }
    write_tensors(
        &folder.join(OPTIMIZER),
        &checkpoint.optimizer,
        HashMap::new(),
    )?;
    let state = Versioned {
        format_version: FORMAT_VERSION,
        state: &checkpoint.state,
    };
    write_json(&folder.join(STATE), &state)?;

    let mut sums = String::new();
    for name in FILES {
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
pub(crate) fn verify(folder: &Path) -> Result<(), CheckpointError> {
    let list = folder.join(CHECKSUMS);
    // Whatever the bytes are: a name or sum that is damaged is not found among the lines.
    let sums = fs::read(&list).map_err(FileError::during("read", &list))?;
    let sums = String::from_utf8_lossy(&sums);
    for name in FILES {
        let path = folder.join(name);
        let expected = sums
            .lines()
            .filter_map(|line| line.split_once("  "))
            .find(|(_, file)| *file == name);
        let good = match expected {
            Some((sum, _)) => path.exists() && checksum(&path)? == sum,
            None => OPTIONAL.contains(&name) && !path.exists(),
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
    if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&format_version) {
        return Err(CheckpointError::Version {
            path: folder.to_path_buf(),
            found: format_version,
        });
    }
    let Versioned { state, .. } = serde_json::from_str(&text).map_err(|_| damaged())?;
    let optional = |name: &str| {
        let path = folder.join(name);
        path.exists().then(|| read_tensors(&path)).transpose()
    };
    Ok(Checkpoint {
        model: read_tensors(&folder.join(MODEL))?,
        optimizer: read_tensors(&folder.join(OPTIMIZER))?,
        best: optional(BEST)?,
        best_before_cut: optional(BEST_BEFORE_CUT)?,
        snapshot: optional(SNAPSHOT)?,
        state,
    })
}

/// The file of weights that a path stands for: itself, that of a checkpoint or of a folder as the hubs publish it, or what
/// a run has come to: its best weights since the last cut, or, where it has not been evaluated since, the model of its
/// newest checkpoint.
pub fn resolve_weights(path: &Path) -> Result<PathBuf, CheckpointError> {
    if !path.is_dir() {
        return Ok(path.to_path_buf());
    }
    let published = PUBLISHED_FILES.map(|name| path.join(name));
    if let Some(file) = published.into_iter().find(|file| file.exists()) {
        return Ok(file);
    }
    if path.join(BEST).exists() {
        return Ok(path.join(BEST));
    }
    let newest = Checkpoints::in_folder(path.join("checkpoints")).latest();
    match newest {
        Ok(checkpoint) => Ok(checkpoint.join(MODEL)),
        Err(CheckpointError::NoCheckpoint { .. }) => Err(CheckpointError::NoWeights {
            folder: path.to_path_buf(),
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use ssm_core::{Architecture, Encoder, Head, LayerSettings, LruInit, Model};

    fn checkpoint(state: u64) -> Checkpoint<u64> {
        let architecture = Architecture {
            encoder: Encoder::Linear { channels: 1 },
            hidden_dim: 2,
            state_dims: vec![3],
            layer: LayerSettings::Lru(LruInit::default()),
            head: Head::Classes { classes: 2 },
        };
        let model = Model::<Flex>::init(&architecture, 1, &Default::default()).to_tensors();
        Checkpoint {
            optimizer: NamedTensors::default(),
            best: (state > 1).then(|| model.clone()),
            best_before_cut: (state > 2).then(|| model.clone()),
            snapshot: (state > 2).then(|| model.clone()),
            model,
            state,
        }
    }

    #[test]
    fn a_checkpoint_comes_back_and_old_ones_go_but_for_those_before_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().join("checkpoints"));
        fs::create_dir_all(checkpoints.folder.join(".draft-of-a-killed-process")).unwrap();
        for step in 1..=4 {
            if step < 3 {
                let moment = Moment::before_cut(step);
                checkpoints.save(moment, &checkpoint(10 + step), 2).unwrap();
            }
            checkpoints
                .save(Moment::end(step), &checkpoint(step), 2)
                .unwrap();
        }
        let latest = checkpoints.latest().unwrap();
        assert!(latest.ends_with("step-00000004"));
        let loaded = load::<u64>(&latest).unwrap();
        assert_eq!((loaded.state, loaded.model), (4, checkpoint(4).model));
        assert!(loaded.best.is_some() && loaded.best_before_cut.is_some());
        assert!(loaded.snapshot.is_some());
        let left = [
            Moment::before_cut(1),
            Moment::before_cut(2),
            Moment::end(3),
            Moment::end(4),
        ];
        assert_eq!(checkpoints.moments().unwrap(), left);
        assert_eq!(
            fs::read_dir(&checkpoints.folder).unwrap().count(),
            left.len(),
            "no drafts are left"
        );
        assert_eq!(checkpoints.at(2).unwrap(), Moment::before_cut(2));
        let error = checkpoints.at(7).unwrap_err().to_string();
        assert!(
            error.ends_with("there are: 1 (before a cut), 2 (before a cut), 3, 4"),
            "{error}"
        );
    }

    #[test]
    fn of_one_step_the_end_is_newer_than_the_cut_and_a_second_save_replaces_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().to_path_buf());
        for moment in [Moment::end(5), Moment::before_cut(5)] {
            checkpoints.save(moment, &checkpoint(1), 1).unwrap();
        }
        assert!(checkpoints.latest().unwrap().ends_with("step-00000005"));
        let path = checkpoints.save(Moment::end(5), &checkpoint(9), 1).unwrap();
        assert_eq!(load::<u64>(&path).unwrap().state, 9);
        assert_eq!(checkpoints.moments().unwrap().len(), 2);
    }

    #[test]
    fn a_folder_without_checksums_is_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let error = load::<u64>(folder.path()).unwrap_err().to_string();
        assert!(error.contains("SHA256SUMS"), "{error}");
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().to_path_buf());
        let path = checkpoints.save(Moment::end(7), &checkpoint(7), 2).unwrap();
        for name in FILES {
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
    fn a_checkpoint_of_version_2_is_read_and_one_of_another_version_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().to_path_buf());
        let path = checkpoints.save(Moment::end(7), &checkpoint(2), 2).unwrap();
        let rewrite = |version: u32| {
            let (state, sums) = (path.join(STATE), path.join(CHECKSUMS));
            let old = checksum(&state).unwrap();
            let mut json: serde_json::Value =
                serde_json::from_str(&fs::read_to_string(&state).unwrap()).unwrap();
            json["format_version"] = version.into();
            fs::write(&state, json.to_string()).unwrap();
            let lines = fs::read_to_string(&sums).unwrap();
            fs::write(&sums, lines.replace(&old, &checksum(&state).unwrap())).unwrap();
        };
        rewrite(2);
        let loaded = load::<u64>(&path).unwrap();
        assert!(loaded.best.is_some() && loaded.best_before_cut.is_none());
        for version in [1, FORMAT_VERSION + 1] {
            rewrite(version);
            let error = load::<u64>(&path).unwrap_err();
            assert!(
                matches!(error, CheckpointError::Version { found, .. } if found == version),
                "{error}"
            );
        }
    }

    #[test]
    fn a_run_stands_for_its_best_weights_and_without_them_for_its_newest_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::in_folder(folder.path().join("checkpoints"));
        let newest = checkpoints.save(Moment::end(3), &checkpoint(1), 1).unwrap();
        let resolved = || resolve_weights(folder.path()).unwrap();
        assert_eq!(resolved(), newest.join(MODEL));
        fs::copy(newest.join(MODEL), folder.path().join(BEST)).unwrap();
        assert_eq!(resolved(), folder.path().join(BEST));
        assert_eq!(resolve_weights(&newest).unwrap(), newest.join(MODEL));
    }

    #[test]
    fn a_folder_without_weights_says_what_it_could_hold() {
        let folder = tempfile::tempdir().unwrap();
        let error = resolve_weights(folder.path()).unwrap_err();
        assert!(matches!(error, CheckpointError::NoWeights { .. }));
        assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
    }
}

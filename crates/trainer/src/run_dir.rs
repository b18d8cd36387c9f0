//! The folder of one run.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::bridge::LayerReport;
use crate::checkpoint::Checkpoints;
use crate::config::{Config, ConfigError};
use crate::files::{FileError, JsonLines, write_atomically};

const CONFIG: &str = "config.toml";

/// A folder that cannot be a run's.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The saved configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A new run would overwrite something.
    #[error("{} already holds files; go on with it by `--resume {}`, or choose another `--output`", path.display(), path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// There is no run to go on with.
    #[error("{} holds no run (no {CONFIG}); pass the folder that `train` has made", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
}

/// The folder of one run, with what is in it: `config.toml`, `metrics.jsonl`, `hsv.jsonl`, `events.log`,
/// `checkpoints/`, `best.safetensors`, `summary.json`.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the folder of a new run and saves its configuration there.
    pub fn create(path: &Path, config: &Config) -> Result<Self, RunDirError> {
        fs::create_dir_all(path).map_err(FileError::during("create", path))?;
        let mut entries = fs::read_dir(path).map_err(FileError::during("read", path))?;
        if entries.next().is_some() {
            return Err(RunDirError::Occupied {
                path: path.to_path_buf(),
            });
        }
        write_atomically(&path.join(CONFIG), config.to_toml()?.as_bytes())?;
        Ok(Self {
            path: path.to_path_buf(),
        })
    }

    /// Opens the folder of a run and reads its configuration.
    pub fn open(path: &Path) -> Result<(Self, Config), RunDirError> {
        let file = path.join(CONFIG);
        if !file.exists() {
            return Err(RunDirError::NoRun {
                path: path.to_path_buf(),
            });
        }
        // The environment and the command line have had their say when the run began.
        let config = Config::load_with_env(Some(&file), &[], [])?;
        let run = Self {
            path: path.to_path_buf(),
        };
        Ok((run, config))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::in_folder(self.path.join("checkpoints"))
    }

    /// Log of the run's events.
    pub fn events_log(&self) -> PathBuf {
        self.path.join("events.log")
    }

    /// Weights of the best evaluation.
    pub fn best_weights(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The summary.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// One line per evaluation; lines after `step` are dropped.
    pub(crate) fn metrics(&self, step: u64) -> Result<JsonLines, FileError> {
        #[derive(Deserialize)]
        struct Line {
            step: u64,
        }
        JsonLines::open(self.path.join("metrics.jsonl"), move |line: &Line| {
            line.step <= step
        })
    }

    /// One line per layer and check; lines after `step` are dropped.
    pub(crate) fn hsv(&self, step: u64) -> Result<JsonLines, FileError> {
        JsonLines::open(self.path.join("hsv.jsonl"), move |line: &LayerReport| {
            line.step <= step
        })
    }
}

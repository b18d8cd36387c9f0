//! The folder of one run.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::checkpoint::{BEST, BEST_BEFORE_CUT, CheckpointError, Checkpoints, Moment};
use crate::config::{Config, ConfigError};
use crate::files::{FileError, JsonLines, write_atomically};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const HSV: &str = "hsv.jsonl";
const CHECKPOINTS: &str = "checkpoints";

/// A folder that cannot be a run's.
#[derive(Debug, Error)]
pub enum RunDirError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoints cannot be listed.
    #[error(transparent)]
    Checkpoints(CheckpointError),
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
/// `checkpoints/`, `best.safetensors`, `best-before-cut.safetensors`, `summary.json`, and `report.html` if one was asked for.
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
        let run = Self {
            path: path.to_path_buf(),
        };
        run.save_config(config)?;
        Ok(run)
    }

    /// Opens the folder of a run and reads its configuration.
    pub fn open(path: &Path) -> Result<(Self, Config), RunDirError> {
        let file = path.join(CONFIG);
        if !file.exists() {
            return Err(RunDirError::NoRun {
                path: path.to_path_buf(),
            });
        }
        let run = Self {
            path: path.to_path_buf(),
        };
        let config = run.config_with(&[])?;
        Ok((run, config))
    }

    /// The run's configuration with other settings, `section.key=value`.
    pub(crate) fn config_with(&self, sets: &[String]) -> Result<Config, ConfigError> {
        Config::load_saved(&self.path.join(CONFIG), sets)
    }

    /// Replaces the run's configuration.
    pub(crate) fn save_config(&self, config: &Config) -> Result<(), RunDirError> {
        Ok(write_atomically(
            &self.path.join(CONFIG),
            config.to_toml()?.as_bytes(),
        )?)
    }

    /// Moves the checkpoints that are `later`, and the results, to a new folder inside the run's, and copies there what
    /// has parts of earlier steps too. Returns that folder.
    pub(crate) fn set_aside(&self, later: impl Fn(Moment) -> bool) -> Result<PathBuf, RunDirError> {
        let numbered = (1..).map(|n| self.path.join(format!("reverted-{n}")));
        let aside = numbered
            .into_iter()
            .find(|path| !path.exists())
            .expect("some number is free");
        let (from, to) = (self.checkpoints(), aside.join(CHECKPOINTS));
        fs::create_dir_all(&to).map_err(FileError::during("create", &to))?;
        for name in [CONFIG, METRICS, HSV] {
            let file = self.path.join(name);
            if file.exists() {
                fs::copy(&file, aside.join(name)).map_err(FileError::during("copy", &file))?;
            }
        }
        let to = Checkpoints::in_folder(to);
        let moments = from.moments().map_err(RunDirError::Checkpoints)?;
        let checkpoints = moments.into_iter().rev().filter(|moment| later(*moment));
        let checkpoints = checkpoints.map(|moment| (from.path(moment), to.path(moment)));
        let results = [
            self.summary(),
            self.best_weights(),
            self.best_weights_before_cut(),
            self.report(),
        ];
        let results = results.into_iter().filter_map(|file| {
            let name = file.file_name()?.to_owned();
            file.exists().then(|| (file, aside.join(name)))
        });
        for (from, to) in checkpoints.chain(results) {
            fs::rename(&from, to).map_err(FileError::during("move", &from))?;
        }
        Ok(aside)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::in_folder(self.path.join(CHECKPOINTS))
    }

    /// Log of the run's events.
    pub fn events_log(&self) -> PathBuf {
        self.path.join("events.log")
    }

    /// Weights of the best evaluation since the last cut: the result of the run. Missing between a cut and the evaluation
    /// after it.
    pub fn best_weights(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// Weights of the best evaluation before the last cut, of a model with more states. Missing where there was none.
    pub fn best_weights_before_cut(&self) -> PathBuf {
        self.path.join(BEST_BEFORE_CUT)
    }

    /// The summary.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Report of the run, with plots.
    pub fn report(&self) -> PathBuf {
        self.path.join(report::FILE_NAME)
    }

    /// One line per evaluation; those from step `written` on are dropped.
    pub(crate) fn metrics(&self, written: u64) -> Result<JsonLines, FileError> {
        self.lines(METRICS, written)
    }

    /// One line per layer and snapshot; those from step `written` on are dropped.
    pub(crate) fn hsv(&self, written: u64) -> Result<JsonLines, FileError> {
        self.lines(HSV, written)
    }

    fn lines(&self, name: &str, written: u64) -> Result<JsonLines, FileError> {
        #[derive(Deserialize)]
        struct Line {
            step: u64,
        }
        JsonLines::open(self.path.join(name), move |line: &Line| line.step < written)
    }
}

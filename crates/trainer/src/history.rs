//! The checkpoints of a run as a user sees them, and the way back to one of them.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use compress_schedule::ScheduleError;
use serde::Serialize;
use ssm_core::{ModelSizes, WeightsError};
use thiserror::Error;

use crate::checkpoint::{self, Checkpoint, CheckpointError, Moment, Place};
use crate::config::ConfigError;
use crate::files::FileError;
use crate::run_dir::{RunDir, RunDirError};
use crate::train::state::Progress;

/// Why the checkpoints cannot be listed, or a run not be taken back.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The run's folder cannot be used.
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file cannot be moved or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The new settings cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The new settings have no schedule.
    #[error("section `compress`: {0}")]
    Schedule(#[from] ScheduleError),
    /// The new settings are another run's.
    #[error(
        "`{section}` belongs to the run and cannot change on the way back; train a new run for that"
    )]
    Fixed {
        /// What was changed.
        section: &'static str,
    },
    /// The run would end before it goes on.
    #[error("`training.steps` = {steps} is not after step {step}; raise it")]
    TooShort {
        /// Steps of the run by the new settings.
        steps: u64,
        /// Where it goes back to.
        step: u64,
    },
}

/// One checkpoint of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// When it was written.
    #[serde(flatten)]
    pub moment: Moment,
    /// Its folder.
    pub path: PathBuf,
    /// Size of all its files in bytes.
    pub bytes: u64,
    /// What it holds.
    #[serde(flatten)]
    pub content: Content,
}

/// What a checkpoint holds, if that can be had.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "condition", rename_all = "lowercase")]
pub enum Content {
    /// Every file is as it was written.
    Good {
        /// State dimension of every layer.
        state_dims: Vec<usize>,
        /// Best validation accuracy since the cut before, so of a model with these states; in `[0, 1]`.
        best_val_accuracy: Option<f64>,
    },
    /// It cannot be used.
    Damaged {
        /// Why not.
        reason: String,
    },
}

/// The checkpoints of a run, oldest first.
#[derive(Debug, Clone, Serialize)]
pub struct History {
    /// The run.
    pub run: PathBuf,
    /// Its checkpoints.
    pub checkpoints: Vec<Entry>,
}

/// Lists the checkpoints of a run and checks every file of theirs.
pub fn list(folder: &Path) -> Result<History, HistoryError> {
    let (run, _) = RunDir::open(folder)?;
    let checkpoints = run.checkpoints();
    let entries = checkpoints.moments()?.into_iter().map(|moment| {
        let path = checkpoints.path(moment);
        Ok(Entry {
            moment,
            bytes: size(&path)?,
            content: content(&path).unwrap_or_else(|reason| Content::Damaged { reason }),
            path,
        })
    });
    Ok(History {
        run: folder.to_path_buf(),
        checkpoints: entries.collect::<Result<_, FileError>>()?,
    })
}

fn size(folder: &Path) -> Result<u64, FileError> {
    let sum = || -> io::Result<u64> {
        fs::read_dir(folder)?
            .map(|entry| Ok(entry?.metadata()?.len()))
            .sum()
    };
    sum().map_err(FileError::during("read", folder))
}

fn content(folder: &Path) -> Result<Content, String> {
    let loaded: Checkpoint<Progress> = checkpoint::load(folder).map_err(|e| e.to_string())?;
    let sizes = ModelSizes::infer(&loaded.model).map_err(|e: WeightsError| e.to_string())?;
    Ok(Content::Good {
        state_dims: sizes.state_dims,
        best_val_accuracy: loaded.state.best.map(|best| best.accuracy),
    })
}

/// A table.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.checkpoints.is_empty() {
            return write!(f, "no checkpoints in {}", self.run.display());
        }
        write!(f, "    step  before a cut       size  best val  states")?;
        for entry in &self.checkpoints {
            let before_cut = match entry.moment.place {
                Place::BeforeCut => "yes",
                Place::End => "",
            };
            let megabytes = entry.bytes as f64 / 1e6;
            write!(
                f,
                "\n{:>8}  {before_cut:>12}  {megabytes:>6.2} MB",
                entry.moment.step
            )?;
            match &entry.content {
                Content::Good {
                    state_dims,
                    best_val_accuracy,
                } => {
                    match best_val_accuracy {
                        Some(accuracy) => write!(f, "  {:>6.2} %", 100.0 * accuracy)?,
                        None => write!(f, "  {:>8}", "-")?,
                    }
                    let dims: Vec<String> = state_dims.iter().map(usize::to_string).collect();
                    write!(f, "  {}", dims.join(" "))?;
                }
                Content::Damaged { reason } => write!(f, "  {reason}")?,
            }
        }
        Ok(())
    }
}

/// A run that was taken back.
#[derive(Debug, Clone)]
pub struct Reverted {
    /// Where it goes on.
    pub moment: Moment,
    /// Folder with everything that came after.
    pub abandoned: PathBuf,
}

/// Takes the run in `folder` back to the checkpoint of `step`: the one before a cut where there is one. What came after
/// goes to a folder `reverted-1`, `reverted-2`, … in the run's, with the settings and results of that time; nothing is
/// deleted. `sets` are new settings, `section.key=value`.
///
/// # Errors
/// If the checkpoint is missing or damaged, or the settings are not possible; the run is then as it was.
pub fn revert(folder: &Path, step: u64, sets: &[String]) -> Result<Reverted, HistoryError> {
    let (run, old) = RunDir::open(folder)?;
    let config = run.config_with(sets)?;
    for (section, same) in [
        ("data", config.data == old.data),
        ("model", config.model == old.model),
        ("training.seed", config.training.seed == old.training.seed),
    ] {
        if !same {
            return Err(HistoryError::Fixed { section });
        }
    }
    let checkpoints = run.checkpoints();
    let moment = checkpoints.at(step)?;
    let mut target: Checkpoint<Progress> = checkpoint::load(&checkpoints.path(moment))?;
    let steps = config.training.steps;
    if steps <= step && moment.place == Place::End {
        return Err(HistoryError::TooShort { steps, step });
    }
    let written = match moment.place {
        Place::BeforeCut => step,
        Place::End => step + 1,
    };
    let same_schedule = config.compress == old.compress && steps == old.training.steps;
    let schedule = match same_schedule {
        true => None,
        false => Some(config.schedule()?.restarted_at(written)),
    };

    let abandoned = run.set_aside(|later| later > moment)?;
    if let Some(schedule) = schedule {
        target.state.schedule = schedule;
        let everything = usize::MAX;
        checkpoints.save(moment, &target, everything)?;
    }
    run.metrics(written)?;
    run.hsv(written)?;
    run.save_config(&config)?;
    Ok(Reverted { moment, abandoned })
}

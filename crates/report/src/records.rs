//! What a run has left in its folder, as far as the report needs it.
//!
//! The files are a published format, and this is a reader of it like any other: it knows the fields by name, takes
//! what is not there for unknown, and passes over fields it does not know.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ReportError;

/// One line of `metrics.jsonl`: an evaluation.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metrics {
    pub(crate) step: u64,
    #[serde(default)]
    pub(crate) train_loss: Option<f64>,
    #[serde(default)]
    pub(crate) train_accuracy: Option<f64>,
    #[serde(default)]
    pub(crate) val_loss: Option<f64>,
    #[serde(default)]
    pub(crate) val_accuracy: Option<f64>,
    #[serde(default)]
    pub(crate) state_dims: Vec<usize>,
    #[serde(default)]
    pub(crate) step_ms: Option<f64>,
    #[serde(default)]
    pub(crate) seconds: Option<f64>,
}

/// One line of `hsv.jsonl`: a layer's spectrum, and at a check what came of it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) step: u64,
    pub(crate) layer: usize,
    /// States before the check.
    #[serde(default)]
    pub(crate) state_dim: Option<usize>,
    /// JSON has no NaN: it is written as null.
    #[serde(default)]
    hsv: Vec<Option<f64>>,
    #[serde(default)]
    pub(crate) rank_correlation: Option<f64>,
    #[serde(default)]
    pub(crate) hankel_distance: Option<f64>,
    /// Only at checks.
    #[serde(default)]
    pub(crate) decision: Option<String>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) explanation: Option<String>,
    #[serde(default)]
    pub(crate) cut: Option<CutRecord>,
    #[serde(default)]
    pub(crate) refusal: Option<String>,
    #[serde(default)]
    pub(crate) verdict: Option<Verdict>,
}

impl LayerRecord {
    /// Hankel singular values, largest first; NaN where the run had none.
    pub(crate) fn hsv(&self) -> Vec<f64> {
        self.hsv.iter().map(|s| s.unwrap_or(f64::NAN)).collect()
    }

    /// Whether at least one Hankel singular value is known.
    pub(crate) fn has_spectrum(&self) -> bool {
        self.hsv.iter().any(Option::is_some)
    }

    /// States before the check.
    pub(crate) fn states(&self) -> Option<usize> {
        let counted = (!self.hsv.is_empty()).then_some(self.hsv.len());
        self.state_dim.or(counted)
    }
}

/// A truncation.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct CutRecord {
    pub(crate) step: u64,
    pub(crate) layer: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    #[serde(default)]
    pub(crate) discarded: Option<f64>,
    #[serde(default)]
    pub(crate) bound: Option<f64>,
    #[serde(default)]
    pub(crate) measured: Option<Measured>,
    #[serde(default)]
    pub(crate) seconds: Option<f64>,
}

/// Output error of a cut on a calibration batch, and what the bound allows there; root mean square.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Measured {
    #[serde(default)]
    pub(crate) error: Option<f64>,
    /// The error as a share of the output before the cut.
    #[serde(default)]
    pub(crate) relative: Option<f64>,
    #[serde(default)]
    pub(crate) allowed: Option<f64>,
}

/// What the validation set said of a check's cuts; accuracies in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Verdict {
    #[serde(default)]
    pub(crate) before: Option<f64>,
    #[serde(default)]
    pub(crate) after: Option<f64>,
    #[serde(default)]
    pub(crate) max_drop: Option<f64>,
    #[serde(default)]
    pub(crate) reverted: bool,
}

/// `summary.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SummaryRecord {
    pub(crate) dataset: Option<String>,
    pub(crate) backend: Option<String>,
    pub(crate) seed: Option<u64>,
    pub(crate) steps: Option<u64>,
    pub(crate) initial_state_dims: Vec<usize>,
    pub(crate) final_state_dims: Vec<usize>,
    pub(crate) initial_parameters: Option<usize>,
    pub(crate) final_parameters: Option<usize>,
    pub(crate) best_val_accuracy: Option<f64>,
    pub(crate) best_step: Option<u64>,
    pub(crate) best_state_dims: Vec<usize>,
    pub(crate) test_accuracy: Option<f64>,
    pub(crate) test_loss: Option<f64>,
    pub(crate) before_last_cut: Option<Evaluated>,
    pub(crate) train_seconds: Option<f64>,
    pub(crate) check_seconds: Option<f64>,
    pub(crate) median_step_ms_first: Option<f64>,
    pub(crate) median_step_ms_last: Option<f64>,
    pub(crate) cuts: Vec<CutRecord>,
}

/// The best model before the last cut.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Evaluated {
    pub(crate) step: Option<u64>,
    pub(crate) state_dims: Vec<usize>,
    pub(crate) val_accuracy: Option<f64>,
    pub(crate) test_accuracy: Option<f64>,
}

/// What the header needs of `config.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigRecord {
    pub(crate) data: DataSection,
    pub(crate) model: ModelSection,
    pub(crate) training: TrainingSection,
    pub(crate) compress: CompressSection,
    pub(crate) run: RunSection,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DataSection {
    pub(crate) dataset: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModelSection {
    pub(crate) kind: Option<String>,
    pub(crate) blocks: Option<usize>,
    pub(crate) state_dim: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TrainingSection {
    pub(crate) steps: Option<u64>,
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CompressSection {
    pub(crate) policy: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RunSection {
    pub(crate) backend: Option<String>,
}

/// A cut with what is known around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) cut: &'a CutRecord,
    /// The check it came from; unknown if only the summary tells of the cut.
    pub(crate) check: Option<&'a LayerRecord>,
}

impl Event<'_> {
    /// Whether the cut was taken back.
    pub(crate) fn reverted(&self) -> bool {
        let verdict = self.check.and_then(|check| check.verdict);
        verdict.is_some_and(|verdict| verdict.reverted)
    }
}

/// Everything the report is made from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    /// Name of the folder.
    pub(crate) name: String,
    /// `config.toml`, as it is.
    pub(crate) config_text: String,
    pub(crate) config: ConfigRecord,
    pub(crate) metrics: Vec<Metrics>,
    pub(crate) checks: Vec<LayerRecord>,
    /// Missing while a run goes on.
    pub(crate) summary: Option<SummaryRecord>,
    /// Files whose last line a kill has torn.
    pub(crate) torn: Vec<&'static str>,
}

impl Run {
    /// Reads the folder of a run.
    pub(crate) fn read(folder: &Path) -> Result<Self, ReportError> {
        let config_path = folder.join("config.toml");
        if !config_path.is_file() {
            return Err(ReportError::NoRun {
                path: folder.to_path_buf(),
            });
        }
        let config_text = fs::read_to_string(&config_path).map_err(unread(&config_path))?;
        let config = toml::from_str(&config_text).map_err(|source| ReportError::Config {
            path: config_path,
            source: Box::new(source),
        })?;
        let mut torn = Vec::new();
        Ok(Self {
            name: name_of(folder),
            config_text,
            config,
            metrics: read_lines(folder, "metrics.jsonl", &mut torn)?,
            checks: read_lines(folder, "hsv.jsonl", &mut torn)?,
            summary: read_summary(&folder.join("summary.json"))?,
            torn,
        })
    }

    /// Every cut, by step and layer.
    pub(crate) fn cuts(&self) -> Vec<Event<'_>> {
        let mut events: Vec<Event<'_>> = self
            .checks
            .iter()
            .filter_map(|check| {
                let cut = check.cut.as_ref()?;
                let check = Some(check);
                Some(Event { cut, check })
            })
            .collect();
        for cut in self.summary.iter().flat_map(|summary| &summary.cuts) {
            let place = |cut: &CutRecord| (cut.step, cut.layer, cut.from, cut.to);
            if !events.iter().any(|event| place(event.cut) == place(cut)) {
                events.push(Event { cut, check: None });
            }
        }
        events.sort_by_key(|event| (event.cut.step, event.cut.layer));
        events
    }

    /// The lines of `hsv.jsonl` of each layer, in their order.
    pub(crate) fn by_layer(&self) -> BTreeMap<usize, Vec<&LayerRecord>> {
        let mut layers = BTreeMap::<usize, Vec<&LayerRecord>>::new();
        for check in &self.checks {
            layers.entry(check.layer).or_default().push(check);
        }
        layers
    }

    /// The last step that any file tells of.
    pub(crate) fn last_step(&self) -> u64 {
        let summary = self.summary.as_ref().and_then(|summary| summary.steps);
        let metrics = self.metrics.last().map(|line| line.step);
        let checks = self.checks.last().map(|line| line.step);
        let steps = [summary, metrics, checks].into_iter().flatten();
        steps.max().unwrap_or(0)
    }

    /// Seconds of training so far.
    pub(crate) fn train_seconds(&self) -> Option<f64> {
        let last = || self.metrics.last().and_then(|line| line.seconds);
        match &self.summary {
            Some(summary) => summary.train_seconds.or_else(last),
            None => last(),
        }
    }
}

fn unread(path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    move |source| ReportError::Read {
        path: path.to_path_buf(),
        source,
    }
}

/// The last part of a path, also of `.` and `runs/..`.
fn name_of(folder: &Path) -> String {
    let whole = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The lines of a file; none if there is no such file.
fn read_lines<T: DeserializeOwned>(
    folder: &Path,
    name: &'static str,
    torn: &mut Vec<&'static str>,
) -> Result<Vec<T>, ReportError> {
    let path = folder.join(name);
    // Bytes, because a kill can tear a line inside of a character.
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes.map_err(unread(&path))?,
    };
    let mut values = Vec::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(value) => values.push(value),
            // Only the last line can lack its end: the run was killed while it wrote.
            Err(_) if !line.ends_with(b"\n") => torn.push(name),
            Err(source) => {
                let line = index + 1;
                return Err(ReportError::Line { path, line, source });
            }
        }
    }
    Ok(values)
}

fn read_summary(path: &Path) -> Result<Option<SummaryRecord>, ReportError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(unread(path))?,
    };
    let summary = serde_json::from_slice(&bytes).map_err(|source| ReportError::Summary {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(Some(summary))
}

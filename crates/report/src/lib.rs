//! `report.html`: one run on one page, for a browser or a printer.
//!
//! The page needs nothing but itself: no scripts, no fonts, no pictures from elsewhere; its plots are SVG. It is made from
//! the files of the run alone, `config.toml`, `metrics.jsonl`, `hsv.jsonl` and `summary.json`, so it also tells of a run that
//! is still going on, or was killed. Of the program that wrote them this crate knows no more than their names and fields.
//!
//! A section is a module with one function, `write`, that adds to the page what the run says of its subject: [`page`] calls
//! them in their order.

mod axis;
mod chart;
mod color;
mod cost;
mod cuts;
mod heat_map;
mod html;
mod number;
mod overview;
mod records;
mod spectra;
mod stability;
mod training;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use html::Page;
use records::Run;

/// Name of the page in the folder of a run.
pub const FILE_NAME: &str = "report.html";

/// Why there is no report.
#[derive(Debug, Error)]
pub enum ReportError {
    /// There is no run to report on.
    #[error("{} holds no run (no config.toml); pass the folder of a run, the one that `train` has made", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The saved configuration is not TOML, or a value in it has the wrong type.
    #[error("cannot read the configuration {}: {source}; restore the file that `train` has written", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// A line of a results file is not what the run writes.
    #[error("cannot read line {line} of {}: {source}; remove that line, or resume the run from its last checkpoint", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The summary is not what the run writes.
    #[error("cannot read {}: {source}; remove the file, or resume the run to have it written anew", path.display())]
    Summary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A plot cannot be drawn; an error of this program.
    #[error("cannot draw a plot: {0}")]
    Plot(#[source] Box<dyn Error + Send + Sync>),
}

/// The page of the run in a folder, as HTML that is well-formed XML at once.
///
/// # Errors
/// [`ReportError::NoRun`] if the folder holds no `config.toml`; [`ReportError::Config`], [`ReportError::Line`] and
/// [`ReportError::Summary`] if a file of the run is damaged, other than by a last line that a kill has torn;
/// [`ReportError::Read`] if a file cannot be read.
pub fn page(run: &Path) -> Result<String, ReportError> {
    let run = &Run::read(run)?;
    let mut page = Page::default();
    overview::write(&mut page, run);
    cuts::write(&mut page, run);
    training::write(&mut page, run)?;
    spectra::write(&mut page, run)?;
    stability::write(&mut page, run)?;
    cost::write(&mut page, run)?;
    overview::write_config(&mut page, run);
    Ok(page.finish(&run.name))
}

#[cfg(test)]
mod tests;

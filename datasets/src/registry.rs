//! Data sets by name.

use std::path::{Path, PathBuf};

use crate::digits::{self, DigitsOptions};
use crate::error::DatasetError;
use crate::fetch::{self, FetchedFile};
use crate::imdb::{self, ImdbOptions};
use crate::manifest::{FileCheck, Manifest};
use crate::mnist;
use crate::selective_copy::{self, SelectiveCopyOptions};
use crate::sequence_set::SequenceSet;
use crate::shape::Shape;

/// Environment variable that names the data directory, for [`data_dir_from_env`].
pub const DATA_DIR_VARIABLE: &str = "COMPRESSM_DATA_DIR";

/// One line per data set, in the order in which they are listed to people.
const REGISTRY: &[Entry] = &[
    Entry {
        name: mnist::NAME,
        load: mnist::load,
        manifest: Some(|| &mnist::MANIFEST),
    },
    Entry {
        name: imdb::NAME,
        load: imdb::load,
        manifest: Some(|| &imdb::MANIFEST),
    },
    Entry {
        name: digits::NAME,
        load: digits::load,
        manifest: None,
    },
    Entry {
        name: selective_copy::NAME,
        load: selective_copy::load,
        manifest: None,
    },
];
const NAMES: &[&str] = &[
    REGISTRY[0].name,
    REGISTRY[1].name,
    REGISTRY[2].name,
    REGISTRY[3].name,
];

struct Entry {
    name: &'static str,
    load: fn(&LoadOptions) -> Result<Dataset, DatasetError>,
    /// `None` for a set that is generated.
    manifest: Option<fn() -> &'static Manifest>,
}

/// A data set in memory, divided for training.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Name it was loaded by.
    pub name: &'static str,
    /// What the examples of all three splits look like.
    pub shape: Shape,
    /// What the weights are fitted to.
    pub train: SequenceSet,
    /// Held out of the published training examples; empty if the validation fraction is 0.
    pub validation: SequenceSet,
    /// The published test examples.
    pub test: SequenceSet,
}

/// Where a data set comes from and how it is divided.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Folder that holds the files of a data set, or a subfolder of its name that does. Not used by generated sets.
    pub data_dir: Option<PathBuf>,
    /// Share of the training examples held out for validation, in `[0, 1)`. `0` holds out none.
    pub validation_fraction: f64,
    /// Chooses which training examples are held out.
    pub seed: u64,
    /// How much of the reviews of `imdb` to read.
    pub imdb: ImdbOptions,
    /// Sizes and seed of the generated set `digits`.
    pub digits: DigitsOptions,
    /// Sizes and seed of the generated set `selective-copy`.
    pub selective_copy: SelectiveCopyOptions,
}

impl Default for LoadOptions {
    /// No folder, one training example in ten held out, seed 0.
    fn default() -> Self {
        Self {
            data_dir: None,
            validation_fraction: 0.1,
            seed: 0,
            imdb: ImdbOptions::default(),
            digits: DigitsOptions::default(),
            selective_copy: SelectiveCopyOptions::default(),
        }
    }
}

/// The names [`load`] knows.
pub fn names() -> &'static [&'static str] {
    NAMES
}

/// Loads the data set `name` into memory.
///
/// # Errors
/// - [`DatasetError::UnknownDataset`] with the known names;
/// - [`DatasetError::ValidationFraction`] and [`DatasetError::EmptySplit`] as in [`SequenceSet::split_validation`];
/// - for sets read from files [`DatasetError::DataDirUnset`], [`DatasetError::FilesNotFound`] and
///   [`DatasetError::BadFile`];
/// - for `imdb` also [`DatasetError::ReviewCount`], [`DatasetError::BadReview`] and [`DatasetError::Io`];
/// - for sets with options [`DatasetError::Option`].
///
/// # Examples
/// ```
/// use datasets::{LoadOptions, digits::DigitsOptions};
///
/// let small = DigitsOptions { train_examples: 50, test_examples: 10, ..DigitsOptions::default() };
/// let set = datasets::load("digits", &LoadOptions { digits: small, ..LoadOptions::default() })?;
/// assert_eq!((set.train.len(), set.validation.len(), set.test.len()), (45, 5, 10));
/// assert_eq!((set.shape.length, set.shape.channels, set.shape.classes), (784, 1, 10));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
pub fn load(name: &str, options: &LoadOptions) -> Result<Dataset, DatasetError> {
    (entry(name)?.load)(options)
}

/// The published files of `name`, or `None` if the set is generated and has none.
///
/// # Errors
/// [`DatasetError::UnknownDataset`].
pub fn manifest(name: &str) -> Result<Option<&'static Manifest>, DatasetError> {
    Ok(entry(name)?.manifest.map(|manifest| manifest()))
}

/// Downloads the files of `name` to `dir/name`, or to `dir` if it holds some of them already.
///
/// Files that are there and good are left alone. Every other one is written under a temporary name, compared with the
/// published size and SHA-256, and only then renamed, so an interrupted download leaves no file behind that looks
/// whole. A progress bar is drawn on stderr if that is a terminal. The answer lists the files of the set in order; for
/// a generated set it is empty.
///
/// # Errors
/// [`DatasetError::Download`] for the first file that no mirror delivered, with what each answered;
/// [`DatasetError::Io`] if the folder cannot be written; [`DatasetError::UnknownDataset`].
pub fn fetch(
    name: &str,
    dir: &Path,
    progress: fetch::Progress,
) -> Result<Vec<FetchedFile>, DatasetError> {
    match manifest(name)? {
        Some(manifest) => fetch::fetch_manifest(manifest, dir, progress),
        None => Ok(Vec::new()),
    }
}

/// Compares the files of `name` under `dir` with the published ones.
///
/// Looks where [`fetch`] would put them. A file that is missing or wrong is an answer, not an error. Empty for a
/// generated set.
///
/// # Errors
/// [`DatasetError::Io`] for a file that is there and cannot be read; [`DatasetError::UnknownDataset`].
pub fn verify(name: &str, dir: &Path) -> Result<Vec<FileCheck>, DatasetError> {
    match manifest(name)? {
        Some(manifest) => manifest.verify(dir),
        None => Ok(Vec::new()),
    }
}

/// The folder named by [`DATA_DIR_VARIABLE`], if it is set and not empty.
pub fn data_dir_from_env() -> Option<PathBuf> {
    std::env::var_os(DATA_DIR_VARIABLE)
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
}

fn entry(name: &str) -> Result<&'static Entry, DatasetError> {
    let found = REGISTRY.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| DatasetError::UnknownDataset {
        name: name.into(),
        known: NAMES,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_registered_name_is_listed_and_found() {
        assert!(
            REGISTRY
                .iter()
                .map(|entry| entry.name)
                .eq(names().iter().copied())
        );
        for name in names() {
            assert!(
                manifest(name)
                    .unwrap()
                    .is_none_or(|manifest| manifest.name == *name)
            );
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = load("minst", &LoadOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown data set `minst`; known are: mnist, imdb, digits, selective-copy"
        );
    }

    #[test]
    fn a_generated_set_has_no_files_to_fetch_or_verify() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            fetch("digits", dir.path(), fetch::Progress::Hidden)
                .unwrap()
                .is_empty()
        );
        assert!(verify("digits", dir.path()).unwrap().is_empty());
    }
}

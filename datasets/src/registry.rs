//! Data sets by name.

use std::path::{Path, PathBuf};

use crate::error::DatasetError;
use crate::fetch::{self, FetchedFile};
use crate::manifest::{FileCheck, Manifest};
use crate::source::Source;

/// Every data set, a line each, in the order in which they are listed to people: hands `"NAME" FIELD: SOURCE,` for each
/// to the macro that is named.
///
/// # Examples
/// ```
/// macro_rules! count {
///     ($($name:literal $field:ident: $source:ty,)*) => { [$($name),*].len() };
/// }
/// assert_eq!(datasets::sources!(count), datasets::names().len());
/// ```
#[macro_export]
macro_rules! sources {
    ($callback:ident) => {
        $callback! {
            "mnist" mnist: $crate::Mnist,
            "imdb" imdb: $crate::Imdb,
            "digits" digits: $crate::Digits,
            "selective-copy" selective_copy: $crate::SelectiveCopy,
        }
    };
}

macro_rules! by_name {
    ($($name:literal $field:ident: $source:ty,)*) => {
        const NAMES: &[&str] = &[$(<$source as Source>::NAME),*];

        /// The published files of `name`, or `None` if the set is generated and has none.
        ///
        /// # Errors
        /// [`DatasetError::UnknownDataset`].
        pub fn manifest(name: &str) -> Result<Option<&'static Manifest>, DatasetError> {
            match name {
                $(<$source as Source>::NAME => Ok(<$source>::manifest()),)*
                _ => Err(unknown(name)),
            }
        }
    };
}
sources!(by_name);

/// Environment variable that names the data directory, for [`data_dir_from_env`].
pub const DATA_DIR_VARIABLE: &str = "COMPRESSM_DATA_DIR";

/// The name of every data set.
pub fn names() -> &'static [&'static str] {
    NAMES
}

/// What to say of a name that no data set goes by.
pub fn unknown(name: &str) -> DatasetError {
    DatasetError::UnknownDataset {
        name: name.into(),
        known: NAMES,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! spelled {
        ($($name:literal $field:ident: $source:ty,)*) => { [$(($name, stringify!($field))),*] };
    }

    #[test]
    fn a_line_of_the_registry_is_spelled_as_the_source_is_named() {
        let names = names().iter().copied();
        assert!(
            sources!(spelled)
                .into_iter()
                .map(|(name, _)| name)
                .eq(names)
        );
        for (name, field) in sources!(spelled) {
            assert_eq!(name.replace('-', "_"), field);
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        assert_eq!(
            manifest("minst").unwrap_err().to_string(),
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

//! Where the reviews are, and what is there.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{ARCHIVE, FOLDER, MANIFEST, NAME, SENTIMENTS, TEST, TRAIN, archive};
use crate::error::{DatasetError, ReviewFault};

/// Where the reviews are.
pub(super) enum Source {
    /// The folder [`FOLDER`], with all four folders of reviews.
    Folder(PathBuf),
    /// The published archive.
    Archive(PathBuf),
}

/// A file of a folder of reviews.
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    pub(super) text: Vec<u8>,
}

/// The first source there is; in the same place, a folder before the archive that it takes longer to read.
pub(super) fn find(data_dir: Option<&Path>) -> Result<Source, DatasetError> {
    let Some(data_dir) = data_dir else {
        return Err(DatasetError::DataDirUnset {
            dataset: NAME.into(),
        });
    };
    let missing = |dir: &Path| {
        let mut needed = folders(Path::new(FOLDER)).into_iter();
        needed.find(|folder| !dir.join(folder).is_dir())
    };
    let tried = MANIFEST.candidates(data_dir);
    for dir in &tried {
        if missing(dir).is_none() {
            return Ok(Source::Folder(dir.join(FOLDER)));
        }
        let archive = dir.join(ARCHIVE);
        if archive.is_file() {
            return Ok(Source::Archive(archive));
        }
    }
    let incomplete = tried.iter().find(|dir| dir.join(FOLDER).is_dir());
    Err(DatasetError::FilesNotFound {
        dataset: NAME.into(),
        missing: match incomplete.and_then(|dir| missing(dir)) {
            Some(folder) => folder.display().to_string(),
            None => format!("{ARCHIVE} (or the folder {FOLDER})"),
        },
        tried: tried.to_vec(),
    })
}

impl Source {
    /// The folder that the parts are in, and every file of the folders of reviews under it.
    pub(super) fn read(self) -> Result<(PathBuf, Vec<TextFile>), DatasetError> {
        match self {
            Self::Folder(root) => {
                let files = read_folders(&folders(&root))?;
                Ok((root, files))
            }
            Self::Archive(path) => {
                let root = path.join(FOLDER);
                match archive::read(&path, &folders(&root)) {
                    Ok(files) => Ok((root, files)),
                    Err(fault) => Err(DatasetError::BadFile {
                        path,
                        dataset: NAME.into(),
                        fault,
                    }),
                }
            }
        }
    }
}

/// The four folders of reviews under `root`.
fn folders(root: &Path) -> [PathBuf; 4] {
    let [neg, pos] = &SENTIMENTS;
    [(TRAIN, neg), (TRAIN, pos), (TEST, neg), (TEST, pos)]
        .map(|(part, sentiment)| root.join(part).join(sentiment.folder))
}

/// Every file of these folders.
fn read_folders(folders: &[PathBuf]) -> Result<Vec<TextFile>, DatasetError> {
    let mut paths = Vec::new();
    for folder in folders {
        let names = fs::read_dir(folder).and_then(|entries| {
            let paths = entries.map(|entry| Ok(entry?.path()));
            paths.collect::<Result<Vec<_>, _>>()
        });
        paths.extend(names.map_err(|source| DatasetError::Io {
            action: "read",
            path: folder.clone(),
            source,
        })?);
    }
    let read = |path: PathBuf| match fs::read(&path) {
        Ok(text) => Ok(TextFile { path, text }),
        Err(source) => Err(DatasetError::BadReview {
            path,
            fault: ReviewFault::Unreadable { source },
        }),
    };
    paths.into_par_iter().map(read).collect()
}

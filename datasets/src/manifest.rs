//! What a published data set consists of, and whether it is there.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::DatasetError;

/// The files of a published data set: names, sizes, checksums, where they come from, under which terms.
///
/// Written as `manifests/NAME.toml` and compiled in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// Name the data set is loaded by; also the folder its files live in.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// Who published it.
    pub source: String,
    /// What is known of its terms.
    pub license: String,
    /// Addresses to which a file name is appended, tried in this order.
    pub mirrors: Vec<String>,
    /// Every file, all of them needed.
    pub files: Vec<ManifestFile>,
}

/// One published file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ManifestFile {
    /// File name, without a folder.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the file as published, lower-case hexadecimal.
    pub sha256: String,
}

/// One file of a data set as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileCheck {
    /// File name.
    pub name: String,
    /// Where it is, or would be.
    pub path: PathBuf,
    /// What was found there.
    pub status: FileStatus,
}

/// How a file compares with the published one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileStatus {
    /// Byte for byte the published file.
    Good,
    /// Not there.
    Missing,
    /// Of another size, in bytes.
    WrongSize {
        /// Of the file found.
        seen: u64,
        /// Of the published file.
        expected: u64,
    },
    /// Of the right size with other content; SHA-256 in hexadecimal.
    WrongChecksum {
        /// Of the file found.
        seen: String,
        /// Of the published file.
        expected: String,
    },
}

impl Manifest {
    pub(crate) fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Folders that may hold the files when a person says "the data is in `dir`": `dir` itself, or its subfolder.
    pub(crate) fn candidates(&self, dir: &Path) -> [PathBuf; 2] {
        [dir.to_path_buf(), dir.join(&self.name)]
    }

    /// The folder under `dir` where the files belong: `dir` if it holds one of them, else its subfolder.
    pub(crate) fn home(&self, dir: &Path) -> PathBuf {
        let [direct, below] = self.candidates(dir);
        let holds_one = self
            .files
            .iter()
            .any(|file| direct.join(&file.name).is_file());
        if holds_one { direct } else { below }
    }

    pub(crate) fn verify(&self, dir: &Path) -> Result<Vec<FileCheck>, DatasetError> {
        let home = self.home(dir);
        self.files.iter().map(|file| file.check(&home)).collect()
    }
}

impl ManifestFile {
    /// Compares the file of this name in `folder` with the published one.
    pub(crate) fn check(&self, folder: &Path) -> Result<FileCheck, DatasetError> {
        let path = folder.join(&self.name);
        let status = self.status(&path).map_err(|source| DatasetError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        Ok(FileCheck {
            name: self.name.clone(),
            path,
            status,
        })
    }

    fn status(&self, path: &Path) -> io::Result<FileStatus> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(FileStatus::Missing);
            }
            opened => opened?,
        };
        let seen = file.metadata()?.len();
        if seen != self.size {
            return Ok(FileStatus::WrongSize {
                seen,
                expected: self.size,
            });
        }
        let seen = sha256(file)?;
        if seen != self.sha256 {
            return Ok(FileStatus::WrongChecksum {
                seen,
                expected: self.sha256.clone(),
            });
        }
        Ok(FileStatus::Good)
    }
}

fn sha256(file: File) -> io::Result<String> {
    let (mut file, mut hasher) = (BufReader::with_capacity(1 << 16, file), Sha256::new());
    loop {
        let chunk = file.fill_buf()?;
        if chunk.is_empty() {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(chunk);
        let len = chunk.len();
        file.consume(len);
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn sample() -> Manifest {
        let text = format!(
            "name = 'sample'\ntitle = ''\nsource = ''\nlicense = ''\nmirrors = []\n\
             [[files]]\nname = 'abc'\nsize = 3\nsha256 = '{ABC}'\n"
        );
        Manifest::from_toml(&text).unwrap()
    }

    #[test]
    fn a_file_is_good_missing_or_wrong_in_a_named_way() {
        let dir = tempfile::tempdir().unwrap();
        let status = |content: Option<&str>| {
            let path = dir.path().join("abc");
            content.inspect(|content| fs::write(&path, content).unwrap());
            sample().verify(dir.path()).unwrap().remove(0).status
        };
        assert_eq!(status(None), FileStatus::Missing);
        assert_eq!(status(Some("abc")), FileStatus::Good);
        assert_eq!(
            status(Some("ab")),
            FileStatus::WrongSize {
                seen: 2,
                expected: 3
            }
        );
        assert!(
            matches!(status(Some("abd")), FileStatus::WrongChecksum { expected, .. } if expected == ABC)
        );
    }

    #[test]
    fn files_belong_in_the_subfolder_unless_some_are_in_the_folder_itself() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sample().home(dir.path()), dir.path().join("sample"));
        fs::write(dir.path().join("abc"), "abc").unwrap();
        assert_eq!(sample().home(dir.path()), dir.path());
    }

    #[test]
    fn a_manifest_with_an_unknown_key_is_refused() {
        assert!(Manifest::from_toml("name = 'x'\nchecksum = 'y'").is_err());
    }
}

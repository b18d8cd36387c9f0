//! Writing files so that a reader, or a resumed run, sees either the old content or the new, never half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::{Builder, NamedTempFile};
use thiserror::Error;

/// A file or folder that could not be used.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// A function for `map_err` that says what was tried where.
    pub(crate) fn during(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// Writes `bytes` to a temporary file beside `path`, syncs it and renames it over `path`.
///
/// # Errors
/// [`FileError`]; `path` is then as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = folder_of(path);
    let write = || -> io::Result<()> {
        let mut file = new_file(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder)
    };
    write().map_err(FileError::during("write", path))
}

/// A temporary file that anyone may read whom the process's umask lets: it is to become an ordinary one.
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes renames inside `folder` survive a power failure.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix lets a folder be opened and synced; elsewhere the rename itself is all there is.
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file that need not exist.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::during("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes a value as indented JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(io::Error::from)
        .map_err(FileError::during("write", path))?;
    bytes.push(b'\n');
    write_atomically(path, &bytes)
}

/// A file of one JSON value per line that only grows.
#[derive(Debug)]
pub(crate) struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// Opens `path` for appending and drops every line that `keep` refuses or that is not whole: what a run wrote
    /// after the checkpoint it is resumed from.
    pub(crate) fn open<T: DeserializeOwned>(
        path: PathBuf,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Self, FileError> {
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(FileError::during("read", &path))?;
            let kept: String = text
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .filter(|line| serde_json::from_str(line).is_ok_and(|value| keep(&value)))
                .collect();
            if kept.len() != text.len() {
                write_atomically(&path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(FileError::during("open", &path))?;
        Ok(Self { path, file })
    }

    /// Waits until all lines are on the disk.
    pub(crate) fn sync(&self) -> Result<(), FileError> {
        let synced = self.file.sync_data();
        synced.map_err(FileError::during("write", &self.path))
    }

    /// Appends one line.
    pub(crate) fn push(&mut self, value: &impl Serialize) -> Result<(), FileError> {
        let mut line = serde_json::to_vec(value)
            .map_err(io::Error::from)
            .map_err(FileError::during("write", &self.path))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(FileError::during("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_file_forgets_what_came_after_and_what_is_torn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.jsonl");
        fs::write(&path, "1\n2\n3\n4").unwrap();
        let mut lines = JsonLines::open::<u64>(path.clone(), |step| *step <= 2).unwrap();
        lines.push(&7).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "1\n2\n7\n");
    }

    #[test]
    fn a_write_into_a_missing_folder_says_where() {
        let error = write_atomically(Path::new("/nonexistent/x.json"), b"{}").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot write /nonexistent/x.json")
        );
    }
}

//! Reviews out of the published archive, without unpacking it to disk.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::LONGEST;
use super::source::TextFile;
use crate::error::FileFault;

/// Most bytes that are unpacked, some three times what the published archive holds: a small file can claim to hold any number.
const LIMIT: u64 = 1 << 30;

/// The files of the archive at `path` that lie in one of `folders`, in the archive's order.
///
/// A file and its folder are named as if the archive were a folder: `path` first, then the name inside.
pub(super) fn read(path: &Path, folders: &[PathBuf]) -> Result<Vec<TextFile>, FileFault> {
    let file = File::open(path).map_err(|source| FileFault::Unreadable { source })?;
    let decoder = GzDecoder::new(BufReader::new(file));
    read_entries(path, folders, decoder.take(LIMIT)).map_err(|source| FileFault::Archive { source })
}

fn read_entries(path: &Path, folders: &[PathBuf], stream: impl Read) -> io::Result<Vec<TextFile>> {
    let mut archive = tar::Archive::new(stream);
    let mut files = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = path.join(entry.path()?);
        let wanted = path
            .parent()
            .is_some_and(|parent| folders.iter().any(|folder| folder == parent));
        if wanted && entry.header().entry_type().is_file() {
            let mut text = Vec::new();
            // No review is longer, and what is behind is skipped.
            (&mut entry).take(LONGEST as u64).read_to_end(&mut text)?;
            files.push(TextFile { path, text });
        }
    }
    // The archive ends before the stream does, whose checksum comes last.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(files)
}

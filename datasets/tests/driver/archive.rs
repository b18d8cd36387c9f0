//! What fuzzing does with an archive of reviews; the fuzz target and the replay of its corpus run the same code.
//!
//! A panic is a finding. Whatever stands in the archive, it is refused: it is too small for all of the reviews.

use std::fs;
use std::io::Write;

use datasets::imdb::ImdbOptions;
use datasets::{Imdb, Source};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};

const NAMES: [&[u8]; 10] = [
    b"aclImdb/train/neg/0_3.txt",
    b"aclImdb/train/pos/1_8.txt",
    b"aclImdb/test/neg/0_3.txt",
    b"aclImdb/test/pos/99999999999_8.txt",
    b"aclImdb/test/pos/../neg/2_1.txt",
    b"/aclImdb/train/neg/3_3.txt",
    b"aclImdb/train/neg/",
    b"aclImdb/train/neg/\xff_3.txt",
    b"././@LongLink",
    b"",
];

const TYPES: [u8; 10] = [b'0', 0, b'5', b'L', b'K', b'x', b'g', b'1', b'2', b'S'];

/// Reads an archive made of the bytes behind the first, which says how: as they are, compressed here, or as the
/// description of entries, since few mutations of a header would survive its checksum.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let bytes = match choice % 3 {
        0 => content.to_vec(),
        1 => compressed(content),
        _ => compressed(&entries(content)),
    };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("aclImdb_v1.tar.gz");
    fs::write(&path, bytes).expect("a writable folder");
    let error =
        Imdb::read(&ImdbOptions::default(), Some(folder.path())).expect_err("too few reviews");
    let text = error.to_string();
    assert!(text.contains("aclImdb_v1.tar.gz"), "{text}");
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes every byte")
}

/// Four bytes for every entry, name, type, size and how much content there is, and then the content.
fn entries(mut bytes: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    while let Some((&[name, kind, size, length], rest)) = bytes.split_first_chunk() {
        let (content, rest) = rest.split_at(rest.len().min(usize::from(length)));
        bytes = rest;
        let mut header = Header::new_gnu();
        let name = NAMES[usize::from(name) % NAMES.len()];
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(EntryType::new(TYPES[usize::from(kind) % TYPES.len()]));
        let length = u64::from(length);
        header.set_size(match size % 8 {
            0..4 => content.len() as u64,
            4 => length,
            5 => length * 1000,
            6 => u64::MAX,
            _ => 1 << 40,
        });
        if size & 8 != 0 {
            header.as_old_mut().size.copy_from_slice(b"not a number");
        }
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

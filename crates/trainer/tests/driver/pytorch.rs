//! What fuzzing does with a PyTorch file; the fuzz target and the replay of its corpus run the same code.

use std::fs;
use std::io::{Cursor, Write};

use trainer::weights::read_model;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A panic is a finding. The first byte says whether the others are the file or the pickle in it: few mutations of an
/// archive would survive its checksums.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let bytes = match choice % 2 {
        0 => content.to_vec(),
        _ => archive(content),
    };
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("pytorch_model.bin");
    fs::write(&path, bytes).expect("a writable folder");
    if let Err(error) = read_model(&path) {
        let text = error.to_string();
        assert!(text.contains("pytorch_model.bin"), "{text}");
    }
}

/// With two storages, of 16 values and of none.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let values: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let entries = [
        ("archive/data.pkl", pickle),
        ("archive/data/0", &values),
        ("archive/data/1", &[]),
    ];
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = SimpleFileOptions::default();
        let started = writer.start_file(name, options);
        started.expect("names are good and different");
        writer.write_all(content).expect("memory takes every byte");
    }
    let bytes = writer.finish().expect("memory takes every byte");
    bytes.into_inner()
}

//! What fuzzing does with an IDX file; the fuzz target and the replay of its corpus run the same code.
//!
//! A panic is a finding, and so is a set that is not what the headers of its files announce.

use std::fs;
use std::io::Write;
use std::path::Path;

use datasets::mnist::MnistOptions;
use datasets::{LoadOptions, Mnist, Source};
use flate2::{Compression, write::GzEncoder};

const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// Two examples: images, then labels.
fn good(file: usize) -> Vec<u8> {
    match file % 2 {
        0 => {
            let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28];
            bytes.resize(16 + 2 * 784, 7);
            bytes
        }
        _ => vec![0, 0, 8, 1, 0, 0, 0, 2, 3, 9],
    }
}

/// Loads MNIST with one of its files made of the bytes behind the first; the first says which, and whether what stands
/// in it is compressed here, since no mutation of a compressed stream would survive its checksum.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, content)) = data.split_first() else {
        return;
    };
    let replaced = usize::from(choice % 4);
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for (index, name) in FILES.iter().enumerate() {
        let path = folder.path().join(name);
        match index == replaced {
            false => fs::write(path, good(index)),
            true if choice & 4 == 0 => fs::write(path, content),
            true => write_compressed(&path.with_extension("gz"), content, choice & 8 != 0),
        }
        .expect("a writable folder");
    }
    let options = LoadOptions {
        data_dir: Some(folder.path().to_path_buf()),
        validation_fraction: 0.5,
        seed: 0,
    };
    match Mnist::load(&MnistOptions {}, &options) {
        // The other file of the pair announces two examples.
        Ok(set) => {
            assert_eq!(set.train.len() + set.validation.len(), 2);
            assert_eq!(set.test.len(), 2);
            for part in [&set.train, &set.validation, &set.test] {
                assert!((0..part.len()).all(|i| part.label(i) < 10 && part.bytes(i).len() == 784));
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(FILES[replaced]), "{text}");
        }
    }
}

/// As one stream or as two, of which a reader may only see the first.
fn write_compressed(path: &Path, content: &[u8], in_two: bool) -> std::io::Result<()> {
    let middle = if in_two {
        content.len() / 2
    } else {
        content.len()
    };
    let mut bytes = Vec::new();
    for part in [&content[..middle], &content[middle..]] {
        if in_two || !part.is_empty() {
            let mut encoder = GzEncoder::new(&mut bytes, Compression::fast());
            encoder.write_all(part)?;
            encoder.finish()?;
        }
    }
    fs::write(path, bytes)
}

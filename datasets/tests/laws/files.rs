//! Published files in miniature.

use std::fs::{self, File};
use std::path::Path;
use std::sync::LazyLock;

use flate2::{Compression, write::GzEncoder};
use tempfile::TempDir;

/// Twenty training and ten test images.
pub(crate) fn mnist() -> Option<&'static Path> {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (part, count) in [("train", 20_u8), ("t10k", 10)] {
            let images = [0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 28, 0, 0, 0, 28];
            let pixels = (0..usize::from(count) * 784).map(|pixel| (pixel / 784) as u8);
            let images: Vec<u8> = images.into_iter().chain(pixels).collect();
            let labels = [0, 0, 8, 1, 0, 0, 0, count];
            let labels: Vec<u8> = labels
                .into_iter()
                .chain((0..count).map(|i| i % 10))
                .collect();
            let [images_file, labels_file] = [
                format!("{part}-images-idx3-ubyte"),
                format!("{part}-labels-idx1-ubyte"),
            ];
            fs::write(folder.path().join(images_file), images).expect("a temporary file");
            fs::write(folder.path().join(labels_file), labels).expect("a temporary file");
        }
        folder
    });
    Some(FOLDER.path())
}

/// All reviews, each of a word or two, in the archive.
pub(crate) fn imdb() -> Option<&'static Path> {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = File::create(folder.path().join("aclImdb_v1.tar.gz"));
        let stream = GzEncoder::new(file.expect("a temporary file"), Compression::fast());
        let mut archive = tar::Builder::new(stream);
        for part in ["train", "test"] {
            for (sentiment, rating) in [("neg", 2), ("pos", 9)] {
                for id in 0..12_500 {
                    let text = format!("{sentiment} {id} {part}");
                    let mut header = tar::Header::new_ustar();
                    header.set_size(text.len() as u64);
                    let path = format!("aclImdb/{part}/{sentiment}/{id}_{rating}.txt");
                    let added = archive.append_data(&mut header, path, text.as_bytes());
                    added.expect("a temporary file");
                }
            }
        }
        let stream = archive.into_inner().expect("a temporary file");
        stream.finish().expect("a temporary file");
        folder
    });
    Some(FOLDER.path())
}

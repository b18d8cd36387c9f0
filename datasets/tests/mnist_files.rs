//! The published MNIST files, where they are: point `COMPRESSM_DATA_DIR` at the folder that holds `mnist/`.

use std::path::PathBuf;

use datasets::mnist::MnistOptions;
use datasets::{DATA_DIR_VARIABLE, FileStatus, LoadOptions, Mnist, SequenceSet, Source};

/// The data directory, or `None` with a note that the calling test checks nothing.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn data_dir() -> Option<PathBuf> {
    let dir = datasets::data_dir_from_env();
    if dir.is_none() {
        println!("skipped: {DATA_DIR_VARIABLE} is not set");
    }
    dir
}

/// Mean and standard deviation over all values of a set, in `[0, 1]`.
fn moments(set: &SequenceSet) -> (f64, f64) {
    let (mut sum, mut squares) = (0_u64, 0_u64);
    for index in 0..set.len() {
        for byte in set.bytes(index) {
            sum += u64::from(*byte);
            squares += u64::from(*byte).pow(2);
        }
    }
    let count = (set.len() * set.shape().values()) as f64;
    let mean = sum as f64 / count;
    (
        mean / 255.0,
        (squares as f64 / count - mean * mean).sqrt() / 255.0,
    )
}

#[test]
fn the_published_files_have_their_published_statistics() {
    let Some(dir) = data_dir() else { return };
    let options = LoadOptions {
        data_dir: Some(dir),
        validation_fraction: 0.0,
        ..LoadOptions::default()
    };
    let set = Mnist::load(&MnistOptions {}, &options).unwrap();
    assert_eq!(
        (set.train.len(), set.validation.len(), set.test.len()),
        (60_000, 0, 10_000)
    );
    assert_eq!(
        (set.shape.length, set.shape.channels, set.shape.classes),
        (784, 1, 10)
    );
    let counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949];
    assert_eq!(set.train.class_counts(), counts);
    let (mean, deviation) = moments(&set.train);
    // Published to four digits.
    assert!(
        (mean - 0.1307).abs() < 5e-5 && (deviation - 0.3081).abs() < 5e-5,
        "{mean} {deviation}"
    );
}

#[test]
fn a_tenth_is_held_out_for_validation() {
    let Some(dir) = data_dir() else { return };
    let options = LoadOptions {
        data_dir: Some(dir),
        ..LoadOptions::default()
    };
    let set = Mnist::load(&MnistOptions {}, &options).unwrap();
    assert_eq!((set.train.len(), set.validation.len()), (54_000, 6_000));
    let both = set
        .train
        .class_counts()
        .into_iter()
        .zip(set.validation.class_counts());
    assert_eq!(
        both.map(|(train, validation)| train + validation).next(),
        Some(5923)
    );
}

#[test]
fn the_published_files_verify_and_need_no_download() {
    let Some(dir) = data_dir() else { return };
    let checks = datasets::verify("mnist", &dir).unwrap();
    assert_eq!(checks.len(), 4);
    assert!(
        checks.iter().all(|check| check.status == FileStatus::Good),
        "{checks:?}"
    );
    let fetched = datasets::fetch("mnist", &dir, datasets::Progress::Hidden).unwrap();
    assert!(
        fetched
            .iter()
            .all(|file| file.origin == datasets::Origin::AlreadyThere),
        "{fetched:?}"
    );
}

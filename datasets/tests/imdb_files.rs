//! The published reviews, where they are: point `COMPRESSM_DATA_DIR` at the folder that holds `imdb/`.

use std::path::PathBuf;

use datasets::imdb::{ImdbOptions, LONGEST};
use datasets::{DATA_DIR_VARIABLE, Dataset, DatasetError, Imdb, LoadOptions, SequenceSet, Source};

/// The data set cut at `max_length` bytes with its folder, or `None` with a note that the calling test checks nothing.
#[allow(clippy::print_stdout, reason = "a skipped test says so")]
fn load(max_length: usize, validation_fraction: f64) -> Option<(Dataset, PathBuf)> {
    let Some(dir) = datasets::data_dir_from_env() else {
        println!("skipped: {DATA_DIR_VARIABLE} is not set");
        return None;
    };
    let options = LoadOptions {
        data_dir: Some(dir.clone()),
        validation_fraction,
        seed: 0,
    };
    match Imdb::load(&ImdbOptions { length: max_length }, &options) {
        Err(DatasetError::FilesNotFound { .. }) => {
            println!("skipped: no imdb in {}", dir.display());
            None
        }
        loaded => Some((loaded.expect("published files load"), dir)),
    }
}

/// Characters of all reviews together: bytes of UTF-8 that do not continue a character.
fn characters(set: &SequenceSet) -> usize {
    let starts = |byte: &&u8| **byte & 0xc0 != 0x80;
    (0..set.len())
        .map(|index| set.bytes(index).iter().filter(starts).count())
        .sum()
}

#[test]
fn the_published_reviews_have_their_published_statistics() {
    let Some((set, _)) = load(LONGEST, 0.0) else {
        return;
    };
    assert_eq!(
        (set.train.len(), set.validation.len(), set.test.len()),
        (25_000, 0, 25_000)
    );
    for part in [&set.train, &set.test] {
        assert_eq!(part.class_counts(), [12_500, 12_500]);
    }
    // Means of 1,325.06964 and 1,293.7924 characters.
    assert_eq!(characters(&set.train), 33_126_741);
    assert_eq!(characters(&set.test), 32_344_810);
    let longest = |set: &SequenceSet| (0..set.len()).map(|index| set.length(index)).max();
    assert_eq!(longest(&set.train), Some(13_704));
}

#[test]
fn reviews_are_in_the_order_of_labels_and_ids_and_cut_at_the_length() {
    const CUT: usize = 100;
    let Some((set, dir)) = load(CUT, 0.1) else {
        return;
    };
    assert_eq!((set.train.len(), set.validation.len()), (22_500, 2_500));
    let roots = [dir.join("aclImdb"), dir.join("imdb/aclImdb")];
    // There may be the archive alone, which has nothing to compare with.
    let Some(root) = roots.into_iter().find(|root| root.is_dir()) else {
        return;
    };
    for (index, label, name) in [
        (0, 0, "neg/0_2.txt"),
        (12_499, 0, "neg/12499_1.txt"),
        (12_500, 1, "pos/0_10.txt"),
        (24_999, 1, "pos/12499_10.txt"),
    ] {
        let text = std::fs::read(root.join("test").join(name)).expect("a published review");
        assert_eq!(set.test.bytes(index), &text[..CUT], "{name}");
        assert_eq!(set.test.label(index), label, "{name}");
    }
}

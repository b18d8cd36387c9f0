//! IMDB movie reviews, one byte a step: texts of varying length, and whether they praise or pan.
//!
//! The labeled part of the Large Movie Review Dataset v1.0: 25,000 reviews to learn from and 25,000 of other movies to
//! test on, half of either negative (1 to 4 stars of 10, class 0) and half positive (7 to 10 stars, class 1). The
//! bytes of a review are its tokens, without any preparation: UTF-8 with a few HTML line breaks, 1,325 bytes in the
//! mean. Token 0 occurs in no review and stands for "behind the end" alone. A review longer than
//! [`ImdbOptions::length`] is cut there, if need be within a character; at 4096 bytes that befalls fewer than 3 in
//! 100.
//!
//! Read from the folder `aclImdb` that the published archive unpacks to, or from the archive as it is. The order of the
//! examples is that of their labels, then of their ids, whatever the order of the file system: all negative reviews of
//! the test part come before all positive ones.
//!
//! # Source
//! Maas et al. (2011): `MDPHNP11` in `docs/references.bib`. Read byte by byte it is the text classification task of the
//! Long Range Arena (Tay et al. 2021, `LRA21`), which cuts it at up to 4K bytes.

mod archive;
mod source;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::{DatasetError, ReviewFault};
use crate::manifest::Manifest;
use crate::option::{OptionFault, require};
use crate::sequence_set::SequenceSet;
use crate::shape::{Content, Shape, Target};
use crate::source::{Options, Published, Source};
use source::TextFile;

const NAME: &str = Imdb::NAME;

/// Most bytes of a review that can be asked for. None is longer than 13,704 bytes, so this is all of every review.
pub const LONGEST: usize = 1 << 14;

const ARCHIVE: &str = "aclImdb_v1.tar.gz";

/// The folder that holds `train` and `test`.
const FOLDER: &str = "aclImdb";
const TRAIN: &str = "train";
const TEST: &str = "test";

/// Reviews of one part and one sentiment.
const REVIEWS: usize = 12_500;

/// By label.
const SENTIMENTS: [Sentiment; 2] = [
    Sentiment {
        folder: "neg",
        ratings: 1..=4,
    },
    Sentiment {
        folder: "pos",
        ratings: 7..=10,
    },
];

struct Sentiment {
    /// Within the folder of a part.
    folder: &'static str,
    /// Stars of its reviews.
    ratings: RangeInclusive<u32>,
}

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    Manifest::from_toml(include_str!("../manifests/imdb.toml"))
        .expect("the manifest is tested to be valid")
});

/// How much of the reviews to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImdbOptions {
    /// Bytes after which a review is cut, 1 to [`LONGEST`].
    pub length: usize,
}

impl Default for ImdbOptions {
    /// 4096 bytes.
    fn default() -> Self {
        Self { length: 4096 }
    }
}

impl Options for ImdbOptions {
    fn check(&self) -> Result<(), OptionFault> {
        let length = self.length;
        require((1..=LONGEST).contains(&length), "length", length, || {
            format!(
                "it is the bytes after which a review is cut, at least 1 and at most {LONGEST}, which is more than any of \
                 them has"
            )
        })
    }
}

/// The data set `imdb`.
#[derive(Debug)]
pub struct Imdb;

impl Source for Imdb {
    const NAME: &'static str = "imdb";
    type Options = ImdbOptions;

    fn manifest() -> Option<&'static Manifest> {
        Some(&MANIFEST)
    }

    fn shape(options: &ImdbOptions) -> Shape {
        shape(options.length)
    }

    fn read(options: &ImdbOptions, dir: Option<&Path>) -> Result<Published, DatasetError> {
        read_parts(options, dir, REVIEWS)
    }
}

/// Reads parts that have `reviews` of each sentiment.
fn read_parts(
    options: &ImdbOptions,
    dir: Option<&Path>,
    reviews: usize,
) -> Result<Published, DatasetError> {
    let (root, mut files) = source::find(dir)?.read()?;
    let mut part = |folder| take_part(&mut files, &root.join(folder), options.length, reviews);
    Ok(Published {
        train: part(TRAIN)?,
        test: part(TEST)?,
    })
}

fn shape(max_length: usize) -> Shape {
    Shape {
        sequences: 1,
        length: max_length,
        channels: 1,
        classes: SENTIMENTS.len(),
        content: Content::Tokens { vocabulary: 256 },
        target: Target::Class,
    }
}

/// The examples of the part in `folder`, whose files are taken out of `files`.
fn take_part(
    files: &mut Vec<TextFile>,
    folder: &Path,
    max_length: usize,
    reviews: usize,
) -> Result<SequenceSet, DatasetError> {
    let (mut texts, mut labels) = (Vec::new(), Vec::new());
    for (label, sentiment) in (0..).zip(&SENTIMENTS) {
        let folder = folder.join(sentiment.folder);
        let here = |file: &mut TextFile| file.path.parent() == Some(&folder);
        let files = files.extract_if(.., here).collect();
        texts.extend(in_order(files, sentiment, &folder, reviews)?);
        labels.resize(texts.len(), label);
    }
    for text in &mut texts {
        text.truncate(max_length);
    }
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    SequenceSet::with_lengths(shape(max_length), texts.concat(), &lengths, labels)
}

/// The texts of all reviews of a folder in the order of their ids, once each file is found to be what it should.
fn in_order(
    mut files: Vec<TextFile>,
    sentiment: &Sentiment,
    folder: &Path,
    expected: usize,
) -> Result<Vec<Vec<u8>>, DatasetError> {
    // Of several faulty files, the same one is named every time.
    files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut reviews = Vec::with_capacity(files.len());
    for TextFile { path, text } in files {
        match check(&path, &text, sentiment) {
            Ok(id) => reviews.push((id, path, text)),
            Err(fault) => return Err(DatasetError::BadReview { path, fault }),
        }
    }
    reviews.sort_by_key(|(id, _, _)| *id);
    if let Some([(_, other, _), (id, path, _)]) = reviews.array_windows().find(|[a, b]| a.0 == b.0)
    {
        return Err(DatasetError::BadReview {
            path: path.clone(),
            fault: ReviewFault::RepeatedId {
                id: *id,
                other: other.clone(),
            },
        });
    }
    if reviews.len() != expected {
        return Err(DatasetError::ReviewCount {
            folder: folder.into(),
            seen: reviews.len(),
            expected,
        });
    }
    Ok(reviews.into_iter().map(|(_, _, text)| text).collect())
}

/// The id of a review whose name and text are as they should be.
fn check(path: &Path, text: &[u8], sentiment: &Sentiment) -> Result<u32, ReviewFault> {
    let name = path.file_name().and_then(|name| name.to_str());
    let (id, rating) = name.and_then(parse_name).ok_or(ReviewFault::Name)?;
    if !sentiment.ratings.contains(&rating) {
        return Err(ReviewFault::Rating {
            seen: rating,
            expected: sentiment.ratings.clone(),
        });
    }
    if text.is_empty() {
        return Err(ReviewFault::Empty);
    }
    match text.iter().position(|byte| *byte == 0) {
        Some(offset) => Err(ReviewFault::ZeroByte { offset }),
        None => Ok(id),
    }
}

/// Id and rating out of `<id>_<rating>.txt`.
fn parse_name(name: &str) -> Option<(u32, u32)> {
    // Digits alone: the number parser would take a sign as well.
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (id, rating) = name.strip_suffix(".txt")?.split_once('_')?;
    Some((number(id)?, number(rating)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FileFault;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::fs;

    /// Three reviews of each sentiment in each part, named so that neither names nor times give the order of ids.
    fn write_tiny(root: &Path) {
        for part in [TRAIN, TEST] {
            for (sentiment, files) in [
                ("neg", [("2_1", "awful"), ("10_4", "dull"), ("0_3", "no")]),
                (
                    "pos",
                    [("2_10", "superb"), ("10_7", "fine"), ("0_8", "yes")],
                ),
            ] {
                let folder = root.join(part).join(sentiment);
                fs::create_dir_all(&folder).unwrap();
                for (name, text) in files {
                    fs::write(folder.join(format!("{name}.txt")), format!("{text} {part}"))
                        .unwrap();
                }
            }
        }
    }

    fn load_from(dir: &Path, length: usize) -> Result<Published, DatasetError> {
        read_parts(&ImdbOptions { length }, Some(dir), 3)
    }

    /// The fault found after a change to the folder `aclImdb` of the tiny set, and the file it is found in.
    fn fault(change: impl FnOnce(&Path)) -> (String, ReviewFault) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(FOLDER);
        write_tiny(&root);
        change(&root);
        let error = load_from(dir.path(), 4096).unwrap_err();
        let text = error.to_string();
        let DatasetError::BadReview { path, fault } = error else {
            panic!("{text}")
        };
        assert!(
            text.contains(&path.display().to_string()) && text.contains("data fetch imdb"),
            "{text}"
        );
        let path = path.strip_prefix(root).unwrap().display().to_string();
        (path, fault)
    }

    #[test]
    fn reviews_come_by_label_and_then_by_number() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(&dir.path().join(FOLDER));
        let set = load_from(dir.path(), 4096).unwrap();
        assert_eq!(set.test.shape(), shape(4096));
        let texts: Vec<&[u8]> = (0..6).map(|index| set.test.bytes(index)).collect();
        let expected =
            ["no", "awful", "dull", "yes", "superb", "fine"].map(|text| format!("{text} test"));
        assert_eq!(texts, expected.each_ref().map(String::as_bytes));
        let labels: Vec<usize> = (0..6).map(|index| set.test.label(index)).collect();
        assert_eq!(labels, [0, 0, 0, 1, 1, 1]);
        assert_eq!(set.train.len(), 6);
    }

    #[test]
    fn long_reviews_are_cut_and_short_ones_padded_with_token_0() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(&dir.path().join(FOLDER));
        let set = load_from(dir.path(), 8).unwrap();
        let mut tokens = [-1; 8];
        set.test.write_tokens(0, &mut tokens);
        assert_eq!(
            (set.test.length(0), tokens),
            (7, [110, 111, 32, 116, 101, 115, 116, 0])
        );
        assert_eq!(set.test.bytes(1), b"awful te");
    }

    #[test]
    fn the_folder_is_found_in_the_data_folder_and_in_its_subfolder() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(&dir.path().join("imdb").join(FOLDER));
        for dir in [dir.path().to_path_buf(), dir.path().join("imdb")] {
            assert_eq!(load_from(&dir, 4096).unwrap().test.len(), 6);
        }
    }

    /// The tiny set as an archive at `path`, between other files, as in the published one.
    fn write_tiny_archive(path: &Path) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(FOLDER);
        write_tiny(&root);
        fs::write(root.join("README"), "see http").unwrap();
        fs::create_dir(root.join("train/unsup")).unwrap();
        fs::write(root.join("train/unsup/0_0.txt"), "unrated").unwrap();
        let stream = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
        let mut archive = tar::Builder::new(stream);
        archive.append_dir_all(FOLDER, root).unwrap();
        archive.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn the_archive_holds_what_its_folder_holds() {
        let dir = tempfile::tempdir().unwrap();
        let [packed, unpacked] = ["packed", "unpacked"].map(|name| dir.path().join(name));
        fs::create_dir_all(packed.join("imdb")).unwrap();
        write_tiny_archive(&packed.join("imdb").join(ARCHIVE));
        write_tiny(&unpacked.join(FOLDER));
        let [packed, unpacked] = [packed, unpacked].map(|dir| load_from(&dir, 8).unwrap());
        for (a, b) in [(packed.train, unpacked.train), (packed.test, unpacked.test)] {
            assert_eq!(a.len(), b.len());
            for index in 0..a.len() {
                assert_eq!(
                    (a.bytes(index), a.label(index)),
                    (b.bytes(index), b.label(index))
                );
            }
        }
    }

    #[test]
    fn a_whole_folder_is_read_instead_of_the_archive_and_a_part_of_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(ARCHIVE), "no archive").unwrap();
        write_tiny(&dir.path().join(FOLDER));
        assert!(load_from(dir.path(), 8).is_ok());
        fs::remove_dir_all(dir.path().join(FOLDER).join("train/neg")).unwrap();
        let error = load_from(dir.path(), 8).unwrap_err();
        assert!(matches!(error, DatasetError::BadFile { .. }), "{error}");
    }

    #[test]
    fn a_damaged_archive_is_named_wherever_the_damage_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(ARCHIVE);
        write_tiny_archive(&path);
        let good = fs::read(&path).unwrap();
        let mut wrong_checksum = good.clone();
        wrong_checksum[good.len() - 5] ^= 1;
        for bad in [
            &good[..0],
            &good[..good.len() / 2],
            &good[..good.len() - 1],
            &wrong_checksum,
        ] {
            fs::write(&path, bad).unwrap();
            let error = load_from(dir.path(), 8).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(ARCHIVE) && text.contains("data fetch imdb"),
                "{text}"
            );
            assert!(
                matches!(
                    error,
                    DatasetError::BadFile {
                        fault: FileFault::Archive { .. },
                        ..
                    }
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn missing_folders_are_named_with_where_they_were_sought() {
        let dir = tempfile::tempdir().unwrap();
        let missing = || match load_from(dir.path(), 4096).unwrap_err() {
            DatasetError::FilesNotFound { missing, tried, .. } => {
                assert_eq!(tried, [dir.path().to_path_buf(), dir.path().join("imdb")]);
                missing
            }
            other => panic!("{other}"),
        };
        assert_eq!(missing(), "aclImdb_v1.tar.gz (or the folder aclImdb)");
        let root = dir.path().join("imdb").join(FOLDER);
        write_tiny(&root);
        fs::remove_dir_all(root.join("test/pos")).unwrap();
        assert_eq!(missing(), "aclImdb/test/pos");
    }

    #[test]
    fn without_a_data_directory_the_message_says_how_to_give_one() {
        let error = Imdb::read(&ImdbOptions::default(), None).unwrap_err();
        assert!(
            matches!(error, DatasetError::DataDirUnset { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_folder_with_another_number_of_reviews_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(FOLDER);
        write_tiny(&root);
        fs::remove_file(root.join("train/pos/2_10.txt")).unwrap();
        let error = load_from(dir.path(), 4096).unwrap_err();
        let DatasetError::ReviewCount {
            folder,
            seen: 2,
            expected: 3,
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!(*folder, root.join("train/pos"));
    }

    #[test]
    fn a_file_that_is_not_named_like_a_review_is_refused() {
        for name in [
            "readme.txt",
            "1_8",
            "1-8.txt",
            "+1_8.txt",
            "_8.txt",
            "1_.txt",
            "1_8_9.txt",
            "4294967296_8.txt",
        ] {
            let (file, fault) =
                fault(|root| fs::write(root.join("test/pos").join(name), "good").unwrap());
            assert_eq!(file, format!("test/pos/{name}"));
            assert!(matches!(fault, ReviewFault::Name), "{name}: {fault}");
        }
    }

    #[test]
    fn a_rating_that_contradicts_its_folder_is_refused() {
        for (folder, rating) in [
            ("neg", 0),
            ("neg", 5),
            ("neg", 7),
            ("pos", 4),
            ("pos", 6),
            ("pos", 11),
        ] {
            let name = format!("train/{folder}/5_{rating}.txt");
            let (file, fault) = fault(|root| fs::write(root.join(&name), "so-so").unwrap());
            assert_eq!(file, name);
            assert!(
                matches!(&fault, ReviewFault::Rating { seen, .. } if *seen == rating),
                "{fault}"
            );
        }
        let (_, fault) = fault(|root| fs::write(root.join("train/neg/5_9.txt"), "good").unwrap());
        assert_eq!(
            fault.to_string(),
            "rated 9 stars of 10, but its folder is for 1 to 4"
        );
    }

    #[test]
    fn texts_that_cannot_be_sequences_are_refused() {
        let (file, empty) = fault(|root| fs::write(root.join("test/neg/0_3.txt"), "").unwrap());
        assert_eq!(file, "test/neg/0_3.txt");
        assert!(matches!(empty, ReviewFault::Empty), "{empty}");
        let (_, zero) = fault(|root| fs::write(root.join("test/neg/0_3.txt"), "no\0").unwrap());
        assert!(
            matches!(zero, ReviewFault::ZeroByte { offset: 2 }),
            "{zero}"
        );
        let (_, folder) = fault(|root| fs::create_dir(root.join("test/neg/1_1.txt")).unwrap());
        assert!(matches!(folder, ReviewFault::Unreadable { .. }), "{folder}");
    }

    #[test]
    fn an_id_that_comes_twice_is_refused() {
        let (file, fault) = fault(|root| fs::write(root.join("test/neg/10_2.txt"), "bad").unwrap());
        assert_eq!(file, "test/neg/10_4.txt");
        assert!(
            matches!(&fault, ReviewFault::RepeatedId { id: 10, other } if other.ends_with("10_2.txt")),
            "{fault}"
        );
    }

    #[test]
    fn a_length_that_cannot_be_is_refused() {
        for length in [0, LONGEST + 1] {
            let fault = ImdbOptions { length }.check().unwrap_err();
            assert_eq!((fault.key, fault.value), ("length", length.to_string()));
        }
    }

    #[test]
    fn the_manifest_names_the_published_archive() {
        assert_eq!(MANIFEST.name, NAME);
        let [archive] = &MANIFEST.files[..] else {
            panic!("{MANIFEST:?}")
        };
        assert_eq!((archive.name.as_str(), archive.size), (ARCHIVE, 84_125_825));
        assert_eq!(archive.sha256.len(), 64);
    }

    proptest! {
        #[test]
        fn names_give_back_the_numbers_they_are_made_of(id: u32, rating: u32) {
            let name = format!("{id}_{rating}.txt");
            prop_assert_eq!(parse_name(&name), Some((id, rating)));
        }

        #[test]
        fn no_name_is_too_odd_to_be_looked_at(name in "\\PC*") {
            let _ = parse_name(&name);
        }
    }
}

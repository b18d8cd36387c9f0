//! MNIST, one pixel a step: 784 x 1 sequences, ten classes.
//!
//! Read from the four published IDX files. Each may also be there uncompressed, under its name without `.gz`.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::{DatasetError, FileFault};
use crate::idx;
use crate::manifest::Manifest;
use crate::option::OptionFault;
use crate::sequence_set::SequenceSet;
use crate::shape::{Content, Shape, Target};
use crate::source::{Options, Published, Source};

const NAME: &str = Mnist::NAME;

const SIDE: usize = 28;
const SHAPE: Shape = Shape {
    sequences: 1,
    length: SIDE * SIDE,
    channels: 1,
    classes: 10,
    content: Content::Values,
    target: Target::Class,
};

const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    Manifest::from_toml(include_str!("../manifests/mnist.toml"))
        .expect("the manifest is tested to be valid")
});

/// The data set `mnist`.
#[derive(Debug)]
pub struct Mnist;

/// There is nothing to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MnistOptions {}

impl Options for MnistOptions {
    fn check(&self) -> Result<(), OptionFault> {
        Ok(())
    }
}

impl Source for Mnist {
    const NAME: &'static str = "mnist";
    type Options = MnistOptions;

    fn manifest() -> Option<&'static Manifest> {
        Some(&MANIFEST)
    }

    fn shape(_: &MnistOptions) -> Shape {
        SHAPE
    }

    fn read(_: &MnistOptions, dir: Option<&Path>) -> Result<Published, DatasetError> {
        let folder = locate(dir)?;
        Ok(Published {
            train: read_pair(&folder, TRAIN)?,
            test: read_pair(&folder, TEST)?,
        })
    }
}

/// The first folder that holds all four files.
fn locate(data_dir: Option<&Path>) -> Result<PathBuf, DatasetError> {
    let Some(data_dir) = data_dir else {
        return Err(DatasetError::DataDirUnset {
            dataset: NAME.into(),
        });
    };
    let missing = |folder: &Path| {
        TRAIN
            .into_iter()
            .chain(TEST)
            .find(|stem| find(folder, stem).is_none())
    };
    let tried = MANIFEST.candidates(data_dir);
    match tried.iter().find(|folder| missing(folder).is_none()) {
        Some(folder) => Ok(folder.clone()),
        None => Err(DatasetError::FilesNotFound {
            dataset: NAME.into(),
            missing: format!(
                "{}.gz",
                missing(&MANIFEST.home(data_dir)).unwrap_or(TRAIN[0])
            ),
            tried: tried.to_vec(),
        }),
    }
}

/// The file `stem.gz` in `folder`, or `stem` if only that is there.
fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    let names = [format!("{stem}.gz"), stem.into()];
    names
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

fn read_pair(folder: &Path, [images, labels]: [&str; 2]) -> Result<SequenceSet, DatasetError> {
    let images_path = find(folder, images).unwrap_or_else(|| folder.join(images));
    let labels_path = find(folder, labels).unwrap_or_else(|| folder.join(labels));
    let bad = |path: &Path, fault| DatasetError::BadFile {
        path: path.into(),
        dataset: NAME.into(),
        fault,
    };

    let images =
        idx::read_file(&images_path, &[SIDE, SIDE]).map_err(|fault| bad(&images_path, fault))?;
    let labels = idx::read_file(&labels_path, &[]).map_err(|fault| bad(&labels_path, fault))?;
    check_labels(&labels.data, images.dims[0], &images_path)
        .map_err(|fault| bad(&labels_path, fault))?;
    let labels = labels.data.into_iter().map(u16::from).collect();
    SequenceSet::new(SHAPE, images.data, labels)
}

fn check_labels(labels: &[u8], images: usize, images_path: &Path) -> Result<(), FileFault> {
    if labels.len() != images {
        let images_file = images_path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        return Err(FileFault::CountMismatch {
            labels: labels.len(),
            images,
            images_file,
        });
    }
    match labels
        .iter()
        .position(|label| usize::from(*label) >= SHAPE.classes)
    {
        Some(index) => Err(FileFault::Label {
            index,
            label: labels[index],
            classes: SHAPE.classes,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Dataset, LoadOptions};
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
    use std::io::Write;

    fn images(count: u32) -> Vec<u8> {
        let header = [
            &[0, 0, 8, 3][..],
            &count.to_be_bytes(),
            &[0, 0, 0, 28, 0, 0, 0, 28],
        ]
        .concat();
        header
            .into_iter()
            .chain((0..count * 784).map(|pixel| (pixel / 784) as u8))
            .collect()
    }

    fn labels(labels: &[u8]) -> Vec<u8> {
        [
            &[0, 0, 8, 1][..],
            &(labels.len() as u32).to_be_bytes(),
            labels,
        ]
        .concat()
    }

    fn write_gz(folder: &Path, stem: &str, bytes: &[u8]) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        fs::write(folder.join(format!("{stem}.gz")), encoder.finish().unwrap()).unwrap();
    }

    /// Ten training examples, image `i` filled with `i` and labeled `9 - i`; two test examples.
    fn write_tiny(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        write_gz(folder, TRAIN[0], &images(10));
        write_gz(folder, TRAIN[1], &labels(&[9, 8, 7, 6, 5, 4, 3, 2, 1, 0]));
        write_gz(folder, TEST[0], &images(2));
        write_gz(folder, TEST[1], &labels(&[3, 3]));
    }

    fn load_from(dir: &Path) -> Result<Dataset, DatasetError> {
        let how = LoadOptions {
            data_dir: Some(dir.into()),
            validation_fraction: 0.3,
            seed: 0,
        };
        Mnist::load(&MnistOptions {}, &how)
    }

    fn fault(dir: &Path, file: &str) -> FileFault {
        let error = load_from(dir).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(file)
                && text.ends_with("delete it and run `cargo xtask data fetch mnist`"),
            "{text}"
        );
        match error {
            DatasetError::BadFile { fault, .. } => fault,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_manifest_lists_the_files_that_are_read() {
        let named: Vec<&str> = MANIFEST
            .files
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        let read: Vec<String> = TRAIN
            .iter()
            .chain(&TEST)
            .map(|stem| format!("{stem}.gz"))
            .collect();
        assert_eq!(
            (named, MANIFEST.name.as_str()),
            (read.iter().map(String::as_str).collect(), NAME)
        );
    }

    #[test]
    fn files_are_found_in_the_folder_and_in_its_subfolder() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(&dir.path().join("mnist"));
        for dir in [dir.path().to_path_buf(), dir.path().join("mnist")] {
            let set = load_from(&dir).unwrap();
            assert_eq!(
                (set.train.len(), set.validation.len(), set.test.len()),
                (7, 3, 2)
            );
            for part in [&set.train, &set.validation] {
                for index in 0..part.len() {
                    assert_eq!(part.bytes(index), [(9 - part.label(index)) as u8; 784]);
                }
            }
        }
    }

    #[test]
    fn uncompressed_files_do_as_well() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(dir.path());
        fs::remove_file(dir.path().join("train-images-idx3-ubyte.gz")).unwrap();
        fs::write(dir.path().join(TRAIN[0]), images(10)).unwrap();
        assert_eq!(load_from(dir.path()).unwrap().train.len(), 7);
    }

    #[test]
    fn without_a_data_directory_the_message_says_how_to_give_one() {
        let error = Mnist::read(&MnistOptions {}, None).unwrap_err();
        assert!(
            error.to_string().contains("--data-dir")
                && error.to_string().contains("COMPRESSM_DATA_DIR")
        );
    }

    #[test]
    fn missing_files_name_every_folder_tried() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(&dir.path().join("mnist"));
        fs::remove_file(dir.path().join("mnist/t10k-labels-idx1-ubyte.gz")).unwrap();
        let error = load_from(dir.path()).unwrap_err();
        let DatasetError::FilesNotFound { missing, tried, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(missing, "t10k-labels-idx1-ubyte.gz");
        assert_eq!(*tried, [dir.path().to_path_buf(), dir.path().join("mnist")]);
        let error = load_from(Path::new("no/such/folder"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no/such/folder, no/such/folder/mnist"),
            "{error}"
        );
        assert!(error.contains("cargo xtask data fetch mnist"), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named_with_its_fault() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(dir.path());
        let path = dir.path().join("t10k-images-idx3-ubyte.gz");
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        let found = fault(dir.path(), "t10k-images-idx3-ubyte.gz");
        assert!(matches!(found, FileFault::Truncated { .. }), "{found}");
    }

    #[test]
    fn images_and_labels_that_do_not_pair_up_are_named() {
        let dir = tempfile::tempdir().unwrap();
        write_tiny(dir.path());
        write_gz(dir.path(), TEST[1], &labels(&[1, 2, 3]));
        let found = fault(dir.path(), TEST[1]);
        assert!(
            matches!(
                found,
                FileFault::CountMismatch {
                    labels: 3,
                    images: 2,
                    ..
                }
            ),
            "{found}"
        );
        write_gz(dir.path(), TEST[1], &labels(&[1, 10]));
        let found = fault(dir.path(), TEST[1]);
        assert!(
            matches!(
                found,
                FileFault::Label {
                    index: 1,
                    label: 10,
                    classes: 10
                }
            ),
            "{found}"
        );
    }
}

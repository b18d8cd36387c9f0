//! What a data set is to everything else: a name, options, and the way to its examples.

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DatasetError;
use crate::manifest::Manifest;
use crate::option::OptionFault;
use crate::sequence_set::SequenceSet;
use crate::shape::Shape;

/// A data set: where its examples come from, and what can be asked of them.
///
/// What is required says how the examples are made; [`load`](Self::load) does the same for all of them. Every source
/// obeys the laws in `tests/laws/main.rs`.
///
/// # Examples
/// ```
/// use datasets::{Digits, LoadOptions, Source, digits::DigitsOptions};
///
/// let small = DigitsOptions { train_examples: 50, test_examples: 10, ..DigitsOptions::default() };
/// let set = Digits::load(&small, &LoadOptions::default())?;
/// assert_eq!((set.train.len(), set.validation.len(), set.test.len()), (45, 5, 10));
/// assert_eq!((set.shape.length, set.shape.channels, set.shape.classes), (784, 1, 10));
/// # Ok::<(), datasets::DatasetError>(())
/// ```
pub trait Source {
    /// Name it goes by: lowercase letters, digits and dashes.
    const NAME: &'static str;

    /// What can be chosen about it.
    type Options: Options;

    /// Its published files; `None` if it is generated.
    fn manifest() -> Option<&'static Manifest> {
        None
    }

    /// What its examples look like with these options, which have passed their check. Known before any are read.
    fn shape(options: &Self::Options) -> Shape;

    /// Reads or generates its examples, with options that have passed their check. `dir` holds the files of a data set
    /// that has any, or a subfolder of its name that does.
    ///
    /// # Errors
    /// For a set of files [`DatasetError::DataDirUnset`], [`DatasetError::FilesNotFound`] and whatever may be wrong with
    /// a file.
    fn read(options: &Self::Options, dir: Option<&Path>) -> Result<Published, DatasetError>;

    /// Loads the data set into memory, divided for training.
    ///
    /// # Errors
    /// - [`DatasetError::Option`] for options that it cannot have;
    /// - those of [`read`](Self::read);
    /// - [`DatasetError::ValidationFraction`] and [`DatasetError::EmptySplit`] as in [`SequenceSet::split_validation`].
    fn load(options: &Self::Options, how: &LoadOptions) -> Result<Dataset, DatasetError> {
        options.check().map_err(|fault| DatasetError::Option {
            dataset: Self::NAME,
            fault,
        })?;
        let Published { train, test } = Self::read(options, how.data_dir.as_deref())?;
        let (train, validation) = train.split_validation(how.validation_fraction, how.seed)?;
        Ok(Dataset {
            name: Self::NAME,
            shape: Self::shape(options),
            train,
            validation,
            test,
        })
    }
}

/// What can be chosen about a data set: the keys of a table of a configuration, with their defaults.
pub trait Options: Clone + Debug + PartialEq + Default + Serialize + DeserializeOwned {
    /// Whether the data set can be had with these options. The one check of every option.
    ///
    /// # Errors
    /// For the first option out of its range, by itself or beside the others.
    fn check(&self) -> Result<(), OptionFault>;
}

/// The examples of a data set as they are published: those to learn from, and those to be tested on.
#[derive(Clone, Debug)]
pub struct Published {
    /// What the weights are fitted to, and what is held out of it.
    pub train: SequenceSet,
    /// What is looked at last.
    pub test: SequenceSet,
}

/// A data set in memory, divided for training.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Name it was loaded by.
    pub name: &'static str,
    /// What the examples of all three splits look like.
    pub shape: Shape,
    /// What the weights are fitted to.
    pub train: SequenceSet,
    /// Held out of the published training examples; empty if the validation fraction is 0.
    pub validation: SequenceSet,
    /// The published test examples.
    pub test: SequenceSet,
}

/// Where the files of data sets are, and how a set is divided.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Folder that holds the files of a data set, or a subfolder of its name that does. Not used by generated sets.
    pub data_dir: Option<PathBuf>,
    /// Share of the training examples held out for validation, in `[0, 1)`. `0` holds out none.
    pub validation_fraction: f64,
    /// Chooses which training examples are held out.
    pub seed: u64,
}

impl Default for LoadOptions {
    /// No folder, one training example in ten held out, seed 0.
    fn default() -> Self {
        Self {
            data_dir: None,
            validation_fraction: 0.1,
            seed: 0,
        }
    }
}

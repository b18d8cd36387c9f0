//! Sequence data: labeled byte sequences in memory, loaders, generators, checked downloads.
//!
//! A [`Dataset`] is three [`SequenceSet`]s of one [`Shape`]: train, validation, test. [`load`] makes one from its name;
//! a training loop then asks [`epoch_order`] for the order of an epoch and copies examples into its batch with
//! [`SequenceSet::write_example`], or with [`SequenceSet::write_tokens`] where [`Shape::content`] says that they are
//! tokens. [`Shape::target`] says whether an example has one label or one at each of its last steps. Everything random
//! is a function of a seed and a position, so a resumed run needs no stored random state. Nothing here knows tensors,
//! devices or training.
//!
//! | name | example | classes | train + validation | test | from |
//! |---|---|---|---|---|---|
//! | `mnist` | 784 x 1, one pixel a step | 10 | 60,000 | 10,000 | four files, [`fetch`] gets them |
//! | `imdb` | up to 4096 bytes as tokens (adjustable) | 2 | 25,000 | 25,000 | one archive, [`fetch`] gets it; see [`imdb`] |
//! | `digits` | 784 x 1, one pixel a step | 10 | 20,000 (adjustable) | 4,000 (adjustable) | generated, see [`digits`] |
//! | `selective-copy` | 256 tokens out of 16 (adjustable) | 16, at each of the last 16 steps (adjustable) | 20,000 (adjustable) | 2,000 (adjustable) | generated, see [`selective_copy`] |
//!
//! # Examples
//! One epoch over a small generated set:
//! ```
//! use datasets::{LoadOptions, digits::DigitsOptions};
//!
//! let options = LoadOptions {
//!     digits: DigitsOptions { train_examples: 40, test_examples: 10, ..DigitsOptions::default() },
//!     ..LoadOptions::default()
//! };
//! let set = datasets::load("digits", &options)?;
//! let order = datasets::epoch_order(set.train.len(), options.seed, 0);
//!
//! const BATCH: usize = 12;
//! let mut inputs = vec![0.0; BATCH * set.shape.values()]; // [batch, length, channels]
//! for batch in order.chunks_exact(BATCH) {
//!     for (example, input) in batch.iter().zip(inputs.chunks_exact_mut(set.shape.values())) {
//!         set.train.write_example(*example as usize, input);
//!     }
//!     assert!(inputs.iter().all(|value| (0.0..=1.0).contains(value)));
//! }
//! assert_eq!(order.len(), 36);
//! # Ok::<(), datasets::DatasetError>(())
//! ```
//!
//! # How to add a data set
//! 1. Write `src/NAME.rs` with `pub(crate) const NAME` and `pub(crate) fn load(&LoadOptions) -> Result<Dataset, _>`,
//!    after `mnist.rs` if it is read from files, after `digits.rs` if it is generated. Give a damaged file a typed
//!    [`FileFault`].
//! 2. For files, write `manifests/NAME.toml` with mirrors, sizes, SHA-256 and what is known of the license. Check that
//!    [`fetch`] and [`verify`] agree with the published checksums.
//! 3. Add one line to the registry in `src/registry.rs` and one to the table above.
//! 4. Test the loader on tiny files made in the test, and on the real files where the environment variable
//!    [`DATA_DIR_VARIABLE`] says where they are.

pub mod digits;
mod error;
mod fetch;
mod idx;
pub mod imdb;
mod manifest;
mod mnist;
mod option;
mod registry;
pub mod selective_copy;
mod sequence_set;
mod shape;
mod shuffle;

pub use error::{Attempt, DatasetError, DownloadProblem, FileFault, Part, ReviewFault};
pub use fetch::{FetchedFile, Origin, Progress};
pub use manifest::{FileCheck, FileStatus, Manifest, ManifestFile};
pub use option::OptionFault;
pub use registry::{
    DATA_DIR_VARIABLE, Dataset, LoadOptions, data_dir_from_env, fetch, load, manifest, names,
    verify,
};
pub use sequence_set::SequenceSet;
pub use shape::{Content, Shape, Target};
pub use shuffle::epoch_order;

//! Sequence data: labeled byte sequences in memory, loaders, generators, checked downloads.
//!
//! A [`Source`] is a data set: its name, its options, and the way to its examples. [`Source::load`] makes a
//! [`Dataset`] of it, three [`SequenceSet`]s of one [`Shape`]: train, validation, test. A training loop then asks
//! [`epoch_order`] for the order of an epoch and copies examples into its batch with [`SequenceSet::write_example`], or
//! with [`SequenceSet::write_tokens`] where [`Shape::content`] says that they are tokens. [`Shape::sequences`] says
//! whether an example is one sequence or a pair, [`Shape::target`] whether it has one label or one at each of its last
//! steps. Everything random is a function of a seed and a position, so a resumed run needs no stored random state.
//! Nothing here knows tensors, devices or training.
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
//! use datasets::{Digits, LoadOptions, Source, digits::DigitsOptions};
//!
//! let small = DigitsOptions { train_examples: 40, test_examples: 10, ..DigitsOptions::default() };
//! let how = LoadOptions::default();
//! let set = Digits::load(&small, &how)?;
//! let order = datasets::epoch_order(set.train.len(), how.seed, 0);
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
//! 1. Write `src/NAME.rs` with a type that is a [`Source`] and its [`Options`], after `mnist.rs` if it is read from
//!    files, after `digits.rs` if it is generated. Give a damaged file a typed [`FileFault`].
//! 2. For files, write `manifests/NAME.toml` with mirrors, sizes, SHA-256 and what is known of the license. Check that
//!    [`fetch`] and [`verify`] agree with the published checksums.
//! 3. Add one line to [`sources!`](crate::sources), which `data.dataset` and the table `[data.NAME]` of a configuration
//!    follow from, and one to the table above.
//! 4. Add one line to `tests/laws/main.rs`, with options that cannot be, and files in miniature if it has any. Test what is
//!    its own beside the loader, and the real files where the environment variable [`DATA_DIR_VARIABLE`] says where they
//!    are.

pub mod digits;
mod error;
mod fetch;
mod idx;
pub mod imdb;
mod manifest;
pub mod mnist;
mod option;
mod registry;
pub mod selective_copy;
mod sequence_set;
mod shape;
mod shuffle;
mod source;

pub use digits::Digits;
pub use error::{Attempt, DatasetError, DownloadProblem, FileFault, Part, ReviewFault};
pub use fetch::{FetchedFile, Origin, Progress};
pub use imdb::Imdb;
pub use manifest::{FileCheck, FileStatus, Manifest, ManifestFile};
pub use mnist::Mnist;
pub use option::OptionFault;
pub use registry::{DATA_DIR_VARIABLE, data_dir_from_env, fetch, manifest, names, unknown, verify};
pub use selective_copy::SelectiveCopy;
pub use sequence_set::{SequenceSet, Steps, StepsOf};
pub use shape::{Content, Shape, Target};
pub use shuffle::epoch_order;
pub use source::{Dataset, LoadOptions, Options, Published, Source};

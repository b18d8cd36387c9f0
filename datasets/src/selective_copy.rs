//! The selective copying task: remember the few tokens that matter among many that do not, and repeat them in order.
//!
//! Token 0 is blank, token `vocabulary - 1` is the marker "now repeat", and those between carry data. Of its `length`
//! steps an example has `copies` markers at the end; before them stand `copies` data tokens at random, among blanks.
//! At the markers the data tokens are to be told, in their order: with 4 copies out of 12 steps and 8 tokens,
//!
//! ```text
//! input    0  5  0  0  1  0  5  3  7  7  7  7
//! labels                           5  1  5  3
//! ```
//!
//! The gaps between data tokens differ from example to example, so a linear map that is the same at every step cannot
//! line the tokens up; what a model does at a step must depend on what it reads there. Labels are the data tokens
//! themselves, so there are as many classes as tokens, of which the blank and the marker never occur. Guessing scores
//! `1 / (vocabulary - 2)`.
//!
//! Each example depends on (seed, part, index) and the options that give its size, and on integer arithmetic alone:
//! every machine and every number of threads gives the same bytes.
//!
//! # Source
//! Gu and Dao (2023), section 4.1: `GD23` in `docs/references.bib`, with 4096 steps, 16 tokens and 16 copies. They
//! change the copying task of Arjovsky, Shah and Bengio (2016, `ASB16`), where the data stands together at the start,
//! as the denoising task of Jing et al. (2019, `JGPSTSB19`) does. The paper does not say whether its 4096 steps and 16
//! tokens count the markers; here both do. What it draws anew for every step of training is here held in memory and
//! visited in epochs: ask for more examples where a model learns these by heart.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{DatasetError, Part};
use crate::option::{OptionFault, require, require_examples, require_seed};
use crate::sequence_set::SequenceSet;
use crate::shape::{Content, Shape, Target};
use crate::shuffle::{Purpose, below, stream};
use crate::source::{Options, Published, Source};

/// The token of a step that carries nothing.
pub const BLANK: u8 = 0;

/// Most steps of an example that can be asked for.
pub const LONGEST: usize = 1 << 20;

/// Most bytes of a part that can be asked for, one for each step of each example.
pub const LIMIT: usize = 1 << 30;

/// A blank, a marker, and two data tokens: with one, the answer would be known beforehand.
const SMALLEST_VOCABULARY: usize = 4;

/// Tokens are stored as bytes.
const LARGEST_VOCABULARY: usize = 256;

/// Size of the examples, how many, and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectiveCopyOptions {
    /// Steps of an example including the markers, twice `copies` to [`LONGEST`].
    pub length: usize,
    /// Data tokens to remember, and markers to repeat them at; at least 1.
    pub copies: usize,
    /// Number of tokens including the blank and the marker, 4 to 256.
    pub vocabulary: usize,
    /// Training examples including those held out for validation, 1 to [`LIMIT`] / `length`.
    pub train_examples: usize,
    /// Test examples, 1 to [`LIMIT`] / `length`.
    pub test_examples: usize,
    /// Chooses the examples. Separate from the seed of a run, so that runs of several seeds share one data set.
    pub seed: u64,
}

impl Default for SelectiveCopyOptions {
    /// 16 copies among 256 steps and 16 tokens; 20,000 training and 2,000 test examples of seed 0.
    fn default() -> Self {
        Self {
            length: 256,
            copies: 16,
            vocabulary: 16,
            train_examples: 20_000,
            test_examples: 2_000,
            seed: 0,
        }
    }
}

impl SelectiveCopyOptions {
    /// The token that asks for the next data token.
    fn marker(&self) -> u8 {
        (self.vocabulary - 1) as u8
    }

    fn shape(&self) -> Shape {
        Shape {
            sequences: 1,
            length: self.length,
            channels: 1,
            classes: self.vocabulary,
            content: Content::Tokens {
                vocabulary: self.vocabulary,
            },
            target: Target::LastSteps { count: self.copies },
        }
    }
}

impl Options for SelectiveCopyOptions {
    fn check(&self) -> Result<(), OptionFault> {
        let Self {
            length,
            copies,
            vocabulary,
            ..
        } = *self;
        let tokens = SMALLEST_VOCABULARY..=LARGEST_VOCABULARY;
        require(
            tokens.contains(&vocabulary),
            "vocabulary",
            vocabulary,
            || {
                format!(
                    "it must be at least {SMALLEST_VOCABULARY}, a blank, a marker and two data tokens, and at most \
                 {LARGEST_VOCABULARY}"
                )
            },
        )?;
        require((2..=LONGEST).contains(&length), "length", length, || {
            format!(
                "it must be at least 2, one step to copy and one to repeat it, and at most {LONGEST}"
            )
        })?;
        require((1..=length / 2).contains(&copies), "copies", copies, || {
            format!("it must be at least 1 and at most half of the length of {length}")
        })?;
        require_examples(self.train_examples, self.test_examples, LIMIT / length)?;
        require_seed(self.seed)
    }
}

/// The data set `selective-copy`.
#[derive(Debug)]
pub struct SelectiveCopy;

impl Source for SelectiveCopy {
    const NAME: &'static str = "selective-copy";
    type Options = SelectiveCopyOptions;

    fn shape(task: &SelectiveCopyOptions) -> Shape {
        task.shape()
    }

    fn read(task: &SelectiveCopyOptions, _: Option<&Path>) -> Result<Published, DatasetError> {
        Ok(Published {
            train: generate(task, Part::Train, task.train_examples)?,
            test: generate(task, Part::Test, task.test_examples)?,
        })
    }
}

fn generate(
    task: &SelectiveCopyOptions,
    part: Part,
    len: usize,
) -> Result<SequenceSet, DatasetError> {
    let mut tokens = vec![BLANK; len * task.length];
    let mut labels = vec![0; len * task.copies];
    tokens
        .par_chunks_mut(task.length)
        .zip(labels.par_chunks_mut(task.copies))
        .enumerate()
        .for_each(|(index, (tokens, labels))| write(task, part, index as u64, tokens, labels));
    SequenceSet::new(task.shape(), tokens, labels)
}

/// Writes example `index`: its steps over `tokens`, which are all blank, and its data over `labels`.
fn write(
    task: &SelectiveCopyOptions,
    part: Part,
    index: u64,
    tokens: &mut [u8],
    labels: &mut [u16],
) {
    let purpose = match part {
        Part::Train | Part::Validation => Purpose::SelectiveCopyTrain,
        Part::Test => Purpose::SelectiveCopyTest,
    };
    let mut rng = stream(task.seed, purpose, index);
    let data_tokens = (task.vocabulary - 2) as u32;
    for label in &mut *labels {
        *label = 1 + below(data_tokens, &mut rng) as u16;
    }
    let (steps, markers) = tokens.split_at_mut(task.length - task.copies);
    markers.fill(task.marker());
    // Selection sampling: taking each step with probability (data left) / (steps left) makes every choice of steps
    // equally likely, in order and without a table.
    let mut left = labels.iter();
    let steps_left = (1..=steps.len() as u32).rev();
    for (step, steps_left) in steps.iter_mut().zip(steps_left) {
        if below(steps_left, &mut rng) < left.len() as u32 {
            *step = *left.next().expect("a draw below 0 is impossible") as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::hexadecimal;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    const SMALL: SelectiveCopyOptions = SelectiveCopyOptions {
        length: 12,
        copies: 4,
        vocabulary: 8,
        train_examples: 40,
        test_examples: 10,
        seed: 3,
    };

    /// What a reader of the whole input would answer.
    fn oracle(tokens: &[u8], task: &SelectiveCopyOptions) -> Vec<u16> {
        let before_markers = &tokens[..task.length - task.copies];
        let data = before_markers.iter().filter(|token| **token != BLANK);
        data.map(|token| u16::from(*token)).collect()
    }

    fn any_task() -> impl Strategy<Value = SelectiveCopyOptions> {
        let sizes = (1_usize..12).prop_flat_map(|copies| (2 * copies..80, Just(copies)));
        (sizes, 4_usize..=256, 0..1_u64 << 63).prop_map(|((length, copies), vocabulary, seed)| {
            SelectiveCopyOptions {
                length,
                copies,
                vocabulary,
                train_examples: 5,
                test_examples: 3,
                seed,
            }
        })
    }

    proptest! {
        #[test]
        fn the_labels_are_the_data_in_order_and_the_markers_stand_at_the_end(task in any_task()) {
            prop_assert!(task.check().is_ok());
            let set = SelectiveCopy::read(&task, None).unwrap();
            prop_assert_eq!(set.train.shape(), task.shape());
            for part in [&set.train, &set.test] {
                for index in 0..part.len() {
                    let (steps, markers) = part.bytes(index).split_at(task.length - task.copies);
                    prop_assert!(markers.iter().all(|token| *token == task.marker()));
                    prop_assert!(steps.iter().all(|token| *token < task.marker()));
                    prop_assert_eq!(&oracle(part.bytes(index), &task)[..], part.labels(index));
                }
            }
        }
    }

    #[test]
    fn the_default_is_a_small_version_of_the_published_task() {
        let SelectiveCopyOptions {
            length,
            copies,
            vocabulary,
            train_examples,
            test_examples,
            seed,
        } = SelectiveCopyOptions::default();
        assert_eq!(
            (
                length,
                copies,
                vocabulary,
                train_examples,
                test_examples,
                seed
            ),
            (256, 16, 16, 20_000, 2_000, 0)
        );
    }

    #[test]
    fn an_example_depends_on_seed_part_and_index_alone() {
        let few = generate(&SMALL, Part::Train, 20).unwrap();
        let more = generate(&SMALL, Part::Train, 40).unwrap();
        for index in 0..20 {
            assert_eq!(few.bytes(index), more.bytes(index));
            assert_eq!(few.labels(index), more.labels(index));
        }
        let all = |task: &SelectiveCopyOptions, part| -> Vec<Vec<u8>> {
            let set = generate(task, part, 20).unwrap();
            (0..20).map(|index| set.bytes(index).to_vec()).collect()
        };
        let base = all(&SMALL, Part::Train);
        assert_ne!(base, all(&SMALL, Part::Test));
        assert_ne!(
            base,
            all(&SelectiveCopyOptions { seed: 4, ..SMALL }, Part::Train)
        );
        assert_eq!(base, all(&SMALL, Part::Validation));
        assert_ne!(base[0], base[1]);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| generate(&SMALL, Part::Train, 200).unwrap())
        };
        let (one, five) = (on(1), on(5));
        assert!((0..200).all(|index| one.bytes(index) == five.bytes(index)
            && one.labels(index) == five.labels(index)));
    }

    /// Integer arithmetic on a specified random stream: the same on every machine.
    #[test]
    fn the_first_hundred_test_examples_of_the_default_never_change() {
        let set = generate(&SelectiveCopyOptions::default(), Part::Test, 100).unwrap();
        let mut hasher = Sha256::new();
        for index in 0..set.len() {
            hasher.update(set.bytes(index));
            set.labels(index)
                .iter()
                .for_each(|label| hasher.update([*label as u8]));
        }
        assert_eq!(hexadecimal(&hasher.finalize()), GOLDEN);
    }
    const GOLDEN: &str = "99a55da1eaa267eb8d866349ab7e2ad0e3a8bdd110c88511518dea18201dd97d";

    #[test]
    fn data_stands_at_every_step_and_is_every_token_equally_often() {
        const EXAMPLES: usize = 4000;
        let set = generate(&SMALL, Part::Train, EXAMPLES).unwrap();
        let mut at_step = [0.0_f64; 8];
        for index in 0..EXAMPLES {
            for (count, token) in at_step.iter_mut().zip(set.bytes(index)) {
                *count += f64::from(u8::from(*token != BLANK));
            }
        }
        // 4 of 8 steps: binomial with p = 1/2, standard deviation 32; 5 of them.
        let even = |count: &f64| (count - 2000.0).abs() < 5.0 * 32.0;
        assert!(at_step.iter().all(even), "{at_step:?}");
        // 16,000 labels on 6 data tokens: mean 2667, standard deviation 47; 5 of them.
        let counts = set.class_counts();
        assert_eq!((counts[0], counts[7]), (0, 0));
        let even = |count: &usize| (*count as f64 - 16_000.0 / 6.0).abs() < 5.0 * 47.0;
        assert!(counts[1..7].iter().all(even), "{counts:?}");
    }

    #[test]
    fn options_that_cannot_be_are_refused_with_key_value_and_what_to_change() {
        let wrong = |change: fn(&mut SelectiveCopyOptions)| {
            let mut task = SMALL;
            change(&mut task);
            task.check().unwrap_err().to_string()
        };
        for (refusal, expected) in [
            (
                wrong(|task| task.vocabulary = 3),
                "`vocabulary` = 3 cannot be used: it must be at least 4, a blank",
            ),
            (
                wrong(|task| task.vocabulary = 257),
                "`vocabulary` = 257 cannot be used: it must be at least 4, a blank",
            ),
            (
                wrong(|task| task.length = LONGEST + 1),
                "`length` = 1048577 cannot be used: it must be at least 2",
            ),
            (
                wrong(|task| task.length = 0),
                "`length` = 0 cannot be used: it must be at least 2",
            ),
            (
                wrong(|task| task.copies = 0),
                "`copies` = 0 cannot be used: it must be at least 1 and at most half",
            ),
            (
                wrong(|task| task.copies = 7),
                "`copies` = 7 cannot be used: it must be at least 1 and at most half",
            ),
            (
                wrong(|task| task.train_examples = 0),
                "`train_examples` = 0 cannot be used: it must be at least 1",
            ),
            (
                wrong(|task| task.test_examples = 89_478_486),
                "`test_examples` = 89478486 cannot be used: it must be at least 1 and at most 89478485",
            ),
            (
                wrong(|task| task.seed = u64::MAX),
                "`seed` = 18446744073709551615 cannot be used",
            ),
        ] {
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}

//! What holds for every data set. A new one joins by a line here.

mod files;
mod sources;

use std::fmt::Debug;
use std::path::Path;

use datasets::digits::DigitsOptions;
use datasets::imdb::{ImdbOptions, LONGEST};
use datasets::mnist::MnistOptions;
use datasets::selective_copy::SelectiveCopyOptions;
use datasets::{
    Content, Dataset, DatasetError, Digits, Imdb, LoadOptions, Mnist, Options, Published,
    SelectiveCopy, SequenceSet, Source,
};
use sources::{Pairs, PairsOptions, Signals, SignalsOptions};

/// Holds a source to all laws: `NAME: SOURCE, OPTIONS, FILES, [KEY: CHANGE, ..]`, with options of a small set, where its
/// files are if it has any, and changes to these options that make the one of a key impossible.
macro_rules! laws {
    ($name:ident: $source:ty, $options:expr, $files:expr, [$($key:literal: $wrong:expr),* $(,)?]) => {
        mod $name {
            use super::*;

            fn case() -> Case<$source> {
                Case {
                    options: $options,
                    dir: $files,
                    wrong: vec![$(wrong::<$source>($key, $wrong)),*],
                }
            }

            #[test]
            fn equal_seeds_give_equal_examples() {
                case().repeats();
            }

            #[test]
            fn a_split_loses_and_repeats_no_example() {
                case().splits();
            }

            #[test]
            fn examples_are_what_the_shape_declares() {
                case().has_its_shape();
            }

            #[test]
            fn options_out_of_range_are_refused_with_their_key() {
                case().checks_its_options();
            }

            #[test]
            fn options_are_a_table_of_keys_with_defaults() {
                case().writes_its_options();
            }

            #[test]
            fn files_are_those_of_the_manifest() {
                case().has_a_manifest();
            }
        }
    };
}

laws!(mnist: Mnist, MnistOptions {}, files::mnist(), []);
laws!(imdb: Imdb, ImdbOptions { length: 12 }, files::imdb(), [
    "length": |options| options.length = 0,
    "length": |options| options.length = LONGEST + 1,
]);
laws!(digits: Digits, DigitsOptions { train_examples: 43, test_examples: 7, seed: 5 }, None, [
    "train_examples": |options| options.train_examples = 0,
    "test_examples": |options| options.test_examples = usize::MAX,
    "seed": |options| options.seed = u64::MAX,
]);
laws!(
    selective_copy: SelectiveCopy,
    SelectiveCopyOptions { length: 12, copies: 4, vocabulary: 8, train_examples: 43, test_examples: 7, seed: 5 },
    None,
    [
        "length": |options| options.length = 0,
        "copies": |options| options.copies = 7,
        "vocabulary": |options| options.vocabulary = 257,
        "train_examples": |options| options.train_examples = 0,
        "test_examples": |options| options.test_examples = usize::MAX,
        "seed": |options| options.seed = u64::MAX,
    ]
);
// What no published set needs so far: pairs, tokens above 256, values that are no bytes.
laws!(pairs: Pairs, PairsOptions { examples: 43 }, None, ["examples": |options| options.examples = 0]);
laws!(signals: Signals, SignalsOptions { examples: 43 }, None, ["examples": |options| options.examples = 0]);

type Change<S> = fn(&mut <S as Source>::Options);

fn wrong<S: Source>(key: &'static str, change: Change<S>) -> (&'static str, Change<S>) {
    (key, change)
}

struct Case<S: Source> {
    options: S::Options,
    dir: Option<&'static Path>,
    wrong: Vec<(&'static str, Change<S>)>,
}

impl<S: Source> Case<S> {
    fn how(&self, seed: u64) -> LoadOptions {
        LoadOptions {
            data_dir: self.dir.map(Path::to_path_buf),
            validation_fraction: 0.3,
            seed,
        }
    }

    fn load(&self, seed: u64) -> Dataset {
        S::load(&self.options, &self.how(seed)).expect("a small set")
    }

    fn read(&self) -> Published {
        S::read(&self.options, self.dir).expect("a small set")
    }

    fn repeats(&self) {
        let parts = |seed| {
            let set = self.load(seed);
            [&set.train, &set.validation, &set.test].map(examples)
        };
        let [train, validation, test] = parts(1);
        assert_eq!(parts(1), [train.clone(), validation, test.clone()]);
        // Another seed divides otherwise, and what is published stays.
        let [other, _, same] = parts(2);
        assert_ne!(train, other);
        assert_eq!(test, same);
    }

    fn splits(&self) {
        let published = examples(&self.read().train);
        let set = self.load(1);
        assert_eq!(set.name, S::NAME);
        let held_out = (published.len() as f64 * 0.3).round() as usize;
        assert_eq!(set.validation.len(), held_out);
        let mut divided = [examples(&set.train), examples(&set.validation)].concat();
        divided.sort();
        let mut published = published;
        published.sort();
        assert_eq!(divided, published);
    }

    fn has_its_shape(&self) {
        let shape = S::shape(&self.options);
        let set = self.load(1);
        assert_eq!(set.shape, shape);
        for part in [&set.train, &set.validation, &set.test] {
            assert_eq!(part.shape(), shape);
            assert!(!part.is_empty());
            assert_eq!(part.second().is_some(), shape.sequences == 2);
            for view in views(part) {
                (0..view.len()).for_each(|index| has_shape(&view, index));
            }
        }
    }

    fn checks_its_options(&self) {
        assert_eq!(S::Options::default().check(), Ok(()));
        assert_eq!(self.options.check(), Ok(()));
        for (key, change) in &self.wrong {
            let mut options = self.options.clone();
            change(&mut options);
            let fault = options.check().expect_err("out of range");
            assert_eq!(fault.key, *key);
            let error = S::load(&options, &self.how(1)).expect_err("out of range");
            let text = error.to_string();
            assert!(matches!(error, DatasetError::Option { .. }), "{text}");
            for part in [S::NAME, key, &fault.value, &fault.expected] {
                assert!(text.contains(part), "no `{part}` in: {text}");
            }
        }
    }

    fn writes_its_options(&self) {
        let text = toml::to_string(&self.options).expect("a table");
        let keys: toml::Table = text.parse().expect("a table");
        assert_eq!(
            toml::from_str::<S::Options>(&text),
            Ok(self.options.clone())
        );
        assert_eq!(toml::from_str::<S::Options>(""), Ok(S::Options::default()));
        assert!(toml::from_str::<S::Options>("no_such_key = 1").is_err());
        for (key, _) in &self.wrong {
            assert!(keys.contains_key(*key), "{key} is no key of {text}");
        }
    }

    fn has_a_manifest(&self) {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!S::NAME.is_empty() && S::NAME.chars().all(letter));
        let Some(manifest) = S::manifest() else {
            // Nothing is read, so nothing need be there.
            assert!(S::read(&self.options, None).is_ok());
            return;
        };
        assert_eq!(manifest.name, S::NAME);
        assert!(!manifest.files.is_empty() && !manifest.license.is_empty());
        let https = |mirror: &String| mirror.starts_with("https://") && mirror.ends_with('/');
        assert!(!manifest.mirrors.is_empty() && manifest.mirrors.iter().all(https));
        for file in &manifest.files {
            let digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(digit));
            assert!(file.size > 0, "{}", file.name);
        }
        let error = S::read(&self.options, None).expect_err("no folder");
        assert!(
            matches!(error, DatasetError::DataDirUnset { .. }),
            "{error}"
        );
        let error = S::read(&self.options, Some(Path::new("no/such"))).expect_err("no files");
        assert!(
            matches!(error, DatasetError::FilesNotFound { .. }),
            "{error}"
        );
    }
}

/// All of an example that can be compared.
fn examples(set: &SequenceSet) -> Vec<String> {
    let shown = |value: &dyn Debug| format!("{value:?}");
    let example = |index| {
        let steps = views(set).into_iter().map(|view| shown(&view.steps(index)));
        let steps: String = steps.collect();
        steps + &shown(&set.labels(index))
    };
    (0..set.len()).map(example).collect()
}

/// The set by its first sequences, and by its second ones if there are any.
fn views(set: &SequenceSet) -> Vec<SequenceSet> {
    std::iter::once(set.clone()).chain(set.second()).collect()
}

fn has_shape(set: &SequenceSet, index: usize) {
    let shape = set.shape();
    assert!((1..=shape.length).contains(&set.length(index)));
    assert_eq!(set.labels(index).len(), shape.labels());
    let labels = set.labels(index).iter();
    assert!(
        labels
            .copied()
            .all(|label| usize::from(label) < shape.classes)
    );
    let own = set.length(index) * shape.channels;
    match shape.content {
        Content::Values => {
            let mut values = vec![f32::NAN; shape.values()];
            set.write_example(index, &mut values);
            assert!(values.iter().all(|value| value.is_finite()));
            assert!(values[own..].iter().all(|value| *value == 0.0));
        }
        Content::Tokens { vocabulary } => {
            let mut tokens = vec![-1; shape.values()];
            set.write_tokens(index, &mut tokens);
            let known = |token: &i32| usize::try_from(*token).is_ok_and(|t| t < vocabulary);
            assert!(tokens.iter().all(known));
            assert!(tokens[own..].iter().all(|token| *token == 0));
        }
    }
}

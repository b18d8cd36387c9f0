//! The data set of a configuration, and where its files are.

use std::path::PathBuf;

use datasets::{Dataset, DatasetError, LoadOptions};

use crate::config::Config;
use crate::seeds::{Purpose, derive};

/// Loads the data set that a configuration names. Its files are looked for in `data.dir`, then in the folder that
/// `COMPRESSM_DATA_DIR` names.
pub fn load(config: &Config) -> Result<Dataset, DatasetError> {
    let data = &config.data;
    data.load(&LoadOptions {
        data_dir: data.dir.clone().or_else(datasets::data_dir_from_env),
        validation_fraction: data.validation_fraction,
        seed: derive(config.training.seed, Purpose::Split),
    })
}

/// The folder that `data fetch` writes to when nobody names one.
pub fn fetch_dir(flag: Option<PathBuf>) -> PathBuf {
    flag.or_else(datasets::data_dir_from_env)
        .unwrap_or_else(|| PathBuf::from("data"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::selective_copy::SelectiveCopyOptions;
    use datasets::{Content, Shape, Target};

    #[test]
    fn the_options_of_the_table_reach_the_data_set() {
        let mut config = Config::default();
        config.data.dataset = "selective-copy".to_owned();
        config.data.selective_copy = SelectiveCopyOptions {
            length: 20,
            copies: 3,
            vocabulary: 7,
            train_examples: 30,
            test_examples: 5,
            seed: 0,
        };
        let set = load(&config).unwrap();
        let shape = Shape {
            sequences: 1,
            length: 20,
            channels: 1,
            classes: 7,
            content: Content::Tokens { vocabulary: 7 },
            target: Target::LastSteps { count: 3 },
        };
        assert_eq!(set.shape, shape);
        assert_eq!(
            (set.train.len(), set.validation.len(), set.test.len()),
            (27, 3, 5)
        );
    }
}

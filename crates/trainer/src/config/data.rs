//! Section `data`: what is learned.
//!
//! Every data set has a table of its own options, `[data.imdb]` and so on: as many as `datasets` registers.

use std::path::PathBuf;

use datasets::{Dataset, DatasetError, LoadOptions, Options as _, Source};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::range::{in_table, require};
use super::rules::Rules;

/// The choice of a data set. Its words are those that the data sets go by; one that is unknown is refused where it is
/// loaded.
pub(super) const DATASET: &str = "data.dataset";

pub(super) const RULES: Rules = Rules {
    section: "data",
    choices: &[DATASET],
    short_forms: &[
        "length",
        "copies",
        "vocabulary",
        "train_examples",
        "test_examples",
    ],
    ..Rules::NONE
};

macro_rules! data_config {
    ($($name:literal $field:ident: $source:ty,)*) => {
        /// Section `data`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct DataConfig {
            /// Name of the data set, such as `digits` (generated, nothing to download) or `mnist`.
            pub dataset: String,
            /// Folder that holds the data set's files. Without it, the caller looks elsewhere (`COMPRESSM_DATA_DIR`).
            #[serde(skip_serializing_if = "Option::is_none")]
            pub dir: Option<PathBuf>,
            /// Share of the training examples held out for validation, in `(0, 1)`.
            pub validation_fraction: f64,
            $(
                #[doc = concat!("Options of `", $name, "`.")]
                #[serde(rename = $name)]
                pub $field: <$source as Source>::Options,
            )*
        }

        impl Default for DataConfig {
            fn default() -> Self {
                Self {
                    dataset: "digits".to_owned(),
                    dir: None,
                    validation_fraction: 0.1,
                    $($field: Default::default(),)*
                }
            }
        }

        impl DataConfig {
            fn validate_options(&self) -> Result<(), ConfigError> {
                $(
                    self.$field.check().map_err(|fault| {
                        in_table(concat!("data.", $name), fault.key, fault.value, fault.expected)
                    })?;
                )*
                Ok(())
            }

            /// Loads the data set.
            ///
            /// # Errors
            /// As [`Source::load`], and for a name that no data set goes by.
            pub fn load(&self, how: &LoadOptions) -> Result<Dataset, DatasetError> {
                match self.dataset.as_str() {
                    $($name => <$source>::load(&self.$field, how),)*
                    name => Err(datasets::unknown(name)),
                }
            }
        }
    };
}
datasets::sources!(data_config);

impl DataConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        require(
            !self.dataset.is_empty() && self.dataset.chars().all(letter),
            "data.dataset",
            format!("{:?}", self.dataset),
            "a data set's name has lowercase letters, digits, `-` and `_`",
        )?;
        require(
            self.dir
                .as_ref()
                .is_none_or(|dir| !dir.as_os_str().is_empty()),
            "data.dir",
            "\"\"",
            "give a folder, or leave the key out",
        )?;
        let fraction = self.validation_fraction;
        require(
            fraction > 0.0 && fraction < 1.0,
            "data.validation_fraction",
            fraction,
            "it must be above 0 and below 1",
        )?;
        self.validate_options()
    }
}

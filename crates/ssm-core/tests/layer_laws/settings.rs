//! Settings of a kind in a configuration.

use burn::module::Module;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use ssm_core::{Block, LayerSettings, Settings, Surroundings};

use crate::{
    differences::Cpu,
    subject::{HIDDEN, STATE, Subject},
};

/// A width that the sizes of any settings divide.
const WIDTH: usize = 64;

fn within_ranges<S: Settings>(_: &S) {
    let defaults = S::default();
    assert_eq!(defaults.check(WIDTH, STATE), Ok(()));
}

fn through_a_table<S: Settings>(settings: &S) {
    let read = |value: &Value| serde_json::from_value::<S>(value.clone());
    assert_eq!(read(&json!({})).unwrap(), S::default());
    for settings in [settings.clone(), S::default()] {
        let table = serde_json::to_value(&settings).unwrap();
        assert_eq!(read(&table).unwrap(), settings);
        let mut unknown = table;
        let keys = unknown.as_object_mut().unwrap();
        keys.insert("unheard_of".to_owned(), json!(1));
        let error = read(&unknown).unwrap_err().to_string();
        assert!(error.contains("unheard_of"), "{error}");
    }
}

/// Calls a function with the settings of whatever kind.
macro_rules! of_any_kind {
    ($($word:literal $Kind:ident $field:ident $Layer:ident,)+) => {
        fn within_ranges_of_any_kind(settings: &LayerSettings) {
            match settings {
                $(LayerSettings::$Kind($field) => within_ranges($field),)+
            }
        }

        fn through_a_table_of_any_kind(settings: &LayerSettings) {
            match settings {
                $(LayerSettings::$Kind($field) => through_a_table($field),)+
            }
        }
    };
}
ssm_core::with_layers!(of_any_kind);

pub(crate) fn defaults_are_within_their_ranges(subject: &Subject) {
    assert_eq!(subject.settings.check(HIDDEN, STATE), Ok(()));
    within_ranges_of_any_kind(&subject.settings);
}

pub(crate) fn settings_go_through_a_table_without_unknown_keys(subject: &Subject) {
    through_a_table_of_any_kind(&subject.settings);
}

/// With all that stands around it, biases aside.
pub(crate) fn a_layer_has_about_as_many_parameters_as_its_settings_say(subject: &Subject) {
    for state in [16, 64, 256] {
        let around = Surroundings {
            hidden: WIDTH,
            layers: 1,
        };
        let rng = &mut ChaCha8Rng::seed_from_u64(1);
        let device = Default::default();
        let block = Block::<Cpu>::init(around, state, &subject.settings, rng, &device);
        let (has, said) = (
            block.num_params() as f64,
            subject.settings.parameters(WIDTH as f64, state as f64),
        );
        // Vectors beside matrices of this width.
        assert!((said / has - 1.0).abs() < 0.05, "{said} of {has}");
    }
}

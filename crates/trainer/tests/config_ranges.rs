//! Values that make no sense, whatever they are: refused with the key, and never a panic.

use trainer::config::{Config, ConfigError};

/// Loads with nothing but `--set` flags.
fn set(sets: &[&str]) -> Result<Config, ConfigError> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::load_with_env(None, &sets, [])
}

/// Choices under which a key is read.
fn readers(key: &str) -> &'static [&'static str] {
    match key {
        "data.length" | "data.copies" | "data.vocabulary" => &["data.dataset=selective-copy"],
        "data.imdb.length" => &["data.dataset=imdb"],
        key if key.starts_with("data.selective-copy.") => &["data.dataset=selective-copy"],
        "model.expand" | "model.conv_kernel" | "model.dt_rank" => &["model.kind=mamba"],
        "model.head_dim" => &["model.kind=mamba2", "model.hidden_dim=32"],
        "compress.fraction" => &["compress.policy=fraction"],
        "compress.max_drop" => &["compress.policy=pragmatic"],
        "compress.min_correlation" => &["compress.policy=auto"],
        "compress.target_states" | "compress.target_parameters" | "compress.target_step_ms" => {
            &["compress.policy=target"]
        }
        _ => &[],
    }
}

/// With this setting where it is read.
fn set_where_read(setting: &str) -> Result<Config, ConfigError> {
    let (key, _) = setting.split_once('=').expect("an assignment");
    set(&[readers(key), &[setting]].concat())
}

#[test]
fn a_value_out_of_range_is_an_error_with_key_value_and_range() {
    let cases = [
        ("data.dataset=../etc", "lowercase letters"),
        ("data.validation_fraction=0.0", "above 0 and below 1"),
        ("data.validation_fraction=1.0", "above 0 and below 1"),
        ("data.imdb.length=0", "at least 1"),
        ("data.imdb.length=16385", "at most 16384"),
        ("data.selective-copy.length=1", "at least 2"),
        ("data.selective-copy.copies=0", "at least 1"),
        (
            "data.selective-copy.copies=129",
            "half of the length of 256",
        ),
        ("data.selective-copy.vocabulary=3", "at least 4"),
        ("data.selective-copy.test_examples=0", "at least 1"),
        ("data.digits.train_examples=0", "at least 1"),
        ("data.digits.test_examples=1000001", "at most 1000000"),
        ("model.blocks=0", "at least 1"),
        ("model.state_dim=0", "at least 1"),
        ("model.hidden_dim=0", "at least 1"),
        ("model.r_max=1.5", "below 1"),
        ("model.r_max=1.0", "below 1"),
        ("model.r_max=nan", "below 1"),
        ("model.r_min=-0.1", "at least 0"),
        ("model.r_min=0.999", "below r_max"),
        ("model.max_phase=0.0", "above 0"),
        ("model.max_phase=6.3", "at most 2 pi"),
        ("model.dropout=1.0", "below 1"),
        ("model.dropout=-0.1", "at least 0"),
        ("training.steps=0", "at least 1"),
        ("training.batch_size=0", "at least 1"),
        ("training.lr=0.0", "above 0"),
        ("training.lr=inf", "finite"),
        ("training.lr=nan", "finite"),
        ("training.weight_decay=-0.1", "at least 0"),
        ("training.ssm_lr_factor=-1", "at least 0"),
        ("training.warmup_fraction=1.0", "below 1"),
        ("training.eval_every=0", "at least 1"),
        ("training.checkpoint_every=0", "at least 1"),
        ("compress.tau=1.0", "below 1"),
        ("compress.tau=-0.1", "at least 0"),
        ("compress.tau=nan", "below 1"),
        ("compress.min_drop=1.0", "below 1"),
        ("compress.calibration_examples=0", "at least 1"),
        ("compress.order_multiple=0", "a power of two"),
        ("compress.order_multiple=48", "a power of two"),
    ];
    for (set_flag, range) in cases {
        let (key, _) = set_flag.split_once('=').unwrap();
        let text = set_where_read(set_flag).unwrap_err().to_string();
        for part in [&format!("`{key}` = "), range] {
            assert!(text.contains(part), "no `{part}` in: {text}");
        }
    }
}

#[test]
fn a_short_form_out_of_range_is_named_with_its_table() {
    for (setting, key) in [
        ("data.length=0", "`data.selective-copy.length` = 0"),
        ("data.copies=999", "`data.selective-copy.copies` = 999"),
        ("data.train_examples=0", "`data.digits.train_examples` = 0"),
    ] {
        let text = set_where_read(setting).unwrap_err().to_string();
        assert!(text.contains(key), "{text}");
    }
}

#[test]
fn heads_divide_the_channels() {
    let sets = ["model.kind=mamba2", "model.hidden_dim=16"];
    let text = set(&sets).unwrap_err().to_string();
    assert!(
        text.contains("`model.head_dim` = 64") && text.contains("must divide"),
        "{text}"
    );
}

/// Every key that is a number.
const NUMBERS: [&str; 52] = [
    "data.validation_fraction",
    "data.imdb.length",
    "data.digits.train_examples",
    "data.digits.seed",
    "data.selective-copy.length",
    "data.selective-copy.copies",
    "data.selective-copy.vocabulary",
    "data.selective-copy.test_examples",
    "data.selective-copy.seed",
    "data.length",
    "data.copies",
    "data.vocabulary",
    "data.train_examples",
    "data.test_examples",
    "model.blocks",
    "model.state_dim",
    "model.hidden_dim",
    "model.r_min",
    "model.r_max",
    "model.max_phase",
    "model.dropout",
    "model.expand",
    "model.conv_kernel",
    "model.dt_rank",
    "model.head_dim",
    "training.steps",
    "training.batch_size",
    "training.lr",
    "training.weight_decay",
    "training.ssm_lr_factor",
    "training.warmup_fraction",
    "training.eval_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.seed",
    "compress.tau",
    "compress.fraction",
    "compress.max_drop",
    "compress.min_correlation",
    "compress.target_states",
    "compress.target_parameters",
    "compress.target_step_ms",
    "compress.start",
    "compress.end",
    "compress.checks",
    "compress.interval",
    "compress.min_drop",
    "compress.min_state",
    "compress.cooldown",
    "compress.order_multiple",
    "compress.calibration_examples",
    "compress.snapshot_every",
];

/// Numbers at the ends of what can be written, as TOML.
const EXTREMES: [&str; 14] = [
    "0",
    "1",
    "-1",
    "9223372036854775807",
    "4611686018427387905",
    "3037000500",
    "0.0",
    "-0.0",
    "1e-300",
    "5e-324",
    "1e300",
    "inf",
    "-inf",
    "nan",
];

#[test]
fn every_number_is_a_configuration_or_an_error_that_names_its_key() {
    let mut accepted = 0;
    for key in NUMBERS {
        for value in EXTREMES {
            let setting = format!("{key}={value}");
            match set_where_read(&setting) {
                Ok(config) => {
                    // What is accepted has a schedule and can be written down.
                    config.schedule().expect("a validated configuration");
                    let text = config.to_toml().expect("paths are text");
                    let (_, name) = key.rsplit_once('.').expect("in a section");
                    assert!(text.contains(&format!("\n{name} = ")), "{setting}: {text}");
                    accepted += 1;
                }
                Err(error) => {
                    let text = error.to_string();
                    let (section, _) = key.split_once('.').expect("in a section");
                    let (_, name) = key.rsplit_once('.').expect("in a section");
                    let named = text.contains(section) && text.contains(name);
                    // One step has no room for the window of the checks, which is a share of it.
                    let of_window = setting == "training.steps=1" && text.contains("lower `start`");
                    assert!(named || of_window, "{setting}: {text}");
                    assert!(!text.contains('\n'), "{text}");
                }
            }
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn sizes_that_are_each_possible_and_together_too_much_are_refused_with_an_estimate() {
    let cases: [&[&str]; 4] = [
        &["model.state_dim=1000000000"],
        &[
            "model.blocks=1000",
            "model.hidden_dim=4096",
            "model.state_dim=4096",
        ],
        &[
            "model.kind=mamba",
            "model.expand=1000000",
            "model.hidden_dim=1000",
        ],
        &["model.kind=mamba2", "model.hidden_dim=1000000000000"],
    ];
    for sets in cases {
        let text = set(sets).unwrap_err().to_string();
        assert!(
            text.contains("parameters") && text.contains("hidden_dim"),
            "{text}"
        );
    }
    // A model that a graphics card trains.
    set(&[
        "model.blocks=64",
        "model.hidden_dim=2048",
        "model.state_dim=4096",
    ])
    .expect("large");
}

//! Keys that nothing reads: where they are refused, and where a later layer has made them so.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use trainer::config::{Config, ConfigError, LayerKind, PolicyKind};

/// Loads a file with this text, these environment variables and these flags.
fn load(file: &str, variables: &[(&str, &str)], sets: &[&str]) -> Result<Config, ConfigError> {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("run.toml");
    fs::write(&path, file).expect("a temporary file");
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let variables = variables.iter().map(|(name, value)| {
        let name = format!("COMPRESSM_{name}");
        (OsString::from(name), OsString::from(value))
    });
    Config::load_with_env(Some(&path), &sets, variables)
}

fn refusal(file: &str, variables: &[(&str, &str)], sets: &[&str]) -> String {
    let text = load(file, variables, sets).expect_err("unread").to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

#[test]
fn a_key_beside_a_choice_that_does_not_read_it_is_refused_with_both() {
    for (choice, key, reader) in [
        ("model.kind=mamba", "model.r_max=0.5", "`model.kind` = lru"),
        ("model.kind=mamba2", "model.r_min=0.5", "`model.kind` = lru"),
        ("model.kind=mamba", "model.max_phase=1.0", "lru"),
        ("model.kind=mamba", "model.dropout=0.1", "lru"),
        ("model.kind=mamba2", "model.dropout=0.0", "lru"),
        (
            "model.kind=mamba",
            "model.head_dim=4",
            "`model.kind` = mamba2",
        ),
        (
            "model.kind=mamba2",
            "model.dt_rank=4",
            "`model.kind` = mamba,",
        ),
        ("model.kind=lru", "model.expand=4", "mamba | mamba2"),
        ("model.kind=lru", "model.conv_kernel=4", "mamba | mamba2"),
        ("model.kind=lru", "compress.gramian=mean", "mamba | mamba2"),
        ("model.kind=mamba", "compress.realization=real", "lru"),
        ("model.kind=mamba", "compress.reduction=balanced", "mamba2"),
        (
            "data.dataset=digits",
            "data.length=100",
            "imdb | selective-copy",
        ),
        (
            "data.dataset=mnist",
            "data.length=100",
            "imdb | selective-copy",
        ),
        ("data.dataset=mnist", "data.train_examples=100", "digits"),
        ("data.dataset=imdb", "data.test_examples=100", "digits"),
        ("data.dataset=imdb", "data.copies=4", "selective-copy"),
        ("data.dataset=digits", "data.vocabulary=4", "selective-copy"),
        (
            "training.schedule=constant",
            "training.warmup_fraction=0.1",
            "warmup-cosine",
        ),
        (
            "training.objective=cross-entropy",
            "training.label-smoothing.epsilon=0.1",
            "`training.objective` = label-smoothing",
        ),
        (
            "compress.policy=none",
            "compress.tau=0.1",
            "tolerance | auto",
        ),
        (
            "compress.policy=target",
            "compress.tau=0.1",
            "tolerance | auto",
        ),
        (
            "compress.policy=tolerance",
            "compress.fraction=0.1",
            "fraction | pragmatic",
        ),
        (
            "compress.policy=fraction",
            "compress.max_drop=0.1",
            "pragmatic",
        ),
        (
            "compress.policy=tolerance",
            "compress.min_correlation=0.9",
            "auto",
        ),
        (
            "compress.policy=fraction",
            "compress.target_states=9",
            "target",
        ),
        (
            "compress.policy=none",
            "compress.start=0.1",
            "tolerance | fraction",
        ),
        (
            "compress.policy=none",
            "compress.checks=3",
            "tolerance | fraction",
        ),
        (
            "compress.policy=none",
            "compress.selection=random",
            "tolerance | fraction",
        ),
        ("compress.policy=none", "compress.reduction=balanced", "lru"),
        (
            "compress.policy=none",
            "compress.calibration_examples=9",
            "mamba",
        ),
    ] {
        let (choice_key, word) = choice.split_once('=').expect("an assignment");
        let (key_name, _) = key.split_once('=').expect("an assignment");
        // In either order, and in a file.
        let text = refusal("", &[], &[choice, key]);
        for part in [
            &format!("--set {key}: `{key_name}` has no effect"),
            reader,
            &format!("`{choice_key}` is {word}"),
        ] {
            assert!(text.contains(part), "no `{part}` in: {text}");
        }
        assert_eq!(refusal("", &[], &[key, choice]), text);
    }
}

#[test]
fn a_table_is_read_by_the_word_that_it_is_named_after() {
    for (choice, key, reader) in [
        ("digits", "data.imdb.length=9", "`data.dataset` = imdb,"),
        ("mnist", "data.digits.seed=9", "`data.dataset` = digits,"),
        (
            "imdb",
            "data.selective-copy.copies=9",
            "`data.dataset` = selective-copy,",
        ),
    ] {
        let choice = format!("data.dataset={choice}");
        let text = refusal("", &[], &[&choice, key]);
        let name = key.trim_end_matches("=9");
        for part in [&format!("--set {key}: `{name}` has no effect"), reader] {
            assert!(text.contains(part), "no `{part}` in: {text}");
        }
    }
    let file = "[data.imdb]\nlength = 9\n[data.selective-copy]\ncopies = 2\n";
    let text = refusal(file, &[], &["data.dataset=imdb"]);
    assert!(
        text.contains("run.toml: `data.selective-copy.copies`"),
        "{text}"
    );
    let text = refusal(file, &[], &[]);
    assert!(
        text.contains("likewise `data.selective-copy.copies`"),
        "{text}"
    );
    // A table without keys asks for nothing.
    load("[data.imdb]\n", &[], &[]).expect("nothing unread");
}

#[test]
fn a_table_may_wait_for_a_later_layer_to_choose_it() {
    let file = "[data.imdb]\nlength = 9\n";
    let config = load(file, &[], &["data.dataset=imdb"]).expect("read in the end");
    assert_eq!(config.data.imdb.length, 9);
    let file = "[data]\ndataset = \"imdb\"\n[data.imdb]\nlength = 9\n";
    let config = load(file, &[("DATA__DATASET", "digits")], &[]).expect("read in the file");
    assert_eq!(config.data.imdb, Config::default().data.imdb);
}

#[test]
fn the_message_names_the_layer_and_every_other_such_key_of_it() {
    let mamba = "[model]\nkind = \"mamba\"\n";
    let text = refusal(&format!("{mamba}r_max = 0.5\nr_min = 0.1\n"), &[], &[]);
    assert!(
        text.contains("run.toml: `model.r_max`") && text.contains("likewise `model.r_min`"),
        "{text}"
    );
    let text = refusal(mamba, &[("MODEL__R_MAX", "0.5")], &[]);
    assert!(
        text.contains("environment variable COMPRESSM_MODEL__R_MAX"),
        "{text}"
    );
    let text = refusal(mamba, &[], &["model.r_max=0.5"]);
    assert!(text.starts_with("--set model.r_max=0.5"), "{text}");
}

#[test]
fn a_later_layer_may_choose_otherwise() {
    let lru = "[model]\nkind = \"lru\"\nr_min = 0.5\nr_max = 0.7\n[compress]\ntau = 0.1\nreduction = \"balanced\"\n";
    let config = load(lru, &[], &["model.kind=mamba"]).expect("another kind");
    // What is not read has its default, so that nobody is told of a value that did nothing.
    assert_eq!(config.model.lru.r_min, Config::default().model.lru.r_min);
    assert_eq!(
        (config.model.kind, config.compress.tau),
        (LayerKind::Mamba, 0.1)
    );
    let config = load(lru, &[("COMPRESS__POLICY", "none")], &[]).expect("another policy");
    assert_eq!(config.compress.tau, Config::default().compress.tau);
    assert_eq!(
        (config.compress.policy, config.model.lru.r_min),
        (PolicyKind::None, 0.5)
    );

    // A choice is in time for the keys of its own layer and of all below.
    let sweep = "[model]\nexpand = 3\n[compress]\nfraction = 0.25\n";
    let config = load(
        sweep,
        &[],
        &["model.kind=mamba", "compress.policy=fraction"],
    );
    let config = config.expect("the keys of a sweep");
    assert_eq!(
        (config.model.mamba.expand, config.compress.fraction),
        (3, 0.25)
    );
    load("", &[("MODEL__EXPAND", "3")], &["model.kind=mamba"]).expect("of the environment");
}

#[test]
fn a_mistake_is_reported_even_where_a_later_layer_chooses_a_third_way() {
    // Neither the file's own kind reads it nor the one that overrules it.
    let file = "[model]\nkind = \"mamba\"\nr_max = 0.95\n";
    assert!(refusal(file, &[], &["model.kind=mamba2"]).contains("`model.kind` is mamba;"));
    // The last one does.
    load(file, &[], &["model.kind=lru"]).expect("read in the end");
}

#[test]
fn spectra_that_are_only_written_down_read_how_states_are_ranked() {
    let none = "compress.policy=none";
    load(
        "",
        &[],
        &[
            none,
            "compress.realization=real",
            "compress.snapshot_every=7",
        ],
    )
    .expect("lru");
    let selective = ["compress.gramian=mean", "compress.calibration_examples=3"];
    let sets = [&[none, "model.kind=mamba"][..], &selective].concat();
    let config = load("", &[], &sets).expect("mamba");
    assert_eq!(config.compress.calibration_examples, 3);
}

#[test]
fn an_unknown_data_set_is_left_to_those_who_know_them() {
    load("", &[], &["data.dataset=selective-coyp", "data.length=9"]).expect("refused when loaded");
}

#[test]
fn a_saved_configuration_holds_what_is_read_and_no_more() {
    let config = load("", &[], &["model.kind=mamba", "compress.policy=none"]).expect("valid");
    let text = config.to_toml().expect("text");
    for key in ["r_max", "dropout", "head_dim", "tau", "start", "reduction"] {
        assert!(!text.contains(&format!("\n{key} = ")), "{key} in {text}");
    }
    for key in ["kind", "expand", "policy", "gramian", "snapshot_every"] {
        assert!(text.contains(&format!("\n{key} = ")), "no {key} in {text}");
    }
    assert!(text.contains("[data.digits]\n") && !text.contains("[data.imdb]"));
}

/// Versions before saved every key, read or not, whatever had been set.
#[test]
fn what_earlier_versions_saved_with_a_run_still_loads() {
    let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config_0.1.toml");
    let config = Config::load_saved(&saved, &[]).expect("a run goes on");
    assert_eq!(
        (config.model.kind, config.compress.policy),
        (LayerKind::Mamba, PolicyKind::None)
    );
    assert_eq!(
        config.data,
        Config::default().data,
        "`length` meant nothing to digits"
    );
    let sets = ["compress.policy=tolerance".to_owned()];
    let other = Config::load_saved(&saved, &sets).expect("on with another policy");
    assert_eq!(other.compress.tau, 0.2, "as it was saved");
    // What is new is looked at as ever.
    let sets = ["model.r_max=0.5".to_owned()];
    let error = Config::load_saved(&saved, &sets)
        .expect_err("unread")
        .to_string();
    assert!(error.contains("`model.r_max` has no effect"), "{error}");
    let error = Config::load_with_env(Some(&saved), &[], []).expect_err("a user's file");
    assert!(error.to_string().contains("likewise"), "{error}");
}

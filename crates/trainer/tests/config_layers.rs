//! How layers of configuration combine, and what is refused with which words.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use trainer::config::{BackendKind, Config, ConfigError};

type Pair = (OsString, OsString);

fn env(pairs: &[(&str, &str)]) -> Vec<Pair> {
    pairs
        .iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

fn load(file: Option<&Path>, sets: &[&str], variables: Vec<Pair>) -> Result<Config, ConfigError> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Config::load_with_env(file, &sets, variables)
}

/// Loads with nothing but `--set` flags.
fn set(sets: &[&str]) -> Result<Config, ConfigError> {
    load(None, sets, Vec::new())
}

fn message(outcome: Result<Config, ConfigError>) -> String {
    let text = outcome
        .expect_err("this configuration is not acceptable")
        .to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    text
}

fn assert_message_has(outcome: Result<Config, ConfigError>, parts: &[&str]) {
    let text = message(outcome);
    for part in parts {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}

/// A file with this text, and the folder that keeps it alive.
fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("run.toml");
    fs::write(&path, text).expect("a temporary file");
    (folder, path)
}

#[test]
fn without_any_layer_the_defaults_hold() {
    assert_eq!(set(&[]).unwrap(), Config::default());
}

#[test]
fn each_layer_overrules_the_ones_before_it() {
    let (_folder, path) =
        file("[training]\nlr = 0.1\nsteps = 1000\nbatch_size = 10\n[model]\nblocks = 3\n");
    let variables = env(&[
        ("COMPRESSM_TRAINING__LR", "0.2"),
        ("COMPRESSM_TRAINING__STEPS", "2000"),
    ]);
    let config = load(Some(&path), &["training.lr=0.3"], variables).unwrap();
    assert_eq!(config.training.lr, 0.3);
    assert_eq!(config.training.steps, 2000);
    assert_eq!(config.training.batch_size, 10);
    assert_eq!(config.model.blocks, 3);
    assert_eq!(config.model.state_dim, Config::default().model.state_dim);
}

#[test]
fn the_last_of_two_assignments_to_a_key_holds() {
    assert_eq!(
        set(&["model.blocks=2", "model.blocks=5"])
            .unwrap()
            .model
            .blocks,
        5
    );
}

#[test]
fn every_kind_of_value_can_be_set() {
    let sets = [
        "data.dataset=mnist",
        "data.dir=/srv/data sets/mnist",
        "training.schedule=constant",
        "training.weight_decay=1",
        "compress.start=100",
        "compress.end=1.0",
        "training.steps=8000",
        "run.backend=cuda",
        "run.output=2026-05-01",
    ];
    let config = set(&sets).unwrap();
    assert_eq!(config.data.dir, Some("/srv/data sets/mnist".into()));
    assert_eq!(config.training.weight_decay, 1.0);
    assert_eq!(config.run.backend, BackendKind::Cuda);
    assert_eq!(config.run.output, Some("2026-05-01".into()));
    let schedule = config.schedule().unwrap();
    // From step 100 to the last of 8000.
    assert_eq!(config.training.steps, 8000);
    assert_eq!(schedule.remaining_checks(), [2075, 4050, 6025, 8000]);
}

#[test]
fn variables_that_are_not_configuration_are_left_alone() {
    let variables = env(&[
        ("COMPRESSM_DATA_DIR", "/srv/data"),
        ("COMPRESSM_COLOR", "no"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(load(None, &[], variables).unwrap(), Config::default());
}

#[test]
fn an_unknown_key_is_an_error_in_every_layer_that_says_where_and_what_is_known() {
    let (_folder, path) = file("[training]\nstpes = 3\n");
    let known = "expected one of `steps`, `batch_size`";
    assert_message_has(
        load(Some(&path), &[], Vec::new()),
        &["run.toml", "`training.stpes`", known],
    );
    assert_message_has(
        load(None, &[], env(&[("COMPRESSM_TRAINING__STPES", "3")])),
        &["COMPRESSM_TRAINING__STPES", "`training.stpes`", known],
    );
    assert_message_has(
        set(&["training.stpes=3"]),
        &["--set training.stpes=3", "`training.stpes`", known],
    );
}

#[test]
fn an_unknown_section_is_an_error_even_when_it_is_empty() {
    let (_folder, path) = file("[trainning]\n");
    let known = "expected one of `data`, `model`, `training`, `compress`, `run`";
    assert_message_has(load(Some(&path), &[], Vec::new()), &["`trainning`", known]);
    assert_message_has(set(&["lr=3"]), &["`lr`", known]);
    assert_message_has(
        load(None, &[], env(&[("COMPRESSM_X__Y", "1")])),
        &["`x.y`", known],
    );
    assert_message_has(set(&["training.lr.x=3"]), &["`training.lr.x`"]);
    assert_message_has(set(&["training=3"]), &["`training`", "as in `[training]`"]);
    assert_message_has(
        set(&["data.imdb=3"]),
        &["`data.imdb`", "as in `[data.imdb]`"],
    );
}

#[test]
fn a_wrong_type_is_an_error_and_never_converted() {
    let cases = [
        ("training.steps=many", "string \"many\""),
        ("training.steps=1.5", "floating point `1.5`"),
        ("training.steps=true", "boolean `true`"),
        ("training.steps=\"8000\"", "string \"8000\""),
        ("training.batch_size=-1", "integer `-1`"),
        ("training.lr=fast", "string \"fast\""),
        ("training.lr=1\nblocks=2", "string \"1\\nblocks=2\""),
        ("compress.start=soon", "a step number"),
        ("compress.start=-3", "a step number"),
        ("data.imdb.length=long", "string \"long\""),
        ("data.length=1.5", "floating point `1.5`"),
        ("data.imdb=[1]", "of type array"),
    ];
    for (set_flag, seen) in cases {
        let key = set_flag.split_once('=').unwrap().0;
        assert_message_has(set(&[set_flag]), &[&format!("`{key}`"), seen]);
    }
}

#[test]
fn an_unknown_word_is_answered_with_the_known_ones() {
    let cases: [(&str, &[&str]); 10] = [
        ("model.kind=gru", &["lru", "mamba", "mamba2"]),
        ("training.schedule=cosine", &["constant", "warmup-cosine"]),
        (
            "compress.policy=toleranec",
            &[
                "none",
                "tolerance",
                "fraction",
                "target",
                "pragmatic",
                "auto",
            ],
        ),
        ("compress.scope=all", &["layer", "global"]),
        (
            "compress.selection=best",
            &["largest", "smallest", "random"],
        ),
        ("compress.realization=imaginary", &["complex", "real"]),
        (
            "compress.reduction=krylov",
            &["balanced", "singular-perturbation", "modal"],
        ),
        (
            "compress.optimizer_state=keep",
            &["transform", "reset", "slice"],
        ),
        (
            "compress.gramian=exact",
            &["mean", "second-moment", "empirical"],
        ),
        ("run.backend=gpu", &["cpu", "wgpu", "cuda", "libtorch"]),
    ];
    for (set_flag, known) in cases {
        assert_message_has(set(&[set_flag]), known);
    }
}

#[test]
fn checks_that_cannot_happen_are_found_before_training() {
    let cases: [(&[&str], &str); 7] = [
        (&["compress.checks=0"], "`checks` is 0"),
        (
            &["compress.checks=1201"],
            "1201 checks do not fit into the 1200 steps",
        ),
        (&["compress.interval=0"], "`interval` is 0"),
        (&["compress.interval=1201"], "longer than the 1200 steps"),
        (&["compress.end=0.0"], "not after its start"),
        (&["compress.end=6001"], "the run has 6000 steps"),
        (
            &["compress.checks=4", "compress.interval=200"],
            "give one of them",
        ),
    ];
    for (sets, seen) in cases {
        assert_message_has(set(sets), &["section `compress`", seen]);
    }
}

#[test]
fn the_way_checks_are_placed_is_overruled_as_one_choice() {
    let (_folder, path) = file("[compress]\nchecks = 2\n");
    let load = |sets: &[&str]| {
        let config = load(Some(&path), sets, Vec::new()).unwrap();
        config.schedule().unwrap().remaining_checks().to_vec()
    };
    assert_eq!(load(&[]), [1200, 1800]);
    assert_eq!(load(&["compress.interval=300"]), [900, 1200, 1500, 1800]);
    assert_eq!(load(&["compress.checks=1"]), [1800]);
}

#[test]
fn the_budget_of_a_target_is_overruled_as_one_choice() {
    let (_folder, path) = file("[compress]\npolicy = \"target\"\ntarget_states = 9\n");
    let config = load(Some(&path), &["compress.target_parameters=400"], Vec::new()).unwrap();
    assert_eq!(config.compress.target_states, None);
    assert_eq!(config.compress.target_parameters, Some(400));
}

#[test]
fn orders_are_rounded_as_the_backend_likes_them_unless_a_layer_says_how() {
    let (_folder, gpu) = file("[run]\nbackend = \"wgpu\"\n");
    let multiple = |file: Option<&Path>, sets: &[&str]| {
        let config = load(file, sets, Vec::new()).unwrap();
        let saved: toml::Table = config.to_toml().unwrap().parse().unwrap();
        let saved = saved["compress"]["order_multiple"].as_integer().unwrap();
        assert_eq!(config.compress.gate().order_multiple as i64, saved);
        saved
    };
    assert_eq!(multiple(None, &[]), 1);
    assert_eq!(multiple(None, &["run.backend=libtorch"]), 1);
    assert_eq!(multiple(None, &["run.backend=cuda"]), 64);
    assert_eq!(multiple(Some(&gpu), &[]), 64);
    assert_eq!(multiple(Some(&gpu), &["run.backend=cpu"]), 1);
    assert_eq!(multiple(Some(&gpu), &["compress.order_multiple=1"]), 1);
    assert_eq!(multiple(None, &["compress.order_multiple=8"]), 8);
}

#[test]
fn a_key_of_a_table_can_be_given_in_every_layer() {
    let text = "[data]\ndataset = \"selective-copy\"\n[data.selective-copy]\nlength = 30\ncopies = 3\nseed = 5\n";
    let (_folder, path) = file(text);
    let variables = env(&[
        ("COMPRESSM_DATA__SELECTIVE_COPY__LENGTH", "40"),
        ("COMPRESSM_DATA__SELECTIVE_COPY__COPIES", "4"),
    ]);
    let config = load(Some(&path), &["data.selective-copy.length=50"], variables).unwrap();
    let options = &config.data.selective_copy;
    assert_eq!((options.length, options.copies, options.seed), (50, 4, 5));
    let at_once = set(&["data.dataset=imdb", "data.imdb={length=7}"]).unwrap();
    assert_eq!(at_once.data.imdb.length, 7);
}

#[test]
fn an_unknown_key_of_a_table_is_answered_with_the_known_ones() {
    let (_folder, path) = file("[data.imdb]\nlenght = 3\n");
    let known = "expected `length`";
    assert_message_has(
        load(Some(&path), &[], Vec::new()),
        &["run.toml", "`data.imdb.lenght`", known],
    );
    assert_message_has(
        load(None, &[], env(&[("COMPRESSM_DATA__IMDB__LENGHT", "3")])),
        &["COMPRESSM_DATA__IMDB__LENGHT", "`data.imdb.lenght`", known],
    );
    assert_message_has(
        set(&["data.imdb.lenght=3"]),
        &["--set data.imdb.lenght=3", "`data.imdb.lenght`", known],
    );
    assert_message_has(
        set(&["data.imbd.length=3"]),
        &["`data.imbd.length`", "`imdb`"],
    );
    assert_message_has(set(&["data.lenght=3"]), &["`data.lenght`", "`imdb`"]);
}

#[test]
fn a_short_form_stands_for_the_key_in_the_table_of_the_choice() {
    let (_folder, path) = file("[data]\ndataset = \"imdb\"\nlength = 30\n");
    let from = |sets: &[&str], variables| load(Some(&path), sets, variables).unwrap().data;
    assert_eq!(from(&[], Vec::new()).imdb.length, 30);
    // Of the choice that is made in the end.
    let other = from(
        &["data.dataset=selective-copy", "data.copies=9"],
        Vec::new(),
    );
    assert_eq!(
        (other.selective_copy.length, other.selective_copy.copies),
        (30, 9)
    );
    // Layers overrule each other whatever they spell it.
    let long = env(&[("COMPRESSM_DATA__IMDB__LENGTH", "40")]);
    assert_eq!(from(&[], long.clone()).imdb.length, 40);
    assert_eq!(from(&["data.length=50"], long).imdb.length, 50);
    let (_folder, path) = file("[data]\ndataset = \"imdb\"\n[data.imdb]\nlength = 30\n");
    let config = load(Some(&path), &["data.length=60"], Vec::new()).unwrap();
    assert_eq!(config.data.imdb.length, 60);
}

#[test]
fn both_spellings_in_one_layer_are_an_error_that_names_both() {
    let both = ["`data.length`", "`data.imdb.length`", "leave one"];
    let sets = ["data.dataset=imdb", "data.length=3", "data.imdb.length=3"];
    assert_message_has(set(&sets), &both);
    assert_message_has(set(&sets), &["--set data.length=3:"]);
    let (_folder, path) = file("[data]\nlength = 3\n[data.imdb]\nlength = 4\n");
    // Whoever chooses.
    assert_message_has(load(Some(&path), &sets[..1], Vec::new()), &both);
    assert_message_has(load(Some(&path), &sets[..1], Vec::new()), &["run.toml:"]);
    let saved = Config::load_saved(&path, &[sets[0].to_owned()]);
    assert_message_has(saved, &both);
    // What the short form does not stand for is another matter.
    let (_folder, path) =
        file("[data]\ndataset = \"selective-copy\"\nlength = 70\n[data.imdb]\nlength = 4\n");
    assert_eq!(
        Config::load_saved(&path, &[])
            .unwrap()
            .data
            .selective_copy
            .length,
        70
    );
}

#[test]
fn a_missing_file_and_a_broken_one_are_named() {
    let missing = load(Some(Path::new("no/such.toml")), &[], Vec::new());
    assert_message_has(missing, &["no/such.toml"]);
    let (_folder, path) = file("[training]\nsteps = 3\nlr = = 4\n");
    assert_message_has(load(Some(&path), &[], Vec::new()), &["run.toml, line 3"]);
}

#[test]
fn a_flag_without_key_or_value_is_explained() {
    for text in ["training.lr", "=3", "training.lr=", ""] {
        assert_message_has(set(&[text]), &["--set section.key=value"]);
    }
}

#[test]
fn a_mistake_is_reported_even_where_a_later_layer_would_hide_it() {
    let variables = env(&[("COMPRESSM_TRAINING__LR", "fast")]);
    assert_message_has(
        load(None, &["training.lr=0.1"], variables),
        &["COMPRESSM_TRAINING__LR"],
    );
}

#[test]
fn a_saved_configuration_loads_back_equal() {
    let cases: [&[&str]; 8] = [
        &[],
        &["run.backend=wgpu"],
        &["model.kind=mamba", "model.dt_rank=3"],
        &[
            "model.kind=mamba2",
            "model.head_dim=4",
            "compress.policy=none",
        ],
        &[
            "data.dataset=imdb",
            "data.length=77",
            "training.schedule=constant",
        ],
        &["compress.interval=123", "run.output=out", "data.dir=d"],
        &["compress.policy=none", "training.lr=0.1234567890123456789"],
        &[
            "compress.end=1.0",
            "compress.start=17",
            "training.seed=9223372036854775807",
        ],
    ];
    for sets in cases {
        let config = set(sets).unwrap();
        let (_folder, path) = file(&config.to_toml().unwrap());
        // As a user's file, which may hold nothing that is not read, and as a run's.
        assert_eq!(load(Some(&path), &[], Vec::new()).unwrap(), config);
        assert_eq!(Config::load_saved(&path, &[]).unwrap(), config);
    }
}

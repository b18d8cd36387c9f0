//! The configurations that come with the project.

use std::fs;
use std::path::{Path, PathBuf};

use trainer::config::{Config, PolicyKind};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// Every TOML file below `folder`.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is in the tree");
    entries
        .map(|entry| entry.expect("an entry can be read").path())
        .flat_map(|path| match path.extension() {
            _ if path.is_dir() => toml_files(&path),
            Some(extension) if extension == "toml" => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

fn load(path: &Path) -> Config {
    Config::load_with_env(Some(path), &[], []).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_configuration_loads_and_validates() {
    let files = toml_files(&configs());
    assert!(files.len() >= 8, "only {files:?}");
    for path in files {
        load(&path);
    }
}

#[test]
fn the_quickstart_is_the_built_in_defaults() {
    assert_eq!(load(&configs().join("quickstart.toml")), Config::default());
}

#[test]
fn the_published_sequential_mnist_runs_differ_in_nothing_but_their_compression() {
    let full = load(&configs().join("paper/smnist_full.toml"));
    assert_eq!(full.compress.policy, PolicyKind::None);
    for tau in [0.04, 0.02, 0.01, 0.005, 0.001] {
        let run = load(&configs().join(format!("paper/smnist_tau{tau}.toml")));
        assert_eq!(
            (run.compress.policy, run.compress.tau),
            (PolicyKind::Tolerance, tau)
        );
        let schedule = run.schedule().unwrap();
        assert_eq!(schedule.remaining_checks(), [5000, 10_000, 15_000, 20_000]);
        let compress = full.compress.clone();
        assert_eq!(Config { compress, ..run }, full, "tau {tau}");
    }
    let mut scratch = load(&configs().join("paper/smnist_scratch_28.toml"));
    assert_eq!(scratch.model.state_dim, 28);
    scratch.model.state_dim = full.model.state_dim;
    assert_eq!(scratch, full);
}

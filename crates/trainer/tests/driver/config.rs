//! What fuzzing does with a configuration file; the fuzz target and the replay of its corpus run the same code.

use std::fs;

use trainer::config::Config;

/// A panic is a finding.
pub(crate) fn run(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("config.toml");
    fs::write(&path, data).expect("a writable folder");
    if let Err(error) = Config::load_with_env(Some(&path), &[], []) {
        assert!(!error.to_string().is_empty());
    }
}

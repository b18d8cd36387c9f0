//! What fuzzing does with a system file; the fuzz target and the replay of its corpus run the same code.

use std::fs;

use trainer::analyze::analyze_system;

/// A panic is a finding, and so are Hankel singular values that are not sorted or no numbers.
pub(crate) fn run(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("system.json");
    fs::write(&path, data).expect("a writable folder");
    match analyze_system(&path) {
        Ok(report) => {
            let hsv = &report.hsv;
            assert!(hsv.iter().all(|sigma| *sigma >= 0.0), "{hsv:?}");
            assert!(hsv.is_sorted_by(|a, b| a >= b), "{hsv:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

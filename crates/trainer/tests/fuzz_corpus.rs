//! Replays the corpora of the fuzz targets, `fuzz/corpus`, without a fuzzer.

#[path = "driver/config.rs"]
mod config;
#[path = "driver/pytorch.rs"]
mod pytorch;
#[path = "driver/system.rs"]
mod system;
#[path = "driver/weights.rs"]
mod weights;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut names: Vec<_> = std::fs::read_dir(&corpus)
        .expect("the corpus is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    names.sort();
    assert!(names.len() >= 5, "{} inputs", names.len());
    for name in names {
        let data = std::fs::read(&name).expect("a readable file");
        if let Err(panic) = std::panic::catch_unwind(|| run(&data)) {
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            panic!("{}: {message}", name.display());
        }
    }
}

#[test]
fn no_weights_of_the_corpus_panic() {
    replay("weights", weights::run);
}

#[test]
fn no_pytorch_file_of_the_corpus_panics() {
    replay("pytorch", pytorch::run);
}

#[test]
fn no_configuration_of_the_corpus_panics() {
    replay("config", config::run);
}

#[test]
fn no_system_of_the_corpus_panics_or_has_unsorted_hankel_singular_values() {
    replay("system", system::run);
}

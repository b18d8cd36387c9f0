//! Replays the corpus of the fuzz target, `fuzz/corpus/systems`, without a fuzzer.

use std::path::Path;

#[test]
fn every_input_of_the_corpus_obeys_the_laws() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/systems");
    let mut names: Vec<_> = std::fs::read_dir(&corpus)
        .expect("the corpus is part of the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    names.sort();
    assert!(names.len() >= 20, "{} inputs", names.len());
    for name in names {
        let data = std::fs::read(&name).expect("a readable file");
        if let Err(panic) = std::panic::catch_unwind(|| crate::driver::run(&data)) {
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            panic!("{}: {message}", name.display());
        }
    }
}

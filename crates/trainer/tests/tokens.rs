//! Runs on tokens: answers at the last steps, and texts of unequal length.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::fs::{self, File};
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use support::{
    json_file, json_lines, latest_checkpoint, refusal, run, stdout, text, train, without_times,
};
use tempfile::TempDir;

const SHORT: &[&str] = &["training.steps=60", "training.eval_every=30"];

/// Five training steps make an epoch; three answers to each example.
const COPY: &[&str] = &[
    "data.dataset=selective-copy",
    "data.length=24",
    "data.copies=3",
    "data.vocabulary=8",
    "data.train_examples=56",
    "data.test_examples=20",
];

fn end(run: &Path) -> Value {
    without_times(json_file(&run.join("summary.json")))
}

#[test]
fn selective_copying_is_cut_taken_back_and_comes_to_the_same_end() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    stdout(&train(&output, &[COPY, SHORT].concat()));
    let summary = end(&output);
    assert_eq!(summary["initial_state_dims"][0], 24);
    assert!(summary["final_state_dims"][0].as_u64().unwrap() < 24);
    // Accuracy is a share of the three answers of each of the 20 and 6 examples.
    let test = summary["test_accuracy"].as_f64().unwrap() * 60.0;
    assert!((test - test.round()).abs() < 1e-9, "{test}");
    for line in json_lines(&output.join("metrics.jsonl")) {
        for (key, answers) in [("val_accuracy", 18.0), ("train_accuracy", 900.0)] {
            let right = line[key].as_f64().unwrap() * answers;
            assert!((0.0..=answers).contains(&right), "{line}");
            assert!((right - right.round()).abs() < 1e-9, "{line}");
        }
    }
    let scores = stdout(&run(&["eval", "--resume", text(&output), "--json"]));
    let scores: Value = serde_json::from_str(&scores).unwrap();
    assert_eq!(scores["test"]["accuracy"], summary["test_accuracy"]);

    let weights = || {
        fs::read(
            latest_checkpoint(&output)
                .unwrap()
                .join("model.safetensors"),
        )
    };
    let before = weights().unwrap();
    stdout(&run(&["revert", text(&output), "--to", "20"]));
    assert!(weights().unwrap() == before, "the weights differ");
    assert_eq!(end(&output), summary);
}

#[test]
fn sizes_that_a_data_set_cannot_have_are_refused_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    for (set, part) in [
        ("data.copies=200", "half of the length of 256"),
        ("data.vocabulary=3", "at least 4"),
        ("data.vocabulary=0", "data.selective-copy.vocabulary"),
    ] {
        let dataset = "data.dataset=selective-copy";
        let args = ["train", "--output", text(&output), "--set", dataset];
        let line = refusal(&[&args[..], &["--set", set]].concat(), 2);
        assert!(line.contains(part), "{set}: {line}");
        assert!(!output.exists(), "{set}");
    }
}

/// As many reviews as were published, in an archive like the published one, of 1 to 90 bytes: the bad ones say `a` and the
/// good ones `b`.
fn write_reviews(folder: &Path) {
    let file = File::create(folder.join("aclImdb_v1.tar.gz")).unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    for part in ["train", "test"] {
        for (sentiment, rating, word) in [("neg", 1, "a"), ("pos", 10, "b")] {
            for id in 0..12_500 {
                let name = format!("aclImdb/{part}/{sentiment}/{id}_{rating}.txt");
                let text = word.repeat(1 + id * 7 % 90);
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                header.set_mode(0o644);
                archive
                    .append_data(&mut header, name, text.as_bytes())
                    .unwrap();
            }
        }
    }
    archive.into_inner().unwrap().finish().unwrap();
}

#[test]
fn reviews_of_unequal_length_are_told_apart() {
    let folder = TempDir::new().unwrap();
    write_reviews(folder.path());
    let (output, dir) = (
        folder.path().join("run"),
        format!("data.dir={}", text(folder.path())),
    );
    let sets = [
        "data.dataset=imdb",
        &dir,
        "data.length=80",
        "data.validation_fraction=0.004",
        "training.batch_size=50",
        "training.lr=0.02",
    ];
    stdout(&train(&output, &[&sets, SHORT].concat()));
    let summary = end(&output);
    assert_eq!(summary["dataset"], "imdb");
    assert!(!summary["cuts"].as_array().unwrap().is_empty());
    let accuracy = summary["test_accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.99, "{accuracy}");
}

//! Runs on tokens: answers at the last steps, and texts of unequal length.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::fs;
use std::path::Path;

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
        ("data.copies=200", "200 copies in 256 steps"),
        ("data.vocabulary=3", "3 tokens"),
        ("data.vocabulary=0", "data.vocabulary"),
    ] {
        let dataset = "data.dataset=selective-copy";
        let args = ["train", "--output", text(&output), "--set", dataset];
        let line = refusal(&[&args[..], &["--set", set]].concat(), 2);
        assert!(line.contains(part), "{set}: {line}");
        assert!(!output.exists(), "{set}");
    }
}

/// As many reviews as were published, of 1 to 90 bytes: the bad ones say `a` and the good ones `b`.
fn write_reviews(folder: &Path) {
    for part in ["train", "test"] {
        for (sentiment, rating, word) in [("neg", 1, "a"), ("pos", 10, "b")] {
            let folder = folder.join("aclImdb").join(part).join(sentiment);
            fs::create_dir_all(&folder).unwrap();
            for id in 0..12_500 {
                let name = folder.join(format!("{id}_{rating}.txt"));
                fs::write(name, word.repeat(1 + id * 7 % 90)).unwrap();
            }
        }
    }
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

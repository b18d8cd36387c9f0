//! Running the program in a test, and reading what it leaves.

// What one test program leaves out, another uses.
#![allow(dead_code, reason = "every test program compiles all of it")]
#![allow(unreachable_pub, reason = "modules of a test program have no outside")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compressm"));
    // Whatever the machine that runs the tests is set to.
    command
        .env_remove("COMPRESSM_DATA_DIR")
        .stdin(Stdio::null());
    command
}

pub fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

/// Fails with this code and one line on standard error; returns the line.
pub fn refusal(args: &[&str], code: i32) -> String {
    let output = run(args);
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    assert!(!line.contains("panicked"), "{line}");
    line
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// As many drawn digits as a run of [`SMALL`] looks at, a tenth of them held out, and few to be tested on.
pub const FEW_DIGITS: &[&str] = &["data.train_examples=1334", "data.test_examples=200"];

/// A run of a few seconds with two cuts; as lines of TOML and as arguments of `--set`.
pub const SMALL: &[&str] = &[
    "model.state_dim=24",
    "model.hidden_dim=4",
    "model.dropout=0.1",
    "training.steps=120",
    "training.batch_size=10",
    "training.eval_every=40",
    "training.checkpoint_every=10",
    "compress.tau=0.2",
    "compress.start=0",
    "compress.end=40",
    "compress.checks=2",
    "compress.snapshot_every=20",
];

/// With the settings of the small run in a file beside `output`, so that others overrule them as a user's would.
pub fn train_args(output: &Path, extra: &[&str]) -> Vec<String> {
    let is_on_digits = !extra.iter().any(|set| set.starts_with("data.dataset="));
    let digits = if is_on_digits { FEW_DIGITS } else { &[] };
    let config = output.with_file_name("small.toml");
    fs::write(&config, [digits, SMALL].concat().join("\n")).unwrap();
    let [output, config] = [output, &config].map(text);
    let mut args = ["train", "--output", output, "--config", config]
        .map(String::from)
        .to_vec();
    for set in extra {
        args.extend(["--set".to_owned(), set.to_string()]);
    }
    args
}

pub fn train(output: &Path, extra: &[&str]) -> Output {
    program().args(train_args(output, extra)).output().unwrap()
}

pub fn json_file(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Takes out what a clock decides.
pub fn without_times(mut value: Value) -> Value {
    const TIMES: [&str; 6] = [
        "seconds",
        "step_ms",
        "train_seconds",
        "check_seconds",
        "median_step_ms_first",
        "median_step_ms_last",
    ];
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !TIMES.contains(&key.as_str()));
        for child in object.values_mut() {
            *child = without_times(child.take());
        }
    } else if let Some(array) = value.as_array_mut() {
        for child in array {
            *child = without_times(child.take());
        }
    }
    value
}

pub fn latest_checkpoint(run: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(run.join("checkpoints")).ok()?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("step-")
    });
    paths.sort();
    paths.pop()
}

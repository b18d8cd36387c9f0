//! What a run has come to: the model after its last cut, with the best from before it beside it.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use ssm_core::ModelSizes;
use support::{json_file, json_lines, refusal, run, stdout, text, train, without_times};
use tempfile::TempDir;
use trainer::weights::read_tensors;

/// Evaluations at every tenth step, cuts at 20 and 40, and the last one leaves almost nothing.
const SETTINGS: &[&str] = &[
    "data.train_examples=400",
    "data.test_examples=200",
    "training.steps=60",
    "training.eval_every=10",
    "compress.policy=fraction",
    "compress.fraction=0.8",
];

/// The evaluation with the best validation accuracy, the first of several.
fn best(lines: &[Value]) -> &Value {
    let accuracy = |line: &Value| line["val_accuracy"].as_f64().unwrap();
    let ahead = |best: &Value, line: &Value| accuracy(line) > accuracy(best);
    let first = &lines[0];
    lines.iter().fold(
        first,
        |best, line| if ahead(best, line) { line } else { best },
    )
}

fn states(weights: &Path) -> Value {
    let sizes = ModelSizes::infer(&read_tensors(weights).unwrap()).unwrap();
    json!(sizes.state_dims)
}

fn end(run: &Path) -> Value {
    without_times(json_file(&run.join("summary.json")))
}

#[test]
fn the_result_is_the_best_after_the_last_cut_and_the_best_before_it_stands_beside_it() {
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("run");
    let shown = stdout(&train(&whole, SETTINGS));
    let summary = json_file(&whole.join("summary.json"));
    assert_eq!(
        summary["cuts"].as_array().unwrap().last().unwrap()["step"],
        40
    );

    // The evaluation of a step comes after its cut.
    let lines = json_lines(&whole.join("metrics.jsonl"));
    let (before, after): (Vec<Value>, Vec<Value>) = lines
        .into_iter()
        .partition(|line| line["step"].as_u64().unwrap() < 40);
    let after = best(&after);
    assert_eq!(summary["best_val_accuracy"], after["val_accuracy"]);
    assert_eq!(summary["best_step"], after["step"]);
    assert_eq!(summary["best_state_dims"], after["state_dims"]);
    assert_eq!(summary["best_state_dims"], summary["final_state_dims"]);
    let (before, beside) = (best(&before), &summary["before_last_cut"]);
    assert_eq!(beside["val_accuracy"], before["val_accuracy"]);
    assert_eq!(beside["step"], before["step"]);
    assert_eq!(beside["state_dims"], before["state_dims"]);
    assert_ne!(beside["state_dims"], summary["best_state_dims"]);

    // Both have their weights, and every command takes those of the result.
    let (result, earlier) = ("best.safetensors", "best-before-cut.safetensors");
    assert_eq!(states(&whole.join(result)), summary["best_state_dims"]);
    assert_eq!(states(&whole.join(earlier)), beside["state_dims"]);
    let scores = stdout(&run(&["eval", "--resume", text(&whole), "--json"]));
    let scores: Value = serde_json::from_str(&scores).unwrap();
    assert_eq!(scores["test"]["accuracy"], summary["test_accuracy"]);
    assert_eq!(scores["state_dims"], summary["best_state_dims"]);
    let exported = folder.path().join("exported.safetensors");
    stdout(&run(&[
        "export",
        "--checkpoint",
        text(&whole),
        "--output",
        text(&exported),
    ]));
    assert_eq!(
        read_tensors(&exported).unwrap(),
        read_tensors(&whole.join(result)).unwrap()
    );

    // The summary on the terminal and the report say which model an accuracy is of.
    let kept = &summary["best_state_dims"][0];
    let larger = &beside["state_dims"][0];
    for part in [
        format!("(best with state {kept}, at step {})", after["step"]),
        format!("(best with state {larger}, at step {})", before["step"]),
    ] {
        assert!(shown.contains(&part), "{part}: {shown}");
        stdout(&run(&["report", text(&whole)]));
        let page = fs::read_to_string(whole.join("report.html")).unwrap();
        assert!(page.contains(&part), "{part}");
    }

    // Back before the last cut and on from there, the run comes to the same end.
    stdout(&run(&["revert", text(&whole), "--to", "40"]));
    let set_aside = whole.join("reverted-1");
    let same = || {
        assert_eq!(end(&whole), end(&set_aside));
        for name in [result, earlier] {
            let weights = |run: &Path| read_tensors(&run.join(name)).unwrap();
            assert_eq!(weights(&whole), weights(&set_aside), "{name}");
        }
    };
    same();

    // As between a cut and the next evaluation: there is no result, and what a checkpoint has comes back.
    fs::remove_file(whole.join(result)).unwrap();
    let line = refusal(&["eval", "--resume", text(&whole)], 2);
    assert!(line.contains("no result yet"), "{line}");
    stdout(&run(&["train", "--resume", text(&whole)]));
    same();
}

#[test]
fn without_an_evaluation_between_the_cuts_the_best_before_the_first_one_stays() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    // Evaluated at 30 and 60, cut at 45 and 50.
    let extra = [
        "training.eval_every=30",
        "compress.start=40",
        "compress.end=50",
        "compress.fraction=0.5",
    ];
    stdout(&train(&output, &[SETTINGS, &extra[..]].concat()));
    let summary = json_file(&output.join("summary.json"));
    let steps = |key: &str| {
        summary[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|cut| cut["step"].clone())
    };
    assert_eq!(steps("cuts").collect::<Vec<_>>(), [45, 50]);
    assert_eq!(summary["best_step"], 60);
    assert_eq!(summary["before_last_cut"]["step"], 30);
    assert_eq!(summary["before_last_cut"]["state_dims"], json!([24]));
}

#[test]
fn a_run_without_a_cut_has_nothing_beside_its_result() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let mut settings = SETTINGS.to_vec();
    settings.retain(|setting| !setting.starts_with("compress."));
    settings.push("compress.policy=none");
    stdout(&train(&output, &settings));
    let summary = json_file(&output.join("summary.json"));
    assert_eq!(summary.get("before_last_cut"), None);
    assert_eq!(summary["best_state_dims"], json!([24]));
    assert!(!output.join("best-before-cut.safetensors").exists());
}

//! Every policy and every way to make a cut, on runs of a few seconds.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{json_file, json_lines, refusal, run, stdout, text, train};
use tempfile::TempDir;

const SHORT: &[&str] = &["training.steps=60", "training.eval_every=60"];

/// The summary of a run with these settings, and the lines of its checks.
fn summary(folder: &Path, name: &str, settings: &[&str]) -> (Value, Vec<Value>) {
    let output = folder.join(name);
    stdout(&train(&output, &[SHORT, settings].concat()));
    let lines = json_lines(&output.join("hsv.jsonl")).into_iter();
    let checks = lines.filter(|line| line.get("decision").is_some());
    (json_file(&output.join("summary.json")), checks.collect())
}

fn states(summary: &Value) -> Vec<u64> {
    serde_json::from_value(summary["final_state_dims"].clone()).unwrap()
}

#[test]
fn every_policy_ends_where_it_says() {
    let folder = TempDir::new().unwrap();
    let summary = |name: &str, settings: &[&str]| summary(folder.path(), name, settings);

    let (fraction, _) = summary(
        "fraction",
        &["compress.policy=fraction", "compress.fraction=0.5"],
    );
    assert_eq!(states(&fraction), [6], "a half of a half of 24");

    let two = "model.blocks=2";
    for scope in ["compress.scope=layer", "compress.scope=global"] {
        let (target, checks) = summary(
            scope,
            &[
                two,
                scope,
                "compress.policy=target",
                "compress.target_states=9",
            ],
        );
        assert_eq!(states(&target).iter().sum::<u64>(), 18, "{scope}");
        assert!(checks.iter().all(|line| line["reason"] == "target"));
    }
    let (target, _) = summary(
        "parameters",
        &["compress.policy=target", "compress.target_parameters=400"],
    );
    let parameters = target["final_parameters"].as_u64().unwrap();
    // A state has 3 + 4 * 4 parameters.
    assert!((382..=400).contains(&parameters), "{parameters}");

    let (kept, checks) = summary(
        "auto-waits",
        &["compress.policy=auto", "compress.min_correlation=1"],
    );
    assert_eq!(states(&kept), [24], "{checks:?}");
    assert!(checks.iter().all(|line| line["reason"] == "not_settled"));
}

#[test]
fn a_cut_can_be_made_in_every_way() {
    let folder = TempDir::new().unwrap();
    let first_error = |name: &str, settings: &[&str]| {
        let (summary, checks) = summary(folder.path(), name, settings);
        assert!(states(&summary)[0] < 24, "{settings:?}: {checks:?}");
        let relative = summary["cuts"][0]["measured"]["relative"].as_f64();
        relative.unwrap_or_else(|| panic!("no cut by {settings:?}: {checks:?}"))
    };
    // Up to the first cut these runs are the same, and the order is one of the spectrum.
    for reduction in ["compress.reduction=balanced", "compress.reduction=modal"] {
        let error = |selection: &str| {
            let selection = format!("compress.selection={selection}");
            first_error(
                &format!("{reduction} {selection}"),
                &[reduction, &selection],
            )
        };
        let [largest, smallest, random] = ["largest", "smallest", "random"].map(error);
        assert!(
            largest < smallest.min(random),
            "{reduction}: {largest} {smallest} {random}"
        );
    }
    for (index, settings) in [
        &["compress.reduction=balanced", "compress.realization=real"][..],
        &[
            "compress.reduction=balanced",
            "compress.realization=real",
            "compress.optimizer_state=slice",
        ],
        &[
            "compress.reduction=singular-perturbation",
            "compress.optimizer_state=reset",
        ],
        &["compress.reduction=modal", "compress.realization=real"],
        &["compress.optimizer_state=reset"],
    ]
    .into_iter()
    .enumerate()
    {
        let error = first_error(&index.to_string(), settings);
        assert!(error > 0.0 && error < 1.0, "{settings:?}: {error}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    for (sets, part) in [
        (&["compress.policy=target"][..], "compress.target_states"),
        (
            &[
                "compress.policy=target",
                "compress.target_states=4",
                "compress.target_step_ms=3.0",
            ],
            "exactly one",
        ),
        (
            &["compress.policy=target", "compress.target_parameters=3"],
            "parameters",
        ),
        (
            &[
                "compress.reduction=singular-perturbation",
                "compress.optimizer_state=reset",
                "compress.realization=real",
            ],
            "compress.realization",
        ),
        (
            &[
                "compress.reduction=singular-perturbation",
                "compress.optimizer_state=reset",
                "compress.selection=random",
            ],
            "compress.selection",
        ),
        (
            &["compress.reduction=singular-perturbation"],
            "compress.optimizer_state",
        ),
        (
            &["compress.policy=pragmatic", "compress.max_drop=2.0"],
            "compress.max_drop",
        ),
        (
            &["compress.policy=fraction", "compress.fraction=1.0"],
            "compress.fraction",
        ),
    ] {
        let mut args = vec!["train", "--output", text(&output)];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        let line = refusal(&args, 2);
        assert!(line.contains(part), "{sets:?}: {line}");
        assert!(!output.exists(), "{sets:?}");
    }
}

#[test]
fn a_report_tells_of_every_cut() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    stdout(&train(&output, &[]));
    let shown = stdout(&run(&["report", text(&output)]));
    assert!(shown.trim().ends_with("report.html"), "{shown}");
    let page = fs::read_to_string(output.join("report.html")).unwrap();
    let summary = json_file(&output.join("summary.json"));
    for cut in summary["cuts"].as_array().unwrap() {
        assert!(page.contains("tolerance 0.2"), "{cut}");
    }
    assert!(page.contains("<svg") && !page.contains("<script"));
    let line = refusal(&["report", text(folder.path())], 2);
    assert!(line.contains("run"), "{line}");
}

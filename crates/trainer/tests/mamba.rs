//! Whole runs of selective models: cut on data, taken back, gone back to, analyzed, asked.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::{
    json_file, json_lines, latest_checkpoint, refusal, run, stdout, text, train, without_times,
};
use tempfile::TempDir;
use trainer::weights::{read_tensors, write_tensors};

/// Two layers of either kind on a small copying task.
fn settings(kind: &'static str) -> Vec<&'static str> {
    let mut settings = match kind {
        "mamba" => vec!["model.kind=mamba"],
        _ => vec!["model.kind=mamba2", "model.head_dim=8"],
    };
    settings.extend([
        "model.blocks=2",
        "model.hidden_dim=8",
        "data.dataset=selective-copy",
        "data.length=24",
        "data.copies=3",
        "data.vocabulary=8",
        "data.train_examples=56",
        "data.test_examples=20",
        "training.steps=60",
        "training.eval_every=30",
    ]);
    settings
}

fn end(run: &Path) -> Value {
    without_times(json_file(&run.join("summary.json")))
}

fn dims(summary: &Value, key: &str) -> Vec<u64> {
    let dims = summary[key].as_array().unwrap().iter();
    dims.map(|dim| dim.as_u64().unwrap()).collect()
}

fn newest_weights(run: &Path) -> Vec<u8> {
    fs::read(latest_checkpoint(run).unwrap().join("model.safetensors")).unwrap()
}

#[test]
fn a_selective_model_is_cut_on_data_and_everything_works_on_what_is_left() {
    let folder = TempDir::new().unwrap();
    for kind in ["mamba", "mamba2"] {
        let output = folder.path().join(kind);
        stdout(&train(&output, &settings(kind)));
        let summary = end(&output);
        let left = dims(&summary, "final_state_dims");
        assert_eq!(dims(&summary, "initial_state_dims"), [24, 24], "{kind}");
        assert!(left.iter().all(|dim| *dim < 24), "{kind}: {left:?}");
        for cut in summary["cuts"].as_array().unwrap() {
            assert!(cut["measured"]["error"].as_f64().unwrap() > 0.0, "{cut}");
            assert!(cut["bound"].is_null(), "{cut}");
            assert!(cut["discarded"].as_f64().unwrap() <= 0.2, "{cut}");
        }

        // Back to before a cut and on: the same end.
        let weights = newest_weights(&output);
        stdout(&run(&["revert", text(&output), "--to", "20"]));
        assert!(newest_weights(&output) == weights, "{kind}");
        assert_eq!(end(&output), summary, "{kind}");

        // As many scores as states, on the data of the run.
        let analysis = stdout(&run(&["analyze", "--checkpoint", text(&output), "--json"]));
        let analysis: Value = serde_json::from_str(&analysis).unwrap();
        assert_eq!(analysis["data"], "selective-copy");
        for (layer, states) in analysis["layers"].as_array().unwrap().iter().zip(&left) {
            assert_eq!(layer["hsv"].as_array().unwrap().len() as u64, *states);
        }
        stdout(&run(&["report", text(&output)]));

        // The best weights answer as the run did.
        let exported = folder.path().join(format!("{kind}.safetensors"));
        stdout(&run(&[
            "export",
            "--checkpoint",
            text(&output),
            "--output",
            text(&exported),
        ]));
        let names = read_tensors(&exported).unwrap();
        assert!(names.shape("backbone.layers.1.mixer.A_log").is_some());
        let scores = stdout(&run(&["eval", "--resume", text(&output), "--json"]));
        let scores: Value = serde_json::from_str(&scores).unwrap();
        assert_eq!(scores["test"]["accuracy"], summary["test_accuracy"]);
    }
}

#[test]
fn states_are_scored_and_chosen_in_every_way() {
    let folder = TempDir::new().unwrap();
    let ways = [
        "compress.gramian=mean",
        "compress.gramian=second-moment",
        "compress.selection=smallest",
        "compress.selection=random",
        "compress.optimizer_state=reset",
        "compress.scope=global",
        // Bases of their own for the heads, and cuts of those.
        "compress.reduction=balanced",
    ];
    for (index, way) in ways.into_iter().enumerate() {
        let output = folder.path().join(index.to_string());
        let kind = match way {
            "compress.reduction=balanced" => "mamba2",
            _ => "mamba",
        };
        let settings = [settings(kind), vec![way]].concat();
        stdout(&train(&output, &settings));
        let summary = end(&output);
        let left: u64 = dims(&summary, "final_state_dims").iter().sum();
        assert!(left < 48, "{way}: {summary}");
    }
}

#[test]
fn half_batches_twice_a_step_train_as_whole_ones_do() {
    let folder = TempDir::new().unwrap();
    let learned = |name: &str, batches: [&'static str; 2]| -> Vec<Value> {
        let output = folder.path().join(name);
        let plain = ["compress.policy=none", "compress.snapshot_every=0"];
        let settings = [settings("mamba"), plain.to_vec(), batches.to_vec()].concat();
        stdout(&train(&output, &settings));
        json_lines(&output.join("metrics.jsonl"))
    };
    let whole = learned("whole", ["training.batch_size=10", "training.accumulate=1"]);
    let halves = learned("halves", ["training.batch_size=5", "training.accumulate=2"]);
    assert_eq!(whole.len(), 2);
    for (whole, halves) in whole.iter().zip(&halves) {
        assert_eq!(whole["step"], halves["step"]);
        for key in ["train_loss", "train_accuracy", "val_loss"] {
            let [whole, halves] = [whole, halves].map(|line| line[key].as_f64().unwrap());
            // Rounding, magnified by some tens of steps.
            assert!(
                (whole - halves).abs() < 1e-3 * whole,
                "{key}: {whole} {halves}"
            );
        }
    }
}

#[test]
fn the_verdict_on_a_cut_of_a_selective_model_is_carried_out() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let pragmatic = [
        "compress.policy=pragmatic",
        "compress.fraction=0.95",
        "compress.max_drop=0",
        "training.lr=0.02",
    ];
    stdout(&train(
        &output,
        &[settings("mamba"), pragmatic.to_vec()].concat(),
    ));
    let checks = json_lines(&output.join("hsv.jsonl"));
    let judged: Vec<&Value> = checks
        .iter()
        .filter(|line| !line["verdict"].is_null())
        .collect();
    assert!(!judged.is_empty());
    for line in judged {
        let accuracy = |when: &str| line["verdict"][when].as_f64().unwrap();
        let dropped = accuracy("after") < accuracy("before");
        assert_eq!(line["verdict"]["reverted"], dropped, "{line}");
    }
}

#[test]
fn the_published_format_is_read_and_what_does_not_fit_it_is_refused() {
    let folder = TempDir::new().unwrap();
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssm-core/tests/oracles");
    for kind in ["mamba_tiny", "mamba2_tiny"] {
        let file = oracles.join(format!("{kind}.safetensors"));
        let shown = stdout(&run(&["analyze", "--checkpoint", text(&file)]));
        assert!(shown.contains("synthetic"), "{shown}");

        // The same tensors under the authors' name of the embedding, with a head that repeats it.
        let mut tensors = read_tensors(&file).unwrap();
        let table = tensors.0.remove("backbone.embeddings.weight").unwrap();
        let again = [
            ("lm_head.weight", table.clone()),
            ("backbone.embedding.weight", table),
        ];
        tensors
            .0
            .extend(again.map(|(name, tensor)| (name.to_owned(), tensor)));
        let renamed = folder.path().join("model.safetensors");
        let config = folder.path().join("config.json");
        let out = folder.path().join("out.safetensors");
        let export = [
            "export",
            "--checkpoint",
            text(&renamed),
            "--output",
            text(&out),
        ];
        for (json, refused) in [
            (
                r#"{"ssm_cfg": {}, "n_layer": 2, "tie_embeddings": true}"#,
                None,
            ),
            (
                r#"{"time_step_limit": [0.0, Infinity], "n_groups": 1}"#,
                None,
            ),
            (r#"{"n_layer": 3}"#, Some("`n_layer` is 3")),
            (r#"{"ssm_cfg": {"ngroups": 8}}"#, Some("`ngroups` is 8")),
            (
                r#"{"layer_norm_epsilon": 1e-6}"#,
                Some("`layer_norm_epsilon`"),
            ),
            (
                r#"{"time_step_limit": [0.0, 0.1]}"#,
                Some("`time_step_limit`"),
            ),
            ("{", Some("not JSON")),
        ] {
            // Within the file, and beside it.
            let metadata = HashMap::from([("config".to_owned(), json.to_owned())]);
            for (metadata, beside) in [(metadata, "{}"), (HashMap::new(), json)] {
                write_tensors(&renamed, &tensors, metadata).unwrap();
                fs::write(&config, beside).unwrap();
                match refused {
                    None => {
                        stdout(&run(&export));
                        assert!(read_tensors(&out).unwrap() == read_tensors(&file).unwrap());
                    }
                    Some(part) => {
                        let line = refusal(&export, 2);
                        assert!(line.contains(part), "{json}: {line}");
                    }
                }
            }
        }
    }
    let no_model = folder.path().join("other.safetensors");
    write_tensors(&no_model, &Default::default(), HashMap::new()).unwrap();
    let out = folder.path().join("out.safetensors");
    refusal(
        &[
            "export",
            "--checkpoint",
            text(&no_model),
            "--output",
            text(&out),
        ],
        2,
    );
}

//! The same run on every backend that is compiled in: it ends where the run on the CPU ends.

#![cfg(any(feature = "libtorch", feature = "wgpu"))]
#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A short run on generated digits, through two cuts. Slow phases let it learn within its few hundred steps.
const RUN: &[&str] = &[
    "data.train_examples=6667",
    "data.test_examples=200",
    "model.state_dim=24",
    "model.hidden_dim=8",
    "model.max_phase=0.1",
    "model.dropout=0.1",
    "training.steps=300",
    "training.batch_size=20",
    "training.lr=1e-2",
    "training.eval_every=50",
    "compress.tau=0.2",
    "compress.reduction=balanced",
    "compress.start=0",
    "compress.end=100",
    "compress.checks=2",
    // The same cuts on every backend, also on those that round orders by themselves.
    "compress.order_multiple=1",
];

/// The lines of `metrics.jsonl` of a run on this backend.
fn train(folder: &Path, backend: &str) -> Vec<Value> {
    let output = folder.join(backend);
    let mut command = Command::new(env!("CARGO_BIN_EXE_compressm"));
    command.env_remove("COMPRESSM_DATA_DIR");
    command.args(["train", "--quiet", "--backend", backend, "--output"]);
    command.arg(&output);
    for set in RUN {
        command.args(["--set", set]);
    }
    let result = command.output().unwrap();
    let errors = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "{backend}: {errors}");
    let lines = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Losses within 1 %: from one step to the next, training multiplies the differences that rounding in another order
/// makes, so that f32's 1e-7 is 1e-3 after hundreds of steps; a wrong gradient is off by tens of percents from the start.
fn agrees_with_the_cpu(backend: &str) {
    let folder = TempDir::new().unwrap();
    let (want, got) = (train(folder.path(), "cpu"), train(folder.path(), backend));
    assert_eq!(got.len(), 6);
    for (got, want) in got.iter().zip(&want) {
        assert_eq!(got["step"], want["step"]);
        assert_eq!(
            got["state_dims"], want["state_dims"],
            "step {}",
            got["step"]
        );
        for key in ["train_loss", "val_loss"] {
            let (got, want) = (got[key].as_f64().unwrap(), want[key].as_f64().unwrap());
            let difference = (got - want).abs() / want;
            assert!(difference < 0.01, "{key}: {got} against {want}");
        }
    }
    let states = |line: &Value| line["state_dims"][0].as_u64().unwrap();
    assert!(states(&got[5]) < 24, "the run went through a cut");
    let loss = |line: &Value| line["train_loss"].as_f64().unwrap();
    assert!(loss(&got[5]) < 0.8 * loss(&got[0]), "the run learned");
}

#[cfg(feature = "libtorch")]
#[test]
fn a_run_on_libtorch_agrees_with_the_cpu() {
    agrees_with_the_cpu("libtorch");
}

/// llvmpipe is enough; without any Vulkan device the program says so, and there is nothing to compare.
#[cfg(feature = "wgpu")]
#[test]
fn a_run_on_wgpu_agrees_with_the_cpu() {
    match ssm_core::probe_wgpu() {
        Ok(()) => agrees_with_the_cpu("wgpu"),
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}

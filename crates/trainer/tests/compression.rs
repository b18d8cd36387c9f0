//! Every policy and every way to make a cut, on runs of a few seconds.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::fs;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use ssm_core::NamedTensors;
use support::{json_file, json_lines, refusal, run, stdout, text, train};
use tempfile::TempDir;
use trainer::weights::read_tensors;

const SHORT: &[&str] = &[
    "training.steps=60",
    "training.eval_every=60",
    "training.keep_checkpoints=10",
];

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

    let (rounded, checks) = summary(
        "rounded",
        &[
            "compress.policy=fraction",
            "compress.fraction=0.4",
            "compress.order_multiple=8",
        ],
    );
    // For 15 of 24, then for 10 of 16.
    assert_eq!(states(&rounded), [16]);
    assert_eq!(checks[1]["reason"], "rounded_up", "{checks:?}");

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
        let name = index.to_string();
        let (summary, checks) = summary(folder.path(), &name, settings);
        let cuts = summary["cuts"].as_array().unwrap();
        assert!(!cuts.is_empty(), "{settings:?}: {checks:?}");
        assert!(states(&summary)[0] < 24);
        for cut in cuts {
            let step = cut["step"].as_u64().unwrap();
            let is_this = |line: &&Value| line["step"] == step;
            let hsv = &checks.iter().find(is_this).unwrap()["hsv"];
            let hsv: Vec<f64> = serde_json::from_value(hsv.clone()).unwrap();
            let checkpoints = folder.path().join(&name).join("checkpoints");
            let layer = |moment: &str| {
                let checkpoint = checkpoints.join(format!("step-{step:08}{moment}"));
                read_tensors(&checkpoint.join("model.safetensors")).unwrap()
            };
            let (before, after) = (layer("-before-cut"), layer(""));
            let order = cut["to"].as_u64().unwrap() as usize;
            assert_eq!(after.0["blocks.0.lru.nu_log"].shape, [order]);

            // No system of this order comes closer than the first value left out; reported values of the real system are
            // sums of two.
            let bound = cut["bound"].as_f64().unwrap();
            assert!(bound >= 0.5 * hsv[order], "{settings:?}: {cut}");
            // Noise reaches every mode. Rounding to `f32` moves the gain of a slow mode by more than itself.
            let input: Vec<[f64; 4]> = noise(2000);
            let (wanted, got) = (respond(&before, &input), respond(&after, &input));
            let difference: Vec<[f64; 4]> = wanted
                .iter()
                .zip(&got)
                .map(|(a, b)| std::array::from_fn(|h| a[h] - b[h]))
                .collect();
            let (error, allowed) = (norm(&difference), bound * norm(&input));
            let rounding = 1e-4 * norm(&wanted);
            assert!(
                0.0 < error && error <= allowed + rounding,
                "{settings:?}: {error} of {allowed}, {cut}"
            );
        }
    }
}

/// Numbers in [-1, 1).
fn noise<const H: usize>(length: usize) -> Vec<[f64; H]> {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let step = |_| std::array::from_fn(|_| rng.random_range(-1.0..1.0));
    (0..length).map(step).collect()
}

fn norm<const H: usize>(sequence: &[[f64; H]]) -> f64 {
    sequence.iter().flatten().map(|v| v * v).sum::<f64>().sqrt()
}

/// What the recurrence of the first block makes of a sequence, in loops over `f64`.
fn respond<const H: usize>(tensors: &NamedTensors, input: &[[f64; H]]) -> Vec<[f64; H]> {
    let get = |name: &str| -> Vec<f64> {
        let tensor = &tensors.0[&format!("blocks.0.lru.{name}")];
        tensor.values.iter().copied().map(f64::from).collect()
    };
    let (nu, theta, gamma, d) = (get("nu_log"), get("theta_log"), get("gamma_log"), get("D"));
    let [b_re, b_im, c_re, c_im] = ["B_re", "B_im", "C_re", "C_im"].map(get);
    let states = nu.len();
    let mut x = vec![[0.0; 2]; states];
    let respond_to = |u: &[f64; H]| {
        let mut y: [f64; H] = std::array::from_fn(|h| d[h] * u[h]);
        for (n, x) in x.iter_mut().enumerate() {
            let (modulus, phase) = ((-nu[n].exp()).exp(), theta[n].exp());
            let (re, im) = (modulus * phase.cos(), modulus * phase.sin());
            let row = n * H..(n + 1) * H;
            let dot = |b: &[f64]| b.iter().zip(u).map(|(b, u)| b * u).sum::<f64>();
            *x = [
                re * x[0] - im * x[1] + gamma[n].exp() * dot(&b_re[row.clone()]),
                re * x[1] + im * x[0] + gamma[n].exp() * dot(&b_im[row]),
            ];
            for (h, y) in y.iter_mut().enumerate() {
                let at = h * states + n;
                *y += c_re[at] * x[0] - c_im[at] * x[1];
            }
        }
        y
    };
    input.iter().map(respond_to).collect()
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    for (sets, part) in [
        (&["compress.policy=target"][..], "`target_states`"),
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

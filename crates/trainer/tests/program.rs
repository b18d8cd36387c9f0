//! The program as a user runs it: training, breaking off and resuming, analysis, prediction, and bad input.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ssm_core::{NamedTensor, NamedTensors};
use support::{
    json_file, json_lines, latest_checkpoint, program, refusal, run, stdout, text, train,
    train_args, without_times,
};
use tempfile::TempDir;
use trainer::weights::{read_tensors, write_tensors};

#[test]
fn a_run_learns_is_cut_and_resumes_from_a_kill_to_the_same_end() {
    let folder = TempDir::new().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    let shown = stdout(&train(&whole, &[]));
    assert!(shown.contains("order 24 -> "), "{shown}");
    assert!(shown.contains("test accuracy"), "{shown}");

    let summary = json_file(&whole.join("summary.json"));
    let cuts = summary["cuts"].as_array().unwrap();
    assert_eq!(summary["initial_state_dims"], json!([24]));
    assert_eq!(summary["final_state_dims"][0], cuts.last().unwrap()["to"]);
    assert!(summary["final_state_dims"][0].as_u64().unwrap() < 24);
    assert_eq!(cuts[0]["step"], 20);
    for key in [
        "step",
        "layer",
        "from",
        "to",
        "discarded",
        "bound",
        "seconds",
    ] {
        assert!(cuts[0].get(key).is_some(), "{key}");
    }
    for key in [
        "dataset",
        "backend",
        "seed",
        "steps",
        "best_val_accuracy",
        "test_accuracy",
        "train_seconds",
        "median_step_ms_first",
        "median_step_ms_last",
    ] {
        assert!(summary.get(key).is_some(), "{key}");
    }
    assert_eq!(json_lines(&whole.join("metrics.jsonl")).len(), 3);
    let spectra = json_lines(&whole.join("hsv.jsonl"));
    let steps: Vec<u64> = spectra
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 20, 40, 60, 80, 100, 120]);
    assert_eq!(spectra[0]["hsv"].as_array().unwrap().len(), 24);
    let checks = spectra.iter().filter(|line| line["decision"] == "cut");
    assert_eq!(checks.count(), cuts.len());
    // What the first cut says of itself follows from the spectrum that was written down: the smallest order whose share
    // of the sum is within the tolerance.
    let check = spectra.iter().find(|line| line["decision"] == "cut");
    let hsv: Vec<f64> = serde_json::from_value(check.unwrap()["hsv"].clone()).unwrap();
    let share = |order: usize| hsv[order..].iter().sum::<f64>() / hsv.iter().sum::<f64>();
    let order = cuts[0]["to"].as_u64().unwrap() as usize;
    assert!(share(order) <= 0.2 && share(order - 1) > 0.2, "{order}");
    let discarded = cuts[0]["discarded"].as_f64().unwrap();
    assert!((discarded - share(order)).abs() < 1e-12, "{discarded}");
    // Something went, and what stayed is closer than nothing.
    let relative = cuts[0]["measured"]["relative"].as_f64().unwrap();
    assert!(relative > 0.0 && relative < 1.0, "{relative}");
    assert!(
        fs::read_to_string(whole.join("events.log"))
            .unwrap()
            .contains("finished")
    );

    // Killed without warning after the first cut, and once more before the second.
    let mut args = train_args(&broken, &[]);
    for kill_after in ["step-00000020", "step-00000030"] {
        let mut child = program().args(&args).stdout(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        let reached = |path: PathBuf| *path.file_name().unwrap().to_string_lossy() >= *kill_after;
        while !latest_checkpoint(&broken).is_some_and(reached) {
            assert!(
                began.elapsed() < Duration::from_secs(300),
                "no {kill_after}"
            );
            assert!(
                child.try_wait().unwrap().is_none(),
                "the run ended before {kill_after}"
            );
            sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        args = vec!["train".into(), "--resume".into(), text(&broken).into()];
    }
    stdout(&program().args(&args).output().unwrap());

    for file in [
        "model.safetensors",
        "optimizer.safetensors",
        "best.safetensors",
    ] {
        let bytes = |run: &Path| fs::read(latest_checkpoint(run).unwrap().join(file)).unwrap();
        assert!(bytes(&whole) == bytes(&broken), "{file} differs");
    }
    for file in ["metrics.jsonl", "hsv.jsonl"] {
        let lines = |run: &Path| {
            json_lines(&run.join(file))
                .into_iter()
                .map(without_times)
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&whole), lines(&broken), "{file}");
    }
    let end = |run: &Path| without_times(json_file(&run.join("summary.json")));
    assert_eq!(end(&whole), end(&broken));

    // Resuming what is finished repeats the summary.
    stdout(&run(&["train", "--resume", text(&broken)]));
    assert_eq!(end(&whole), end(&broken));

    // What is there is not overwritten.
    let before = fs::read(broken.join("summary.json")).unwrap();
    let line = refusal(&["train", "--output", text(&broken)], 2);
    assert!(line.contains("--resume"), "{line}");
    assert_eq!(fs::read(broken.join("summary.json")).unwrap(), before);

    // The run can be evaluated, analyzed, exported and used.
    let scores = stdout(&run(&["eval", "--resume", text(&whole), "--json"]));
    let scores: Value = serde_json::from_str(&scores).unwrap();
    assert_eq!(scores["test"]["accuracy"], summary["test_accuracy"]);
    let table = stdout(&run(&["analyze", "--checkpoint", text(&whole)]));
    assert!(table.contains("tau 0.01"), "{table}");
    let exported = folder.path().join("model.safetensors");
    stdout(&run(&[
        "export",
        "--checkpoint",
        text(&whole),
        "--output",
        text(&exported),
    ]));
    let report = stdout(&run(&[
        "analyze",
        "--checkpoint",
        text(&exported),
        "--json",
        "--tau",
        "0.5",
    ]));
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(
        report["layers"][0]["state_dim"],
        summary["final_state_dims"][0]
    );
    assert!(report["layers"][0]["rank_at_tau"]["0.5"].is_u64());

    // A damaged checkpoint is named, and nothing is written over it.
    let weights = latest_checkpoint(&broken)
        .unwrap()
        .join("model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    let line = refusal(&["train", "--resume", text(&broken)], 2);
    assert!(line.contains("model.safetensors is damaged"), "{line}");
}

#[test]
fn a_run_that_diverges_fails_with_its_checkpoints_intact() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    let sets = [
        "training.lr=1e30",
        "training.schedule=constant",
        "compress.policy=none",
    ];
    let result = train(&output, &sets);
    let line = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(1), "{line}");
    assert!(line.contains("training.lr"), "{line}");
    assert!(latest_checkpoint(&output).is_some());
    assert!(!output.join("summary.json").exists());
}

/// Numbers at the ends of their ranges: a run of a few steps ends, well or badly, and never in a panic.
#[test]
fn the_smallest_and_largest_numbers_that_are_accepted_are_trained_with() {
    let folder = TempDir::new().unwrap();
    for (index, set) in [
        "model.r_min=0.0 model.r_max=1e-300",
        "model.r_min=5e-324 model.r_max=0.9999999999999999",
        "model.max_phase=1e-30",
        "model.dropout=0.9999999999999999",
        "model.dropout=5e-324",
        "model.state_dim=1 model.hidden_dim=1",
        "training.lr=5e-324",
        "training.lr=1e300",
        "training.weight_decay=1e300",
        "training.ssm_lr_factor=1e300",
        "training.warmup_fraction=0.9999999999999999",
        "training.batch_size=1 training.eval_every=9223372036854775807",
        "training.checkpoint_every=9223372036854775807 training.keep_checkpoints=9223372036854775807",
        "compress.tau=5e-324",
        "compress.tau=0.9999999999999999",
        "compress.min_drop=0.9999999999999999",
        "compress.min_state=9223372036854775807 compress.cooldown=9223372036854775807",
        "compress.calibration_examples=9223372036854775807",
        "compress.snapshot_every=1",
        "compress.policy=fraction compress.fraction=5e-324",
        "compress.policy=fraction compress.fraction=0.9999999999999999",
        "compress.policy=target compress.target_step_ms=5e-324",
        "compress.policy=target compress.target_states=9223372036854775807",
        "model.kind=mamba model.dt_rank=1 model.conv_kernel=1 model.expand=1",
        "model.kind=mamba model.conv_kernel=500",
    ]
    .into_iter()
    .enumerate()
    {
        let small = [
            "model.state_dim=4",
            "training.steps=8",
            "data.train_examples=30",
            "data.test_examples=5",
            "compress.start=0",
            "compress.end=8",
        ];
        // In a file, which they overrule.
        let config = folder.path().join("small.toml");
        fs::write(&config, small.join("\n")).unwrap();
        let output = folder.path().join(index.to_string());
        let mut args = vec!["train", "--output", text(&output), "--config", text(&config)];
        args.extend(["--set", "training.batch_size=10"]);
        args.extend(set.split(' ').flat_map(|set| ["--set", set]));
        let ended = run(&args);
        let line = String::from_utf8_lossy(&ended.stderr);
        assert!(matches!(ended.status.code(), Some(0 | 1)), "{set}: {line}");
        assert!(!line.contains("panicked"), "{set}: {line}");
    }
}

#[test]
fn impossible_settings_are_refused_in_one_line_before_anything_is_written() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    for (set, part) in [
        ("compress.tau=1.0", "compress.tau"),
        ("model.r_max=1.5", "model.r_max"),
        ("training.batch_size=0", "training.batch_size"),
        ("training.batch_size=100000", "training.batch_size"),
        ("data.train_examples=0", "data.digits.train_examples"),
        ("data.train_examples=1", "validation"),
        ("data.test_examples=0", "data.digits.test_examples"),
        ("data.train_examples=9223372036854775807", "digits"),
        ("data.validation_fraction=1e-9", "validation"),
        ("data.validation_fraction=0.9999999", "train"),
        ("data.length=7", "`data.dataset` is digits"),
        ("model.kind=mamba model.r_max=7.0", "`model.kind` is mamba"),
        (
            "compress.policy=none compress.tau=0.1",
            "`compress.policy` is none",
        ),
        ("model.state_dim=9223372036854775807", "parameters"),
        (
            "compress.policy=target compress.target_parameters=0",
            "parameters",
        ),
        ("training.lerning_rate=1", "lerning_rate"),
        ("data.dataset=cifar", "digits"),
        ("data.dataset=mnist", "data fetch mnist"),
        ("compress.end=9000000", "compress"),
        ("model.kind=rnn", "lru"),
        ("nonsense", "section.key=value"),
    ] {
        let sets = set.split(' ').flat_map(|set| ["--set", set]);
        let args: Vec<&str> = ["train", "--output", text(&output)]
            .into_iter()
            .chain(sets)
            .collect();
        let line = refusal(&args, 2);
        assert!(line.contains(part), "{set}: {line}");
        assert!(!output.exists(), "{set}");
    }
    let missing = folder.path().join("absent");
    for args in [
        vec!["train", "--config", text(&missing)],
        vec!["train", "--resume", text(&missing)],
        vec!["eval", "--resume", text(&missing)],
        vec!["analyze", "--checkpoint", text(&missing)],
        vec!["analyze", "--system", text(&missing)],
        vec!["data", "fetch", "imagenet", "--dir", text(folder.path())],
        vec!["train", "--colour"],
        vec!["predict", "--weights", text(&missing)],
        vec!["analyze"],
        vec![
            "train",
            "--resume",
            text(&missing),
            "--set",
            "training.lr=1",
        ],
    ] {
        refusal(&args, 2);
    }
}

#[test]
fn a_backend_that_is_not_built_in_is_refused_with_how_to_build_it() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    for (backend, built) in [
        ("wgpu", cfg!(feature = "wgpu")),
        ("cuda", cfg!(feature = "cuda")),
        ("libtorch", cfg!(feature = "libtorch")),
    ] {
        if built {
            continue;
        }
        let set = format!("run.backend={backend}");
        for choice in [["--backend", backend], ["--set", &set]] {
            let args = ["train", "--output", text(&output), choice[0], choice[1]];
            let line = refusal(&args, 2);
            assert!(line.contains(&format!("backend `{backend}` is not built")));
            assert!(line.contains(&format!("--features {backend}")), "{line}");
            assert!(!output.exists());
        }
    }
}

#[test]
fn corrupted_mnist_files_are_named() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("mnist");
    fs::create_dir(&data).unwrap();
    for name in [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ] {
        fs::write(data.join(name), b"not gzip").unwrap();
    }
    let output = folder.path().join("run");
    let args = [
        "train",
        "--set",
        "data.dataset=mnist",
        "--data-dir",
        text(folder.path()),
        "--output",
        text(&output),
    ];
    let line = refusal(&args, 2);
    assert!(line.contains("-ubyte.gz"), "{line}");
    assert!(!output.exists());
}

/// Deterministic numbers in [-1, 1].
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|k| {
            let mut z = (seed << 32 | k).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((z >> 40) as f32) / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Weights of a model whose blocks have these state dimensions.
fn weights(
    encoder: (&str, usize),
    hidden: usize,
    states: &[usize],
    classes: usize,
) -> NamedTensors {
    let mut tensors = NamedTensors::default();
    let mut seed = 0;
    let mut put = |name: &str, shape: &[usize], map: fn(f32) -> f32| {
        seed += 1;
        let values = numbers(seed, shape.iter().product())
            .into_iter()
            .map(map)
            .collect();
        tensors.0.insert(
            name.to_owned(),
            NamedTensor {
                shape: shape.to_vec(),
                values,
            },
        );
    };
    let h = hidden;
    match encoder {
        ("linear", channels) => {
            put("linear_encoder.weight", &[h, channels], |v| v);
            put("linear_encoder.bias", &[h], |v| v);
        }
        (_, vocabulary) => put("embedding.weight", &[vocabulary, h], |v| v),
    }
    for (i, n) in states.iter().copied().enumerate() {
        let name = |part: &str| format!("blocks.{i}.{part}");
        put(&name("lru.nu_log"), &[n], |v| v - 2.0);
        put(&name("lru.theta_log"), &[n], |v| v);
        put(&name("lru.gamma_log"), &[n], |v| 0.3 * v - 0.5);
        for part in ["lru.B_re", "lru.B_im"] {
            put(&name(part), &[n, h], |v| v);
        }
        for part in ["lru.C_re", "lru.C_im"] {
            put(&name(part), &[h, n], |v| v);
        }
        put(&name("lru.D"), &[h], |v| v);
        put(&name("norm.mean"), &[h], |v| 0.2 * v);
        put(&name("norm.var"), &[h], |v| 1.0 + 0.5 * v);
        for part in ["w1", "w2"] {
            put(&name(&format!("glu.{part}.weight")), &[h, h], |v| v);
            put(&name(&format!("glu.{part}.bias")), &[h], |v| v);
        }
    }
    put("linear_layer.weight", &[classes, h], |v| v);
    put("linear_layer.bias", &[classes], |v| v);
    tensors
}

fn f64s(tensors: &NamedTensors, name: &str) -> Vec<f64> {
    tensors.0[name]
        .values
        .iter()
        .copied()
        .map(f64::from)
        .collect()
}

/// W x + b with W `[out, in]`.
fn affine(tensors: &NamedTensors, name: &str, x: &[f64]) -> Vec<f64> {
    let (w, b) = (
        f64s(tensors, &format!("{name}.weight")),
        f64s(tensors, &format!("{name}.bias")),
    );
    b.iter()
        .zip(w.chunks(x.len()))
        .map(|(b, row)| b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>())
        .collect()
}

/// The model of the published description, one time step after the other, in f64. `steps` are encoded inputs.
fn plain_model(tensors: &NamedTensors, states: &[usize], mut steps: Vec<Vec<f64>>) -> Vec<f64> {
    let hidden = steps[0].len();
    for (i, n) in states.iter().copied().enumerate() {
        let get = |part: &str| f64s(tensors, &format!("blocks.{i}.{part}"));
        let (nu, theta, gamma) = (
            get("lru.nu_log"),
            get("lru.theta_log"),
            get("lru.gamma_log"),
        );
        let (b_re, b_im, c_re, c_im) = (
            get("lru.B_re"),
            get("lru.B_im"),
            get("lru.C_re"),
            get("lru.C_im"),
        );
        let (d, mean, var) = (get("lru.D"), get("norm.mean"), get("norm.var"));
        let mut x = vec![(0.0, 0.0); n];
        for step in &mut steps {
            let u: Vec<f64> = (0..hidden)
                .map(|h| (step[h] - mean[h]) / (var[h] + 1e-5).sqrt())
                .collect();
            for (s, x) in x.iter_mut().enumerate() {
                let (modulus, phase) = ((-nu[s].exp()).exp(), theta[s].exp());
                let (re, im) = (modulus * phase.cos(), modulus * phase.sin());
                let dot = |b: &[f64]| -> f64 {
                    (0..hidden)
                        .map(|h| gamma[s].exp() * b[s * hidden + h] * u[h])
                        .sum()
                };
                *x = (
                    re * x.0 - im * x.1 + dot(&b_re),
                    re * x.1 + im * x.0 + dot(&b_im),
                );
            }
            let activation: Vec<f64> = (0..hidden)
                .map(|h| {
                    let y: f64 = (0..n)
                        .map(|s| c_re[h * n + s] * x[s].0 - c_im[h * n + s] * x[s].1)
                        .sum();
                    let y = y + d[h] * u[h];
                    let slope = (2.0 / std::f64::consts::PI).sqrt();
                    0.5 * y * (1.0 + (slope * (y + 0.044715 * y.powi(3))).tanh())
                })
                .collect();
            let value = affine(tensors, &format!("blocks.{i}.glu.w1"), &activation);
            let gate = affine(tensors, &format!("blocks.{i}.glu.w2"), &activation);
            for h in 0..hidden {
                step[h] += value[h] / (1.0 + (-gate[h]).exp());
            }
        }
    }
    let mean: Vec<f64> = (0..hidden)
        .map(|h| steps.iter().map(|step| step[h]).sum::<f64>() / steps.len() as f64)
        .collect();
    affine(tensors, "linear_layer", &mean)
}

fn write(path: &Path, name: &str, shape: &[usize], values: Vec<f32>) {
    let tensor = NamedTensor {
        shape: shape.to_vec(),
        values,
    };
    let tensors = NamedTensors([(name.to_owned(), tensor)].into());
    write_tensors(path, &tensors, Default::default()).unwrap();
}

fn assert_logits(output: &Path, want: &[Vec<f64>]) {
    let logits = &read_tensors(output).unwrap().0["logits"];
    assert_eq!(logits.shape, [want.len(), want[0].len()]);
    let scale = want.iter().flatten().fold(1.0_f64, |m, v| m.max(v.abs()));
    for (got, want) in logits.values.iter().zip(want.iter().flatten()) {
        // f32 through blocks with gains of a few.
        assert!(
            (f64::from(*got) - want).abs() < 2e-5 * scale,
            "{got} against {want}"
        );
    }
}

#[test]
fn predictions_of_real_sequences_match_a_plain_recurrence() {
    let folder = TempDir::new().unwrap();
    let [model, input, output] =
        ["w", "x", "y"].map(|n| folder.path().join(format!("{n}.safetensors")));
    let (channels, hidden, states, length, batch) = (2, 5, [7, 3], 130, 70);
    let tensors = weights(("linear", channels), hidden, &states, 4);
    write_tensors(&model, &tensors, Default::default()).unwrap();
    let x = numbers(99, batch * length * channels);
    write(&input, "x", &[batch, length, channels], x.clone());
    let args = [
        "predict",
        "--weights",
        text(&model),
        "--input",
        text(&input),
        "--output",
        text(&output),
    ];
    stdout(&run(&args));
    let want: Vec<Vec<f64>> = x
        .chunks(length * channels)
        .map(|sequence| {
            let encode = |u: &[f32]| {
                let u: Vec<f64> = u.iter().copied().map(f64::from).collect();
                affine(&tensors, "linear_encoder", &u)
            };
            plain_model(
                &tensors,
                &states,
                sequence.chunks(channels).map(encode).collect(),
            )
        })
        .collect();
    assert_logits(&output, &want);

    // Inputs that the model does not take.
    for (name, shape, part) in [
        ("x", vec![1, 4, 3], "expected [batch, length, 2]"),
        ("x", vec![1, 0, 2], "`x` is empty: its shape is [1, 0, 2]"),
        ("u", vec![1, 1, 2], "no tensor `x`"),
    ] {
        let len = shape.iter().product();
        write(&input, name, &shape, vec![0.5; len]);
        let line = refusal(&args, 2);
        assert!(line.contains(part), "{line}");
    }
    write(&input, "x", &[1, 1, 2], vec![0.0, f32::NAN]);
    assert!(refusal(&args, 2).contains("not finite"));
    fs::write(&input, b"garbage").unwrap();
    assert!(refusal(&args, 2).contains("not a readable safetensors file"));
}

#[test]
fn predictions_of_tokens_match_a_plain_recurrence() {
    let folder = TempDir::new().unwrap();
    let [model, input, output] =
        ["w", "x", "y"].map(|n| folder.path().join(format!("{n}.safetensors")));
    let (vocabulary, hidden, states) = (9, 4, [3]);
    let tensors = weights(("tokens", vocabulary), hidden, &states, 2);
    write_tensors(&model, &tensors, Default::default()).unwrap();
    let tokens: Vec<Vec<i64>> = vec![vec![0, 8, 3, 3, 1], vec![5, 5, 2, 7, 0]];
    let write_tokens = |tokens: &[Vec<i64>]| {
        let bytes: Vec<u8> = tokens
            .iter()
            .flatten()
            .flat_map(|t| t.to_le_bytes())
            .collect();
        let shape = vec![tokens.len(), tokens[0].len()];
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::I64, shape, &bytes).unwrap();
        fs::write(
            &input,
            safetensors::serialize([("input_ids", view)], None).unwrap(),
        )
        .unwrap();
    };
    write_tokens(&tokens);
    let args = [
        "predict",
        "--weights",
        text(&model),
        "--input",
        text(&input),
        "--output",
        text(&output),
    ];
    stdout(&run(&args));
    let table = f64s(&tensors, "embedding.weight");
    let embed = |token: &i64| table[*token as usize * hidden..][..hidden].to_vec();
    let want: Vec<Vec<f64>> = tokens
        .iter()
        .map(|sequence| plain_model(&tensors, &states, sequence.iter().map(embed).collect()))
        .collect();
    assert_logits(&output, &want);

    write_tokens(&[vec![0, 9]]);
    assert!(refusal(&args, 2).contains("token 9"));
    write_tokens(&[vec![-1, 2]]);
    assert!(refusal(&args, 2).contains("token -1"));
}

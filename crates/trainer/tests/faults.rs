//! What can go wrong with a run, and what must be left of it: kills, interruptions, full disks, damaged files; and the
//! ways back.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it should be"
)]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use support::{
    FEW_DIGITS, SMALL, json_file, json_lines, latest_checkpoint, program, refusal, run, stdout,
    text, train, train_args, without_times,
};
use tempfile::TempDir;

/// Everything that a run leaves, but for what a clock decides.
fn result(run: &Path) -> Value {
    let checkpoint = latest_checkpoint(run).unwrap();
    let file = |name: &str| checkpoint.join(format!("{name}.safetensors"));
    let weights: Vec<Vec<u8>> = ["model", "optimizer", "best", "snapshot"]
        .iter()
        .map(|name| fs::read(file(name)).unwrap())
        .collect();
    // A run that was evaluated before its last cut has it.
    let before_cut = fs::read(file("best-before-cut")).ok();
    let lines = |name: &str| -> Vec<Value> {
        let lines = json_lines(&run.join(name)).into_iter();
        lines.map(without_times).collect()
    };
    json!({
        "weights": (weights, before_cut),
        "summary": without_times(json_file(&run.join("summary.json"))),
        "metrics": lines("metrics.jsonl"),
        "hsv": lines("hsv.jsonl"),
    })
}

/// Fails without printing all of the weights.
fn assert_same(got: &Path, want: &Path) {
    let (got, want) = (result(got), result(want));
    for key in ["summary", "metrics", "hsv"] {
        assert_eq!(got[key], want[key], "{key}");
    }
    assert!(got["weights"] == want["weights"], "the weights differ");
}

fn resume(run: &Path) -> Command {
    let mut command = program();
    command.args(["train", "--resume", text(run)]);
    command
}

fn spawn(command: &mut Command) -> Child {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What a run learns something with before its first cut.
const LEARNS: &[&str] = &["model.max_phase=0.1", "training.lr=0.02"];

/// A run with a cut that is judged too expensive and taken back, after a snapshot and before others.
const REVERTS: &[&str] = &[
    "compress.policy=pragmatic",
    "compress.fraction=0.95",
    "compress.max_drop=0",
    "compress.start=60",
    "compress.end=100",
];

/// How often the runs of the next test are killed, both together; `COMPRESSM_KILLS` asks for another number.
const KILLS: usize = 12;

#[test]
fn a_run_killed_at_random_moments_ends_as_if_nothing_had_happened() {
    let kills = env::var("COMPRESSM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let folder = TempDir::new().unwrap();
    for (name, policy) in [("cuts", &[][..]), ("reverts", REVERTS)] {
        // A checkpoint at every other step: many of the kills fall into one being written.
        let settings = [&["training.checkpoint_every=2"], LEARNS, policy].concat();
        let whole = folder.path().join(name);
        let began = Instant::now();
        stdout(&train(&whole, &settings));
        let duration = began.elapsed();
        let (mut killed, mut runs) = (0, 0);
        while killed < kills / 2 {
            let broken = folder.path().join(format!("{name}-{runs}"));
            let mut command = program();
            command.args(train_args(&broken, &settings));
            loop {
                let mut child = spawn(&mut command);
                sleep(duration.mul_f64(rng.random_range(0.0..0.7)));
                if child.try_wait().unwrap().is_some() || killed >= kills / 2 {
                    stdout(&child.wait_with_output().unwrap());
                    break;
                }
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                // Before there is a configuration there is no run.
                if broken.join("config.toml").exists() {
                    command = resume(&broken);
                } else {
                    assert!(!broken.exists() || fs::remove_dir_all(&broken).is_ok());
                }
            }
            assert_same(&broken, &whole);
            runs += 1;
        }
    }
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(status.unwrap().success());
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(300), "never: {what}");
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_interrupted_run_leaves_a_checkpoint_and_goes_on_to_the_same_end() {
    let folder = TempDir::new().unwrap();
    let (whole, broken) = (folder.path().join("whole"), folder.path().join("broken"));
    // Long enough that it does not end before it is interrupted, with no checkpoint but the first, the last and those
    // before the cuts.
    let settings = [
        "training.steps=400",
        "training.eval_every=20",
        "training.checkpoint_every=1000",
    ];
    stdout(&train(&whole, &settings));
    let mut command = program();
    command.args(train_args(&broken, &settings));
    let evaluations =
        || fs::read_to_string(broken.join("metrics.jsonl")).map_or(0, |text| text.lines().count());
    for signal in ["-INT", "-TERM"] {
        let before = evaluations();
        let child = spawn(&mut command);
        wait_until("an evaluation", || evaluations() > before);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let shown = stdout(&output);
        let last = shown.lines().last().unwrap();
        assert!(last.starts_with("interrupted after step "), "{last}");
        let step: u64 = last.split([' ', ',']).nth(3).unwrap().parse().unwrap();
        let checkpoint = broken.join(format!("checkpoints/step-{step:08}"));
        assert!(checkpoint.is_dir(), "{last}");
        // Right at a cut the one from before it has the same step, and a name behind.
        let latest = latest_checkpoint(&broken).unwrap();
        assert!(text(&latest).starts_with(text(&checkpoint)), "{last}");
        command = resume(&broken);
    }
    stdout(&command.output().unwrap());
    assert_same(&broken, &whole);
}

#[test]
fn a_second_interruption_ends_the_process_at_once() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    // One step takes longer than both signals.
    let slow = [
        "model.state_dim=256",
        "model.hidden_dim=64",
        "training.batch_size=400",
    ];
    let mut command = program();
    let mut child = spawn(command.args(train_args(&output, &slow)));
    wait_until("the first checkpoint", || {
        latest_checkpoint(&output).is_some()
    });
    sleep(Duration::from_millis(100));
    send(&child, "-INT");
    sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "still in its step");
    send(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_cut_that_costs_too_much_leaves_no_trace_in_the_weights() {
    let folder = TempDir::new().unwrap();
    let (tried, never) = (folder.path().join("tried"), folder.path().join("never"));
    let shown = stdout(&train(&tried, &[LEARNS, REVERTS].concat()));
    assert!(shown.contains("reverted"), "{shown}");
    let none = ["compress.policy=none"];
    stdout(&train(&never, &[LEARNS, &none].concat()));

    let summary = json_file(&tried.join("summary.json"));
    assert_eq!(summary["cuts"], json!([]));
    assert_eq!(summary["reverted_cuts"][0]["to"], 1);
    assert_eq!(summary["final_state_dims"], json!([24]));
    for name in ["model", "optimizer", "best"] {
        let bytes = |run: &Path| {
            let checkpoint = latest_checkpoint(run).unwrap();
            fs::read(checkpoint.join(format!("{name}.safetensors"))).unwrap()
        };
        assert!(bytes(&tried) == bytes(&never), "{name}");
    }
    assert_eq!(
        json_lines(&tried.join("metrics.jsonl"))
            .into_iter()
            .map(without_times)
            .collect::<Vec<_>>(),
        json_lines(&never.join("metrics.jsonl"))
            .into_iter()
            .map(without_times)
            .collect::<Vec<_>>()
    );
    // Once, and never again.
    let checks = json_lines(&tried.join("hsv.jsonl")).into_iter();
    let verdicts: Vec<Value> = checks
        .filter(|line| line.get("decision").is_some())
        .map(|line| line["verdict"].clone())
        .collect();
    assert_eq!(verdicts.len(), 1);
    assert_eq!(verdicts[0]["reverted"], true);
}

#[test]
fn a_run_goes_back_to_before_a_cut_and_on_with_other_settings() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    stdout(&train(&output, &[]));
    let listed = stdout(&run(&["checkpoints", text(&output), "--json"]));
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let entries = listed["checkpoints"].as_array().unwrap();
    let places: Vec<(u64, &str)> = entries
        .iter()
        .map(|entry| {
            (
                entry["step"].as_u64().unwrap(),
                entry["place"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            (20, "before-cut"),
            (40, "before-cut"),
            (110, "end"),
            (120, "end")
        ]
    );
    assert!(entries.iter().all(|entry| entry["condition"] == "good"));
    assert_eq!(entries[0]["state_dims"], json!([24]));

    let line = refusal(&["revert", text(&output), "--to", "30"], 2);
    assert!(line.contains("20 (before a cut), 40 (before a cut), 110, 120"));
    let set = "model.hidden_dim=8";
    let args = ["revert", text(&output), "--to", "40", "--set", set];
    assert!(refusal(&args, 2).contains("`model` belongs to the run"));
    assert!(!output.join("reverted-1").exists());

    let before = json_lines(&output.join("metrics.jsonl"));
    let args = [
        "revert",
        text(&output),
        "--to",
        "40",
        "--set",
        "compress.policy=none",
    ];
    let shown = stdout(&run(&args));
    assert!(
        shown.starts_with("back at step 40 (before a cut)"),
        "{shown}"
    );
    let summary = json_file(&output.join("summary.json"));
    let first_cut = summary["cuts"].as_array().unwrap();
    assert_eq!(first_cut.len(), 1);
    assert_eq!(summary["final_state_dims"][0], first_cut[0]["to"]);
    assert_eq!(summary["steps"], 120);
    // What was there is all there still, a run of its own.
    let aside = output.join("reverted-1");
    assert_eq!(json_lines(&aside.join("metrics.jsonl")), before);
    assert_eq!(json_lines(&output.join("metrics.jsonl")).len(), 2);
    stdout(&run(&["report", text(&aside)]));
    stdout(&run(&["checkpoints", text(&aside)]));

    // Back to the start and on with the settings of that time is the run that went before.
    let again = folder.path().join("again");
    stdout(&train(&again, &[]));
    stdout(&run(&["revert", text(&again), "--to", "20", "--no-train"]));
    assert!(!again.join("summary.json").exists());
    stdout(&resume(&again).output().unwrap());
    let fresh = folder.path().join("fresh");
    stdout(&train(&fresh, &[]));
    assert_same(&again, &fresh);
}

#[test]
fn a_run_of_several_batches_a_step_goes_on_to_the_end_of_the_unbroken_one() {
    let folder = TempDir::new().unwrap();
    let settings = [
        "training.objective=label-smoothing",
        "training.label-smoothing.epsilon=0.2",
        "training.accumulate=3",
        "training.batch_size=4",
        "training.clip=0.5",
        // 200 of them: a second epoch begins in the midst of a step.
        "data.train_examples=223",
    ];
    let [whole, broken] = ["whole", "broken"].map(|name| folder.path().join(name));
    stdout(&train(&whole, &settings));
    stdout(&train(&broken, &settings));
    stdout(&run(&["revert", text(&broken), "--to", "20", "--no-train"]));
    stdout(&resume(&broken).output().unwrap());
    assert_same(&broken, &whole);

    // Each of the settings makes it another run.
    for other in [
        "training.clip=0.1",
        "training.accumulate=2",
        "training.label-smoothing.epsilon=0.3",
    ] {
        let output = folder.path().join("other");
        stdout(&train(&output, &[&settings[..], &[other]].concat()));
        assert_ne!(
            result(&output)["metrics"],
            result(&whole)["metrics"],
            "{other}"
        );
        fs::remove_dir_all(&output).unwrap();
    }
}

#[test]
fn damaged_and_foreign_checkpoints_are_named_and_the_others_left_alone() {
    let folder = TempDir::new().unwrap();
    let (output, foreign) = (folder.path().join("run"), folder.path().join("foreign"));
    stdout(&train(&output, &[]));
    stdout(&train(&foreign, &["model.hidden_dim=5"]));
    let newest = latest_checkpoint(&output).unwrap();
    let good = newest.with_file_name("step-00000110");
    let content = |folder: &Path| -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
            .into_iter()
            .map(|path| (path.clone(), fs::read(&path).unwrap()))
            .collect()
    };
    let before = content(&good);
    let model = newest.join("model.safetensors");
    let bytes = fs::read(&model).unwrap();

    fs::write(&model, &bytes[..bytes.len() / 2]).unwrap();
    let args = ["train", "--resume", text(&output)];
    let line = refusal(&args, 2);
    assert!(line.contains("model.safetensors is damaged"), "{line}");
    let table = stdout(&run(&["checkpoints", text(&output)]));
    assert!(table.contains("is damaged"), "{table}");
    fs::remove_file(newest.join("SHA256SUMS")).unwrap();
    assert!(refusal(&args, 2).contains("SHA256SUMS"));

    fs::remove_dir_all(&newest).unwrap();
    fs::create_dir(&newest).unwrap();
    for (path, bytes) in content(&latest_checkpoint(&foreign).unwrap()) {
        fs::write(newest.join(path.file_name().unwrap()), bytes).unwrap();
    }
    let line = refusal(&args, 2);
    assert!(line.contains("the model has other sizes"), "{line}");

    // As the message of a damaged one says: remove it, and the one before is good.
    assert_eq!(content(&good), before);
    fs::remove_dir_all(&newest).unwrap();
    stdout(&run(&args));
}

/// A shell in which file systems can be mounted that nobody else sees; `None` where that is not allowed.
fn private_shell(script: &str) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    let mut probe = Command::new("unshare");
    probe.args(["--map-root-user", "--mount", "mount", "-t", "tmpfs"]);
    let probe = probe.args(["none", "/mnt"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no file system can be mounted here");
        return None;
    }
    command
        .arg(script)
        .env("BIN", env!("CARGO_BIN_EXE_compressm"));
    command.env_remove("COMPRESSM_DATA_DIR");
    Some(command)
}

#[test]
fn a_full_disk_ends_the_run_in_one_line_and_space_lets_it_go_on() {
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole");
    stdout(&train(&whole, &[]));
    // Room for a few small files, then more of it.
    let script = r#"
        set -e
        mount -t tmpfs -o size=1m none "$DISK"
        head -c 900k /dev/zero > "$DISK/filler"
        code=0
        "$BIN" train --output "$DISK/run" $SETS > "$OUT/first.out" 2> "$OUT/first.err" || code=$?
        echo $code > "$OUT/code"
        "$BIN" checkpoints "$DISK/run" --json > "$OUT/checkpoints.json"
        mount -o remount,size=8m "$DISK"
        "$BIN" train --resume "$DISK/run" > "$OUT/second.out"
        cp -r "$DISK/run" "$OUT/run"
    "#;
    let Some(mut command) = private_shell(script) else {
        return;
    };
    let (disk, out) = (folder.path().join("disk"), folder.path().join("out"));
    for path in [&disk, &out] {
        fs::create_dir(path).unwrap();
    }
    let sets = FEW_DIGITS.iter().chain(SMALL);
    let sets: Vec<String> = sets.map(|set| format!("--set {set}")).collect();
    command.env("DISK", &disk).env("OUT", &out);
    stdout(&command.env("SETS", sets.join(" ")).output().unwrap());

    let read = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    let line = read("first.err");
    assert_eq!(read("code").trim(), "1", "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("No space left on device"), "{line}");
    let listed: Value = serde_json::from_str(&read("checkpoints.json")).unwrap();
    let entries = listed["checkpoints"].as_array().unwrap();
    assert!(!entries.is_empty());
    assert!(entries.iter().all(|entry| entry["condition"] == "good"));
    assert_same(&out.join("run"), &whole);
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_in_one_line() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("run");
    stdout(&train(&output, &[]));
    let script = r#"
        mount --bind "$RUN" "$RUN" && mount -o remount,ro,bind "$RUN" || exit 99
        "$BIN" train --resume "$RUN"
    "#;
    let Some(mut command) = private_shell(script) else {
        return;
    };
    let refused = command.env("RUN", &output).output().unwrap();
    let line = String::from_utf8_lossy(&refused.stderr);
    assert!(
        matches!(refused.status.code(), Some(1 | 2)),
        "{:?}: {line}",
        refused.status
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.contains("Read-only file system"), "{line}");
    // It is as good as before.
    stdout(&resume(&output).output().unwrap());
}

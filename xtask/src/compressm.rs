//! The command line that builds and runs `compressm`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::libtorch::{self, LibTorch};
use crate::{cargo, workspace_root};

/// What `compressm train` reads when nobody says otherwise.
const QUICKSTART: &str = "configs/quickstart.toml";

/// The setting that names the backend, as `--set` and the environment know it.
const SETTING: &str = "run.backend";
const VARIABLE: &str = "COMPRESSM_RUN__BACKEND";

/// What the tensors run on: the words of `--backend`, and the cargo features of `trainer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    Cpu,
    Libtorch,
}

/// Why `compressm` is not even built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownBackend(String),
    LibTorch(libtorch::Missing),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBackend(word) => {
                let known: Vec<&str> = Backend::value_variants().iter().map(|b| b.word()).collect();
                let known = known.join(", ");
                write!(f, "backend `{word}` is unknown: choose one of {known}")
            }
            Self::LibTorch(missing) => missing.fmt(f),
        }
    }
}

impl Backend {
    fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Libtorch => "libtorch",
        }
    }
}

/// `cargo run` for `compressm ARGS`, in the current folder, so that relative paths mean what the user meant.
///
/// The native CPU backend is always built in, so that a program for one backend reads the runs of another.
pub(crate) fn command(args: &[OsString]) -> Result<Command, Refusal> {
    let variable = env::var_os(VARIABLE);
    let backend = backend(args, variable.as_deref())?;
    let mut command = cargo("run");
    if backend == Backend::Libtorch {
        let libtorch = LibTorch::find().map_err(Refusal::LibTorch)?;
        libtorch.set_up(&mut command);
    }
    command.args(arguments(args, backend));
    Ok(command)
}

/// What comes after `cargo run`.
fn arguments(args: &[OsString], backend: Backend) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["--release", "--package", "trainer", "--bin", "compressm"]
        .map(OsString::from)
        .into();
    if backend != Backend::Cpu {
        words.extend(["--features".into(), backend.word().into()]);
    }
    words.push("--".into());
    words.extend_from_slice(args);
    if needs_quickstart(args) {
        words.extend(["--config".into(), quickstart().into()]);
    }
    words
}

/// The backend that `compressm` will be asked for, by the rules of its configuration: the flag before `--set`, that
/// before the environment, that before the file. A file that is not there or cannot be read is for `compressm` to
/// explain.
fn backend(args: &[OsString], variable: Option<&OsStr>) -> Result<Backend, Refusal> {
    let from_file = || {
        let run = value_of(args, "--resume").map(|run| Path::new(run).join("config.toml"));
        let file = run.or_else(|| value_of(args, "--config").map(PathBuf::from))?;
        let table: toml::Table = fs::read_to_string(file).ok()?.parse().ok()?;
        let word = table.get("run")?.get("backend")?.as_str()?;
        Some(OsString::from(word))
    };
    let word = value_of(args, "--backend")
        .or_else(|| setting(args, SETTING))
        .or(variable)
        .map(OsStr::to_owned)
        .or_else(from_file);
    let Some(word) = word else {
        return Ok(Backend::Cpu);
    };
    let word = word.to_string_lossy();
    Backend::from_str(&word, false).map_err(|_| Refusal::UnknownBackend(word.into_owned()))
}

/// Training that names no configuration, and does not go on with a run that has one.
fn needs_quickstart(args: &[OsString]) -> bool {
    let is_train = args.first().is_some_and(|command| command == "train");
    let asks_for_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let has_config = ["--config", "--resume"]
        .iter()
        .any(|flag| has_flag(args, flag));
    is_train && !asks_for_help && !has_config
}

/// The quickstart's path: short where it can be, since it is shown and saved with the run.
fn quickstart() -> PathBuf {
    let root = workspace_root();
    match env::current_dir() {
        Ok(here) if here == root => QUICKSTART.into(),
        _ => root.join(QUICKSTART),
    }
}

fn has_flag(args: &[OsString], flag: &str) -> bool {
    args.iter()
        .any(|arg| arg == flag || inline_value(arg, flag).is_some())
}

/// The value of the last `--set key=value` with this key.
fn setting<'a>(args: &'a [OsString], key: &str) -> Option<&'a OsStr> {
    let separate = args
        .windows(2)
        .filter(|pair| pair[0] == *"--set")
        .map(|pair| pair[1].as_os_str());
    let inline = args.iter().filter_map(|arg| inline_value(arg, "--set"));
    let values = separate
        .chain(inline)
        .filter_map(|set| inline_value(set, key));
    values.last()
}

/// The value of the last `--flag value` or `--flag=value`. A flag without a value is for `compressm` to explain.
fn value_of<'a>(args: &'a [OsString], flag: &str) -> Option<&'a OsStr> {
    let separate = args
        .windows(2)
        .filter(|pair| pair[0] == *flag)
        .map(|pair| pair[1].as_os_str());
    let inline = args.iter().filter_map(|arg| inline_value(arg, flag));
    separate.chain(inline).last()
}

fn inline_value<'a>(arg: &'a OsStr, flag: &str) -> Option<&'a OsStr> {
    let value = arg.to_str()?.strip_prefix(flag)?.strip_prefix('=')?;
    Some(OsStr::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    fn chosen(words: &str) -> Backend {
        backend(&args(words), None).unwrap()
    }

    /// What `compressm` itself gets to see, and before it what cargo does.
    fn split(words: &str) -> [Vec<String>; 2] {
        let args = args(words);
        let all: Vec<String> = arguments(&args, backend(&args, None).unwrap())
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect();
        let separator = all.iter().position(|arg| arg == "--").unwrap();
        [all[..separator].to_vec(), all[separator + 1..].to_vec()]
    }

    fn passed(words: &str) -> Vec<String> {
        let [_, passed] = split(words);
        passed
    }

    #[test]
    fn training_without_a_configuration_is_the_quickstart() {
        let passed = passed("train --set training.lr=1e-3");
        assert_eq!(
            passed[..4],
            ["train", "--set", "training.lr=1e-3", "--config"]
        );
        assert!(passed[4].ends_with(QUICKSTART), "{}", passed[4]);
        assert!(workspace_root().join(QUICKSTART).is_file());
    }

    #[test]
    fn everything_else_passes_through_as_it_is() {
        for words in [
            "train --config my.toml",
            "train --config=my.toml --backend cpu",
            "train --resume runs/1",
            "train --help",
            "eval --resume runs/1",
            "data fetch mnist --dir data",
            "analyze --system s.json --json",
        ] {
            let expected: Vec<&str> = words.split_whitespace().collect();
            assert_eq!(passed(words), expected);
        }
    }

    #[test]
    fn the_backend_is_the_one_that_the_program_will_be_asked_for() {
        assert_eq!(chosen("train"), Backend::Cpu);
        for words in [
            "train --backend libtorch",
            "train --backend=libtorch --quiet",
            "train --set training.lr=1 --set run.backend=libtorch",
            "train --set=run.backend=libtorch",
            "train --set run.backend=cpu --backend libtorch",
        ] {
            assert_eq!(chosen(words), Backend::Libtorch, "{words}");
            let [cargo, _] = split(words);
            assert_eq!(cargo[cargo.len() - 2..], ["--features", "libtorch"]);
        }
        let variable = OsStr::new("libtorch");
        let of = |words: &str| backend(&args(words), Some(variable)).unwrap();
        assert_eq!(of("train"), Backend::Libtorch);
        assert_eq!(of("train --set run.backend=cpu"), Backend::Cpu);
        let [cargo, _] = split("train");
        assert!(!cargo.contains(&"--features".to_owned()));
    }

    #[test]
    fn the_backend_may_stand_in_a_configuration_or_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, "[run]\nbackend = \"libtorch\"\n").unwrap();
        let (file, folder) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
        assert_eq!(chosen(&format!("train --config {file}")), Backend::Libtorch);
        assert_eq!(
            chosen(&format!("eval --resume {folder}")),
            Backend::Libtorch
        );
        let overruled = format!("train --config {file} --backend cpu");
        assert_eq!(chosen(&overruled), Backend::Cpu);
        let missing = format!("train --config {folder}/absent.toml");
        assert_eq!(chosen(&missing), Backend::Cpu);
    }

    #[test]
    fn an_unknown_backend_is_refused_in_one_line() {
        let refusal = command(&args("train --backend gpu")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "backend `gpu` is unknown: choose one of cpu, libtorch"
        );
    }

    #[test]
    fn a_backend_flag_without_a_value_is_left_to_the_program() {
        assert_eq!(passed("eval --backend"), ["eval", "--backend"]);
    }
}

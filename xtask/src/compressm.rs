//! The command line that builds and runs `compressm`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::{cargo, workspace_root};

/// What `compressm train` reads when nobody says otherwise.
const QUICKSTART: &str = "configs/quickstart.toml";

/// What the tensors run on; the words of `--backend`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    Cpu,
    Wgpu,
    Cuda,
    Libtorch,
}

/// The backends that `trainer` has a cargo feature for. The first is its default.
const BUILT: [Backend; 1] = [Backend::Cpu];

/// Why `compressm` is not even built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownBackend(String),
    BackendNotBuilt(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBackend(word) => {
                let known = words(Backend::value_variants());
                write!(f, "backend `{word}` is unknown: choose one of {known}")
            }
            Self::BackendNotBuilt(word) => {
                let built = words(&BUILT);
                write!(
                    f,
                    "backend `{word}` is not built yet: this version has {built}"
                )
            }
        }
    }
}

fn words(backends: &[Backend]) -> String {
    let names: Vec<String> = backends.iter().map(|backend| word(*backend)).collect();
    names.join(", ")
}

fn word(backend: Backend) -> String {
    let value = backend.to_possible_value();
    value.expect("no backend is hidden").get_name().to_owned()
}

/// `cargo run` for `compressm ARGS`, in the current folder, so that relative paths mean what the user meant.
pub(crate) fn command(args: &[OsString]) -> Result<Command, Refusal> {
    check_backend(args)?;
    let mut command = cargo("run");
    command
        .args(["--release", "--package", "trainer", "--bin", "compressm"])
        .arg("--")
        .args(args);
    if needs_quickstart(args) {
        command.arg("--config").arg(quickstart());
    }
    Ok(command)
}

/// Refuses a `--backend` that this version does not have.
pub(crate) fn check_backend(args: &[OsString]) -> Result<(), Refusal> {
    let Some(wanted) = value_of(args, "--backend") else {
        return Ok(());
    };
    let wanted = wanted.to_string_lossy().into_owned();
    match Backend::from_str(&wanted, false) {
        Ok(backend) if BUILT.contains(&backend) => Ok(()),
        Ok(_) => Err(Refusal::BackendNotBuilt(wanted)),
        Err(_) => Err(Refusal::UnknownBackend(wanted)),
    }
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

    /// What `compressm` itself gets to see.
    fn passed(words: &str) -> Vec<String> {
        let command = command(&args(words)).unwrap();
        let all: Vec<String> = command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        let separator = all.iter().position(|arg| arg == "--").unwrap();
        all[separator + 1..].to_vec()
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
            "eval --checkpoint runs/1 --backend=cpu",
            "data fetch mnist --dir data",
            "analyze --system s.json --json",
        ] {
            let expected: Vec<&str> = words.split_whitespace().collect();
            assert_eq!(passed(words), expected);
        }
    }

    #[test]
    fn a_backend_that_is_not_built_is_refused_in_one_line() {
        for words in ["train --backend cuda", "train --backend=cuda --quiet"] {
            let refusal = command(&args(words)).unwrap_err();
            assert_eq!(
                refusal.to_string(),
                "backend `cuda` is not built yet: this version has cpu"
            );
        }
        let unknown = command(&args("train --backend gpu")).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "backend `gpu` is unknown: choose one of cpu, wgpu, cuda, libtorch"
        );
    }

    #[test]
    fn a_backend_flag_without_a_value_is_left_to_the_program() {
        assert_eq!(passed("eval --backend"), ["eval", "--backend"]);
    }
}

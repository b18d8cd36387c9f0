//! The command line that builds and runs `compressm`.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::arguments::has_flag;
use crate::backend::{Backend, Refusal};
use crate::{cargo, workspace_root};

/// What `compressm train` reads when nobody says otherwise.
const QUICKSTART: &str = "configs/quickstart.toml";

/// `cargo run` for `compressm ARGS`, in the current folder, so that relative paths mean what the user meant.
pub(crate) fn command(args: &[OsString]) -> Result<Command, Refusal> {
    let backend = Backend::of(args)?;
    let mut command = cargo("run");
    backend.set_up(&mut command)?;
    command
        .args(["--release", "--package", "trainer", "--bin", "compressm"])
        .args(backend.features())
        .arg("--")
        .args(args);
    if needs_quickstart(args) {
        command.arg("--config").arg(quickstart());
    }
    Ok(command)
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
            "eval --resume runs/1 --data-dir=data",
            "data fetch mnist --dir data",
            "analyze --system s.json --json",
        ] {
            let expected: Vec<&str> = words.split_whitespace().collect();
            assert_eq!(passed(words), expected);
        }
    }

    #[test]
    fn a_backend_flag_without_a_value_is_left_to_the_program() {
        assert_eq!(passed("eval --backend"), ["eval", "--backend"]);
    }
}

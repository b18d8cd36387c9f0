//! The backend that a command will ask for, and what its build needs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

use crate::arguments::{setting, value_of};
use crate::libtorch::{self, LibTorch};

/// The setting that names the backend, as `--set` and the environment know it.
const SETTING: &str = "run.backend";
const VARIABLE: &str = "COMPRESSM_RUN__BACKEND";

/// What the tensors run on: the words of `--backend`, and the cargo features of `trainer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Cpu,
    Wgpu,
    Cuda,
    Libtorch,
}

/// Why nothing is built.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownBackend(String),
    LibTorch(libtorch::Missing),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownBackend(word) => {
                let all = Backend::value_variants().iter();
                let known: Vec<&str> = all.map(|backend| backend.word()).collect();
                let known = known.join(", ");
                write!(f, "backend `{word}` is unknown: choose one of {known}")
            }
            Self::LibTorch(missing) => missing.fmt(f),
        }
    }
}

/// The run that `revert DIR` takes back and goes on with.
fn reverted_run(args: &[OsString]) -> Option<&OsStr> {
    let (command, rest) = args.split_first()?;
    let mut folders = rest.iter().filter(|arg| Path::new(arg).is_dir());
    folders
        .next()
        .filter(|_| command == "revert")
        .map(OsString::as_os_str)
}

impl Backend {
    fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Libtorch => "libtorch",
        }
    }

    /// The backend that `compressm ARGS` will ask for.
    pub(crate) fn of(args: &[OsString]) -> Result<Self, Refusal> {
        Self::chosen(args, env::var_os(VARIABLE).as_deref())
    }

    /// By the rules of the program's configuration: the flag before `--set`, that before the environment, that before the
    /// file. A file that is not there or cannot be read is for the program to explain.
    fn chosen(args: &[OsString], variable: Option<&OsStr>) -> Result<Self, Refusal> {
        let from_file = || {
            let run = value_of(args, "--resume").or_else(|| reverted_run(args));
            let file = run.map(|run| Path::new(run).join("config.toml"));
            let file = file.or_else(|| value_of(args, "--config").map(PathBuf::from))?;
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
            return Ok(Self::Cpu);
        };
        let word = word.to_string_lossy();
        Self::from_str(&word, false).map_err(|_| Refusal::UnknownBackend(word.into_owned()))
    }

    /// The cargo arguments that build it in. The native CPU backend always is, so that a program for one backend reads
    /// the runs of another.
    pub(crate) fn features(self) -> Vec<String> {
        match self {
            Self::Cpu => Vec::new(),
            other => vec!["--features".into(), format!("trainer/{}", other.word())],
        }
    }

    /// Tells a build, and the program that it then runs, where the libraries are that cargo does not bring.
    pub(crate) fn set_up(self, command: &mut Command) -> Result<(), Refusal> {
        if self == Self::Libtorch {
            LibTorch::find().map_err(Refusal::LibTorch)?.set_up(command);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    fn chosen(words: &str) -> Backend {
        Backend::chosen(&args(words), None).unwrap()
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
        }
        let variable = OsStr::new("libtorch");
        let of = |words: &str| Backend::chosen(&args(words), Some(variable)).unwrap();
        assert_eq!(of("train"), Backend::Libtorch);
        assert_eq!(of("train --set run.backend=cpu"), Backend::Cpu);
    }

    #[test]
    fn the_backend_may_stand_in_a_configuration_or_a_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.toml");
        fs::write(&file, "[run]\nbackend = \"libtorch\"\n").unwrap();
        let (file, folder) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
        assert_eq!(chosen(&format!("train --config {file}")), Backend::Libtorch);
        let of_run = chosen(&format!("eval --resume {folder}"));
        assert_eq!(of_run, Backend::Libtorch);
        let reverted = format!("revert --to 5 {folder}");
        assert_eq!(chosen(&reverted), Backend::Libtorch);
        let overruled = format!("train --config {file} --backend cpu");
        assert_eq!(chosen(&overruled), Backend::Cpu);
        let missing = format!("train --config {folder}/absent.toml");
        assert_eq!(chosen(&missing), Backend::Cpu);
    }

    #[test]
    fn an_unknown_backend_is_refused_in_one_line() {
        let refusal = Backend::chosen(&args("train --backend gpu"), None).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "backend `gpu` is unknown: choose one of cpu, wgpu, cuda, libtorch"
        );
    }

    #[test]
    fn only_what_is_not_there_anyway_is_built_in() {
        assert!(Backend::Cpu.features().is_empty());
        for (backend, feature) in [
            (Backend::Wgpu, "trainer/wgpu"),
            (Backend::Cuda, "trainer/cuda"),
            (Backend::Libtorch, "trainer/libtorch"),
        ] {
            assert_eq!(backend.features(), ["--features", feature]);
        }
    }
}

//! Where LibTorch is, for a build that links it and a program that loads it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The version that the backend is made for; the crate that builds the bindings insists on it.
const VERSION: &str = "2.9.0";

/// Says where the package `torch` is, and its version, without importing it.
const PYTHON: &str = "import importlib.util as u, importlib.metadata as m
print(u.find_spec('torch').submodule_search_locations[0])
print(m.version('torch'))";

/// Where a program looks for shared libraries.
const LIBRARY_PATH: &str = if cfg!(target_os = "macos") {
    "DYLD_LIBRARY_PATH"
} else if cfg!(windows) {
    "PATH"
} else {
    "LD_LIBRARY_PATH"
};

/// A LibTorch to build with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LibTorch {
    /// Holds `lib` and `include`.
    folder: PathBuf,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Nowhere,
    NoFolder(PathBuf),
    Version { folder: PathBuf, version: String },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend `libtorch` needs LibTorch {VERSION}: ")?;
        match self {
            Self::Nowhere => write!(
                f,
                "activate a Python environment after `pip install torch=={VERSION}`, or unpack LibTorch and set LIBTORCH \
                 to its folder"
            ),
            Self::NoFolder(folder) => write!(
                f,
                "LIBTORCH is {}, where there is no folder `lib`",
                folder.display()
            ),
            Self::Version { folder, version } => {
                write!(f, "{} holds version {version}", folder.display())
            }
        }
    }
}

impl LibTorch {
    /// The folder in `LIBTORCH`, else the package `torch` of the active Python environment.
    pub(crate) fn find() -> Result<Self, Missing> {
        match env::var_os("LIBTORCH") {
            Some(folder) => Self::from_folder(folder.into()),
            None => Self::from_python(&ask_python().ok_or(Missing::Nowhere)?),
        }
    }

    fn from_folder(folder: PathBuf) -> Result<Self, Missing> {
        match folder.join("lib").is_dir() {
            true => Ok(Self { folder }),
            false => Err(Missing::NoFolder(folder)),
        }
    }

    /// From the two lines that [`PYTHON`] prints; a version may name a build, as in `2.9.0+cpu`.
    fn from_python(answer: &str) -> Result<Self, Missing> {
        let mut lines = answer.lines();
        let (Some(folder), Some(version)) = (lines.next(), lines.next()) else {
            return Err(Missing::Nowhere);
        };
        let folder = PathBuf::from(folder);
        match version.split('+').next() {
            Some(VERSION) => Self::from_folder(folder),
            _ => Err(Missing::Version {
                folder,
                version: version.to_owned(),
            }),
        }
    }

    /// Tells the build where LibTorch is, and the program that it then runs.
    pub(crate) fn set_up(&self, command: &mut Command) {
        command.env("LIBTORCH", &self.folder);
        let path = library_path(
            &self.folder.join("lib"),
            env::var_os(LIBRARY_PATH).as_deref(),
        );
        command.env(LIBRARY_PATH, path);
    }
}

/// This folder before those that are there.
fn library_path(folder: &Path, others: Option<&OsStr>) -> OsString {
    let others = others.map(env::split_paths).into_iter().flatten();
    let all = std::iter::once(folder.to_owned()).chain(others);
    env::join_paths(all).unwrap_or_else(|_| folder.into())
}

/// What the active Python says; nothing if there is none, or none with the package.
fn ask_python() -> Option<String> {
    // An environment calls it `python`; outside of one, that may be version 2.
    let python = match env::var_os("VIRTUAL_ENV") {
        Some(_) => "python",
        None => "python3",
    };
    let output = Command::new(python).args(["-c", PYTHON]).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_python_package_of_the_right_version_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        std::fs::create_dir(folder.path().join("lib")).unwrap();
        for version in ["2.9.0", "2.9.0+cpu"] {
            let found = LibTorch::from_python(&format!("{path}\n{version}\n")).unwrap();
            assert_eq!(found.folder, folder.path());
        }
        let other = LibTorch::from_python(&format!("{path}\n2.9.1+cu128\n")).unwrap_err();
        assert_eq!(
            other.to_string(),
            format!("backend `libtorch` needs LibTorch 2.9.0: {path} holds version 2.9.1+cu128")
        );
    }

    #[test]
    fn a_missing_library_is_named_in_one_line_with_what_to_do() {
        for (missing, part) in [
            (
                LibTorch::from_python("").unwrap_err(),
                "pip install torch==2.9.0",
            ),
            (
                LibTorch::from_folder("/absent".into()).unwrap_err(),
                "LIBTORCH is /absent",
            ),
        ] {
            let line = missing.to_string();
            assert!(line.starts_with("backend `libtorch` needs LibTorch 2.9.0: "));
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn the_program_looks_there_before_elsewhere() {
        let others = env::join_paths(["a", "b"]).unwrap();
        let path = library_path(Path::new("torch"), Some(&others));
        assert_eq!(path, env::join_paths(["torch", "a", "b"]).unwrap());
        assert_eq!(library_path(Path::new("torch"), None), "torch");
    }
}

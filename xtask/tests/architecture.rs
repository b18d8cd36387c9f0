//! The code map in ARCHITECTURE.md is the workspace as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crate name to the folder it is in and the crates of this workspace that it may use.
type Map = BTreeMap<String, (String, BTreeSet<String>)>;

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("xtask is a folder of the workspace")
        .to_owned()
}

/// Rows ``| `folder` | `used`, `used` | … |`` of the section "Code map".
fn drawn() -> Map {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map is in the tree");
    let (_, section) = text
        .split_once("\n## Code map\n")
        .expect("it has a section `## Code map`");
    let section = section
        .split_once("\n## ")
        .map_or(section, |(section, _)| section);
    section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').collect();
            let folder = quoted(cells[1]).remove(0);
            let name = folder.rsplit('/').next().unwrap_or(&folder).to_owned();
            (name, (folder, quoted(cells[2]).into_iter().collect()))
        })
        .collect()
}

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The same, as cargo sees it.
fn actual() -> Map {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let names: BTreeSet<String> = packages.iter().map(|p| text(&p["name"])).collect();
    let workspace = PathBuf::from(text(&metadata["workspace_root"]));
    packages
        .iter()
        // A package of tests is a room of nobody's.
        .filter(|package| !text(&package["name"]).ends_with("-tests"))
        .map(|package| {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let folder = manifest
                .parent()
                .and_then(|folder| folder.strip_prefix(&workspace).ok())
                .expect("a member is inside the workspace");
            let used = package["dependencies"]
                .as_array()
                .expect("a list of dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null()) // neither for tests nor for build scripts
                .map(|dependency| text(&dependency["name"]))
                .filter(|name| names.contains(name))
                .collect();
            let folder = folder.to_string_lossy().replace('\\', "/");
            (text(&package["name"]), (folder, used))
        })
        .collect()
}

#[test]
fn the_map_shows_every_crate_in_its_folder_and_no_other() {
    let folders = |map: Map| -> Vec<(String, String)> {
        map.into_iter()
            .map(|(name, (folder, _))| (name, folder))
            .collect()
    };
    assert_eq!(folders(drawn()), folders(actual()));
}

#[test]
fn no_crate_uses_one_that_the_map_does_not_give_it() {
    let drawn = drawn();
    for (name, (_, used)) in actual() {
        let allowed = &drawn[&name].1;
        assert!(
            used.is_subset(allowed),
            "{name} uses {used:?}, ARCHITECTURE.md says {allowed:?}"
        );
    }
}

/// Code of every source file under a folder: without comments, and up to its tests.
fn code(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let (code, _) = text
                    .split_once("#[cfg(test)]\nmod tests")
                    .unwrap_or((&text, ""));
                let lines = code
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"));
                found.push((path, lines.collect::<Vec<_>>().join("\n")));
            }
        }
    }
    found
}

/// Whether a word stands in code, not as a part of another.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[test]
fn trainer_names_no_kind_of_layer() {
    // The one test module that is a file of its own builds layers to cut.
    let code = code("crates/trainer/src").into_iter();
    for (path, code) in code.filter(|(path, _)| !path.ends_with("bridge/idle_states.rs")) {
        for word in [
            "Lru",
            "S5",
            "S4d",
            "Mamba",
            "Mamba2",
            "SelectiveMixer",
            "DualMixer",
        ] {
            assert!(!names(&code, word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn ssm_core_knows_no_optimizer() {
    for (path, code) in code("crates/ssm-core/src") {
        for word in ["optimizer", "Optimizer", "AdamW", "moments", "Moments"] {
            assert!(!names(&code, word), "{} names {word}", path.display());
        }
    }
}

//! The peers of the interop tests and of `bench net`: js-libp2p from npm, bundled, and our own network in a page.
//!
//! Everything is made below the target directory; the source tree holds `package.json` and its lock file only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::browser::on_path;
use crate::process::{cargo, output, run};
use crate::toolchain::{WASM_TARGET, ensure_wasm_target};
use crate::web;
use crate::workspace::Workspace;

/// Node before it lacks what js-libp2p needs, even with the gaps filled that `old-node.js` fills.
const OLDEST_NODE: u32 = 18;
/// The page of our own, a program of package `cdi-tests`.
const LINKS: &str = "links";

/// How well the page of our own is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quickly, with what the browser unit tests compiled already.
    Dev,
    /// As the product's page.
    Web,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Web => "web",
        }
    }

    const fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Web => "web",
        }
    }
}

/// Whether Node, new enough, and npm are here.
pub fn has_node() -> bool {
    let version = on_path("node").and_then(|node| output(Command::new(node).arg("--version")).ok());
    let major = version.and_then(|version| version.trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
    major.is_some_and(|major| major >= OLDEST_NODE) && on_path("npm").is_some()
}

/// Installs the packages of the lock file, unless that was done before.
pub fn install(workspace: &Workspace) -> Result<PathBuf> {
    let source = source(workspace);
    let installed = workspace.target_dir().join("interop/npm");
    let lock = fs::read_to_string(source.join("package-lock.json")).context("tests/interop has no lock file")?;
    let stamp = installed.join("installed.json");
    if fs::read_to_string(&stamp).is_ok_and(|last| last == lock) {
        return Ok(installed);
    }
    fs::create_dir_all(&installed).with_context(|| format!("cannot create {}", installed.display()))?;
    for name in ["package.json", "package-lock.json", ".npmrc"] {
        fs::copy(source.join(name), installed.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    run(Command::new("npm").current_dir(&installed).args(["ci", "--no-progress"]))?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(installed)
}

/// Bundles the js peers and compiles our page; returns the directory that holds all that the tests serve and run.
pub fn build(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    let dist = workspace.target_dir().join("interop").join(profile.name());
    let installed = install(workspace)?;
    run(Command::new("node").current_dir(source(workspace)).arg("build.js").args([&installed, &dist]))?;

    ensure_wasm_target()?;
    run(cargo()
        .current_dir(&workspace.root)
        .args(["build", "--target", WASM_TARGET, "--profile", profile.name()])
        .args(["--package", "cdi-tests", "--features", "page", "--bin", LINKS]))?;
    let compiled = workspace.target_dir().join(WASM_TARGET).join(profile.directory());
    let module = web::bindings(LINKS, LINKS, &compiled, &dist)?;
    copy_files(&module, &dist)?;
    Ok(dist)
}

fn source(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/interop")
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

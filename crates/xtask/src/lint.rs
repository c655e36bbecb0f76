//! `cargo xtask lint`: formatting and the two walls of clippy, one a side. What compiles for the browser can still
//! panic there; the browser's wall (clippy-wasm/clippy.toml) bans those functions by name.

use anyhow::Result;

use crate::process::{cargo, run, timed};
use crate::tidy::runs_in_browser;
use crate::toolchain::{RELAXED_SIMD, WASM_TARGET, ensure_wasm_target};
use crate::workspace::Workspace;

/// All three.
pub fn all(workspace: &Workspace) -> Result<()> {
    timed("formatting", || formatting(workspace))?;
    timed("clippy, native", || native(workspace))?;
    timed("clippy, browser", || browser(workspace))
}

/// Every file is as `cargo fmt` writes it.
pub fn formatting(workspace: &Workspace) -> Result<()> {
    run(cargo().current_dir(&workspace.root).args(["fmt", "--all", "--check"]))
}

/// No warning in any target of any package, tests and optional parts included.
pub fn native(workspace: &Workspace) -> Result<()> {
    let mut clippy = cargo();
    clippy.current_dir(&workspace.root).args(["clippy", "--workspace", "--all-targets", "--all-features"]);
    run(clippy.args(["--", "--deny", "warnings"]))
}

/// No warning in what the browser runs.
pub fn browser(workspace: &Workspace) -> Result<()> {
    ensure_wasm_target()?;
    let mut clippy = cargo();
    clippy.current_dir(&workspace.root).env("CLIPPY_CONF_DIR", workspace.root.join("crates/xtask/clippy-wasm")).args([
        "clippy",
        "--target",
        WASM_TARGET,
    ]);
    for package in workspace.packages()?.iter().filter(|package| runs_in_browser(&package.name)) {
        clippy.args(["--package", &package.name]);
    }
    clippy.args(["--features", RELAXED_SIMD]);
    run(clippy.args(["--", "--deny", "warnings"]))
}

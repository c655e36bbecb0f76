//! `cargo xtask web`: compiles the page's modules, generates their JavaScript, and lays out what a server serves.

mod bindings;
mod dist;
mod size;

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{cargo, run as run_command, timed};
use crate::settings::Settings;
use crate::toolchain::{WASM_TARGET, ensure_wasm_target};
use crate::workspace::Workspace;

/// Builds everything the browser loads and returns the directory that holds it.
///
/// Nothing is done twice: cargo knows what to compile, the later steps compare stamps of their inputs, and an
/// unchanged output file keeps its modification time, so that whatever embeds it is not rebuilt either.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let settings = Settings::read(&workspace.root)?;
    let out = workspace.target_dir().join("web");
    let dist = dist_dir(workspace);

    timed("browser modules: compile", || compile(workspace, &settings))?;
    let modules = timed("browser modules: bindings and size", || {
        let compiled = workspace.target_dir().join(WASM_TARGET).join(&settings.build.profile);
        let modules = settings.module.iter();
        modules.map(|module| bindings::generate(module, &compiled, &out)).collect::<Result<Vec<_>>>()
    })?;
    dist::lay_out(&workspace.root, &settings.build, &modules, &dist)?;
    size::check(&settings.module, &dist)?;
    println!("   page: {}", dist.display());
    Ok(dist)
}

/// Where [`build`] puts what a server serves.
pub fn dist_dir(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("web/dist")
}

fn compile(workspace: &Workspace, settings: &Settings) -> Result<()> {
    ensure_wasm_target()?;
    let mut build = cargo();
    build.current_dir(&workspace.root).args(["build", "--target", WASM_TARGET]);
    build.args(["--package", &settings.build.package, "--profile", &settings.build.profile]);
    for module in &settings.module {
        build.args(["--bin", &module.bin]);
    }
    run_command(&mut build)
}

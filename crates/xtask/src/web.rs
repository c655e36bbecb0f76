//! `cargo xtask web`: compiles the page's modules, generates their JavaScript, and lays out what a server serves.

mod bindings;
mod dist;
mod size;

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{cargo, run as run_command, timed};
use crate::settings::{Module, Settings};
use crate::toolchain::{WASM_TARGET, ensure_wasm_target};
use crate::workspace::Workspace;

pub use self::bindings::generate as bindings;

/// Builds everything the browser loads and returns the directory that holds it.
///
/// Nothing is done twice: cargo knows what to compile, the later steps compare stamps of their inputs, and an
/// unchanged output file keeps its modification time, so that whatever embeds it is not rebuilt either.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    let settings = Settings::read(&workspace.root)?;
    let out = workspace.target_dir().join("web");
    let dist = dist_dir(workspace);

    let compiled = workspace.target_dir().join(WASM_TARGET).join(&settings.build.profile);
    let mut modules = Vec::new();
    // A variant's binary has the name of its module, so each is taken up before the next is compiled.
    for module in &settings.module {
        for variant in &module.variant {
            let stem = module.stem(variant);
            timed(format!("browser module {stem}"), || {
                compile(workspace, &settings, &[module], &variant.features)?;
                modules.push(bindings::generate(&module.bin, &stem, &compiled, &out)?);
                Ok(())
            })?;
        }
    }
    let all: Vec<_> = settings.module.iter().collect();
    timed("browser modules: compile", || compile(workspace, &settings, &all, &[]))?;
    timed("browser modules: bindings and size", || {
        for module in &settings.module {
            modules.push(bindings::generate(&module.bin, &module.bin, &compiled, &out)?);
        }
        Ok(())
    })?;
    dist::lay_out(&workspace.root, &settings.build, &modules, &dist)?;
    size::check(&settings.module, &dist)?;
    println!("   page: {}", dist.display());
    Ok(dist)
}

/// Builds the gallery in the place of the page, quickly and not small, and returns the directory that holds it. Serve it
/// with any server and open `?state=hosting#swarm`; the states stand in `web/src/bin/gallery.rs`.
pub fn gallery(workspace: &Workspace) -> Result<PathBuf> {
    const BIN: &str = "gallery";
    let settings = Settings::read(&workspace.root)?;
    ensure_wasm_target()?;
    let mut build = cargo();
    build.current_dir(&workspace.root).args(["build", "--target", WASM_TARGET]);
    build.args(["--package", &settings.build.package, "--bin", BIN, "--features", BIN]);
    run_command(&mut build)?;
    let out = workspace.target_dir().join("web").join(BIN);
    let compiled = workspace.target_dir().join(WASM_TARGET).join("debug");
    let module = bindings::generate(BIN, "page", &compiled, &out)?;
    let dist = out.join("dist");
    dist::lay_out(&workspace.root, &settings.build, &[module], &dist)?;
    println!("   gallery: {}", dist.display());
    Ok(dist)
}

/// Where [`build`] puts what a server serves.
pub fn dist_dir(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("web/dist")
}

fn compile(workspace: &Workspace, settings: &Settings, modules: &[&Module], features: &[String]) -> Result<()> {
    ensure_wasm_target()?;
    let mut build = cargo();
    build.current_dir(&workspace.root).args(["build", "--target", WASM_TARGET]);
    build.args(["--package", &settings.build.package, "--profile", &settings.build.profile]);
    for module in modules {
        build.args(["--bin", &module.bin]);
    }
    if !features.is_empty() {
        build.args(["--features", &features.join(",")]);
    }
    run_command(&mut build)
}

//! What the peers need: scripts with their npm packages, a Python environment, candle's module. Fetched by the ordinary
//! clients of the public registries and kept below `target/bench`; nothing of it is needed for anything else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::browser::on_path;
use crate::process::{cargo, run};
use crate::toolchain::{WASM_TARGET, ensure_wasm_target};
use crate::web;
use crate::workspace::Workspace;

/// Where everything of the bench is kept.
pub fn cache(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("bench")
}

/// Does `work` unless it was done with the same `inputs` before.
fn once(stamp: &Path, inputs: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    if fs::read_to_string(stamp).is_ok_and(|last| last == inputs) {
        return Ok(());
    }
    work()?;
    fs::write(stamp, inputs).with_context(|| format!("cannot write {}", stamp.display()))
}

fn source(workspace: &Workspace) -> PathBuf {
    workspace.root.join("tests/peers")
}

/// The scripts, beside the packages that they import.
pub fn scripts(workspace: &Workspace) -> Result<PathBuf> {
    let (from, to) = (source(workspace), cache(workspace).join("peers"));
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    if on_path("node").is_none() || on_path("npm").is_none() {
        bail!("Node and npm are not installed (they drive the browser)");
    }
    if !chromium().is_file() {
        bail!("{} is missing; the variable CHROMIUM names another", chromium().display());
    }
    let packages = fs::read_to_string(to.join("package.json"))?;
    once(&to.join("packages.stamp"), &packages, || {
        // Without scripts: no package here needs any in a browser.
        let options = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"];
        run(Command::new("npm").current_dir(&to).args(options))
    })?;
    Ok(to)
}

/// The browser that the scripts start.
fn chromium() -> PathBuf {
    std::env::var_os("CHROMIUM").map_or_else(|| PathBuf::from("/usr/bin/chromium"), PathBuf::from)
}

/// A Python with llama.cpp, compiled for this machine, and the writer of models.
pub fn python(workspace: &Workspace) -> Result<PathBuf> {
    let dir = cache(workspace).join("python");
    let python = dir.join("bin/python");
    if on_path("python3").is_none() {
        bail!("Python 3 is not installed (it makes the models and runs llama.cpp)");
    }
    let list = source(workspace).join("requirements.txt");
    fs::create_dir_all(cache(workspace))?;
    once(&cache(workspace).join("python.stamp"), &fs::read_to_string(&list)?, || {
        if !python.is_file() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
        }
        // llama.cpp is compiled here: a C++ compiler and some minutes.
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&list))
    })?;
    Ok(python)
}

/// candle for the browser, with its bindings.
pub fn candle(workspace: &Workspace) -> Result<PathBuf> {
    ensure_wasm_target()?;
    let (from, target) = (source(workspace).join("candle"), cache(workspace).join("candle"));
    let mut build = cargo();
    // In a workspace of its own the flags of ours do not hold.
    build.current_dir(&from).env("CARGO_TARGET_DIR", &target);
    build.env("RUSTFLAGS", r#"--cfg getrandom_backend="wasm_js" -C target-feature=+simd128"#);
    run(build.args(["build", "--release", "--target", WASM_TARGET]))?;
    let bindings = target.join("bindings");
    let module = target.join(WASM_TARGET).join("release/cdi_peer_candle.wasm");
    wasm_bindgen_cli_support::Bindgen::new()
        .input_path(&module)
        .web(true)
        .and_then(|bindgen| bindgen.typescript(false).generate(&bindings))
        .with_context(|| format!("no bindings for {}", module.display()))?;
    Ok(bindings)
}

/// Our page, and the names of its compute workers' modules: one for each set of instructions.
pub fn our_modules(workspace: &Workspace) -> Result<(PathBuf, Vec<String>)> {
    let dist = web::build(workspace)?;
    let mut modules = Vec::new();
    for entry in fs::read_dir(&dist).with_context(|| format!("cannot list {}", dist.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        modules.extend(name.strip_suffix("_bg.wasm").filter(|name| name.starts_with("worker")).map(str::to_owned));
    }
    modules.sort();
    Ok((dist, modules))
}

/// The program that imports a file and computes it natively.
pub fn our_program(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = cargo();
    run(build.current_dir(&workspace.root).args(["build", "--release", "--package", "cdi-node", "--example", "gguf"]))?;
    let program = workspace.target_dir().join("release/examples/gguf");
    Ok(program.with_extension(std::env::consts::EXE_EXTENSION))
}

//! The models: random weights in real shapes, or a file of the user's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::tools::{self, cache};
use crate::process::{output, run};
use crate::workspace::Workspace;

/// Shapes and types that are made, smallest first.
pub const MODELS: [&str; 9] = [
    "tiny-q4_0",
    "tiny-q8_0",
    "tiny-f16",
    "smol135-q4_0",
    "smol135-q8_0",
    "smol135-f16",
    "tinyllama-q4_0",
    "tinyllama-q8_0",
    "tinyllama-f16",
];

/// A file to measure.
pub struct Model {
    /// The file's name without its extension.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// The user's file.
pub fn of_user(path: &Path) -> Result<Model> {
    ensure!(path.is_file(), "{} is no file", path.display());
    let name = path.file_stem().context("a file without a name")?.to_string_lossy().into_owned();
    Ok(Model { name, path: path.canonicalize()? })
}

/// One of [`MODELS`], made when it is not there.
pub fn made(workspace: &Workspace, name: &str) -> Result<Model> {
    ensure!(MODELS.contains(&name), "there is no model `{name}`; there are {}", MODELS.join(", "));
    let dir = cache(workspace).join("models");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let script = workspace.root.join("tests/peers/make_model.py");
    // Its weights are a function of the script: another script makes other files.
    let path = dir.join(format!("{name}.gguf"));
    let stamp = dir.join(format!("{name}.stamp"));
    let source = fs::read_to_string(&script)?;
    if !path.is_file() || fs::read_to_string(&stamp).ok().as_ref() != Some(&source) {
        let python = tools::python(workspace)?;
        let (shape, kind) = name.split_once('-').context("a shape and a type")?;
        let unfinished = dir.join(format!("{name}.part"));
        run(Command::new(python).arg(&script).args([shape, kind]).arg(&unfinished))?;
        fs::rename(&unfinished, &path)?;
        fs::write(&stamp, source)?;
    }
    Ok(Model { name: name.to_owned(), path })
}

/// The blocks of a model, as our importer makes them from this very file.
pub fn blocks(workspace: &Workspace, program: &Path, model: &Model) -> Result<PathBuf> {
    let dir = cache(workspace).join("blocks").join(&model.name);
    // An importer that has changed makes other blocks, a file that has changed too.
    if dir.is_dir() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    output(Command::new(program).arg("blocks").arg(&model.path).arg(&dir))?;
    Ok(dir)
}

/// A model as the graph that transformers.js runs.
pub fn onnx(workspace: &Workspace, python: &Path, model: &Model) -> Result<PathBuf> {
    let dir = cache(workspace).join("onnx").join(&model.name);
    let newer = |file: &Path| file.metadata().and_then(|file| file.modified()).ok();
    if newer(&dir.join("config.json")) < newer(&model.path) {
        let script = workspace.root.join("tests/peers/make_onnx.py");
        run(Command::new(python).arg(script).arg(&model.path).arg(&dir))?;
    }
    Ok(dir)
}

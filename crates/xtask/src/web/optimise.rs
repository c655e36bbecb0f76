//! `wasm-opt` out of the npm package `binaryen`, fetched once into the target directory. Optional: without Node
//! the modules are shipped as the compiler made them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::browser::on_path;
use crate::process::{output, run};
use crate::settings;

/// The optimiser and its arguments, or nothing when this machine cannot run it.
pub struct WasmOpt {
    tool: Option<PathBuf>,
    version: String,
    passes: Vec<String>,
}

impl WasmOpt {
    /// Finds the optimiser of the wanted version under `dir` or fetches it; says so in one line when it cannot.
    pub fn find(dir: &Path, settings: &settings::WasmOpt) -> Self {
        let tool = match fetch(dir, &settings.binaryen) {
            Ok(tool) => Some(tool),
            Err(reason) => {
                println!("  SKIPPED wasm-opt: {reason:#}. The modules work without it and may be larger.");
                None
            }
        };
        Self { tool, version: settings.binaryen.clone(), passes: settings.passes.clone() }
    }

    /// Writes the optimised `wasm` to `into`; false when there is no optimiser.
    pub fn optimise(&self, wasm: &Path, into: &Path) -> Result<bool> {
        let Some(tool) = &self.tool else { return Ok(false) };
        run(Command::new("node").arg(tool).args(&self.passes).arg(wasm).arg("-o").arg(into))?;
        Ok(true)
    }
}

/// What the result depends on, for the stamp of the outputs.
impl fmt::Display for WasmOpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tool {
            Some(_) => write!(f, "binaryen {} {}", self.version, self.passes.join(" ")),
            None => f.write_str("no optimiser"),
        }
    }
}

fn fetch(dir: &Path, version: &str) -> Result<PathBuf> {
    ensure!(on_path("node").is_some() && on_path("npm").is_some(), "Node and npm are not installed");
    let prefix = dir.join(format!("binaryen-{version}"));
    let tool = prefix.join("node_modules/binaryen/bin/wasm-opt");
    if !tool.is_file() {
        println!("  fetching wasm-opt (npm package binaryen {version})");
        output(
            Command::new("npm")
                .args(["install", "--silent", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"])
                .arg("--prefix")
                .arg(&prefix)
                .arg(format!("binaryen@{version}")),
        )?;
    }
    Ok(tool)
}

//! From a compiled module to what a page imports: the JavaScript around it, and the smaller of the plain and the
//! optimised module.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use super::optimise::WasmOpt;
use super::size::gzip_bytes;
use crate::settings::Module;

/// Makes `<bin>.js` and `<bin>_bg.wasm` in a directory of their own and returns it.
///
/// Does nothing when the compiled module and the optimiser are those of the last time.
pub fn generate(module: &Module, compiled: &Path, out: &Path, optimiser: &WasmOpt) -> Result<PathBuf> {
    let input = compiled.join(&module.bin).with_extension("wasm");
    let dir = out.join("modules").join(&module.bin);
    let stamp_file = out.join("modules").join(format!("{}.stamp", module.bin));
    let stamp = format!("{} {optimiser}", identity(&input)?);
    if dir.is_dir() && fs::read_to_string(&stamp_file).is_ok_and(|last| last == stamp) {
        println!("  {}: unchanged", module.bin);
        return Ok(dir);
    }
    if dir.is_dir() {
        fs::remove_dir_all(&dir).with_context(|| format!("cannot replace {}", dir.display()))?;
    }
    let mut output = Bindgen::new()
        .input_path(&input)
        .out_name(&module.bin)
        .web(true)
        .and_then(|bindgen| {
            bindgen.typescript(false).remove_name_section(true).remove_producers_section(true).generate_output()
        })
        .with_context(|| format!("no bindings for {}", input.display()))?;
    // A C function that no crate brought along: it would fail in the browser only, as an unknown module specifier.
    if let Some(import) = output.wasm().imports.iter().find(|import| import.module == "env") {
        bail!("module {} imports `{}` from \"env\", which no browser provides", module.bin, import.name);
    }
    output.emit(&dir).with_context(|| format!("cannot write to {}", dir.display()))?;
    keep_the_smaller(&dir.join(format!("{}_bg.wasm", module.bin)), optimiser)?;
    fs::write(&stamp_file, stamp).with_context(|| format!("cannot write {}", stamp_file.display()))?;
    Ok(dir)
}

/// The optimiser lessens raw size but can worsen what compression gains, and only compressed bytes travel.
fn keep_the_smaller(wasm: &Path, optimiser: &WasmOpt) -> Result<()> {
    let optimised = wasm.with_extension("optimised");
    if !optimiser.optimise(wasm, &optimised)? {
        return Ok(());
    }
    let (before, after) = (gzip_bytes(wasm)?, gzip_bytes(&optimised)?);
    println!("  wasm-opt: gzip {before} → {after} bytes, kept the {}", if after < before { "new" } else { "old" });
    if after < before {
        fs::rename(&optimised, wasm).context("cannot replace the module by the optimised one")
    } else {
        fs::remove_file(&optimised).context("cannot remove the larger module")
    }
}

/// Length and modification time: cargo writes the file anew exactly when it has changed.
fn identity(file: &Path) -> Result<String> {
    let metadata = fs::metadata(file).with_context(|| format!("{} was not built", file.display()))?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH)?;
    Ok(format!("{} {}", metadata.len(), modified.as_nanos()))
}

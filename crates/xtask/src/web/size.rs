//! How much a first visitor downloads, held against the budgets.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::settings::Module;

/// Prints one row a module and fails when one is over its budget.
pub fn check(modules: &[Module], dist: &Path) -> Result<()> {
    println!("\n   {:<15} {:>12} {:>12} {:>12} {:>6}", "module", "bytes", "gzip -9", "budget", "used");
    let mut over = Vec::new();
    let stems = modules.iter().flat_map(|module| module.stems().map(|stem| (stem, module.gzip_budget_bytes)));
    for (stem, budget) in stems {
        let files = [format!("{stem}_bg.wasm"), format!("{stem}.js")].map(|name| dist.join(name));
        let (mut raw, mut gzip) = (0, 0);
        for file in &files {
            raw += fs::metadata(file).with_context(|| format!("{} is missing", file.display()))?.len();
            gzip += gzip_bytes(file)?;
        }
        println!("   {stem:<15} {raw:>12} {gzip:>12} {budget:>12} {:>4} %", gzip * 100 / budget);
        if gzip > budget {
            over.push(stem);
        }
    }
    ensure!(
        over.is_empty(),
        "over the size budget of wasm-pack.toml: {}. Make it smaller (`twiggy top` on an unstripped build shows what \
         is large), or raise the budget with the reason in the commit message",
        over.join(", ")
    );
    Ok(())
}

/// The file's length after the strongest gzip.
pub fn gzip_bytes(file: &Path) -> Result<u64> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_over_its_budget_fails() {
        let dist = tempfile::tempdir().unwrap();
        fs::write(dist.path().join("page.js"), "js").unwrap();
        fs::write(dist.path().join("page_bg.wasm"), [0; 1000]).unwrap();
        let budget = |gzip_budget_bytes| [Module { bin: "page".into(), gzip_budget_bytes, variant: Vec::new() }];
        assert!(check(&budget(200), dist.path()).is_ok());
        let error = check(&budget(20), dist.path()).unwrap_err().to_string();
        assert!(error.contains("page"), "{error}");
    }
}

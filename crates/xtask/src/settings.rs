//! The settings of the browser build: `wasm-pack.toml` at the top of the tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The whole file. Unknown keys are errors, so that a misspelt one is not silently without effect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// What is compiled and what is copied.
    pub build: Build,
    /// The modules of the page, one WebAssembly file each.
    pub module: Vec<Module>,
}

/// Table `[build]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Build {
    /// The cargo package that holds the modules' binaries.
    pub package: String,
    /// The cargo profile they are compiled with.
    pub profile: String,
    /// The HTML file that loads the page, relative to the root; becomes `index.html`.
    pub page: PathBuf,
    /// The directory whose files are copied beside it, relative to the root.
    pub static_files: PathBuf,
}

/// One `[[module]]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Module {
    /// The binary's name, which names its files too: `<bin>.js` and `<bin>_bg.wasm`.
    pub bin: String,
    /// The most bytes that both files together may have after gzip, of each variant.
    pub gzip_budget_bytes: u64,
    /// The module again, for browsers that can do more; the page's scripts choose.
    #[serde(default)]
    pub variant: Vec<Variant>,
}

/// A `[[module.variant]]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variant {
    /// Follows the binary's name and a hyphen in the names of its files.
    pub name: String,
    /// The package's features that it is compiled with.
    pub features: Vec<String>,
}

impl Module {
    /// The names of the files' stems: of the module itself and of its variants.
    pub fn stems(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.bin.clone()).chain(self.variant.iter().map(|variant| self.stem(variant)))
    }

    /// The name of the files' stems of one variant.
    pub fn stem(&self, variant: &Variant) -> String {
        format!("{}-{}", self.bin, variant.name)
    }
}

impl Settings {
    /// Reads `wasm-pack.toml` of the source tree at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("wasm-pack.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_file_is_valid_and_misspelt_keys_are_not() {
        let text = include_str!("../../../wasm-pack.toml");
        let settings: Settings = toml::from_str(text).expect("wasm-pack.toml");
        assert!(settings.module.iter().any(|module| module.bin == "page"));
        assert!(toml::from_str::<Settings>(&text.replace("gzip-budget-bytes", "gzip-budget")).is_err());
    }
}

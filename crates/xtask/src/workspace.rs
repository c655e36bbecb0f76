//! Where the workspace lies and which packages it has.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checked-out source tree.
pub struct Workspace {
    /// The directory that holds the workspace's `Cargo.toml`.
    pub root: PathBuf,
}

/// One member of the workspace.
pub struct Package {
    /// The package's name, such as `cdi-types`.
    pub name: String,
    /// Its directory relative to the root, such as `crates/types`.
    pub dir: PathBuf,
    /// Its parsed `Cargo.toml`.
    pub manifest: toml::Table,
}

impl Workspace {
    /// Finds the workspace around the current directory, so that one built binary serves every checkout.
    pub fn locate() -> Result<Self> {
        let here = env::current_dir().context("the current directory is not readable")?;
        let root = here
            .ancestors()
            .find(|dir| dir.join("wasm-pack.toml").is_file() && dir.join("Cargo.lock").is_file())
            .with_context(|| format!("{} is not inside a CDI source tree", here.display()))?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// Cargo's output directory.
    pub fn target_dir(&self) -> PathBuf {
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), |dir| self.root.join(dir))
    }

    /// All member packages in the order of their directories.
    pub fn packages(&self) -> Result<Vec<Package>> {
        let mut dirs: Vec<PathBuf> = fs::read_dir(self.root.join("crates"))
            .context("no crates directory")?
            .map(|entry| Ok(Path::new("crates").join(entry?.file_name())))
            .collect::<Result<_>>()?;
        dirs.extend(["tests", "web"].map(PathBuf::from));
        dirs.sort();
        dirs.retain(|dir| self.root.join(dir).join("Cargo.toml").is_file());
        dirs.into_iter().map(|dir| self.package(dir)).collect()
    }

    fn package(&self, dir: PathBuf) -> Result<Package> {
        let path = self.root.join(&dir).join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Package::parse(dir, &text).with_context(|| format!("{} is not valid", path.display()))
    }
}

impl Package {
    /// Reads the manifest of the package in `dir`.
    pub fn parse(dir: PathBuf, manifest: &str) -> Result<Self> {
        let manifest: toml::Table = manifest.parse()?;
        let name = manifest.get("package").and_then(|package| package.get("name")?.as_str());
        let name = name.context("it names no package")?.to_owned();
        Ok(Self { name, dir, manifest })
    }

    /// The names in one dependency table (`dependencies`, `dev-dependencies`), for every target.
    pub fn dependencies(&self, table: &str) -> Vec<&str> {
        let plain = self.manifest.get(table);
        let by_target = self.manifest.get("target").and_then(toml::Value::as_table);
        let targets = by_target.into_iter().flat_map(toml::Table::values).filter_map(|target| target.get(table));
        plain
            .into_iter()
            .chain(targets)
            .filter_map(toml::Value::as_table)
            .flat_map(toml::Table::keys)
            .map(String::as_str)
            .collect()
    }
}

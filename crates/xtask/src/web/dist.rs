//! The directory that a server serves: the page, the modules and the static files, and nothing left from earlier.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::settings::Build;

/// The file that keeps the page for offline, and the place in it for what it keeps.
const SERVICE_WORKER: &str = "sw.js";
const FILES: &str = "{/* files */}";

/// Makes `dist` hold exactly the page, the static files and the modules' files.
pub fn lay_out(root: &Path, build: &Build, modules: &[PathBuf], dist: &Path) -> Result<()> {
    let mut wanted = BTreeMap::from([(PathBuf::from("index.html"), root.join(&build.page))]);
    for dir in modules.iter().cloned().chain([root.join(&build.static_files)]) {
        wanted.extend(files(&dir)?.into_iter().map(|file| (file.clone(), dir.join(file))));
    }
    fs::create_dir_all(dist).with_context(|| format!("cannot make {}", dist.display()))?;
    for stale in files(dist)?.into_iter().filter(|file| !wanted.contains_key(file)) {
        fs::remove_file(dist.join(&stale)).with_context(|| format!("cannot remove {}", stale.display()))?;
    }
    let service_worker = wanted.remove(Path::new(SERVICE_WORKER));
    wanted.iter().try_for_each(|(name, source)| write_if_changed(&read(source)?, &dist.join(name)))?;
    match service_worker {
        Some(source) => write_if_changed(&with_files(&source, &wanted)?, &dist.join(SERVICE_WORKER)),
        None => Ok(()),
    }
}

/// The service worker with the names of all other files and the beginnings of their SHA-256 (16 bytes), so that it is
/// another one exactly when any of them is.
fn with_files(source: &Path, wanted: &BTreeMap<PathBuf, PathBuf>) -> Result<Vec<u8>> {
    let mut files = String::new();
    for (name, file) in wanted {
        let digest = Sha256::digest(read(file)?);
        let hash = HEXLOWER.encode(&digest[..16]);
        files += &format!("\n  '{}': '{hash}',", name.to_string_lossy().replace('\\', "/"));
    }
    let text = String::from_utf8(read(source)?).context("the service worker is not text")?;
    ensure!(text.contains(FILES), "{} has no place for the files: {FILES}", source.display());
    Ok(text.replace(FILES, &format!("{{{files}\n}}")).into_bytes())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// An unchanged file keeps its modification time, so that the relay, which embeds it, is not rebuilt.
fn write_if_changed(new: &[u8], target: &Path) -> Result<()> {
    if fs::read(target).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::write(target, new).with_context(|| format!("cannot write {}", target.display()))
}

/// All files below `dir`, relative to it.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        let path = dir.join(&below);
        for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
            let entry = entry?;
            let name = below.join(entry.file_name());
            if entry.file_type()?.is_dir() { pending.push(name) } else { found.push(name) }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a file has a directory")).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_directory_holds_exactly_the_wanted_files_and_unchanged_ones_are_not_written() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        write(root, "index.html", "<html>");
        write(root, "web/static/icons/a.svg", "<svg>");
        write(root, "module/page.js", "1");
        write(root, "dist/old.js", "left from an earlier build");
        let build = Build {
            package: String::new(),
            profile: String::new(),
            page: "index.html".into(),
            static_files: "web/static".into(),
        };
        let (dist, module) = (root.join("dist"), root.join("module"));
        lay_out(root, &build, std::slice::from_ref(&module), &dist).unwrap();
        let mut names = files(&dist).unwrap();
        names.sort();
        assert_eq!(names, ["icons/a.svg", "index.html", "page.js"].map(PathBuf::from));

        let made = fs::metadata(dist.join("page.js")).unwrap().modified().unwrap();
        write(root, "module/page.js", "1");
        lay_out(root, &build, std::slice::from_ref(&module), &dist).unwrap();
        assert_eq!(fs::metadata(dist.join("page.js")).unwrap().modified().unwrap(), made);
        write(root, "module/page.js", "2");
        lay_out(root, &build, &[module], &dist).unwrap();
        assert_eq!(fs::read(dist.join("page.js")).unwrap(), b"2");
    }

    #[test]
    fn the_service_worker_names_every_other_file_with_its_hash() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        write(root, "sw.js", "const FILES = {/* files */};");
        write(root, "styles/a.css", "a {}");
        let wanted = BTreeMap::from([(PathBuf::from("styles/a.css"), root.join("styles/a.css"))]);
        let text = String::from_utf8(with_files(&root.join("sw.js"), &wanted).unwrap()).unwrap();
        assert_eq!(text, "const FILES = {\n  'styles/a.css': '9a4487ccbedf68e53bfd4feff149a0fb',\n};");
        write(root, "sw.js", "const FILES = {};");
        assert!(with_files(&root.join("sw.js"), &wanted).is_err());
    }
}

//! The directory that a server serves: the page, the modules and the static files, and nothing left from earlier.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::settings::Build;

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
    wanted.iter().try_for_each(|(name, source)| write_if_changed(source, &dist.join(name)))
}

/// An unchanged file keeps its modification time, so that the relay, which embeds it, is not rebuilt.
fn write_if_changed(source: &Path, target: &Path) -> Result<()> {
    let new = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
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
}

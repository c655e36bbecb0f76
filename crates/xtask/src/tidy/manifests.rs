//! Every crate has content and takes the workspace's lints.

use super::Finding;
use super::source::{Keep, Tree, blank};

/// Below this a crate is a placeholder: the smallest real one has many times as many lines.
const LEAST_CODE_LINES: usize = 10;

/// Finds crates that opt out of the lints or hold nothing.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages() {
        let dir = package.dir.to_string_lossy().into_owned();
        let mut find = |message: &str| {
            findings.push(Finding { path: format!("{dir}/Cargo.toml"), line: None, message: message.into() });
        };
        let inherited = package.manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        if inherited != Some(true) {
            find("the workspace's lints are not inherited: add `[lints]` with `workspace = true`");
        }
        let inside = format!("{dir}/");
        let code = tree.rust().filter(|file| file.path.starts_with(&inside)).map(|file| blank(&file.text, Keep::Code));
        let lines: usize = code.map(|code| code.lines().filter(|line| !line.trim().is_empty()).count()).sum();
        if lines < LEAST_CODE_LINES {
            find("a crate without content: it comes with its first behaviour, not before");
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"cdi-x\"\n[lints]\nworkspace = true\n";

    fn count(manifest: &str, code: &str) -> usize {
        check(&Tree::of(&[("crates/x/Cargo.toml", manifest), ("crates/x/src/lib.rs", code)])).len()
    }

    #[test]
    fn an_empty_crate_and_one_without_lints_are_found() {
        let code = "fn f() {}\n".repeat(LEAST_CODE_LINES);
        assert_eq!(count(MANIFEST, &code), 0);
        assert_eq!(count(MANIFEST, "//! Comments.\n".repeat(50).as_str()), 1);
        assert_eq!(count(&MANIFEST.replace("[lints]", "[package.metadata]"), &code), 1);
    }
}

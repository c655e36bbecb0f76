//! Every silenced lint says why.

use super::Finding;
use super::source::{File, Keep, Tree, blank};

/// Finds `allow` and `expect` attributes without a `reason`, and lints set to `allow` in a manifest without a comment.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let in_code = tree.rust().flat_map(attributes);
    let manifests = tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    in_code.chain(manifests.flat_map(lint_table)).collect()
}

fn attributes(file: &File) -> Vec<Finding> {
    // Literals are blanked: this rule's own tests hold such attributes in strings.
    let code = blank(&file.text, Keep::Code);
    let starts = ["allow(", "expect("].into_iter().flat_map(|name| code.match_indices(name)).filter(|(at, _)| {
        let before = code[..*at].trim_end();
        before.ends_with("#[") || before.ends_with("#![") || before.ends_with(',') && in_cfg_attr(before)
    });
    let without_reason = starts.filter(|(at, _)| {
        let attribute = code[*at..].split(']').next().unwrap_or_default();
        !attribute.contains("reason")
    });
    without_reason.map(|(at, _)| file.finding(at, "a lint is silenced without `reason = \"…\"`".into())).collect()
}

fn in_cfg_attr(before: &str) -> bool {
    before.rfind("cfg_attr(").is_some_and(|at| !before[at..].contains(']'))
}

fn lint_table(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut in_lints, mut commented, mut at) = (false, false, 0);
    for line in file.text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            in_lints = trimmed.contains("lints.");
        }
        if in_lints && trimmed.contains("\"allow\"") && !commented && !trimmed.contains('#') {
            findings.push(file.finding(at, "a lint is allowed without a comment that says why".into()));
        }
        commented = trimmed.starts_with('#');
        at += line.len();
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn an_attribute_without_reason_is_found() {
        assert_eq!(count("a.rs", "#[allow(unsafe_code)]\nfn f() {}"), 1);
        assert_eq!(count("a.rs", "#![expect(dead_code)]\n"), 1);
        assert_eq!(count("a.rs", "#[cfg_attr(test, allow(dead_code))]\n"), 1);
        assert_eq!(count("a.rs", "#[allow(\n    unsafe_code,\n    reason = \"FFI [1]\"\n)]\n"), 0);
        assert_eq!(count("a.rs", "x.expect(\"why\"); f(a, allow(b));"), 0);
    }

    #[test]
    fn a_lint_table_entry_without_comment_is_found() {
        assert_eq!(count("Cargo.toml", "[workspace.lints.clippy]\na = \"allow\"\n"), 1);
        assert_eq!(count("Cargo.toml", "[workspace.lints.clippy]\n# why\na = \"allow\"\nb = \"allow\" # why\n"), 0);
    }
}

//! The source names no place outside itself: no directory of somebody's machine, no package registry's host.

use super::Finding;
use super::source::Tree;

/// Split in two, so that this file keeps its own rule.
const PLACES: &[(&str, &str)] = &[
    ("/roo", "t/"),
    ("/wor", "k/"),
    ("/hom", "e/"),
    ("/User", "s/"),
    ("crates", ".io"),
    ("npmjs", ".org"),
    ("npmjs", ".com"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("debian", ".org"),
];
/// Written by package managers, which record where they fetched.
const LOCK_FILES: &[&str] = &["Cargo.lock", "package-lock.json", "uv.lock"];

/// Finds machine paths and registry hosts in any text file.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let written = tree.files.iter().filter(|file| !LOCK_FILES.iter().any(|lock| file.path.ends_with(lock)));
    for file in written {
        for (head, tail) in PLACES {
            let place = format!("{head}{tail}");
            let found = file.text.match_indices(&place).filter(|(at, _)| {
                // A longer path or an address that only contains it, such as ./work/ or https://host/home/.
                !place.starts_with('/')
                    || !file.text[..*at]
                        .ends_with(|before: char| before.is_alphanumeric() || "._-~$}*".contains(before))
            });
            findings.extend(
                found.map(|(at, _)| file.finding(at, format!("`{place}` is a place outside the project's control"))),
            );
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_registry_hosts_are_found() {
        for (head, tail) in PLACES {
            let text = format!("see {head}{tail}x");
            assert_eq!(check(&Tree::of(&[("docs/a.md", &text)])).len(), 1, "{text}");
            assert!(check(&Tree::of(&[("Cargo.lock", &text)])).is_empty());
        }
        assert!(check(&Tree::of(&[("a.sh", "cd ./work/x; https://example.com/home/")])).is_empty());
    }
}

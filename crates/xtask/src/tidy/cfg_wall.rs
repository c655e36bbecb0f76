//! Where the code may differ between browser and native: everything else is one program for both.

use std::collections::BTreeMap;

use super::Finding;
use super::source::{File, Keep, Tree, blank};

/// Crates that exist to hide the difference.
const WHOLE_CRATES: &[&str] = &["platform", "webrtc"];
/// Crates with a single switch: the transport list and the back-end list.
const ONE_FILE: &[&str] = &["net", "compute"];
/// Programs of one side, which may leave themselves out of the other: `#![cfg(…)]` only, as every test program may.
const CRATE_LEVEL: &[&str] = &["web", "relay", "cli"];

/// Finds every `cfg` that asks for the browser outside the allowed places.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut switches: BTreeMap<&str, Vec<(&File, usize)>> = BTreeMap::new();
    for file in tree.rust() {
        let code = blank(&file.text, Keep::Literals);
        for at in positions(&blank(&file.text, Keep::Code), &code) {
            let dir = file.crate_dir();
            let whole_program = CRATE_LEVEL.contains(&dir) || file.path.contains("/tests/");
            let allowed = match dir {
                _ if WHOLE_CRATES.contains(&dir) => true,
                _ if whole_program && is_crate_level(&code[..at]) => true,
                _ if ONE_FILE.contains(&dir) => {
                    switches.entry(dir).or_default().push((file, at));
                    true
                }
                _ => false,
            };
            if !allowed {
                findings.push(file.finding(at, "the browser is told apart here; crate platform is the place".into()));
            }
        }
    }
    for (dir, places) in switches {
        for (file, at) in places.iter().filter(|(file, _)| file.path != places[0].0.path) {
            let first = &places[0].0.path;
            findings.push(file.finding(*at, format!("crate {dir} has one file with this switch, and it is {first}")));
        }
    }
    findings
}

/// Whether the line that `before` ends in is an attribute of the whole program.
fn is_crate_level(before: &str) -> bool {
    before.rsplit('\n').next().is_some_and(|line| line.contains("#![cfg"))
}

/// Where the code compares the target with the browser's. The value stands in a literal, the key must not.
fn positions(code: &str, with_literals: &str) -> Vec<usize> {
    let conditions = code.match_indices("target_").map(|(at, _)| at).filter(|&at| {
        let condition = with_literals[at..].lines().next().unwrap_or_default();
        let mut words = condition.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
        matches!(words.next(), Some("target_arch" | "target_family" | "target_os"))
            && matches!(words.next(), Some("wasm32" | "wasm" | "unknown"))
    });
    conditions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &str = "#[cfg(target_arch = \"wasm32\")]\nfn x() {}\n";

    fn count(files: &[(&str, &str)]) -> usize {
        check(&Tree::of(files)).len()
    }

    #[test]
    fn a_switch_outside_the_wall_is_found() {
        assert_eq!(count(&[("crates/node/src/lib.rs", SWITCH)]), 1);
        assert_eq!(count(&[("crates/node/src/lib.rs", "if cfg!(not(target_family = \"wasm\")) {}")]), 1);
        assert_eq!(count(&[("crates/platform/src/time.rs", SWITCH)]), 0);
        assert_eq!(count(&[("crates/node/src/lib.rs", "// cfg(target_arch = \"wasm32\")\n")]), 0);
        assert_eq!(count(&[("crates/node/src/lib.rs", "let a = \"target_arch = wasm32\";")]), 0);
        assert_eq!(count(&[("crates/node/src/lib.rs", "#[cfg(target_arch = \"x86_64\")]")]), 0);
    }

    #[test]
    fn net_and_compute_have_one_file_each() {
        assert_eq!(count(&[("crates/net/src/a.rs", SWITCH), ("crates/compute/src/b.rs", SWITCH)]), 0);
        assert_eq!(count(&[("crates/net/src/a.rs", SWITCH), ("crates/net/src/b.rs", SWITCH)]), 1);
    }

    #[test]
    fn programs_switch_at_crate_level_only() {
        assert_eq!(count(&[("web/src/lib.rs", "#![cfg(target_arch = \"wasm32\")]\n")]), 0);
        assert_eq!(count(&[("web/src/lib.rs", SWITCH)]), 1);
        assert_eq!(count(&[("crates/node/tests/browser.rs", "#![cfg(target_arch = \"wasm32\")]\n")]), 0);
        assert_eq!(count(&[("crates/node/tests/browser.rs", SWITCH)]), 1);
    }
}

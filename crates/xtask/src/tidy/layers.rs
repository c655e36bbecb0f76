//! Which of our crates may depend on which, and which of them run in a browser.

use super::Finding;
use super::source::Tree;

struct Layer {
    package: &'static str,
    /// Our crates that it may name; `None`: any.
    may_use: Option<&'static [&'static str]>,
    /// Compiled for the browser too.
    browser: bool,
}

const fn layer(package: &'static str, may_use: &'static [&'static str], browser: bool) -> Layer {
    Layer { package, may_use: Some(may_use), browser }
}

/// The table of ARCHITECTURE.md. A new crate gets its row here first.
const LAYERS: &[Layer] = &[
    layer("cdi-types", &[], true),
    layer("cdi-platform", &["cdi-types"], true),
    layer("cdi-store", &["cdi-types", "cdi-platform"], true),
    layer("cdi-webrtc", &["cdi-types"], true),
    layer("cdi-net", &["cdi-types", "cdi-platform", "cdi-webrtc"], true),
    layer("cdi-model", &["cdi-types"], true),
    layer("cdi-compute", &["cdi-types", "cdi-model"], true),
    layer("cdi-swarm", &["cdi-types"], true),
    layer("cdi-ledger", &["cdi-types"], true),
    layer(
        "cdi-node",
        &["cdi-types", "cdi-platform", "cdi-store", "cdi-net", "cdi-model", "cdi-compute", "cdi-swarm", "cdi-ledger"],
        true,
    ),
    layer("cdi-gateway", &["cdi-types", "cdi-platform", "cdi-node"], false),
    layer(
        "cdi-relay",
        &["cdi-types", "cdi-platform", "cdi-webrtc", "cdi-net", "cdi-model", "cdi-node", "cdi-gateway"],
        false,
    ),
    layer("cdi-cli", &["cdi-types", "cdi-node", "cdi-gateway"], false),
    layer("cdi-xtask", &[], false),
    Layer { package: "cdi-web", may_use: None, browser: true },
    Layer { package: "cdi-tests", may_use: None, browser: false },
];

/// Whether a package is compiled for the browser too.
pub fn runs_in_browser(package: &str) -> bool {
    LAYERS.iter().any(|layer| layer.package == package && layer.browser)
}

/// Finds dependencies that the table does not allow; those of tests alone are free.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages() {
        let path = format!("{}/Cargo.toml", package.dir.to_string_lossy());
        let mut find = |message| findings.push(Finding { path: path.clone(), line: None, message });
        let Some(layer) = LAYERS.iter().find(|layer| layer.package == package.name) else {
            find(format!("{} has no row in crates/xtask/src/tidy/layers.rs: say what it may depend on", package.name));
            continue;
        };
        let Some(may_use) = layer.may_use else { continue };
        let ours = package.dependencies("dependencies").into_iter().filter(|name| name.starts_with("cdi-"));
        for dependency in ours.filter(|name| !may_use.contains(name)) {
            find(format!("{} may not depend on {dependency}", package.name));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(manifest: &str) -> Vec<String> {
        let findings = check(&Tree::of(&[("crates/x/Cargo.toml", manifest)]));
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_dependency_against_the_direction_is_found() {
        let manifest = "[package]\nname = \"cdi-types\"\n[dependencies]\ncdi-node.workspace = true\n";
        assert_eq!(messages(manifest), ["cdi-types may not depend on cdi-node"]);
        let by_target = manifest.replace("[dependencies]", "[target.'cfg(unix)'.dependencies]");
        assert_eq!(messages(&by_target).len(), 1);
        assert!(messages(&manifest.replace("[dep", "[dev-dep")).is_empty());
        assert!(messages(&manifest.replace("cdi-types", "cdi-relay")).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(messages("[package]\nname = \"cdi-new\"\n").len(), 1);
    }
}

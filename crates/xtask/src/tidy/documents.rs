//! What stands beside the code follows it: the code map has a row for each crate, and each shader has a user.

use super::Finding;
use super::source::Tree;

const CODE_MAP: &str = "ARCHITECTURE.md";

/// Finds crates without a table row in the code map. A row names the directory in backticks in its first column.
pub fn architecture_rows(tree: &Tree) -> Vec<Finding> {
    let text = tree.file(CODE_MAP).map_or("", |file| file.text.as_str());
    let first_columns: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_prefix('|')?.split('|').next()).collect();
    let packages = tree.packages();
    let missing = packages.iter().map(|package| package.dir.to_string_lossy()).filter(|dir| {
        let name = format!("`{dir}`");
        !first_columns.iter().any(|column| column.contains(&name))
    });
    missing
        .map(|dir| Finding { path: CODE_MAP.into(), line: None, message: format!("no table row for `{dir}`") })
        .collect()
}

/// Finds WGSL files that no Rust file names, whole or, for a macro that adds the rest, as the literal "stem".
pub fn shaders_are_used(tree: &Tree) -> Vec<Finding> {
    let shaders = tree.files.iter().filter(|file| file.path.ends_with(".wgsl"));
    let unused = shaders.filter(|shader| {
        let name = shader.path.rsplit('/').next().unwrap_or_default();
        let stem = format!("\"{}\"", name.trim_end_matches(".wgsl"));
        !tree.rust().any(|file| file.text.contains(name) || file.text.contains(&stem))
    });
    unused
        .map(|shader| Finding {
            path: shader.path.clone(),
            line: None,
            message: "no Rust file includes this shader".into(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_a_row_is_found() {
        let manifest = ("crates/x/Cargo.toml", "[package]\nname = \"cdi-x\"\n");
        assert_eq!(architecture_rows(&Tree::of(&[manifest])).len(), 1);
        assert_eq!(architecture_rows(&Tree::of(&[manifest, (CODE_MAP, "`crates/x` in a sentence")])).len(), 1);
        assert!(architecture_rows(&Tree::of(&[manifest, (CODE_MAP, "| `crates/x` | does x |\n")])).is_empty());
    }

    #[test]
    fn an_unused_shader_is_found() {
        let shader = ("shaders/matmul.wgsl", "@compute");
        assert_eq!(shaders_are_used(&Tree::of(&[shader])).len(), 1);
        let user = ("crates/compute/src/a.rs", "include_str!(\"../../../shaders/matmul.wgsl\")");
        assert!(shaders_are_used(&Tree::of(&[shader, user])).is_empty());
        assert!(shaders_are_used(&Tree::of(&[shader, ("a.rs", "kernel!(\"matmul\")")])).is_empty());
        assert_eq!(shaders_are_used(&Tree::of(&[shader, ("a.rs", "kernel!(\"matmul_f32\")")])).len(), 1);
    }
}

//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md that the compiler does not check, read off the source text.
//!
//! A rule is a function from the tree to its findings; each has a test that breaks it.

mod cfg_wall;
mod documents;
mod layers;
mod manifests;
mod names;
mod places;
mod reasons;
mod source;

use std::fmt;

use anyhow::{Result, bail};

pub use layers::runs_in_browser;
use source::Tree;

use crate::workspace::Workspace;

/// One broken rule at one place.
#[derive(Debug)]
struct Finding {
    /// File relative to the root.
    path: String,
    /// One-based line, when there is one to look at.
    line: Option<usize>,
    /// What is wrong and what to do about it.
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// The rules in the order of their findings.
const RULES: &[fn(&Tree) -> Vec<Finding>] = &[
    cfg_wall::check,
    names::check,
    layers::check,
    manifests::check,
    reasons::check,
    places::check,
    documents::architecture_rows,
    documents::shaders_are_used,
];

/// Checks the whole tree.
pub fn run(workspace: &Workspace) -> Result<()> {
    let tree = Tree::read(&workspace.root)?;
    let findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    for finding in &findings {
        println!("  {finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} broken rules (ARCHITECTURE.md says why they exist)", findings.len());
    }
    println!("  {} files keep {} rules", tree.files.len(), RULES.len());
    Ok(())
}

//! `cargo xtask sim`: the simulator of `cdi-swarm`, optimised.

use anyhow::Result;

use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;

/// Arguments of `sim`.
#[derive(clap::Args)]
pub struct Args {
    /// Settings of the simulator.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    settings: Vec<String>,
}

/// Builds the simulator and runs it.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let simulator = ["run", "--release", "--package", "cdi-swarm", "--features", "sim", "--bin", "cdi-sim", "--"];
    run_command(cargo().current_dir(&workspace.root).args(simulator).args(&args.settings))
}

//! `cargo xtask bench net`: builds what is measured and runs it; `tests/src/bin/bench_net` measures.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::browser::chromedriver;
use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;
use crate::{interop, up, web};

/// Arguments of `bench net`.
#[derive(clap::Args)]
pub struct Args {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when an aim is missed.
    #[arg(long)]
    check: bool,
    /// How often everything is measured; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// MiB that one throughput measurement sends.
    #[arg(long, default_value_t = 64)]
    mib: u32,
    /// Measure only this link; may be given more than once.
    #[arg(long, value_name = "LINK")]
    only: Vec<String>,
}

/// Builds everything as a release does, and measures.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let driver = chromedriver().context("chromedriver is missing: install chromium and chromium-driver")?;
    ensure!(interop::has_node(), "Node 18 or newer with npm is missing: js-libp2p is measured beside us");
    let peers = interop::build(workspace, interop::Profile::Web)?;
    let relay = up::relay_binary(workspace);
    if !relay.is_file() {
        up::build_relay(workspace, &web::build(workspace)?)?;
    }
    let mut bench = cargo();
    bench
        .current_dir(&workspace.root)
        .env("CDI_RELAY_BIN", relay)
        .env("CHROMEDRIVER", driver)
        .env("CDI_INTEROP", peers)
        .args(["run", "--release", "--package", "cdi-tests", "--features", "bench", "--bin", "bench_net", "--"])
        .args(["--rounds", &args.rounds.to_string(), "--mib", &args.mib.to_string()]);
    if let Some(json) = &args.json {
        bench.arg("--json").arg(std::path::absolute(json)?);
    }
    if args.check {
        bench.arg("--check");
    }
    for link in &args.only {
        bench.args(["--only", link]);
    }
    run_command(&mut bench)
}

//! `cargo xtask sim`: one simulated swarm, or many, from the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use cdi_swarm::sim::{LogNormal, Scenario, run};
use clap::Parser;

/// Simulate a swarm and print what came out as Markdown.
#[derive(Parser)]
struct Args {
    /// Nodes that are there at a time.
    #[arg(long, default_value_t = 50)]
    nodes: u32,
    /// Same seed, same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs the short, troubled scenario that the property test runs with this seed.
    #[arg(long)]
    trouble: bool,
    /// Virtual seconds of asking.
    #[arg(long)]
    seconds: Option<u32>,
    /// Median seconds that a tab stays; 0: for ever.
    #[arg(long)]
    lifetime_s: Option<f64>,
    /// Questions at a time.
    #[arg(long)]
    askers: Option<u32>,
    /// Median one-way milliseconds from a node to the backbone.
    #[arg(long)]
    access_ms: Option<f64>,
    /// Share of nodes that send wrong rows.
    #[arg(long)]
    lying: Option<f64>,
    /// Share of nodes that are ten times slower than they say.
    #[arg(long)]
    slow: Option<f64>,
    /// Without drafts.
    #[arg(long)]
    plain: bool,
    /// Also writes the result as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut scenario = if args.trouble { Scenario::trouble(args.seed) } else { Scenario::of(args.nodes, args.seed) };
    if let Some(seconds) = args.seconds {
        scenario.seconds = seconds;
    }
    if let Some(lifetime_s) = args.lifetime_s {
        scenario.lifetime_s = Some(lifetime_s).filter(|s| *s > 0.0);
    }
    if let Some(median) = args.access_ms {
        scenario.access_ms = LogNormal { median, ..scenario.access_ms };
    }
    scenario.speculate &= !args.plain;
    scenario.askers = args.askers.unwrap_or(scenario.askers);
    scenario.lying = args.lying.unwrap_or(scenario.lying);
    scenario.slow = args.slow.unwrap_or(scenario.slow);
    let report = run(&scenario);
    println!("{report}");
    if let Some(path) = args.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

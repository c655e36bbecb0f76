//! Measures links: our network in pages, beside a bare `RTCDataChannel` between two pages and js-libp2p, all in one
//! browser on this machine. `cargo xtask bench net` builds what it needs.

mod aims;
mod measure;
mod parties;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use self::measure::{Effort, Figures};

/// Measures links and prints a table.
#[derive(Parser)]
struct Args {
    /// Write the figures to this file.
    #[arg(long)]
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
    /// Measure only this link.
    #[arg(long)]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all that was asked to hold holds.
async fn run(args: &Args) -> Result<bool> {
    let effort = Effort { rounds: args.rounds.max(1), bytes: args.mib * 1024 * 1024 };
    let all: Vec<Figures> = parties::measure(effort, &args.only).await?;
    table::print(&all);
    let verdicts = aims::judge(&all);
    println!();
    for verdict in &verdicts {
        println!("   {verdict}");
    }
    if let Some(path) = &args.json {
        let json = serde_json::json!({ "figures": all, "aims": verdicts });
        fs::write(path, serde_json::to_string_pretty(&json)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(!args.check || verdicts.iter().all(aims::Verdict::is_reached))
}

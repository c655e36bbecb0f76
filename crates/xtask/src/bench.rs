//! `cargo xtask bench`: our figures beside those of others, taken in one run on one machine.

mod aims;
mod compute;
mod measurement;
mod models;
mod net;
mod table;
mod tools;

use anyhow::Result;

use crate::workspace::Workspace;

/// What is measured.
#[derive(clap::Subcommand)]
pub enum Area {
    /// Prefill and decode of quantised Llama networks, in Chromium and natively.
    Compute(compute::Args),
    /// Links: time to connect, round trips and throughput, beside a bare data channel and js-libp2p.
    Net(net::Args),
}

/// Measures one area.
pub fn run(workspace: &Workspace, area: &Area) -> Result<()> {
    match area {
        Area::Compute(args) => compute::run(workspace, args),
        Area::Net(args) => net::run(workspace, args),
    }
}

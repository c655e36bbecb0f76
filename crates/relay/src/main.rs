//! The `cdi-relay` program.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use cdi_net::Address;
use cdi_relay::{Config, Relay};
use cdi_types::Network;
use clap::Parser;

/// Introduces tabs to each other, serves them the page and the first model.
///
/// Everything is on one port: open http://127.0.0.1:8080/ in a browser.
#[derive(Debug, Parser)]
#[command(name = "cdi-relay", version)]
struct Arguments {
    /// Where the page, the API and the WebSocket for tabs are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where native nodes connect over TCP.
    #[arg(long, value_name = "MULTIADDR", default_value = "/ip4/0.0.0.0/tcp/4001")]
    p2p_listen: Address,
    /// No port for native nodes; they can use the WebSocket.
    #[arg(long, conflicts_with = "p2p_listen")]
    no_p2p_listen: bool,
    /// Address at which browsers reach this relay, e.g. /dns4/relay.example.org/tcp/443/tls/ws behind a
    /// proxy that does TLS. May be repeated. Without it: the address that the page was loaded from.
    #[arg(long, value_name = "MULTIADDR")]
    external: Vec<Address>,
    /// Where the identity is kept.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// The network to serve: testnet or mainnet.
    #[arg(long, default_value_t = Network::default())]
    network: Network,
}

impl Arguments {
    fn into_config(self) -> anyhow::Result<Config> {
        let data = match self.data {
            Some(data) => data,
            None => dirs::data_dir().context("there is no home directory; name one with --data")?.join("cdi-relay"),
        };
        Ok(Config {
            listen: self.listen,
            p2p_listen: (!self.no_p2p_listen).then_some(self.p2p_listen),
            external: self.external,
            data: Some(data),
            network: self.network,
        })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Arguments::parse().into_config()?;
    // A relay asks nobody in the DHT, which Kademlia warns of; and the swarm repeats what we say ourselves.
    cdi_platform::log::init("info,libp2p_swarm=warn,libp2p_kad=error");
    // Watched from now on: a service manager may ask before the relay has started.
    let interrupted = interruption()?;
    let relay = Relay::start(config).await?;
    interrupted.await;
    tracing::info!("stopping");
    relay.shutdown().await;
    Ok(())
}

/// Completes when somebody presses Ctrl-C, or when the service manager asks.
#[cfg(unix)]
fn interruption() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes when somebody presses Ctrl-C.
#[cfg(windows)]
fn interruption() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c().context("cannot watch for Ctrl-C")?;
    Ok(async move {
        interrupt.recv().await;
    })
}

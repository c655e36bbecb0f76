//! The `cdi-relay` program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use cdi_net::Address;
use cdi_relay::{Config, Relay, RelayError, RelayHandle, StunListen, Turn, WebRtcListen};
use cdi_types::Network;
use clap::Parser;

/// The port that libp2p nodes use by custom.
const DEFAULT_P2P_LISTEN: &str = "/ip4/0.0.0.0/tcp/4001";

/// Introduces tabs to each other, serves them the page and the first model.
///
/// Everything is on one port: open http://127.0.0.1:8080/ in a browser.
#[derive(Debug, Parser)]
#[command(name = "cdi-relay", version)]
struct Arguments {
    /// Where the page, the API and the WebSocket for tabs are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where native nodes connect over TCP. Default: /ip4/0.0.0.0/tcp/4001, or nowhere if that is taken.
    #[arg(long, value_name = "MULTIADDR")]
    p2p_listen: Option<Address>,
    /// No port for native nodes; they can use the WebSocket.
    #[arg(long, conflicts_with = "p2p_listen")]
    no_p2p_listen: bool,
    /// The UDP port at which browsers connect over WebRTC-direct, which needs neither a domain nor TLS. Default:
    /// that after the number of --listen, or none if it is taken.
    #[arg(long, value_name = "ADDRESS:PORT")]
    webrtc_listen: Option<SocketAddr>,
    /// No WebRTC-direct.
    #[arg(long, conflicts_with = "webrtc_listen")]
    no_webrtc: bool,
    /// Address at which browsers reach this relay, e.g. /dns4/relay.example.org/tcp/443/tls/ws behind a
    /// proxy that does TLS, or /ip4/<public address>/udp/<port>/webrtc-direct. May be repeated. Without it: the
    /// address that the page was loaded from.
    #[arg(long, value_name = "MULTIADDR")]
    external: Vec<Address>,
    /// Where browsers ask for their public address (STUN, over UDP). Default: the address and port number of
    /// --listen. Behind a proxy name a public one, e.g. 0.0.0.0:3478; its port must be open at the host of --external.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "no_stun")]
    stun_listen: Option<SocketAddr>,
    /// No STUN service.
    #[arg(long)]
    no_stun: bool,
    /// Another STUN server that browsers are told of, e.g. stun:stun.example.org:3478. May be repeated.
    #[arg(long, value_name = "URL")]
    stun_url: Vec<String>,
    /// A TURN server for browsers that find no direct way, e.g. turn:turn.example.org:3478. May be repeated.
    #[arg(long, value_name = "URL", requires = "turn_secret_file")]
    turn_url: Vec<String>,
    /// File with the secret that this relay and the TURN server share (static-auth-secret of coturn): browsers get
    /// credentials that end after two hours.
    #[arg(long, value_name = "FILE", requires = "turn_url")]
    turn_secret_file: Option<PathBuf>,
    /// Where the identity is kept. Default: the user's data directory, on Linux ~/.local/share/cdi-relay.
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
        let turn = match &self.turn_secret_file {
            Some(file) => {
                let secret = std::fs::read_to_string(file)
                    .with_context(|| format!("the secret of the TURN server, {}", file.display()))?;
                let secret = secret.trim().to_owned();
                anyhow::ensure!(!secret.is_empty(), "{} holds no secret", file.display());
                Some(Turn { urls: self.turn_url, secret })
            }
            None => None,
        };
        let stun = match self.stun_listen {
            _ if self.no_stun => StunListen::Nowhere,
            Some(address) => StunListen::At(address),
            None => StunListen::BesideHttp,
        };
        let webrtc = match self.webrtc_listen {
            _ if self.no_webrtc => WebRtcListen::Nowhere,
            Some(address) => WebRtcListen::At(address),
            None => WebRtcListen::BesideHttp,
        };
        Ok(Config {
            listen: self.listen,
            p2p_listen: self.p2p_listen,
            webrtc,
            external: self.external,
            data: Some(data),
            network: self.network,
            stun,
            stun_urls: self.stun_url,
            turn,
        })
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cdi-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let takes_default_port = arguments.p2p_listen.is_none() && !arguments.no_p2p_listen;
    let config = arguments.into_config()?;
    // A relay asks nobody in the DHT, which Kademlia warns of; and the swarm repeats what we say ourselves.
    cdi_platform::log::init("info,libp2p_swarm=warn,libp2p_kad=error,stun_types=error");
    // Watched from now on: a service manager may ask before the relay has started.
    let interrupted = interruption()?;
    let relay = if takes_default_port { start_at_default_port(config).await } else { Relay::start(config).await }?;
    interrupted.await;
    tracing::info!("stopping");
    relay.shutdown().await;
    Ok(())
}

/// Listens for native nodes at the usual port. Nobody asked for it, so that an IPFS node or another relay there
/// is no reason not to start.
async fn start_at_default_port(config: Config) -> Result<RelayHandle, RelayError> {
    let usual = DEFAULT_P2P_LISTEN.parse().expect("the constant is an address");
    match Relay::start(Config { p2p_listen: Some(usual), ..config.clone() }).await {
        Err(error @ RelayError::P2pListen { .. }) => {
            tracing::warn!(%error, "native nodes have to use the WebSocket");
            Relay::start(config).await
        }
        started => started,
    }
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

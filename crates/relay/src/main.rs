//! The `cdi-relay` program.

mod keys;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use cdi_net::Address;
use cdi_relay::{ApiAccess, Config, Relay, RelayError, RelayHandle, StunListen, TlsSource, Turn, WebRtcListen};
use cdi_types::Network;
use clap::{Parser, Subcommand};

/// The port that libp2p nodes use by custom, over TCP and over QUIC.
const DEFAULT_P2P_LISTEN: &str = "/ip4/0.0.0.0/tcp/4001";
const DEFAULT_QUIC_LISTEN: &str = "/ip4/0.0.0.0/udp/4001/quic-v1";

/// Introduces tabs to each other, serves them the page and the first model.
///
/// Everything is on one port: open http://127.0.0.1:8080/ in a browser.
#[derive(Debug, Parser)]
#[command(name = "cdi-relay", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    tool: Option<Tool>,
    /// Where the page, the API and the WebSocket for tabs are served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where native nodes connect over TCP. Default: /ip4/0.0.0.0/tcp/4001, or nowhere if that is taken.
    #[arg(long, value_name = "MULTIADDR")]
    p2p_listen: Option<Address>,
    /// Where native nodes connect over QUIC. Default: /ip4/0.0.0.0/udp/4001/quic-v1, or nowhere if that is taken.
    #[arg(long, value_name = "MULTIADDR")]
    quic_listen: Option<Address>,
    /// Another relay of the network, with its peer id. Nodes are told of it, and use it when this one is slow or
    /// gone. May be repeated.
    #[arg(long, value_name = "MULTIADDR", value_parser = with_peer)]
    bootstrap: Vec<Address>,
    /// Let native nodes in the local network find this relay by themselves (mDNS).
    #[arg(long)]
    lan: bool,
    /// No ports for native nodes; they can use the WebSocket.
    #[arg(long, conflicts_with_all = ["p2p_listen", "quic_listen"])]
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
    /// Megabits that are forwarded in a second, all peers together; beyond it they take turns.
    #[arg(long, value_name = "MBIT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    bandwidth: u64,
    /// Certificate in PEM format, for TLS on --listen. Read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key in PEM format, of --tls-cert.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Get a certificate for this name by ACME, from Let's Encrypt unless --acme-directory says otherwise. The name's
    /// port 443 must lead to --listen. May be repeated.
    #[arg(long, value_name = "NAME", conflicts_with = "tls_cert")]
    domain: Vec<String>,
    /// Whom the certificate authority tells of trouble.
    #[arg(long, value_name = "ADDRESS", requires = "domain")]
    acme_email: Option<String>,
    /// Another certificate authority.
    #[arg(long, value_name = "URL", requires = "domain")]
    acme_directory: Option<String>,
    /// Certificates in PEM format by which that authority is known, when it is a private one.
    #[arg(long, value_name = "FILE", requires = "acme_directory")]
    acme_roots: Option<PathBuf>,
    /// Who may use the OpenAI- and Ollama-compatible API below /v1 and /api, whose compute is the swarm.
    #[arg(long, value_enum, default_value_t = ApiAccess::Local)]
    api: ApiAccess,
    /// The API asks for one of the keys in this file, which `cdi-relay keys` makes. Changes count within a second.
    #[arg(long, value_name = "FILE")]
    api_keys: Option<PathBuf>,
    /// A proxy on this machine takes the clients' connections: its X-Forwarded-For says who they are.
    #[arg(long)]
    behind_proxy: bool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Makes, lists and revokes keys of the API.
    Keys(keys::Arguments),
}

/// Bytes of a megabit.
const MBIT_BYTES: u64 = 125_000;

/// An address that says whom it leads to.
fn with_peer(text: &str) -> anyhow::Result<Address> {
    let address: Address = text.parse()?;
    anyhow::ensure!(address.peer().is_some(), "the address must end in /p2p/ and the relay's peer id");
    Ok(address)
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
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some(TlsSource::Files { cert, key }),
            _ if self.domain.is_empty() => None,
            _ => Some(TlsSource::Acme {
                domains: self.domain,
                email: self.acme_email,
                directory: self.acme_directory,
                roots: self.acme_roots,
                cache: Some(data.join("acme")),
            }),
        };
        Ok(Config {
            listen: self.listen,
            p2p_listen: self.p2p_listen,
            webrtc,
            quic_listen: self.quic_listen,
            bootstrap: self.bootstrap,
            lan: self.lan,
            external: self.external,
            data: Some(data),
            network: self.network,
            stun,
            stun_urls: self.stun_url,
            turn,
            bandwidth_bytes: self.bandwidth.saturating_mul(MBIT_BYTES),
            tls,
            api: self.api,
            api_keys: self.api_keys,
            behind_proxy: self.behind_proxy,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.tool {
        Some(Tool::Keys(arguments)) => arguments.run(),
        None => run(arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cdi-relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let chosen = arguments.p2p_listen.is_some() || arguments.quic_listen.is_some() || arguments.no_p2p_listen;
    let config = arguments.into_config()?;
    // A relay asks nobody in the DHT, which Kademlia warns of; and the swarm repeats what we say ourselves.
    cdi_platform::log::init("info,libp2p_swarm=warn,libp2p_kad=error,stun_types=error");
    // Watched from now on: a service manager may ask before the relay has started.
    let interrupted = interruption()?;
    let relay = if !chosen { start_at_default_port(config).await } else { Relay::start(config).await }?;
    let mut interrupted = std::pin::pin!(interrupted);
    let mut hangup = hangup()?;
    loop {
        tokio::select! {
            () = interrupted.as_mut() => break,
            () = hangup.next() => relay.reload_certificates(),
        }
    }
    tracing::info!("stopping");
    relay.shutdown().await;
    Ok(())
}

/// Listens for native nodes at the usual port. Nobody asked for it, so that an IPFS node or another relay there
/// is no reason not to start.
async fn start_at_default_port(config: Config) -> Result<RelayHandle, RelayError> {
    let usual = |text: &str| Some(text.parse().expect("the constant is an address"));
    let both =
        Config { p2p_listen: usual(DEFAULT_P2P_LISTEN), quic_listen: usual(DEFAULT_QUIC_LISTEN), ..config.clone() };
    match Relay::start(both).await {
        Err(error @ RelayError::P2pListen { .. }) => {
            tracing::warn!(%error, "native nodes have to use the WebSocket");
            Relay::start(config).await
        }
        started => started,
    }
}

/// The wish of an operator that files are read again.
#[cfg(unix)]
struct Hangup(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangup {
    async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(unix)]
fn hangup() -> anyhow::Result<Hangup> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(Hangup(signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?))
}

/// There is no such signal.
#[cfg(windows)]
struct Hangup;

#[cfg(windows)]
impl Hangup {
    async fn next(&mut self) {
        std::future::pending().await
    }
}

#[cfg(windows)]
fn hangup() -> anyhow::Result<Hangup> {
    Ok(Hangup)
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

//! Starts and stops a relay: identity, sockets, swarm, HTTP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cdi_gateway::keys::KeysError;
use cdi_model::import::ImportError;
use cdi_net::{Address, NetError};
use cdi_types::PeerId;
use cdi_types::ice::is_ice_url;
use futures::StreamExt as _;
use libp2p::Swarm;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::admission::Admission;
use crate::api::ApiAccess;
use crate::certificate::CertificateError;
use crate::config::{Config, StunListen};
use crate::http::Site;
use crate::ice::Services;
use crate::identity::IdentityError;
use crate::line::Line;
use crate::metrics::Metrics;
use crate::stop::Stopper;
use crate::swarm::{Behaviour, Bounds};
use crate::tls::{Tls, TlsError, TlsSource};
use crate::webrtc::WebRtc;
use crate::websocket::Upgrades;
use crate::{accept, address, api, certificate, genesis, http, ice, identity, stop, stun, swarm, webrtc};

/// Why a relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The HTTP port is taken, or may not be used.
    #[error("cannot listen on {address}: {reason}. Stop what uses port {}, or take another with --listen", address.port())]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// The port for native nodes is taken, or may not be used.
    #[error("cannot listen on {address}: {reason}. Take another with --p2p-listen, or none with --no-p2p-listen")]
    P2pListen {
        /// What was asked for.
        address: Address,
        /// What the transport said.
        reason: String,
    },
    /// The UDP port for STUN is taken, or may not be used.
    #[error("cannot answer STUN on {address}: {reason}. Take another port with --stun-listen, or none with --no-stun")]
    StunListen {
        /// What was asked for.
        address: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
    /// A URL is not one of a STUN or TURN server.
    #[error("{0:?} is no STUN or TURN URL, e.g. stun:stun.example.org:3478")]
    IceUrl(String),
    /// The UDP port for WebRTC-direct is taken, or may not be used.
    #[error("cannot listen on UDP {address}: {reason}. Take another with --webrtc-listen, or none with --no-webrtc")]
    WebRtcListen {
        /// What was asked for.
        address: SocketAddr,
        /// What the transport said.
        reason: String,
    },
    /// There is no certificate for WebRTC-direct.
    #[error("no certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// There is no identity.
    #[error("no identity: {0}")]
    Identity(#[from] IdentityError),
    /// The embedded model cannot be read.
    #[error("the embedded model: {0}")]
    Genesis(#[from] ImportError),
    /// The program is being stopped while it starts.
    #[error("stopped while starting")]
    Interrupted,
    /// The keys of the API cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// There is no TLS.
    #[error("no TLS: {0}")]
    Tls(#[from] TlsError),
    /// The swarm could not be built.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Starts relays.
#[derive(Debug)]
pub struct Relay;

/// A running relay. Dropping it stops the relay without saying goodbye to its peers.
#[derive(Debug)]
pub struct RelayHandle {
    http_addr: SocketAddr,
    secure: bool,
    peer_id: PeerId,
    reload: Arc<Notify>,
    p2p_addresses: Vec<Address>,
    stun_addr: Option<SocketAddr>,
    webrtc: Option<WebRtc>,
    stop: Stopper,
    tasks: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Starts a relay on the current tokio runtime. It serves when this returns.
    ///
    /// # Errors
    /// See [`RelayError`].
    pub async fn start(config: Config) -> Result<RelayHandle, RelayError> {
        // The way to a running relay is long; whoever waits for it need not carry it.
        Box::pin(Self::launch(config)).await
    }

    async fn launch(config: Config) -> Result<RelayHandle, RelayError> {
        // The port first: the most likely failure, and it should leave nothing behind.
        let listen = |reason| RelayError::Listen { address: config.listen, reason };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let http_addr = listener.local_addr().map_err(listen)?;
        let stun_socket = bind_stun(config.stun, http_addr).await?;
        let stun_addr = stun_socket.as_ref().and_then(|socket| socket.local_addr().ok());
        let services = services(&config, stun_addr)?;
        let keypair = identity::load(config.data.as_deref()).await?;
        let peer_id = keypair.public().peer_id();

        // Computing, not waiting: kept off the threads that serve.
        let genesis = tokio::task::spawn_blocking(genesis::load);
        let (model, blocks) = genesis.await.map_err(|_| RelayError::Interrupted)??;

        let (upgrades, upgraded) = Upgrades::new();
        let certificate = certificate::load(config.data.as_deref()).await?;
        let direct = webrtc::transport(&keypair, certificate);
        let (fingerprint, counters) = (direct.fingerprint(), direct.counters());
        let (metrics, mut registry) = Metrics::new(counters);
        let line = Line::new(config.bandwidth_bytes);
        let bounds = Bounds { admission: Admission::new(), line: line.clone(), metrics: metrics.clone() };
        let mut swarm = swarm::build(&keypair, &config, upgrades, direct, &bounds)?;
        let local = address::loopback_if_unspecified(http_addr);
        let domain = match &config.tls {
            Some(TlsSource::Acme { domains, .. }) => domains.first().map(String::as_str),
            _ => None,
        };
        let own = Address::from(address::announced(local, config.tls.is_some(), domain));
        let inner = Address::from(address::web_socket_address(local));
        let mut p2p_addresses = Vec::new();
        listen_on(&mut swarm, &inner, &mut p2p_addresses).await?;
        p2p_addresses.clear();
        if let Some(address) = &config.p2p_listen {
            check_free(address).await?;
            listen_on(&mut swarm, address, &mut p2p_addresses).await?;
        }
        if let Some(address) = &config.quic_listen {
            listen_on(&mut swarm, address, &mut p2p_addresses).await?;
        }

        let bound = webrtc::listen(&mut swarm, config.webrtc, http_addr).await?;
        let webrtc = bound.map(|socket| WebRtc { socket, fingerprint });

        let inside = match config.api {
            ApiAccess::Off => None,
            _ => Some(inside(local, config.tls.is_some()).await?),
        };
        let api = inside.as_ref().map(|inside| api::start(&config, inside.address, &mut registry)).transpose()?;
        let external: Vec<Address> = config.external.into_iter().map(|a| webrtc::complete(a, fingerprint)).collect();
        let mut announced = external.clone();
        if announced.is_empty() {
            announced.push(own.clone());
            announced.extend(webrtc.map(WebRtc::local_address));
        }
        let asked = swarm.behaviour_mut().accept_ice(config.network)?;
        let worker = swarm::Worker::new(swarm, config.network, &announced, bounds);
        let site = Site {
            peer: peer_id,
            network: config.network,
            external,
            bootstrap: config.bootstrap,
            fallback: own,
            webrtc,
            models: vec![model],
            metrics: metrics.clone(),
            registry,
            tls: config.tls.is_some(),
            behind_proxy: config.behind_proxy,
            upgraded,
            services: services.clone(),
        };
        let (stop, stopped) = stop::channel();
        let router = http::router(site, Arc::new(blocks), api);
        let (secure, reload) = (config.tls.is_some(), Arc::new(Notify::new()));
        let tls = config.tls.map(|source| Tls::start(source, reload.clone(), stopped.clone())).transpose()?;
        let health = metrics.health.clone();
        let mut tasks = Vec::new();
        if let Some(listener) = inside.and_then(|inside| inside.listener) {
            let (router, metrics, stopped) = (router.clone(), metrics.clone(), stopped.clone());
            tasks.push(tokio::spawn(accept::serve(listener, None, router, false, metrics, stopped)));
        }
        tasks.extend([
            tokio::spawn(accept::serve(listener, tls, router, config.behind_proxy, metrics, stopped.clone())),
            tokio::spawn(line.run(stopped.clone())),
            tokio::spawn(Box::pin(worker.run(stopped.clone()))),
            tokio::spawn(ice::serve(services, asked)),
        ]);
        tasks.extend(stun_socket.map(|socket| tokio::spawn(stun::serve(socket, health, stopped))));
        tracing::info!(%http_addr, peer = %peer_id, %model, network = %config.network, "relay started");
        if let Some(webrtc) = webrtc {
            tracing::info!(address = %webrtc.local_address(), "WebRTC-direct, for pages of any origin");
        }
        Ok(RelayHandle { http_addr, secure, peer_id, p2p_addresses, stun_addr, webrtc, reload, stop, tasks })
    }
}

/// Where the relay's own node reaches it.
struct Inside {
    address: SocketAddr,
    /// One of its own, where the other speaks TLS under a name that this machine may not know.
    listener: Option<TcpListener>,
}

async fn inside(local: SocketAddr, secure: bool) -> Result<Inside, RelayError> {
    if !secure {
        return Ok(Inside { address: local, listener: None });
    }
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let refused = |reason| RelayError::Listen { address: free, reason };
    let listener = TcpListener::bind(free).await.map_err(refused)?;
    Ok(Inside { address: listener.local_addr().map_err(refused)?, listener: Some(listener) })
}

/// The socket for STUN. The number of the HTTP port is a convenience, so that another one will do.
async fn bind_stun(listen: StunListen, http: SocketAddr) -> Result<Option<UdpSocket>, RelayError> {
    let bound = match listen {
        StunListen::Nowhere => return Ok(None),
        StunListen::At(address) => UdpSocket::bind(address).await.map_err(|reason| (address, reason)),
        StunListen::BesideHttp => match UdpSocket::bind(http).await {
            Ok(socket) => Ok(socket),
            Err(error) => {
                tracing::warn!(port = http.port(), %error, "STUN takes another port");
                let free = SocketAddr::new(http.ip(), 0);
                UdpSocket::bind(free).await.map_err(|reason| (free, reason))
            }
        },
    };
    bound.map(Some).map_err(|(address, reason)| RelayError::StunListen { address, reason })
}

/// What clients are told of.
fn services(config: &Config, stun: Option<SocketAddr>) -> Result<Services, RelayError> {
    let urls = config.stun_urls.iter().chain(config.turn.iter().flat_map(|turn| &turn.urls));
    for url in urls {
        if !is_ice_url(url) {
            return Err(RelayError::IceUrl(url.clone()));
        }
    }
    let stun_port = stun.map(|address| address.port());
    Ok(Services { stun_port, stun_urls: config.stun_urls.clone(), turn: config.turn.clone() })
}

/// Fails when the port is taken. libp2p would not: it shares its ports (`SO_REUSEPORT`), and two relays on one
/// port would answer in turns.
async fn check_free(address: &Address) -> Result<(), RelayError> {
    let mut parts = address.as_multiaddr().iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let Some(Protocol::Tcp(port)) = parts.next() else { return Ok(()) };
    let bound = TcpListener::bind((ip, port)).await;
    bound.map(drop).map_err(|e| RelayError::P2pListen { address: address.clone(), reason: e.to_string() })
}

/// Listens, and waits until the system has said yes or no.
async fn listen_on(
    swarm: &mut Swarm<Behaviour>,
    address: &Address,
    listening: &mut Vec<Address>,
) -> Result<(), RelayError> {
    let refused = |reason: String| RelayError::P2pListen { address: address.clone(), reason };
    let id = swarm.listen_on(address.as_multiaddr().clone()).map_err(|e| refused(e.to_string()))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address } if listener_id == id => {
                listening.push(address.into());
                return Ok(());
            }
            SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == id => {
                return Err(refused(reason.err().map_or_else(|| "closed".to_owned(), |e| e.to_string())));
            }
            _ => {}
        }
    }
}

impl RelayHandle {
    /// Where the page is served.
    #[must_use]
    pub const fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Who the relay is.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The address that a client on this machine dials over WebSocket.
    ///
    /// # Panics
    /// Never: the address names no peer yet.
    #[must_use]
    pub fn web_socket_address(&self) -> Address {
        let address = address::announced(address::loopback_if_unspecified(self.http_addr), self.secure, None);
        Address::from(address).with_peer(self.peer_id).expect("the address names no peer")
    }

    /// Where STUN is answered.
    #[must_use]
    pub const fn stun_addr(&self) -> Option<SocketAddr> {
        self.stun_addr
    }

    /// The address that a client on this machine dials over WebRTC-direct, if the relay listens for it.
    ///
    /// # Panics
    /// Never: the address names no peer yet.
    #[must_use]
    pub fn webrtc_address(&self) -> Option<Address> {
        let named = |a: Address| a.with_peer(self.peer_id).expect("the address names no peer");
        self.webrtc.map(|webrtc| named(webrtc.local_address()))
    }

    /// Where native nodes connect over TCP and QUIC.
    #[must_use]
    pub fn p2p_addresses(&self) -> &[Address] {
        &self.p2p_addresses
    }

    /// Reads the certificate files again. They are read anyway some seconds after they change.
    pub fn reload_certificates(&self) {
        self.reload.notify_one();
    }

    /// Says goodbye to all peers and clients, and stops.
    pub async fn shutdown(self) {
        self.stop.stop();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the relay had failed");
            }
        }
        tracing::info!("relay stopped");
    }
}

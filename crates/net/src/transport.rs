//! How bytes travel, natively and in a browser tab. The only file of this crate that knows the target.
//!
//! The order of the transports matters: the one for direct links over WebRTC comes before the relay
//! client, which would otherwise take `…/p2p-circuit/webrtc/…` for a relayed address.

use std::time::Duration;

use cdi_platform::channel::End;
use cdi_platform::task::BoxFuture;
use cdi_types::PeerId;
use cdi_types::ice::IceServer;
use cdi_webrtc::signalled::{self, RelayedAfterDirect};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, relay, swarm};

use crate::NetError;

pub(crate) use target::{Guard, Native, build, config, neighbours, side_channel, silence};

/// Direct links between nodes that a relay introduces.
pub(crate) type Direct = signalled::Behaviour;

/// Time for a connection: TCP, WebSocket, Noise and Yamux together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without streams is kept this long: peers talk again with the next prompt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// All transports, and the behaviours that belong to two of them.
pub(crate) struct Parts {
    pub(crate) transport: Boxed<(PeerId, StreamMuxerBox)>,
    pub(crate) relay: relay::client::Behaviour,
    pub(crate) direct: Direct,
    pub(crate) native: Native,
    /// Held as long as the swarm.
    pub(crate) guard: Guard,
}

/// What is listened on to take direct links.
pub(crate) fn accept_direct() -> Multiaddr {
    Multiaddr::from(Protocol::WebRTC)
}

/// Circuits are closed by [`crate::ladder`]: when nothing runs on them any more.
fn direct_config() -> signalled::Config {
    signalled::Config { relayed_after_direct: RelayedAfterDirect::Keep, ..signalled::Config::default() }
}

/// Direct links that are made from now on use these servers.
pub(crate) fn set_ice_servers(direct: &Direct, servers: Vec<IceServer>) {
    let convert = |s: IceServer| signalled::IceServer { urls: s.urls, username: s.username, credential: s.credential };
    direct.set_ice_servers(servers.into_iter().map(convert).collect());
}

/// WebRTC between nodes, QUIC, TCP and WebSocket, with names resolved, WebRTC-direct to relays, and circuits through them.
#[cfg(not(target_arch = "wasm32"))]
mod target {
    use cdi_webrtc::native::{Certificate, Config, DirectTransport};
    use futures::future::Either;
    use libp2p::autonat::v2 as autonat;
    use libp2p::core::transport::MemoryTransport;
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::NetworkBehaviour;
    use libp2p::swarm::behaviour::toggle::Toggle;
    use libp2p::{Transport as _, dcutr, dns, mdns, noise, quic, tcp, websocket, yamux};

    use super::*;
    use crate::Address;

    /// The system closes a process's sockets.
    pub(crate) type Guard = ();

    /// What only native nodes speak: they can be dialled, behind a NAT with some luck.
    #[derive(NetworkBehaviour)]
    pub(crate) struct Native {
        /// Makes two nodes behind NATs dial each other at the same time.
        punch: dcutr::Behaviour,
        /// Learns from relays which of this node's addresses can be dialled.
        reachable: autonat::client::Behaviour,
        /// Finds nodes in the local network.
        lan: Toggle<mdns::tokio::Behaviour>,
    }

    /// Where nodes of the local network are, if that is what the event tells.
    pub(crate) fn neighbours(event: NativeEvent) -> Vec<Address> {
        match event {
            NativeEvent::Lan(mdns::Event::Discovered(found)) => {
                found.into_iter().filter_map(|(peer, address)| Address::from(address).with_peer(peer)).collect()
            }
            NativeEvent::Punch(event) => {
                tracing::debug!(peer = %event.remote_peer_id, result = ?event.result.map(|_| ()), "hole punched");
                Vec::new()
            }
            NativeEvent::Reachable(event) => {
                tracing::debug!(address = %event.tested_addr, result = ?event.result, "reachability tested");
                Vec::new()
            }
            NativeEvent::Lan(_) => Vec::new(),
        }
    }

    pub(crate) fn build(keypair: &Keypair, lan: bool) -> Result<Parts, NetError> {
        let peer = keypair.public().to_peer_id();
        let start = |what: &str, error: &dyn std::fmt::Display| NetError::Start(format!("{what}: {error}"));
        let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let noise = noise::Config::new(keypair).map_err(|e| start("noise", &e))?;
        let resolved = dns::tokio::Transport::system(tcp()).map_err(|e| start("name resolution", &e))?;
        let (relayed, relay) = relay::client::new(peer);
        let carried = relayed
            .or_transport(websocket::Config::new(resolved))
            .or_transport(MemoryTransport::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise.clone())
            .multiplex(yamux::Config::default())
            .timeout(CONNECT_TIMEOUT)
            .boxed();
        let tcp = tcp()
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .timeout(CONNECT_TIMEOUT)
            .boxed();
        let mut quic = quic::Config::new(keypair);
        quic.handshake_timeout = CONNECT_TIMEOUT;
        let sockets = quic::tokio::Transport::new(quic).or_transport(tcp).map(|either, _| match either {
            Either::Left((peer, connection)) => (peer, StreamMuxerBox::new(connection)),
            Either::Right(connected) => connected,
        });
        // Names are resolved around both: a resolver of one would take the names of the other.
        let sockets = dns::tokio::Transport::system(sockets).map_err(|e| start("name resolution", &e))?;
        let certificate = Certificate::generate().map_err(|e| start("WebRTC-direct", &e))?;
        let server = DirectTransport::new(keypair.clone(), certificate, Config::default());
        let server = server.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        let (webrtc, direct) = signalled::new(peer, direct_config());
        let over_udp = webrtc.or_transport(server).map(|either, _| either.into_inner());
        let transport = over_udp.or_transport(carried.or_transport(sockets)).map(|either, _| match either {
            Either::Left(connected) | Either::Right(Either::Left(connected) | Either::Right(connected)) => connected,
        });
        let lan = lan.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), peer)).transpose();
        let native = Native {
            punch: dcutr::Behaviour::new(peer),
            reachable: autonat::client::Behaviour::default(),
            lan: lan.map_err(|e| start("mDNS", &e))?.into(),
        };
        Ok(Parts { transport: transport.boxed(), relay, direct, native, guard: () })
    }

    /// Nothing is known below a connection.
    pub(crate) fn silence(_: &Direct, _: PeerId) -> BoxFuture<'static, Option<Duration>> {
        Box::pin(std::future::ready(None))
    }

    /// A native link has none beside its streams, and no worker that would use it.
    pub(crate) fn side_channel(_: &Direct, _: PeerId, _: Option<String>, _: u16) -> Option<(String, End)> {
        None
    }

    pub(crate) fn config() -> swarm::Config {
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT)
    }
}

/// WebRTC between tabs, WebRTC-direct and WebSocket to relays, and circuits through them.
#[cfg(target_arch = "wasm32")]
mod target {
    use cdi_platform::channel::MAX_MESSAGE_BYTES;
    use cdi_webrtc::browser::{self, ConnectionName, PageHideGuard};
    use futures::future::Either;
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::dummy;
    use libp2p::{Transport as _, noise, websocket_websys, yamux};

    use super::*;
    use crate::Address;

    /// A tab cannot be dialled, and hears nothing of its local network.
    pub(crate) type Native = dummy::Behaviour;
    /// Closes the direct links when the page goes away: a browser leaves the peers to find out by themselves.
    /// `None` where there is no page.
    pub(crate) type Guard = Option<PageHideGuard>;

    /// There is no such event.
    pub(crate) fn neighbours(never: std::convert::Infallible) -> Vec<Address> {
        match never {}
    }

    pub(crate) fn build(keypair: &Keypair, _lan: bool) -> Result<Parts, NetError> {
        let peer = keypair.public().to_peer_id();
        let (webrtc, direct) = signalled::new(peer, direct_config());
        let guard = direct.connections().close_on_pagehide();
        let guard = guard.inspect_err(|error| tracing::warn!(%error, "direct links are not closed with the page")).ok();
        let (relayed, relay) = relay::client::new(peer);
        let over_relay = relayed
            .or_transport(websocket_websys::Transport::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(keypair).map_err(|e| NetError::Start(format!("noise: {e}")))?)
            .multiplex(yamux::Config::default())
            .timeout(CONNECT_TIMEOUT);
        let server = browser::DirectTransport::new(keypair.clone(), direct.connections(), CONNECT_TIMEOUT);
        let over_udp = webrtc.or_transport(server).map(|either, _| either.into_inner());
        let transport = over_udp.or_transport(over_relay).map(|either, _| match either {
            Either::Left((peer, muxer)) => (peer, muxer),
            Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        });
        Ok(Parts { transport: transport.boxed(), relay, direct, native: dummy::Behaviour, guard })
    }

    /// How long ago the last packet came on a direct connection to `peer`: packets come from its network thread, and so
    /// also while its page has no time.
    pub(crate) fn silence(direct: &Direct, peer: PeerId) -> BoxFuture<'static, Option<Duration>> {
        Box::pin(direct.connections().silence(peer))
    }

    /// The plan of a channel on a direct connection to `peer`, and the connection's name.
    pub(crate) fn side_channel(direct: &Direct, peer: PeerId, named: Option<String>, id: u16) -> Option<(String, End)> {
        let connections = direct.connections();
        let (name, on) = match named {
            Some(name) => (name.clone(), ConnectionName::Theirs(name)),
            None => connections.name(peer).map(|name| (name.clone(), ConnectionName::Ours(name)))?,
        };
        let make = move || {
            let made = connections.negotiated(peer, &on, id, MAX_MESSAGE_BYTES);
            made.inspect_err(|error| tracing::info!(%peer, %error, "no channel")).ok()
        };
        Some((name, End::planned(make)))
    }

    pub(crate) fn config() -> swarm::Config {
        swarm::Config::with_wasm_executor().with_idle_connection_timeout(IDLE_TIMEOUT)
    }
}

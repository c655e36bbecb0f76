//! How bytes travel, natively and in a browser tab. The only file of this crate that knows the target.
//!
//! The order of the transports matters: the one for direct links between tabs comes before the relay
//! client, which would otherwise take `…/p2p-circuit/webrtc/…` for a relayed address.

use std::time::Duration;

use cdi_platform::task::BoxFuture;
use cdi_types::PeerId;
use cdi_types::ice::IceServer;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, relay, swarm};

use crate::NetError;

pub(crate) use target::{DIRECT_OVER_RELAY, Direct, Guard, build, config, set_ice_servers, silence};

/// Time for a connection: TCP, WebSocket, Noise and Yamux together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without streams is kept this long: peers talk again with the next prompt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// All transports, and the behaviours that belong to two of them.
pub(crate) struct Parts {
    pub(crate) transport: Boxed<(PeerId, StreamMuxerBox)>,
    pub(crate) relay: relay::client::Behaviour,
    pub(crate) direct: Direct,
    /// What the transports listen on without being asked.
    pub(crate) listen: Vec<Multiaddr>,
    /// Held as long as the swarm.
    pub(crate) guard: Guard,
}

/// TCP and WebSocket with names resolved, WebRTC-direct to relays, and circuits through them.
#[cfg(not(target_arch = "wasm32"))]
mod target {
    use cdi_webrtc::native::{Certificate, Config, DirectTransport};
    use futures::future::Either;
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::dummy;
    use libp2p::{Transport as _, dns, noise, tcp, websocket, yamux};

    use super::*;

    /// Native nodes have no transport for direct links through a relay's signalling.
    pub(crate) type Direct = dummy::Behaviour;
    /// Whether [`Direct`] can dial `<relay>/p2p-circuit/webrtc/p2p/<peer>`.
    pub(crate) const DIRECT_OVER_RELAY: bool = false;
    /// The system closes a process's sockets.
    pub(crate) type Guard = ();

    pub(crate) fn build(keypair: &Keypair) -> Result<Parts, NetError> {
        let resolved = || {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            dns::tokio::Transport::system(tcp).map_err(|e| NetError::Start(format!("name resolution: {e}")))
        };
        let certificate = Certificate::generate().map_err(|e| NetError::Start(e.to_string()))?;
        let server = DirectTransport::new(keypair.clone(), certificate, Config::default());
        let (relayed, relay) = relay::client::new(keypair.public().to_peer_id());
        let streamed = relayed
            .or_transport(websocket::Config::new(resolved()?))
            .or_transport(resolved()?)
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(keypair).map_err(|e| NetError::Start(format!("noise: {e}")))?)
            .multiplex(yamux::Config::default())
            .timeout(CONNECT_TIMEOUT);
        let transport = server.or_transport(streamed).map(|either, _| match either {
            Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
            Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        });
        Ok(Parts { transport: transport.boxed(), relay, direct: dummy::Behaviour, listen: Vec::new(), guard: () })
    }

    /// Nothing is known below a connection.
    pub(crate) fn silence(_: &Direct, _: PeerId) -> BoxFuture<'static, Option<Duration>> {
        Box::pin(std::future::ready(None))
    }

    /// There is nothing that would use them.
    pub(crate) fn set_ice_servers(_: &Direct, _: Vec<IceServer>) {}

    pub(crate) fn config() -> swarm::Config {
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT)
    }
}

/// WebRTC between tabs, WebRTC-direct and WebSocket to relays, and circuits through them.
#[cfg(target_arch = "wasm32")]
mod target {
    use cdi_webrtc::browser::{self, PageHideGuard};
    use futures::future::Either;
    use libp2p::core::upgrade::Version;
    use libp2p::multiaddr::Protocol;
    use libp2p::{Transport as _, noise, websocket_websys, yamux};

    use super::*;

    /// Direct links between tabs.
    pub(crate) type Direct = browser::Behaviour;
    /// Whether [`Direct`] can dial `<relay>/p2p-circuit/webrtc/p2p/<peer>`.
    pub(crate) const DIRECT_OVER_RELAY: bool = true;
    /// Closes the direct links when the page goes away: a browser leaves the peers to find out by themselves.
    /// `None` where there is no page.
    pub(crate) type Guard = Option<PageHideGuard>;

    pub(crate) fn build(keypair: &Keypair) -> Result<Parts, NetError> {
        let peer = keypair.public().to_peer_id();
        let (webrtc, direct) = browser::new(peer, browser::Config::default());
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
        let listen = vec![Multiaddr::from(Protocol::WebRTC)];
        Ok(Parts { transport: transport.boxed(), relay, direct, listen, guard })
    }

    /// How long ago the last packet came on a direct connection to `peer`: packets come from its network thread, and so
    /// also while its page has no time.
    pub(crate) fn silence(direct: &Direct, peer: PeerId) -> BoxFuture<'static, Option<Duration>> {
        Box::pin(direct.connections().silence(peer))
    }

    /// Connections that are made from now on use these servers.
    pub(crate) fn set_ice_servers(direct: &Direct, servers: Vec<IceServer>) {
        let convert =
            |s: IceServer| browser::IceServer { urls: s.urls, username: s.username, credential: s.credential };
        direct.set_ice_servers(servers.into_iter().map(convert).collect());
    }

    pub(crate) fn config() -> swarm::Config {
        swarm::Config::with_wasm_executor().with_idle_connection_timeout(IDLE_TIMEOUT)
    }
}

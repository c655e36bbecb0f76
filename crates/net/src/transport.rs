//! How bytes travel, natively and in a browser tab. The only file of this crate that knows the target.
//!
//! The order of the transports matters: the one for direct links between tabs comes before the relay
//! client, which would otherwise take `…/p2p-circuit/webrtc/…` for a relayed address.

use std::time::Duration;

use cdi_types::PeerId;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::identity::Keypair;
use libp2p::{relay, swarm};

use crate::NetError;

pub(crate) use target::{DIRECT_OVER_RELAY, Direct, build, config};

/// Time for a connection: TCP, WebSocket, Noise and Yamux together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection without streams is kept this long: peers talk again with the next prompt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// All transports, and the behaviours that belong to two of them.
pub(crate) struct Parts {
    pub(crate) transport: Boxed<(PeerId, StreamMuxerBox)>,
    pub(crate) relay: relay::client::Behaviour,
    pub(crate) direct: Direct,
}

/// TCP and WebSocket, with names resolved, and circuits through relays.
#[cfg(not(target_arch = "wasm32"))]
mod target {
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::dummy;
    use libp2p::{Transport as _, dns, noise, tcp, websocket, yamux};

    use super::*;

    /// Native nodes have no transport for direct links through a relay's signalling.
    pub(crate) type Direct = dummy::Behaviour;
    /// Whether [`Direct`] can dial `<relay>/p2p-circuit/webrtc/p2p/<peer>`.
    pub(crate) const DIRECT_OVER_RELAY: bool = false;

    pub(crate) fn build(keypair: &Keypair) -> Result<Parts, NetError> {
        let resolved = || {
            let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
            dns::tokio::Transport::system(tcp).map_err(|e| NetError::Start(format!("name resolution: {e}")))
        };
        let (relayed, relay) = relay::client::new(keypair.public().to_peer_id());
        let transport = relayed
            .or_transport(websocket::Config::new(resolved()?))
            .or_transport(resolved()?)
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(keypair).map_err(|e| NetError::Start(format!("noise: {e}")))?)
            .multiplex(yamux::Config::default())
            .timeout(CONNECT_TIMEOUT)
            .boxed();
        Ok(Parts { transport, relay, direct: dummy::Behaviour })
    }

    pub(crate) fn config() -> swarm::Config {
        swarm::Config::with_tokio_executor().with_idle_connection_timeout(IDLE_TIMEOUT)
    }
}

/// WebSocket, and circuits through relays.
#[cfg(target_arch = "wasm32")]
mod target {
    use libp2p::core::upgrade::Version;
    use libp2p::swarm::dummy;
    use libp2p::{Transport as _, noise, websocket_websys, yamux};

    use super::*;

    /// Direct links between tabs.
    pub(crate) type Direct = dummy::Behaviour;
    /// Whether [`Direct`] can dial `<relay>/p2p-circuit/webrtc/p2p/<peer>`.
    pub(crate) const DIRECT_OVER_RELAY: bool = false;

    pub(crate) fn build(keypair: &Keypair) -> Result<Parts, NetError> {
        let (relayed, relay) = relay::client::new(keypair.public().to_peer_id());
        let transport = relayed
            .or_transport(websocket_websys::Transport::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(keypair).map_err(|e| NetError::Start(format!("noise: {e}")))?)
            .multiplex(yamux::Config::default())
            .timeout(CONNECT_TIMEOUT)
            .boxed();
        Ok(Parts { transport, relay, direct: dummy::Behaviour })
    }

    pub(crate) fn config() -> swarm::Config {
        swarm::Config::with_wasm_executor().with_idle_connection_timeout(IDLE_TIMEOUT)
    }
}

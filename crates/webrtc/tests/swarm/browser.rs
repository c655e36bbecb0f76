//! Nodes of one page.

use std::time::Duration;

use cdi_webrtc::browser::{DirectTransport, OpenConnections};
use cdi_webrtc::signalled;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::Transport as _;
use libp2p::identity::{Keypair, PeerId};
use libp2p::swarm;
pub use wasm_bindgen_futures::spawn_local as spawn;

use super::{Node, PATIENCE, Settings};

/// How `/webrtc-direct` is set up: a browser has nothing to say.
pub type Direct = ();
/// What a test looks at beside the swarm.
pub type Connections = OpenConnections;

pub fn direct(
    keypair: &Keypair,
    _: Direct,
    webrtc: &signalled::Behaviour,
) -> (Boxed<(PeerId, StreamMuxerBox)>, Connections) {
    let connections = webrtc.connections();
    (DirectTransport::new(keypair.clone(), connections.clone(), PATIENCE).boxed(), connections)
}

pub fn config() -> swarm::Config {
    swarm::Config::with_wasm_executor().with_idle_connection_timeout(Duration::from_secs(60))
}

impl Node {
    pub fn start(webrtc: signalled::Config) -> Self {
        Self::with(Settings { keypair: Keypair::generate_ed25519(), webrtc, direct: () })
    }
}

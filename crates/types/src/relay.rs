//! What a relay tells a page that it serves, at `/relay.json`.

use serde::{Deserialize, Serialize};

use crate::ice::IceServer;
use crate::network::Network;

/// Largest such document that a node reads, in bytes.
pub const MAX_RELAY_BYTES: usize = 64 * 1024;

/// How to reach a relay, and what it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInfo {
    /// Version of the relay's program.
    pub version: String,
    /// The network that it serves.
    pub network: Network,
    /// Its peer id.
    pub peer_id: String,
    /// Multiaddresses that a browser can dial, each with the peer id.
    pub addresses: Vec<String>,
    /// Addresses of other relays of the network, for when this one is slow or gone.
    #[serde(default)]
    pub bootstrap: Vec<String>,
    /// CIDs of the manifests of the models whose blocks it serves, the default first.
    pub models: Vec<String>,
    /// STUN services for pages that are no nodes. Nodes ask on `/cdi/<network>/1/ice`, which gives TURN too.
    #[serde(default)]
    pub ice_servers: Vec<IceServer>,
}

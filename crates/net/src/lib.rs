//! The swarm actor: everything that a node says to other nodes goes through here.
//!
//! [`Net::start`] runs one libp2p swarm as an actor and returns a cheap handle and one stream of events.
//! The same code runs natively and in a browser tab; what differs stands in `transport.rs` alone.
//! No libp2p type is needed to use the handle: peers are [`cdi_types::PeerId`], addresses [`Address`],
//! streams [`NetStream`].

mod address;
mod backoff;
mod beat;
mod behaviour;
mod dials;
mod direct_gossip;
mod error;
mod event;
pub mod framed;
pub mod gossip;
mod handle;
mod ice;
mod links;
mod liveness;
mod reach;
mod relays;
mod stats;
mod stream;
pub mod streams;
mod traffic;
mod transport;
mod worker;

pub use address::{Address, AddressError, LinkKind};
pub use beat::Watch;
pub use error::NetError;
pub use event::{Events, NetEvent};
pub use handle::{Net, NetArgs};
pub use links::{CircuitLimit, LinkInfo};
pub use stats::NetStats;
pub use stream::{Incoming, NetStream};

/// Protocol family that nodes name in identify, e.g. `/cdi/testnet/1/node`.
#[must_use]
pub fn identify_protocol(network: cdi_types::Network) -> String {
    network.protocol("node")
}

/// Name of the protocol on which a relay tells its clients of STUN and TURN services.
#[must_use]
pub fn ice_protocol(network: cdi_types::Network) -> String {
    network.protocol("ice")
}

/// Name of the protocol of the heartbeat of links with a session.
#[must_use]
pub fn beat_protocol(network: cdi_types::Network) -> String {
    network.protocol("beat")
}

/// Name of the Kademlia protocol of `network`. Not the public IPFS one: our records would be refused there.
#[must_use]
pub fn kad_protocol(network: cdi_types::Network) -> String {
    network.protocol("kad")
}

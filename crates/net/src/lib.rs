//! The swarm actor: everything that a node says to other nodes goes through here.
//!
//! [`Net::start`] runs one libp2p swarm as an actor and returns a cheap handle and one stream of events.
//! The same code runs natively and in a browser tab; what differs stands in `transport.rs` alone.
//! No libp2p type is needed to use the handle: peers are [`cdi_types::PeerId`], addresses [`Address`],
//! streams [`NetStream`].

mod address;
mod backoff;
mod bans;
mod beat;
mod behaviour;
mod busy;
mod dials;
mod direct_gossip;
mod error;
mod event;
pub mod framed;
pub mod gossip;
mod handle;
mod ice;
mod kept;
mod ladder;
mod links;
mod liveness;
mod quality;
pub mod rate;
mod reach;
mod relays;
pub mod rendezvous;
mod score;
mod side_channel;
mod stats;
mod stream;
pub mod streams;
mod traffic;
mod transport;
mod wake;
mod worker;

pub use address::{Address, AddressError, LinkKind};
pub use bans::Ban;
pub use beat::Watch;
pub use error::NetError;
pub use event::{Events, NetEvent};
pub use handle::{Net, NetArgs, NetOptions};
pub use links::{CircuitLimit, LinkInfo};
pub use side_channel::{Lease, Offered, worker_channel_protocol};
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

/// Whether a peer that names `family` in identify is one of ours, but of another network or version. Programs of
/// others, which name something else, are welcome to relay and gossip.
#[must_use]
pub fn is_of_another_network(family: &str, network: cdi_types::Network) -> bool {
    family.starts_with("/cdi/") && family != identify_protocol(network)
}

/// Name of the Kademlia protocol of `network`. Not the public IPFS one: our records would be refused there.
#[must_use]
pub fn kad_protocol(network: cdi_types::Network) -> String {
    network.protocol("kad")
}

#[cfg(test)]
mod tests {
    use cdi_types::Network;

    use super::*;

    #[test]
    fn our_own_other_networks_are_told_apart_from_strangers() {
        let testnet = identify_protocol(Network::Testnet);
        assert!(!is_of_another_network(&testnet, Network::Testnet));
        assert!(is_of_another_network(&testnet, Network::Mainnet));
        assert!(is_of_another_network("/cdi/testnet/2/node", Network::Testnet));
        assert!(!is_of_another_network("ipfs/0.1.0", Network::Mainnet));
    }
}

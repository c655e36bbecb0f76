//! Which network a node belongs to, and the protocol and topic names that follow from it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Major version of the wire protocols. Peers of another major version are never put into a route.
pub const PROTOCOL_VERSION: u32 = 1;

/// A swarm. Nodes of different networks share no protocol, topic or store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Where everything is tried; nothing on it is worth money.
    #[default]
    Testnet,
    /// The production network.
    Mainnet,
}

/// The text is not the name of a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown network {0:?}: expected testnet or mainnet")]
pub struct UnknownNetwork(pub String);

impl Network {
    /// The lower-case name, as it stands in protocol names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Testnet => "testnet",
            Self::Mainnet => "mainnet",
        }
    }

    /// Name of the libp2p protocol `name` on this network, e.g. `/cdi/testnet/1/session`.
    #[must_use]
    pub fn protocol(self, name: &str) -> String {
        format!("/cdi/{}/{PROTOCOL_VERSION}/{name}", self.name())
    }

    /// Gossip topic on which nodes announce themselves.
    ///
    /// The testnet keeps the plain name; other networks append theirs, so that they never mix.
    #[must_use]
    pub const fn announce_topic(self) -> &'static str {
        match self {
            Self::Testnet => "cdi-network/peer-announce",
            Self::Mainnet => "cdi-network/peer-announce/mainnet",
        }
    }

    /// Name of a local store on this network, e.g. `cdi-testnet-blocks`.
    #[must_use]
    pub fn store(self, name: &str) -> String {
        format!("cdi-{}-{name}", self.name())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(text: &str) -> Result<Self, UnknownNetwork> {
        [Self::Testnet, Self::Mainnet]
            .into_iter()
            .find(|n| n.name() == text)
            .ok_or_else(|| UnknownNetwork(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_network_and_version() {
        assert_eq!(Network::Testnet.protocol("session"), "/cdi/testnet/1/session");
        assert_eq!(Network::Mainnet.store("blocks"), "cdi-mainnet-blocks");
        assert_ne!(Network::Testnet.announce_topic(), Network::Mainnet.announce_topic());
    }

    #[test]
    fn names_round_trip() {
        for network in [Network::Testnet, Network::Mainnet] {
            assert_eq!(network.to_string().parse(), Ok(network));
        }
        assert!("moonnet".parse::<Network>().is_err());
    }
}

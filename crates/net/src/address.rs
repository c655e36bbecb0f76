//! Where a node can be reached: a multiaddr, and what it says about the link.

use std::fmt;
use std::str::FromStr;

use cdi_types::PeerId;
use libp2p::Multiaddr;
use libp2p::core::ConnectedPoint;
use libp2p::multiaddr::Protocol;

/// Longest address text that is parsed, in bytes. A relayed WebRTC address has about 250.
const MAX_ADDRESS_CHARS: usize = 1024;

/// A multiaddr, e.g. `/ip4/127.0.0.1/tcp/8080/ws/p2p/12D3KooW…`.
///
/// Source: <https://github.com/multiformats/multiaddr>.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address(Multiaddr);

/// The text is not a multiaddr.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a multiaddr: {0}")]
pub struct AddressError(String);

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkKind {
    /// Through a relay.
    Relayed,
    /// A connection of its own.
    Direct,
}

impl LinkKind {
    /// The kind of a link whose addresses are made of `parts`.
    pub(crate) fn of<'a>(parts: impl Iterator<Item = Protocol<'a>>) -> Self {
        let (mut circuit, mut webrtc) = (false, false);
        for part in parts {
            circuit |= part == Protocol::P2pCircuit;
            webrtc |= part == Protocol::WebRTC;
        }
        if circuit && !webrtc { Self::Relayed } else { Self::Direct }
    }
}

/// The other end of a connection, and how it is reached.
pub(crate) fn of_endpoint(endpoint: &ConnectedPoint) -> (Address, LinkKind) {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => (Address(address.clone()), LinkKind::of(address.iter())),
        ConnectedPoint::Listener { local_addr, send_back_addr } => {
            // The remote end of a circuit is just `/p2p/<peer>`; the relay stands in the local address.
            let link = LinkKind::of(local_addr.iter().chain(send_back_addr.iter()));
            let address = match link {
                LinkKind::Direct => send_back_addr.clone(),
                LinkKind::Relayed => local_addr.iter().chain(send_back_addr.iter()).collect(),
            };
            (Address(address), link)
        }
    }
}

impl Address {
    /// The peer that the address ends in, if it names one.
    #[must_use]
    pub fn peer(&self) -> Option<PeerId> {
        match self.0.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            _ => None,
        }
    }

    /// The address with `/p2p/<peer>` at its end; `None` when it ends in another peer.
    #[must_use]
    pub fn with_peer(self, peer: PeerId) -> Option<Self> {
        self.0.with_p2p(peer).ok().map(Self)
    }

    /// The host that the address begins with: a name or an IP address without brackets.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        match self.0.iter().next()? {
            Protocol::Ip4(ip) => Some(ip.to_string()),
            Protocol::Ip6(ip) => Some(ip.to_string()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => Some(name.into_owned()),
            _ => None,
        }
    }

    /// The relay of a circuit.
    #[must_use]
    pub fn relay(&self) -> Option<PeerId> {
        let mut last = None;
        for part in &self.0 {
            match part {
                Protocol::P2pCircuit => return last,
                Protocol::P2p(peer) => last = Some(peer),
                _ => last = None,
            }
        }
        None
    }

    /// The transport in plain words, e.g. `WebSocket`.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        let has = |wanted: fn(&Protocol<'_>) -> bool| self.0.iter().any(|p| wanted(&p));
        if self.is_webrtc() {
            "WebRTC"
        } else if has(|p| matches!(p, Protocol::WebRTCDirect)) {
            "WebRTC-direct"
        } else if has(|p| matches!(p, Protocol::Wss(_) | Protocol::Tls)) {
            "secure WebSocket"
        } else if has(|p| matches!(p, Protocol::Ws(_))) {
            "WebSocket"
        } else if has(|p| matches!(p, Protocol::QuicV1)) {
            "QUIC"
        } else if has(|p| matches!(p, Protocol::Tcp(_))) {
            "TCP"
        } else {
            "another transport"
        }
    }

    /// Whether `peer` stands in the address, as its end or as a relay.
    pub(crate) fn names(&self, peer: &PeerId) -> bool {
        self.0.iter().any(|part| matches!(part, Protocol::P2p(named) if named == *peer))
    }

    /// Whether the address leads into the public internet: not to this machine, and not into a private network.
    /// Names are taken to be public.
    #[must_use]
    pub fn is_global(&self) -> bool {
        match self.0.iter().next() {
            Some(Protocol::Ip4(ip)) => {
                let [a, b, ..] = ip.octets();
                let shared = a == 100 && (64..128).contains(&b);
                !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared)
                    && !(ip.is_broadcast() || ip.is_multicast() || ip.is_documentation() || a == 0 || a >= 240)
            }
            Some(Protocol::Ip6(ip)) => {
                let [a, ..] = ip.segments();
                let mapped = ip.to_ipv4_mapped().is_some();
                // Only 2000::/3 is handed out for public use.
                !mapped && a & 0xe000 == 0x2000
            }
            Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name)) => {
                !(name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local"))
            }
            _ => false,
        }
    }

    /// Whether a relay only carries the signalling.
    pub(crate) fn is_webrtc(&self) -> bool {
        self.0.iter().any(|p| p == Protocol::WebRTC)
    }

    /// Whether a connection to or from this address goes through a relay.
    ///
    /// `…/p2p-circuit/webrtc/…` is direct: there the relay only carried the signalling.
    #[must_use]
    pub fn link_kind(&self) -> LinkKind {
        LinkKind::of(self.0.iter())
    }

    /// The address as libp2p's type.
    #[must_use]
    pub fn as_multiaddr(&self) -> &Multiaddr {
        &self.0
    }
}

impl From<Multiaddr> for Address {
    fn from(address: Multiaddr) -> Self {
        Self(address)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > MAX_ADDRESS_CHARS {
            return Err(AddressError(format!("longer than {MAX_ADDRESS_CHARS} characters")));
        }
        text.parse().map(Self).map_err(|e| AddressError(format!("{text:?}: {e}")))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn a_webrtc_link_that_a_relay_signalled_is_direct() {
        let relay = format!("/ip4/127.0.0.1/tcp/8080/ws/p2p/{PEER}");
        assert_eq!(address(&relay).link_kind(), LinkKind::Direct);
        assert_eq!(address(&format!("{relay}/p2p-circuit/p2p/{PEER}")).link_kind(), LinkKind::Relayed);
        assert_eq!(address(&format!("{relay}/p2p-circuit/webrtc/p2p/{PEER}")).link_kind(), LinkKind::Direct);
    }

    #[test]
    fn transports_have_plain_names() {
        assert_eq!(address("/ip4/127.0.0.1/tcp/1/ws").transport(), "WebSocket");
        assert_eq!(address("/dns4/example.org/tcp/443/tls/ws").transport(), "secure WebSocket");
        assert_eq!(address("/dns4/example.org/tcp/443/wss").transport(), "secure WebSocket");
        assert_eq!(address("/ip4/127.0.0.1/tcp/1").transport(), "TCP");
        assert_eq!(address("/ip4/127.0.0.1/udp/1/webrtc-direct").transport(), "WebRTC-direct");
    }

    #[test]
    fn private_networks_are_not_global() {
        for inside in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/192.168.0.1/tcp/1",
            "/ip4/172.16.0.1/udp/1/quic-v1",
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/dns/localhost/tcp/1",
            "/dns4/printer.local/tcp/1",
            "/memory/1",
        ] {
            assert!(!address(inside).is_global(), "{inside}");
        }
        for outside in ["/ip4/8.8.8.8/tcp/1", "/ip6/2a00:1450::1/tcp/1/ws", "/dns4/example.org/tcp/443/tls/ws"] {
            assert!(address(outside).is_global(), "{outside}");
        }
    }

    #[test]
    fn only_the_last_part_names_the_peer() {
        assert_eq!(address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}")).peer(), PEER.parse().ok());
        assert_eq!(address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit")).peer(), None);
    }

    #[test]
    fn hostile_text_is_refused() {
        assert!("http://127.0.0.1".parse::<Address>().is_err());
        assert!("/ip4/300.0.0.1/tcp/1".parse::<Address>().is_err());
        assert!("/memory/1".repeat(200).parse::<Address>().is_err());
    }
}

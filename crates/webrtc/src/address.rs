//! Addresses of `/webrtc` peers, and what kind of link an address stands for.
//!
//! A tab is dialled at `<relay>/p2p-circuit/webrtc/p2p/<tab>`: the part before `/webrtc` is the
//! relayed connection that carries the signalling. The direct connection keeps this address for its
//! whole life, so "contains `/p2p-circuit`" (libp2p's own `is_relayed`) does **not** mean relayed.

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;

/// How the bytes of a connection travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// Tab to tab over WebRTC; a relay carried only the signalling.
    DirectWebRtc,
    /// Every byte passes through a relay.
    Relayed,
    /// Any other direct transport (WebSocket, WebRTC-direct, TCP, QUIC, memory …).
    Direct,
}

/// What kind of link `address` stands for. For an inbound connection give its *local* address.
#[must_use]
pub fn link_kind(address: &Multiaddr) -> LinkKind {
    if is_direct_webrtc(address) {
        LinkKind::DirectWebRtc
    } else if address.iter().any(|part| part == Protocol::P2pCircuit) {
        LinkKind::Relayed
    } else {
        LinkKind::Direct
    }
}

/// Whether `address` is that of a direct tab-to-tab connection, although it names a relay.
#[must_use]
pub fn is_direct_webrtc(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::WebRTC)
}

/// What dialling a `/webrtc` address needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialTarget {
    /// The peer at the other end.
    pub peer: PeerId,
    /// `<relay>/p2p-circuit/p2p/<peer>`: where to open the connection for the signalling.
    pub relayed: Multiaddr,
}

/// Why an address with `/webrtc` cannot be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `/webrtc` in it, or not exactly one directly after the only `/p2p-circuit`.
    #[error("not a <relay>/p2p-circuit/webrtc/p2p/<peer> address")]
    NotWebRtc,
    /// It does not end in the peer to be reached.
    #[error("the address does not end in /p2p/<peer>")]
    NoPeer,
}

/// Parses `<relay>/p2p-circuit/webrtc/p2p/<peer>`.
///
/// # Errors
/// [`AddressError`] when the address has another form.
pub fn parse_dial_address(address: &Multiaddr) -> Result<DialTarget, AddressError> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let circuit = parts.iter().position(|part| *part == Protocol::P2pCircuit).ok_or(AddressError::NotWebRtc)?;
    match &parts[circuit + 1..] {
        [Protocol::WebRTC, Protocol::P2p(peer)] if circuit > 0 && !is_direct_webrtc(&collect(&parts[..circuit])) => {
            Ok(DialTarget { peer: *peer, relayed: collect(&parts[..=circuit]).with(Protocol::P2p(*peer)) })
        }
        [Protocol::WebRTC] => Err(AddressError::NoPeer),
        _ => Err(AddressError::NotWebRtc),
    }
}

/// The `/webrtc` address of `me` behind the relay of `circuit`
/// (`<relay>/p2p-circuit`, with or without `/p2p/<me>`), or `None` if `circuit` is not one.
#[must_use]
pub fn advertised_address(circuit: &Multiaddr, me: PeerId) -> Option<Multiaddr> {
    if link_kind(circuit) != LinkKind::Relayed {
        return None;
    }
    let mut relay: Multiaddr = circuit.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    relay.push(Protocol::P2pCircuit);
    Some(relay.with(Protocol::WebRTC).with(Protocol::P2p(me)))
}

fn collect(parts: &[Protocol<'_>]) -> Multiaddr {
    parts.iter().cloned().collect()
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;

    const RELAY: &str = "/ip4/127.0.0.1/tcp/1/ws/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_kind_of_a_link_is_read_off_its_address() {
        for (text, kind) in [
            (format!("{RELAY}/p2p-circuit/webrtc/p2p/{PEER}"), LinkKind::DirectWebRtc),
            (format!("{RELAY}/p2p-circuit/p2p/{PEER}/webrtc"), LinkKind::DirectWebRtc),
            (format!("{RELAY}/p2p-circuit/p2p/{PEER}"), LinkKind::Relayed),
            (RELAY.to_owned(), LinkKind::Direct),
            ("/ip4/127.0.0.1/udp/1/webrtc-direct".to_owned(), LinkKind::Direct),
        ] {
            assert_eq!(link_kind(&address(&text)), kind, "{text}");
            assert_eq!(is_direct_webrtc(&address(&text)), kind == LinkKind::DirectWebRtc, "{text}");
        }
    }

    #[test]
    fn a_dial_address_gives_peer_and_relayed_address() {
        let target = parse_dial_address(&address(&format!("{RELAY}/p2p-circuit/webrtc/p2p/{PEER}"))).unwrap();
        assert_eq!(target.peer.to_string(), PEER);
        assert_eq!(target.relayed, address(&format!("{RELAY}/p2p-circuit/p2p/{PEER}")));
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, error) in [
            (RELAY.to_owned(), AddressError::NotWebRtc),
            (format!("{RELAY}/p2p-circuit/p2p/{PEER}"), AddressError::NotWebRtc),
            (format!("{RELAY}/p2p-circuit/webrtc"), AddressError::NoPeer),
            (format!("{RELAY}/webrtc/p2p-circuit/webrtc/p2p/{PEER}"), AddressError::NotWebRtc),
            (format!("{RELAY}/p2p-circuit/webrtc/p2p/{PEER}/p2p-circuit"), AddressError::NotWebRtc),
            (format!("/p2p-circuit/webrtc/p2p/{PEER}"), AddressError::NotWebRtc),
            ("/webrtc".to_owned(), AddressError::NotWebRtc),
        ] {
            assert_eq!(parse_dial_address(&address(&text)), Err(error), "{text}");
        }
    }

    #[test]
    fn the_advertised_address_can_be_dialled() {
        let me: PeerId = PEER.parse().unwrap();
        let expected = address(&format!("{RELAY}/p2p-circuit/webrtc/p2p/{PEER}"));
        for circuit in [format!("{RELAY}/p2p-circuit"), format!("{RELAY}/p2p-circuit/p2p/{PEER}")] {
            assert_eq!(advertised_address(&address(&circuit), me).as_ref(), Some(&expected));
        }
        assert_eq!(advertised_address(&address(RELAY), me), None);
        assert_eq!(advertised_address(&expected, me), None, "never advertise an address twice");
        assert_eq!(parse_dial_address(&expected).unwrap().peer, me);
    }
}

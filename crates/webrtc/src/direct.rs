//! `/webrtc-direct` (libp2p specs, `webrtc/webrtc-direct.md`): addresses, credentials, session descriptions.
//!
//! A server needs neither a domain nor a certificate that browsers trust: its address names the hash of the
//! certificate it made itself. The two sides exchange no session descriptions. The client makes up one name
//! for both sides and writes the server's answer itself; the server learns the name from the first packet.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol;
use libp2p_identity::PeerId;

use crate::fingerprint::Fingerprint;
use crate::framing::MAX_FRAME_BYTES;

/// What every name begins with; another version of the protocol would have another.
pub const UFRAG_PREFIX: &str = "libp2p+webrtc+v1/";

/// Longest name that is taken (RFC 8839, section 5.4).
const MAX_UFRAG_BYTES: usize = 256;

/// Shortest name that serves as a password as well (RFC 8839, section 5.4).
const MIN_UFRAG_BYTES: usize = 22;

/// The stream of the Noise handshake: both sides open it without being asked.
pub const NOISE_CHANNEL_ID: u16 = 0;

/// Where a server is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialTarget {
    /// The server's socket.
    pub socket: SocketAddr,
    /// Hash of its certificate.
    pub fingerprint: Fingerprint,
    /// Who is expected there, if the address says so.
    pub peer: Option<PeerId>,
}

/// Why an address with `/webrtc-direct` cannot be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `/ip4|ip6/<ip>/udp/<port>/webrtc-direct/certhash/<hash>[/p2p/<peer>]`.
    #[error("not an /ip4|ip6/<ip>/udp/<port>/webrtc-direct/certhash/<hash> address")]
    Form,
    /// The hash of the certificate is not a SHA-256.
    #[error("the certificate hash is not a SHA-256")]
    Hash,
}

/// Whether `address` is that of a `/webrtc-direct` server itself, not of somebody behind it.
#[must_use]
pub fn is_direct(address: &Multiaddr) -> bool {
    let mut is_direct = false;
    for part in address {
        is_direct |= part == Protocol::WebRTCDirect;
        if part == Protocol::P2pCircuit {
            return false;
        }
    }
    is_direct
}

/// Parses `/ip4|ip6/<ip>/udp/<port>/webrtc-direct/certhash/<hash>[/p2p/<peer>]`.
///
/// # Errors
/// [`AddressError`] when the address has another form.
pub fn parse_dial_address(address: &Multiaddr) -> Result<DialTarget, AddressError> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let (head, hash, tail) = match &parts[..] {
        [ip, udp, Protocol::WebRTCDirect, Protocol::Certhash(hash), tail @ ..] => ([ip, udp], hash, tail),
        _ => return Err(AddressError::Form),
    };
    let socket = socket(head).ok_or(AddressError::Form)?;
    let peer = match tail {
        [] => None,
        [Protocol::P2p(peer)] => Some(*peer),
        _ => return Err(AddressError::Form),
    };
    let fingerprint = Fingerprint::from_multihash(hash).ok_or(AddressError::Hash)?;
    if socket.port() == 0 || socket.ip().is_unspecified() || socket.ip().is_multicast() {
        return Err(AddressError::Form);
    }
    Ok(DialTarget { socket, fingerprint, peer })
}

/// Parses `/ip4|ip6/<ip>/udp/<port>/webrtc-direct`, where a server is to listen.
#[must_use]
pub fn parse_listen_address(address: &Multiaddr) -> Option<SocketAddr> {
    match &address.iter().collect::<Vec<_>>()[..] {
        [ip, udp, Protocol::WebRTCDirect] => socket([ip, udp]),
        _ => None,
    }
}

fn socket([ip, udp]: [&Protocol<'_>; 2]) -> Option<SocketAddr> {
    let ip = match ip {
        Protocol::Ip4(ip) => IpAddr::from(*ip),
        Protocol::Ip6(ip) => IpAddr::from(*ip),
        _ => return None,
    };
    let Protocol::Udp(port) = udp else { return None };
    Some(SocketAddr::new(ip, *port))
}

/// `/ip4|ip6/<ip>/udp/<port>/webrtc-direct`.
#[must_use]
pub fn address_of(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Udp(socket.port())).with(Protocol::WebRTCDirect)
}

/// The address at which the server with this certificate is dialled.
#[must_use]
pub fn dial_address(socket: SocketAddr, fingerprint: Fingerprint) -> Multiaddr {
    address_of(socket).with(Protocol::Certhash(fingerprint.to_multihash()))
}

/// A name made of random bytes; it is the password as well.
#[must_use]
pub fn ufrag(random: [u8; 16]) -> String {
    let mut name = UFRAG_PREFIX.to_owned();
    for byte in random {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Whether a client may call a connection so: our version of the protocol, and characters that ICE allows.
#[must_use]
pub fn is_ufrag(name: &str) -> bool {
    (MIN_UFRAG_BYTES..=MAX_UFRAG_BYTES).contains(&name.len())
        && name.starts_with(UFRAG_PREFIX)
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'))
}

/// The answer that the server at `target` would give, as the client writes it for itself.
#[must_use]
pub fn server_answer(target: &DialTarget, ufrag: &str) -> String {
    let (ip, port) = (target.socket.ip(), target.socket.port());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let fingerprint = target.fingerprint.to_sdp();
    [
        "v=0",
        &format!("o=- 0 0 IN {family} {ip}"),
        "s=-",
        "t=0 0",
        "a=ice-lite",
        &format!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"),
        &format!("c=IN {family} {ip}"),
        "a=mid:0",
        "a=ice-options:ice2",
        &format!("a=ice-ufrag:{ufrag}"),
        &format!("a=ice-pwd:{ufrag}"),
        &format!("a=fingerprint:{fingerprint}"),
        "a=setup:passive",
        "a=sctp-port:5000",
        &format!("a=max-message-size:{MAX_FRAME_BYTES}"),
        &format!("a=candidate:1 1 UDP 1 {ip} {port} typ host"),
        "a=end-of-candidates",
        "",
    ]
    .join("\r\n")
}

/// The client's own offer with the name that both sides use, in the place of the one that the browser made up.
#[must_use]
pub fn rename_offer(offer: &str, ufrag: &str) -> String {
    let mut renamed = String::with_capacity(offer.len() + 2 * ufrag.len());
    for line in offer.lines() {
        let attribute = line.split_once(':').map_or(line, |(name, _)| name);
        let _ = match attribute {
            "a=ice-ufrag" | "a=ice-pwd" => write!(renamed, "{attribute}:{ufrag}\r\n"),
            "a=max-message-size" => write!(renamed, "{attribute}:{MAX_FRAME_BYTES}\r\n"),
            _ => write!(renamed, "{line}\r\n"),
        };
    }
    renamed
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;

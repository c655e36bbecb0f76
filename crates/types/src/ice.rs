//! STUN and TURN services (RFC 8489, RFC 8656): what a relay tells its clients on `/cdi/<network>/1/ice`.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

/// Largest such message in bytes.
pub const MAX_ICE_BYTES: usize = 8 * 1024;
/// Most further services of one relay.
pub const MAX_ICE_SERVERS: usize = 4;
/// Most URLs of one service.
pub const MAX_ICE_URLS: usize = 4;
/// Longest URL, user name or password.
pub const MAX_ICE_CHARS: usize = 256;

/// A STUN or TURN service, in the terms of `RTCIceServer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// `stun:` and `turn:` URLs (RFC 7064, RFC 7065) of one service.
    pub urls: Vec<String>,
    /// User name, for TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Password, for TURN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl IceServer {
    /// The STUN service at `host`, which is a name or an address, at a UDP port.
    #[must_use]
    pub fn stun(host: &str, port: u16) -> Self {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Self { urls: vec![format!("stun:{host}:{port}")], username: None, credential: None }
    }

    /// Whether a browser takes it: one malformed entry would make every new peer connection fail.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let text = |t: &Option<String>| t.as_ref().is_some_and(|t| !t.is_empty() && t.len() <= MAX_ICE_CHARS);
        let turn = self.urls.iter().any(|url| url.starts_with("turn"));
        let credentials = text(&self.username) && text(&self.credential);
        (1..=MAX_ICE_URLS).contains(&self.urls.len())
            && self.urls.iter().all(|url| is_ice_url(url))
            && (credentials || (!turn && self.username.is_none() && self.credential.is_none()))
    }
}

/// `stun:host`, `stuns:host:port`, `turn:host:port?transport=udp` …
#[must_use]
pub fn is_ice_url(url: &str) -> bool {
    if url.len() > MAX_ICE_CHARS {
        return false;
    }
    let Some((scheme, rest)) = url.split_once(':') else { return false };
    let place = match scheme {
        "stun" | "stuns" => rest,
        "turn" | "turns" => {
            let transport = |t: &&str| t.ends_with("?transport=udp") || t.ends_with("?transport=tcp");
            Some(rest).filter(transport).map_or(rest, |rest| &rest[..rest.len() - "?transport=udp".len()])
        }
        _ => return false,
    };
    let (is_host, port) = match place.strip_prefix('[').map(|inner| inner.split_once(']')) {
        Some(Some((ip, port))) => (ip.parse::<Ipv6Addr>().is_ok(), port),
        Some(None) => return false,
        None => {
            let (name, port) = place.split_at(place.find(':').unwrap_or(place.len()));
            (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.')), port)
        }
    };
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok_and(|p| p > 0)))
}

/// What a relay offers. A client asks again after [`IceOffer::renew_s`]: credentials end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceOffer {
    /// UDP port of the relay's own STUN service, at the host where the client reaches the relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stun_port: Option<u16>,
    /// Further services.
    #[serde(default)]
    pub servers: Vec<IceServer>,
    /// Seconds after which to ask again.
    #[serde(default)]
    pub renew_s: u32,
}

impl IceOffer {
    /// The services of a relay that was reached at `host`, malformed and surplus ones left out.
    #[must_use]
    pub fn servers_at(&self, host: &str) -> Vec<IceServer> {
        let own = self.stun_port.map(|port| IceServer::stun(host, port));
        own.into_iter().chain(self.servers.iter().take(MAX_ICE_SERVERS).cloned()).filter(IceServer::is_valid).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_that_a_browser_takes() {
        for url in [
            "stun:127.0.0.1:3478",
            "stun:relay.example.org",
            "stuns:relay.example.org:5349",
            "stun:[::1]:3478",
            "turn:turn.example.org:3478?transport=udp",
            "turns:turn.example.org:5349?transport=tcp",
            "turn:[2001:db8::1]",
        ] {
            assert!(is_ice_url(url), "{url}");
        }
    }

    #[test]
    fn urls_that_a_browser_would_throw_at() {
        let long = format!("stun:{}", "a".repeat(300));
        for url in [
            "",
            "stun:",
            "stun::1",
            "stun:host:0",
            "stun:host:99999",
            "stun:ho st",
            "stun:host:1:2",
            "stun:host?transport=udp",
            "turn:host?transport=carrier-pigeon",
            "http://host",
            "stun:[::1",
            "stun:[nonsense]:1",
            "stun:[::1]1",
            &long,
        ] {
            assert!(!is_ice_url(url), "{url}");
        }
    }

    #[test]
    fn a_service_is_whole_or_not_used() {
        let turn = IceServer {
            urls: vec!["turn:host".to_owned()],
            username: Some("u".to_owned()),
            credential: Some("c".to_owned()),
        };
        assert!(turn.is_valid());
        assert!(!IceServer { credential: None, ..turn.clone() }.is_valid());
        assert!(!IceServer { urls: vec![], ..turn.clone() }.is_valid());
        assert!(!IceServer { username: Some("u".repeat(300)), ..turn.clone() }.is_valid());
        let offer = IceOffer { stun_port: Some(7), servers: vec![turn; 9], renew_s: 1 };
        let used = offer.servers_at("::1");
        assert_eq!(used[0].urls, ["stun:[::1]:7"]);
        assert_eq!(used.len(), 1 + MAX_ICE_SERVERS);
        assert_eq!(offer.servers_at("a b").len(), MAX_ICE_SERVERS, "a host that is none");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(url in "\\PC{0,40}", rest in "[\\[\\]:?=a-z0-9.]{0,30}") {
            let _ = is_ice_url(&url);
            for scheme in ["stun", "turn", "turns"] {
                let _ = is_ice_url(&format!("{scheme}:{rest}"));
            }
        }
    }
}

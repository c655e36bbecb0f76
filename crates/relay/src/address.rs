//! The addresses at which browsers reach this relay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::uri::Authority;
use cdi_net::Address;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Port of a `Host` header that names none.
const HTTP_PORT: u16 = 80;
/// The same over TLS.
const HTTPS_PORT: u16 = 443;

/// `/ip4/<ip>/tcp/<port>/ws`.
pub(crate) fn web_socket_address(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port())).with(Protocol::Ws("/".into()))
}

/// `<address>/ws`, or `<address>/tls/ws`.
fn over_web_socket(address: Multiaddr, tls: bool) -> Multiaddr {
    let address = if tls { address.with(Protocol::Tls) } else { address };
    address.with(Protocol::Ws("/".into()))
}

/// Where a browser reaches a socket of this machine; a domain says more than an address.
pub(crate) fn announced(address: SocketAddr, tls: bool, domain: Option<&str>) -> Multiaddr {
    let host = match domain {
        Some(domain) => Multiaddr::empty().with(Protocol::Dns(domain.into())),
        None => Multiaddr::from(address.ip()),
    };
    let port = if domain.is_some() { HTTPS_PORT } else { address.port() };
    over_web_socket(host.with(Protocol::Tcp(port)), tls)
}

/// Where this machine reaches a socket that listens on `address`: "all interfaces" is no destination.
pub(crate) fn loopback_if_unspecified(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The WebSocket address behind the `Host` header of a request: who loaded the page from there can dial
/// there. Only that client sees the answer, so a forged header fools nobody else.
pub(crate) fn from_host(host: &str, tls: bool) -> Option<Address> {
    let authority: Authority = host.parse().ok()?;
    // What stands before the host is a user, which a `Host` header has not.
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" if tls => HTTPS_PORT,
        "" => HTTP_PORT,
        rest => rest.strip_prefix(':')?.parse().ok()?,
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let host = match name.parse::<IpAddr>() {
        Ok(ip) => Multiaddr::from(ip),
        Err(_) if is_dns_name(name) => Multiaddr::empty().with(Protocol::Dns(name.into())),
        Err(_) => return None,
    };
    let address = over_web_socket(host.with(Protocol::Tcp(port)), tls);
    Some(address.into())
}

/// RFC 1123 host names, as far as they can be told apart from something else.
fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(host: &str) -> Option<String> {
        from_host(host, false).map(|a| a.to_string())
    }

    #[test]
    fn the_host_header_names_the_address_to_dial() {
        assert_eq!(text("127.0.0.1:8080").as_deref(), Some("/ip4/127.0.0.1/tcp/8080/ws"));
        assert_eq!(text("[::1]:8080").as_deref(), Some("/ip6/::1/tcp/8080/ws"));
        assert_eq!(text("localhost:8080").as_deref(), Some("/dns/localhost/tcp/8080/ws"));
        assert_eq!(text("relay.example.org").as_deref(), Some("/dns/relay.example.org/tcp/80/ws"));
    }

    #[test]
    fn over_tls_the_address_says_so() {
        let secure = |host: &str| from_host(host, true).map(|a| a.to_string());
        assert_eq!(secure("relay.example.org").as_deref(), Some("/dns/relay.example.org/tcp/443/tls/ws"));
        assert_eq!(secure("127.0.0.1:8443").as_deref(), Some("/ip4/127.0.0.1/tcp/8443/tls/ws"));
        let socket = "192.0.2.1:8443".parse().expect("an address");
        assert_eq!(announced(socket, true, Some("example.org")).to_string(), "/dns/example.org/tcp/443/tls/ws");
        assert_eq!(announced(socket, false, None).to_string(), "/ip4/192.0.2.1/tcp/8443/ws");
    }

    #[test]
    fn hostile_hosts_are_refused() {
        let long = "a".repeat(300);
        for host in
            ["", "a b", "user@host:80", "host:99999", "../etc", "host/p2p/x", "host:80/x", "[::1", "x..y", &long]
        {
            assert_eq!(text(host), None, "{host:?}");
        }
    }

    #[test]
    fn all_interfaces_are_reached_at_loopback() {
        let reached = |address: &str| loopback_if_unspecified(address.parse().expect("an address")).to_string();
        assert_eq!(reached("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(reached("[::]:80"), "[::1]:80");
        assert_eq!(reached("192.0.2.1:80"), "192.0.2.1:80");
    }
}

//! WebRTC-direct: how pages of any origin reach a relay that has neither a domain nor TLS.

use std::net::{IpAddr, SocketAddr};

use cdi_net::Address;
use cdi_types::Keypair;
use cdi_webrtc::direct::{address_of, dial_address, parse_listen_address};
use cdi_webrtc::fingerprint::Fingerprint;
use cdi_webrtc::native::{Certificate, Config, DirectTransport};
use futures::StreamExt as _;
use libp2p::Swarm;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;

use crate::address::loopback_if_unspecified;
use crate::config::WebRtcListen;
use crate::limits;
use crate::relay::RelayError;
use crate::swarm::Behaviour;

/// Where WebRTC-direct is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WebRtc {
    pub(crate) socket: SocketAddr,
    pub(crate) fingerprint: Fingerprint,
}

/// The transport, within the relay's limits.
pub(crate) fn transport(keypair: &Keypair, certificate: Certificate) -> DirectTransport {
    let config = Config {
        handshake_timeout: limits::HANDSHAKE_TIMEOUT,
        silence_timeout: limits::WEBRTC_SILENCE,
        max_handshakes: limits::MAX_WEBRTC_HANDSHAKES,
        max_handshakes_per_ip: limits::MAX_WEBRTC_HANDSHAKES_PER_IP,
        max_connections: limits::MAX_WEBRTC_CONNECTIONS,
        rate_burst: limits::WEBRTC_IP_BURST,
        rate_interval: limits::WEBRTC_IP_INTERVAL,
    };
    DirectTransport::new(keypair.to_libp2p(), certificate, config)
}

/// Listens, and returns where; nowhere if nobody asked for it and the port is taken.
pub(crate) async fn listen(
    swarm: &mut Swarm<Behaviour>,
    wanted: WebRtcListen,
    http: SocketAddr,
) -> Result<Option<SocketAddr>, RelayError> {
    let address = match wanted {
        WebRtcListen::Nowhere => return Ok(None),
        WebRtcListen::At(address) => address,
        WebRtcListen::BesideHttp => SocketAddr::new(http.ip(), http.port().wrapping_add(1)),
    };
    match bind(swarm, address).await {
        Ok(bound) => Ok(Some(bound)),
        Err(reason) if wanted == WebRtcListen::BesideHttp => {
            tracing::warn!(%address, reason, "no WebRTC-direct: choose a UDP port with --webrtc-listen");
            Ok(None)
        }
        Err(reason) => Err(RelayError::WebRtcListen { address, reason }),
    }
}

async fn bind(swarm: &mut Swarm<Behaviour>, address: SocketAddr) -> Result<SocketAddr, String> {
    let id = swarm.listen_on(address_of(address)).map_err(|e| e.to_string())?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address: bound } if listener_id == id => {
                let bound = parse_listen_address(&bound.iter().take(3).collect());
                // Of a socket on all interfaces each is told; the port is the same.
                return bound.map(|bound| SocketAddr::new(address.ip(), bound.port())).ok_or("no address".to_owned());
            }
            SwarmEvent::ListenerClosed { listener_id, .. } if listener_id == id => return Err("closed".to_owned()),
            _ => {}
        }
    }
}

impl WebRtc {
    /// The address that a client on this machine dials.
    pub(crate) fn local_address(self) -> Address {
        dial_address(loopback_if_unspecified(self.socket), self.fingerprint).into()
    }

    /// The address for a client that reaches this machine at the host of `other`; `None` when that is a name,
    /// which browsers do not look up here, or an address that the socket does not serve.
    pub(crate) fn address_beside(self, other: &Address) -> Option<Address> {
        let ip: IpAddr = match other.as_multiaddr().iter().next()? {
            Protocol::Ip4(ip) => ip.into(),
            Protocol::Ip6(ip) => ip.into(),
            _ => return None,
        };
        let served = self.socket.ip();
        let is_served = served == ip || (served.is_unspecified() && served.is_ipv4() == ip.is_ipv4());
        is_served.then(|| dial_address(SocketAddr::new(ip, self.socket.port()), self.fingerprint).into())
    }
}

/// Adds the hash of our certificate to an address for WebRTC-direct that lacks one.
pub(crate) fn complete(address: Address, fingerprint: Fingerprint) -> Address {
    match parse_listen_address(address.as_multiaddr()) {
        Some(socket) => dial_address(socket, fingerprint).into(),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    #[test]
    fn the_address_is_that_of_the_host_if_it_is_served() {
        let at =
            |socket: &str| WebRtc { socket: socket.parse().expect("a socket"), fingerprint: Fingerprint::new([7; 32]) };
        let beside = |socket, host: &str| {
            at(socket).address_beside(&address(host)).map(|a| a.to_string().chars().take(24).collect::<String>())
        };
        assert_eq!(beside("0.0.0.0:8081", "/ip4/192.0.2.7/tcp/8080/ws").as_deref(), Some("/ip4/192.0.2.7/udp/8081/"));
        assert_eq!(beside("127.0.0.1:8081", "/ip4/192.0.2.7/tcp/8080/ws"), None);
        assert_eq!(beside("0.0.0.0:8081", "/ip6/2001:db8::1/tcp/8080/ws"), None);
        assert_eq!(beside("0.0.0.0:8081", "/dns/relay.example.org/tcp/8080/ws"), None);
    }

    #[test]
    fn a_configured_address_gets_the_hash() {
        let fingerprint = Fingerprint::new([7; 32]);
        let short = "/ip4/192.0.2.7/udp/8081/webrtc-direct";
        let completed = complete(address(short), fingerprint);
        assert!(completed.to_string().starts_with(&format!("{short}/certhash/u")));
        assert_eq!(complete(completed.clone(), fingerprint), completed);
        let other = address("/dns4/relay.example.org/tcp/443/tls/ws");
        assert_eq!(complete(other.clone(), fingerprint), other);
    }
}

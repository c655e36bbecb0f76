//! What a node asks a STUN server: where do you see me? Binding requests over UDP (RFC 8489).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite as _, MessageWriteVec, TransactionId};

/// Port of a server that names none (RFC 7064).
const DEFAULT_PORT: u16 = 3478;

/// One question. An answer to it shows that its sender read it.
#[derive(Debug, Clone)]
pub(super) struct Query {
    id: TransactionId,
    bytes: Vec<u8>,
}

impl Query {
    pub(super) fn new() -> Self {
        let request = Message::builder_request(BINDING, MessageWriteVec::new());
        let bytes = request.finish();
        let id = Message::from_bytes(&bytes).map_or_else(|_| TransactionId::generate(), |own| own.transaction_id());
        Self { id, bytes }
    }

    /// What to send, as often as it takes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The address in `datagram`, if that is an answer to this question.
    pub(super) fn answered_by(&self, datagram: &[u8]) -> Option<SocketAddr> {
        let answer = Message::from_bytes(datagram).ok()?;
        if answer.transaction_id() != self.id || !answer.has_class(MessageClass::Success) || !answer.has_method(BINDING)
        {
            return None;
        }
        Some(answer.attribute::<XorMappedAddress>().ok()?.addr(self.id))
    }
}

/// Host and port of `stun:host[:port]`; `None` for other services, TURN and TLS among them.
pub(super) fn host_and_port(url: &str) -> Option<(String, u16)> {
    let place = url.strip_prefix("stun:")?;
    if let Some(rest) = place.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        ip.parse::<Ipv6Addr>().ok()?;
        return Some((ip.to_owned(), port_of(port.strip_prefix(':'))?));
    }
    let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
    (!host.is_empty()).then_some(())?;
    Some((host.to_owned(), port_of(port)?))
}

fn port_of(text: Option<&str>) -> Option<u16> {
    text.map_or(Some(DEFAULT_PORT), |text| text.parse().ok())
}

/// Whether an address that a server claims to see can be one of ours.
pub(super) fn is_plausible(seen: SocketAddr) -> bool {
    let is_usable = |ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    seen.port() != 0 && is_usable(seen.ip())
}

#[cfg(test)]
mod tests {
    use stun_types::message::MessageWriteExt as _;

    use super::*;

    fn seen() -> SocketAddr {
        ([192, 0, 2, 7], 4242).into()
    }

    fn answer_to(query: &Query) -> Vec<u8> {
        let request = Message::from_bytes(query.bytes()).unwrap();
        let mut answer = Message::builder_success(&request, MessageWriteVec::new());
        answer.add_attribute(&XorMappedAddress::new(seen(), request.transaction_id())).unwrap();
        answer.finish()
    }

    #[test]
    fn an_answer_is_taken_for_its_question_only() {
        let (query, other) = (Query::new(), Query::new());
        assert_eq!(query.answered_by(&answer_to(&query)), Some(seen()));
        assert_eq!(other.answered_by(&answer_to(&query)), None);
        assert_eq!(query.answered_by(query.bytes()), None, "a request is no answer");
    }

    #[test]
    fn urls_of_stun_servers() {
        let parts = |url: &str| host_and_port(url).map(|(host, port)| format!("{host} {port}"));
        assert_eq!(parts("stun:192.0.2.1:99").as_deref(), Some("192.0.2.1 99"));
        assert_eq!(parts("stun:stun.example.org").as_deref(), Some("stun.example.org 3478"));
        assert_eq!(parts("stun:[2001:db8::1]:5").as_deref(), Some("2001:db8::1 5"));
        assert_eq!(parts("stun:[2001:db8::1]").as_deref(), Some("2001:db8::1 3478"));
        for other in ["turn:192.0.2.1:99", "stuns:192.0.2.1", "stun:", "stun:[x]:1", "stun:host:port", "http://x"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_is_read_without_a_panic(mut bytes in proptest::collection::vec(0_u8.., 0..100), is_ours: bool) {
            let query = Query::new();
            if is_ours {
                bytes = [query.bytes(), &bytes].concat();
                bytes[0] = 1;
            }
            let _ = query.answered_by(&bytes);
        }
    }
}

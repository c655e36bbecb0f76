//! Tells a client its public address and port: STUN binding requests over UDP (RFC 8489).
//!
//! The service keeps no state but what limits it. An answer is at most 32 bytes longer than its request, and
//! requests are limited per source and in total, so that a forged source address gains an attacker nothing.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cdi_platform::time::Instant;
use stun_types::attribute::{
    Attribute as _, AttributeStaticType as _, AttributeType, ErrorCode, Fingerprint, MessageIntegrity,
    MessageIntegritySha256, UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite as _, MessageWriteExt as _, MessageWriteVec};
use tokio::net::UdpSocket;

use crate::health::Health;
use crate::limits::{STUN_BURST, STUN_PER_S, STUN_SOURCE_BURST, STUN_SOURCE_PER_S};
use crate::stop::Stop;

/// Largest request that is looked at. Browsers send 20 to 28 bytes, ICE agents up to about 150.
const MAX_REQUEST_BYTES: usize = 548;
/// Pause after the socket failed, so that a broken one does not take a processor.
const FAILED_PAUSE: Duration = Duration::from_millis(100);
/// PRIORITY of ICE, RFC 8445 §16.1.
const PRIORITY: AttributeType = AttributeType::new(0x0024);
/// "Unknown Attribute", RFC 8489 §14.8.
const UNKNOWN_ATTRIBUTE: u16 = 420;

/// Answers on `socket` until it is asked to stop.
pub(crate) async fn serve(socket: UdpSocket, health: Arc<Health>, mut stop: Stop) {
    let mut limiter = Limiter::default();
    // One byte more, to tell a request that was cut off.
    let mut buffer = [0; MAX_REQUEST_BYTES + 1];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = stop.requested() => return,
        };
        let (length, from) = match received {
            Ok(received) => received,
            // An answer to a port that is closed by now comes back as an error of this socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => {
                tracing::warn!(%error, "STUN socket");
                tokio::time::sleep(FAILED_PAUSE).await;
                continue;
            }
        };
        let answer = buffer.get(..length).filter(|_| length <= MAX_REQUEST_BYTES).and_then(|bytes| answer(bytes, from));
        let counter = match &answer {
            None => &health.stun_ignored,
            Some(_) if !limiter.admit(from.ip(), Instant::now()) => &health.stun_limited,
            Some(answer) => {
                // UDP promises nothing; the client asks again.
                let _lost = socket.try_send_to(answer, from);
                &health.stun_answered
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The answer to a datagram, or `None` when it asks for nothing that is known here.
fn answer(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let request = Message::from_bytes(datagram).ok()?;
    if !request.has_class(MessageClass::Request) || !request.has_method(BINDING) {
        return None;
    }
    // What ICE agents put into checks says nothing to a server without accounts, and is no reason to refuse.
    let known = [Username::TYPE, MessageIntegrity::TYPE, MessageIntegritySha256::TYPE, PRIORITY];
    let unknown: Vec<AttributeType> = request
        .iter_attributes()
        .map(|(_, attribute)| attribute.get_type())
        .filter(|kind| kind.comprehension_required() && !known.contains(kind))
        .collect();
    let mut answer = if unknown.is_empty() {
        let mut answer = Message::builder_success(&request, MessageWriteVec::new());
        answer.add_attribute(&XorMappedAddress::new(plain(from), request.transaction_id())).ok()?;
        answer
    } else {
        let mut answer = Message::builder_error(&request, MessageWriteVec::new());
        answer.add_attribute(&ErrorCode::new(UNKNOWN_ATTRIBUTE, "").ok()?).ok()?;
        answer.add_attribute(&UnknownAttributes::new(&unknown)).ok()?;
        answer
    };
    if request.has_attribute(Fingerprint::TYPE) {
        answer.add_fingerprint().ok()?;
    }
    Some(answer.finish())
}

/// An IPv4 address as such, also where the socket speaks IPv6.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Tokens that refill with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// Tokens at `now`.
    fn refill(&mut self, now: Instant, per_s: f64, burst: f64) -> f64 {
        let waited = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + waited * per_s).min(burst);
        self.at = now;
        self.tokens
    }
}

/// How many requests are answered, per source and in total.
#[derive(Debug, Default)]
struct Limiter {
    all: Option<Bucket>,
    sources: HashMap<IpAddr, Bucket>,
}

impl Limiter {
    /// Whether a request from `ip` is answered. A source that is over its limit costs the others nothing.
    fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let full = f64::from(STUN_SOURCE_BURST);
        let source = source(ip);
        let known = self.sources.get_mut(&source);
        if known.is_some_and(|bucket| bucket.refill(now, f64::from(STUN_SOURCE_PER_S), full) < 1.0) {
            return false;
        }
        let all = self.all.get_or_insert(Bucket { tokens: f64::from(STUN_BURST), at: now });
        if all.refill(now, f64::from(STUN_PER_S), f64::from(STUN_BURST)) < 1.0 {
            return false;
        }
        all.tokens -= 1.0;
        // Every entry took a token of the total, so that this bounds the table.
        if self.sources.len() >= 2 * STUN_BURST as usize {
            self.sources.retain(|_, bucket| bucket.refill(now, f64::from(STUN_SOURCE_PER_S), full) < full);
        }
        self.sources.entry(source).or_insert(Bucket { tokens: full, at: now }).tokens -= 1.0;
        true
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, which one customer has.
fn source(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use stun_types::attribute::Software;

    use super::*;

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 4242)
    }

    #[test]
    fn the_answer_names_the_sender_and_is_hardly_longer_than_the_request() {
        for ip in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
            for fingerprint in [false, true] {
                let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
                if fingerprint {
                    request.add_fingerprint().expect("fits");
                }
                let request = request.finish();
                let bytes = answer(&request, from(ip)).expect("answered");
                assert!(bytes.len() <= request.len() + 32, "{} for {}", bytes.len(), request.len());
                let message = Message::from_bytes(&bytes).expect("well-formed");
                assert!(message.has_class(MessageClass::Success));
                let mapped = message.attribute::<XorMappedAddress>().expect("the address");
                assert_eq!(mapped.addr(message.transaction_id()), plain(from(ip)));
                assert_eq!(message.has_attribute(Fingerprint::TYPE), fingerprint);
            }
        }
    }

    #[test]
    fn what_it_does_not_know_is_refused_and_the_rest_ignored() {
        let mut request = Message::builder_request(BINDING, MessageWriteVec::new());
        request.add_attribute(&stun_types::attribute::Realm::new("r").expect("short")).expect("fits");
        let request = request.finish();
        let bytes = answer(&request, from("192.0.2.7")).expect("refused");
        assert!(bytes.len() <= request.len() + 32);
        let message = Message::from_bytes(&bytes).expect("well-formed");
        assert_eq!(message.attribute::<ErrorCode>().expect("a code").code(), UNKNOWN_ATTRIBUTE);

        let mut polite = Message::builder_request(BINDING, MessageWriteVec::new());
        polite.add_attribute(&Software::new("test").expect("short")).expect("fits");
        assert!(answer(&polite.finish(), from("192.0.2.7")).is_some(), "optional attributes are skipped");

        let good = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
        let indication = Message::builder_indication(BINDING, MessageWriteVec::new()).finish();
        let response =
            Message::builder_success(&Message::from_bytes(&good).expect("good"), MessageWriteVec::new()).finish();
        for datagram in [&indication[..], &response, b"", b"GET / HTTP/1.1\r\n\r\n", &good[..19], &[0; 548]] {
            assert_eq!(answer(datagram, from("192.0.2.7")), None, "{datagram:?}");
        }
    }

    #[test]
    fn a_source_is_limited_and_does_not_starve_the_others() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let flood = |limiter: &mut Limiter, ip: &str, now| {
            let ip = ip.parse().expect("an address");
            (0..10 * STUN_SOURCE_BURST).filter(|_| limiter.admit(ip, now)).count()
        };
        assert_eq!(flood(&mut limiter, "192.0.2.1", start), STUN_SOURCE_BURST as usize);
        assert_eq!(flood(&mut limiter, "::ffff:192.0.2.1", start), 0, "the same address in other clothes");
        assert_eq!(flood(&mut limiter, "2001:db8::1", start), STUN_SOURCE_BURST as usize);
        assert_eq!(flood(&mut limiter, "2001:db8::2", start), 0, "the same network");
        let later = start + Duration::from_secs(1);
        assert_eq!(flood(&mut limiter, "192.0.2.1", later), STUN_SOURCE_PER_S as usize);
    }

    #[test]
    fn forged_sources_are_limited_in_total_and_leave_a_bounded_table() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let mut admitted = 0;
        for second in 0..20_u32 {
            let now = start + Duration::from_secs(second.into());
            for n in 0..2 * STUN_PER_S {
                let ip = IpAddr::from((second * 2 * STUN_PER_S + n).to_be_bytes());
                admitted += u32::from(limiter.admit(ip, now));
            }
            assert!(limiter.sources.len() <= 3 * STUN_BURST as usize, "{}", limiter.sources.len());
        }
        assert!(admitted <= STUN_BURST + 19 * STUN_PER_S, "{admitted}");
    }
}

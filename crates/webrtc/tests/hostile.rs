//! Peers that misuse the signalling of `/webrtc`: what they can take is bounded, and others are served meanwhile.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failed test may panic")]

mod streams;
mod swarm;

use std::time::Duration;

use asynchronous_codec::Encoder as _;
use bytes::BytesMut;
use cdi_webrtc::admission::MAX_PENDING_HANDSHAKES_PER_PEER;
use cdi_webrtc::signalled::Config;
use cdi_webrtc::signalling::{IceCandidate, MAX_CANDIDATES, PROTOCOL, Signal, SignalCodec};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Stream, StreamProtocol};

use self::streams::{echo, exchange};
use self::swarm::{Node, patiently, start_relay};

/// A victim, an attacker with a circuit to it, and where others reach the victim.
async fn attacked(config: Config) -> (Node, Node, Multiaddr) {
    let relay = start_relay().await;
    let (mut victim, mut attacker) = (Node::start(config), Node::start(Config::default()));
    let address = victim.listen(&relay).await;
    victim.serve(echo);
    let circuit: Multiaddr = address.iter().filter(|part| *part != Protocol::WebRTC).collect();
    attacker.dial(&circuit);
    // The first one is to the relay.
    while attacker.connected().await != victim.peer {}
    (victim, attacker, address)
}

async fn signalling(from: &Node, to: &Node) -> Stream {
    patiently(from.streams.clone().open_stream(to.peer, StreamProtocol::new(PROTOCOL))).await.unwrap()
}

/// Somebody else connects to the victim and is served.
async fn is_served(address: &Multiaddr, victim: &Node) {
    let mut honest = Node::start(Config::default());
    honest.dial(address);
    assert_eq!(honest.only_direct().await, victim.peer);
    assert_eq!(exchange(honest.open(victim.peer).await, b"hello").await.unwrap(), b"hello");
}

fn encoded(signals: impl IntoIterator<Item = Signal>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for signal in signals {
        SignalCodec.encode(signal, &mut bytes).unwrap();
    }
    bytes.to_vec()
}

fn candidate(port: u16) -> Signal {
    let candidate = format!("candidate:1 1 udp 1 192.0.2.9 {port} typ host");
    Signal::Candidate(IceCandidate { candidate, sdp_mid: None, sdp_m_line_index: Some(0), username_fragment: None })
}

/// An offer that a stack takes, of a peer that nobody will ever reach.
fn offer() -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:abcdabcdabcdabcdabcdabcd\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\n\
         a=sctp-port:5000\r\n"
    )
}

/// Whatever breaks the rules ends its stream at once, and costs nobody else anything.
#[tokio::test]
async fn what_breaks_the_rules_ends_its_stream() {
    let (victim, attacker, address) = attacked(Config::default()).await;
    let media = offer().replace("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "m=audio 9 UDP/TLS/RTP/SAVPF 0");
    let storm = (0..=MAX_CANDIDATES as u16).map(candidate);
    let attacks: [(&str, Vec<u8>); 8] = [
        ("garbage", vec![5, 1, 2, 3, 4, 5]),
        ("a length without end", vec![0xFF; 64]),
        ("a description without end", [&[0xFF, 0xFF, 0x7F][..], &[b'v'; 4096]].concat()),
        ("an answer to nothing", encoded([Signal::Answer(offer())])),
        ("two offers", encoded([Signal::Offer(offer()), Signal::Offer(offer())])),
        ("no description at all", encoded([Signal::Offer("v=0\r\n".to_owned())])),
        ("media", encoded([Signal::Offer(media)])),
        ("a storm of candidates", encoded(std::iter::once(Signal::Offer(offer())).chain(storm))),
    ];
    for (what, bytes) in attacks {
        let mut stream = signalling(&attacker, &victim).await;
        // It may be closed while this is written.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        let mut heard = Vec::new();
        let _ = patiently(stream.read_to_end(&mut heard)).await;
        println!("{what}: refused after {} bytes", heard.len());
    }
    is_served(&address, &victim).await;
}

/// Streams that say nothing, and handshakes that lead nowhere: a few at a time, and not for ever.
#[tokio::test]
async fn half_open_handshakes_are_bounded() {
    let config = Config { handshake_timeout: Duration::from_secs(3), ..Config::default() };
    let (victim, attacker, address) = attacked(config).await;
    let mut held = Vec::new();
    for number in 0..MAX_PENDING_HANDSHAKES_PER_PEER {
        let mut stream = signalling(&attacker, &victim).await;
        let signals = (number % 2 == 0).then(|| Signal::Offer(offer()));
        stream.write_all(&encoded(signals)).await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    let mut more = signalling(&attacker, &victim).await;
    let refused = patiently(more.read(&mut [0])).await;
    assert!(!matches!(refused, Ok(1..)), "one more is not listened to");
    is_served(&address, &victim).await;
    for mut stream in held {
        let mut heard = Vec::new();
        let _ = patiently(stream.read_to_end(&mut heard)).await;
    }
}

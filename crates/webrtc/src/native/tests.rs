//! Hostile clients of a server.

use std::future::poll_fn;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use futures::AsyncReadExt as _;
use libp2p_core::Transport as _;
use libp2p_core::muxing::StreamMuxer as _;
use libp2p_core::transport::{DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p_core::{Endpoint, Multiaddr};
use libp2p_identity::Keypair;
use str0m::ice::{StunMessage, TransId};

use super::*;
use crate::direct::{address_of, parse_dial_address, ufrag};
use crate::framing::encode_payload;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server on loopback whose connections go nowhere but to `accepted`.
struct Server {
    address: Multiaddr,
    socket: SocketAddr,
    counters: Counters,
    accepted: tokio::sync::mpsc::Receiver<Result<Connection, Error>>,
}

async fn serve(config: Config) -> Server {
    let mut transport = DirectTransport::new(Keypair::generate_ed25519(), Certificate::generate().unwrap(), config);
    let counters = transport.counters();
    transport.listen_on(ListenerId::next(), address_of("127.0.0.1:0".parse().unwrap())).unwrap();
    let event = poll_fn(|cx| std::pin::Pin::new(&mut transport).poll(cx)).await;
    let TransportEvent::NewAddress { listen_addr: address, .. } = event else { panic!("no address") };
    let (sender, accepted) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            if let TransportEvent::Incoming { upgrade, .. } =
                poll_fn(|cx| std::pin::Pin::new(&mut transport).poll(cx)).await
            {
                let sender = sender.clone();
                tokio::spawn(async move { drop(sender.send(upgrade.await.map(|(_, connection)| connection)).await) });
            }
        }
    });
    let socket = parse_dial_address(&address).unwrap().socket;
    Server { address, socket, counters, accepted }
}

fn client(config: Config) -> DirectTransport {
    DirectTransport::new(Keypair::generate_ed25519(), Certificate::generate().unwrap(), config)
}

async fn dial(transport: &mut DirectTransport, address: &Multiaddr) -> Result<Connection, Error> {
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let (_, connection) = transport.dial(address.clone(), options).unwrap().await?;
    Ok(connection)
}

async fn until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll).await.unwrap();
}

/// A connectivity check as a client sends it, under a name of its own.
fn check(seed: u16) -> Vec<u8> {
    let mut random = [0; 16];
    random[..2].copy_from_slice(&seed.to_be_bytes());
    let name = ufrag(random);
    let username = format!("{name}:{name}");
    let message = StunMessage::binding_request(&username, TransId::new(), true, 7, 1, false);
    let mut bytes = vec![0; 512];
    let hmac =
        |key: &[u8], parts: &[&[u8]]| str0m::crypto::from_feature_flags().sha1_hmac_provider.sha1_hmac(key, parts);
    let length = message.to_bytes(Some(name.as_bytes()), &mut bytes, hmac).unwrap();
    bytes.truncate(length);
    bytes
}

/// Checks that lead to no handshake, garbage and oversize datagrams, from many ports: places are bounded, all of
/// it is counted, the places come back, and then others are served.
#[tokio::test]
async fn a_flood_is_contained_and_counted() {
    let config = Config {
        handshake_timeout: Duration::from_millis(500),
        max_handshakes_per_ip: 4,
        rate_burst: 10,
        rate_interval: Duration::from_millis(50),
        ..Config::default()
    };
    let server = serve(config).await;
    let sockets: Vec<UdpSocket> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let garbage = [vec![], vec![0; 20], vec![22; 1400], vec![0xFF; 60_000], vec![0, 1, 0, 200]];
    for round in 0..200_u16 {
        for (index, socket) in (0_u16..).zip(&sockets) {
            socket.send_to(&check(round * 8 + index), server.socket).unwrap();
            socket.send_to(&garbage[usize::from(round) % garbage.len()], server.socket).unwrap();
        }
        tokio::task::yield_now().await;
    }
    until(|| server.counters.figures().failed >= 4).await;
    let figures = server.counters.figures();
    assert!(figures.refused_busy > 100 && figures.stray > 100, "{figures:?}");
    assert_eq!(figures.accepted, 0);

    // The attacker's address is this one, too: a place is free once those of the flood have timed out.
    let mut transport = client(Config::default());
    let start = Instant::now();
    while dial(&mut transport, &server.address).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "{:?}", server.counters.figures());
    }
    until(|| server.counters.figures().accepted == 1).await;
}

/// A client that breaks the rules of one stream loses this stream, and no other.
#[tokio::test]
async fn oversize_frames_cost_the_stream() {
    let mut server = serve(Config::default()).await;
    let connection = dial(&mut client(Config::default()), &server.address).await.unwrap();
    let mut accepted = Box::pin(server.accepted.recv().await.unwrap().unwrap());
    for (message, is_legal) in [(vec![0xFF, 0xFF, 0x7F], false), (encode_payload(b"fine").0, true)] {
        let (_stream, outbox) = connection.link().open_raw();
        until(|| outbox.send(&message).is_ok()).await;
        let mut received = poll_fn(|cx| accepted.as_mut().poll_inbound(cx)).await.unwrap();
        let read = received.read(&mut [0; 16]).await;
        assert_eq!(read.is_ok(), is_legal, "{read:?}");
    }
}

/// A client that opens streams without end gets as many as it may.
#[tokio::test]
async fn streams_of_a_peer_are_bounded() {
    let mut server = serve(Config::default()).await;
    let connection = dial(&mut client(Config::default()), &server.address).await.unwrap();
    let _accepted = server.accepted.recv().await.unwrap().unwrap();
    let _streams: Vec<_> = (0..MAX_STREAMS_PER_SIDE + 20).map(|_| connection.link().open_raw()).collect();
    until(|| server.counters.figures().refused_streams >= 20).await;
}

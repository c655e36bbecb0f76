//! `/webrtc-direct` between native nodes.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failed test may panic")]

mod streams;
mod swarm;

use std::io;
use std::time::Duration;

use cdi_webrtc::native::{Certificate, Config};
use futures::future::{join, join_all};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::identity::{Keypair, PeerId};
use libp2p::multiaddr::Protocol;
use sha2::{Digest as _, Sha256};

use self::streams::{echo, exchange, pattern};
use self::swarm::network::{Fate, network};
use self::swarm::{Node, patiently, served_pair, until};

#[tokio::test]
async fn streams_echo_both_ways_in_all_sizes() {
    let (mut a, mut b) = served_pair(Config::default()).await;
    a.serve(echo);
    b.serve(echo);
    for (from, to) in [(&a, &b), (&b, &a)] {
        for length in [0, 1, 100, 16_377, 16_378, 65_536, 1 << 20] {
            let data = pattern(length);
            assert!(exchange(from.open(to.peer).await, &data).await.unwrap() == data, "{length} bytes");
        }
    }
}

/// Megabytes in writes of one come back unchanged; what is sent and what comes back is never held in full. An
/// unoptimised build takes a second for each, and gets by with fewer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_comes_back_bitwise() {
    const CHUNKS: usize = if cfg!(debug_assertions) { 16 } else { 64 };
    let (a, mut b) = served_pair(Config::default()).await;
    b.serve(echo);
    let start = std::time::Instant::now();
    let (mut reader, mut writer) = a.open(b.peer).await.split();
    let write = async {
        let mut hash = Sha256::new();
        for number in 0..CHUNKS {
            let mut chunk = pattern(1 << 20);
            chunk[0] = number as u8;
            hash.update(&chunk);
            writer.write_all(&chunk).await.unwrap();
        }
        writer.close().await.unwrap();
        hash.finalize()
    };
    let read = async {
        let (mut hash, mut buffer, mut total) = (Sha256::new(), vec![0; 1 << 16], 0);
        loop {
            match reader.read(&mut buffer).await.unwrap() {
                0 => return (hash.finalize(), total),
                count => {
                    hash.update(&buffer[..count]);
                    total += count;
                }
            }
        }
    };
    let (sent, (received, total)) = patiently(join(write, read)).await;
    assert_eq!(total, CHUNKS << 20);
    assert_eq!(sent, received);
    println!("{} MiB there and back in {:?}", CHUNKS, start.elapsed());
}

/// The sender is held up, nothing is lost, and nothing is reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_the_sender_up() {
    const BYTES: usize = 24 << 20;
    let (a, mut b) = served_pair(Config::default()).await;
    let (sender, mut accepted) = tokio::sync::mpsc::channel(1);
    b.serve(move |stream| {
        let sender = sender.clone();
        async move { drop(sender.send(stream).await) }
    });
    let mut writer = a.open(b.peer).await;
    let data = pattern(BYTES);
    let write = async {
        writer.write_all(&data).await.unwrap();
        writer.close().await.unwrap();
    };
    let read = async {
        let mut stream = accepted.recv().await.unwrap();
        until(|| b.connections.direct.figures().paused > 0).await;
        let mut received = Vec::with_capacity(BYTES);
        stream.read_to_end(&mut received).await.unwrap();
        stream.close().await.unwrap();
        received
    };
    let ((), received) = patiently(join(write, read)).await;
    assert!(received == data);
}

#[tokio::test]
async fn many_streams_at_a_time() {
    let (a, mut b) = served_pair(Config::default()).await;
    b.serve(echo);
    let data = pattern(10_000);
    let mut streams = Vec::new();
    for _ in 0..200 {
        // One after the other: `libp2p-stream` drops what arrives faster than it is accepted.
        streams.push(a.open(b.peer).await);
    }
    let echoed = patiently(join_all(streams.into_iter().map(|stream| exchange(stream, &data)))).await;
    assert!(echoed.into_iter().all(|echo| echo.unwrap() == data));
}

/// Streams come and go for longer than there are ids to be had.
#[tokio::test]
async fn channel_ids_are_used_again() {
    let (a, mut b) = served_pair(Config::default()).await;
    b.serve(echo);
    for round in 0..1200_u32 {
        let data = round.to_be_bytes();
        assert_eq!(exchange(a.open(b.peer).await, &data).await.unwrap(), data);
    }
}

/// `close` waits for FIN_ACK, and the other direction stays open meanwhile.
#[tokio::test]
async fn half_close() {
    let (a, mut b) = served_pair(Config::default()).await;
    b.serve(|mut stream| async move {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, b"question");
        stream.write_all(b"answer").await.unwrap();
        stream.close().await.unwrap();
    });
    let mut stream = a.open(b.peer).await;
    stream.write_all(b"question").await.unwrap();
    patiently(stream.close()).await.unwrap();
    let mut answer = Vec::new();
    patiently(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"answer");
}

#[tokio::test]
async fn a_dropped_stream_is_reset() {
    let (a, mut b) = served_pair(Config::default()).await;
    let (sender, mut outcome) = tokio::sync::mpsc::channel(1);
    b.serve(move |mut stream| {
        let sender = sender.clone();
        async move { drop(sender.send(stream.read_to_end(&mut Vec::new()).await).await) }
    });
    let mut stream = a.open(b.peer).await;
    stream.write_all(b"half a").await.unwrap();
    drop(stream);
    let error = patiently(outcome.recv()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

async fn echo_over(fate: impl FnMut(usize) -> Fate + Send + 'static) {
    let (mut a, mut b) = (Node::direct(Config::default()), Node::direct(Config::default()));
    b.serve(echo);
    let (address, _network) = network(&b.serve_directly().await, fate).await;
    a.dial(&address);
    a.connected().await;
    let data = pattern(300_000);
    assert!(exchange(a.open(b.peer).await, &data).await.unwrap() == data);
}

/// A lossy network costs time, never bytes.
#[tokio::test]
async fn lost_datagrams_are_repeated() {
    echo_over(|number| if number % 17 == 3 { Fate::Lose } else { Fate::Deliver }).await;
}

/// Damaged datagrams in the peers' names, during the handshake and after it, do no harm.
#[tokio::test]
async fn forged_datagrams_are_dropped() {
    echo_over(|number| if number % 3 == 1 { Fate::Forge } else { Fate::Deliver }).await;
}

#[tokio::test]
async fn a_close_is_noticed_at_once() {
    let (a, mut b) = served_pair(Config::default()).await;
    let peer = b.peer;
    let start = std::time::Instant::now();
    a.command(move |swarm| swarm.disconnect_peer_id(peer).unwrap());
    b.closed().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_cut_is_noticed_on_both_sides() {
    let config = Config { silence_timeout: Duration::from_secs(2), ..Config::default() };
    let (mut a, mut b) = (Node::direct(config.clone()), Node::direct(config));
    b.serve(echo);
    let (address, cut) = network(&b.serve_directly().await, |_| Fate::Deliver).await;
    a.dial(&address);
    a.connected().await;
    let mut stream = a.open(b.peer).await;
    drop(cut);
    a.closed().await;
    b.closed().await;
    assert!(patiently(stream.read(&mut [0])).await.is_err());
}

#[tokio::test]
async fn the_address_outlives_a_restart() {
    let (keypair, certificate) = (Keypair::generate_ed25519(), Certificate::generate().unwrap());
    let kept = certificate.to_bytes();
    let mut first = Node::serving(keypair.clone(), certificate, Config::default());
    let address = first.serve_directly().await;
    drop(first);
    let mut again = Node::serving(keypair, Certificate::from_bytes(&kept).unwrap(), Config::default());
    // The port is free as soon as the first one has stopped.
    let socket = address.iter().take(3).collect();
    let bound = async {
        while std::net::UdpSocket::bind(cdi_webrtc::direct::parse_listen_address(&socket).unwrap()).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(bound).await;
    assert_eq!(again.listen_on(socket.clone()).await, address);
    let mut client = Node::direct(Config::default());
    client.dial(&address);
    assert_eq!(client.connected().await, again.peer);
}

#[tokio::test]
async fn another_certificate_or_peer_is_refused() {
    let config = Config { handshake_timeout: Duration::from_secs(3), ..Config::default() };
    let (mut a, mut b) = (Node::direct(config.clone()), Node::direct(config));
    let address = b.serve_directly().await;
    let stranger: libp2p::Multiaddr = address.iter().take(4).collect();
    a.dial(&stranger.with(Protocol::P2p(PeerId::random())));
    let error = a.dial_error().await;
    assert!(error.contains("peer"), "{error}");

    let other = Certificate::generate().unwrap().fingerprint().to_multihash();
    let forged = address.iter().map(|part| match part {
        Protocol::Certhash(_) => Protocol::Certhash(other),
        part => part,
    });
    a.dial(&forged.collect());
    let error = a.dial_error().await;
    assert!(error.contains("fingerprint"), "{error}");
}

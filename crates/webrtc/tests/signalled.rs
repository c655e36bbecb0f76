//! `/webrtc` between native nodes that a relay introduces, all in one process.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failed test may panic")]

mod streams;
mod swarm;

use std::time::{Duration, Instant};

use cdi_webrtc::signalled::Config;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};

use self::streams::{echo, exchange, pattern};
use self::swarm::{ECHO, Node, connected_pair, patiently, start_relay};

#[tokio::test]
async fn native_nodes_connect_and_streams_echo_both_ways_in_all_sizes() {
    let start = Instant::now();
    let (mut a, mut b) = connected_pair().await;
    println!("relay, reservation and direct connection: {:?}", start.elapsed());
    a.serve(echo);
    b.serve(echo);
    for (from, to) in [(&a, &b), (&b, &a)] {
        for length in [0, 1, 100, 16_377, 65_527, 1 << 20] {
            let data = pattern(length);
            assert!(exchange(from.open(to.peer).await, &data).await.unwrap() == data, "{length} bytes");
        }
    }
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_end_up_connected() {
    let relay = start_relay().await;
    let (mut a, mut b) = (Node::start(Config::default()), Node::start(Config::default()));
    let (address_a, address_b) = (a.listen(&relay).await, b.listen(&relay).await);
    a.dial(&address_b);
    b.dial(&address_a);
    assert_eq!((a.connected_directly().await, b.connected_directly().await), (b.peer, a.peer));
    b.serve(echo);
    // A stream may be opened on a circuit that is just being closed.
    let echoed = async {
        loop {
            if let Ok(stream) = a.streams.clone().open_stream(b.peer, ECHO).await
                && let Ok(echo) = exchange(stream, b"glare").await
            {
                return echo;
            }
        }
    };
    assert_eq!(patiently(echoed).await, b"glare");
}

#[tokio::test]
async fn a_close_is_noticed_at_once() {
    let (a, mut b) = connected_pair().await;
    b.serve(echo);
    let mut stream = a.open(b.peer).await;
    stream.write_all(&[7]).await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let (start, peer) = (Instant::now(), a.peer);
    b.command(move |swarm| swarm.disconnect_peer_id(peer).unwrap());
    assert!(patiently(stream.read_exact(&mut [0])).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn dials_that_cannot_work_fail_with_a_reason() {
    let relay = start_relay().await;
    let mut dialer = Node::start(Config::default());
    let absent = libp2p::PeerId::random();
    dialer.dial(&format!("{relay}/p2p-circuit/webrtc/p2p/{absent}").parse().unwrap());
    // Two dials fail, in any order: the relayed one that the other needs, and that one.
    let errors = [dialer.dial_error().await, dialer.dial_error().await];
    assert!(errors.iter().any(|error| error.contains("relayed connection")), "{errors:?}");

    let mut closed = Node::start(Config::default());
    closed.listen_relayed_only(&relay).await;
    dialer.dial(&format!("{relay}/p2p-circuit/webrtc/p2p/{}", closed.peer).parse().unwrap());
    let error = dialer.dial_error().await;
    assert!(error.contains("signalling"), "{error}");

    let mut hasty = Node::start(Config { handshake_timeout: Duration::from_millis(1), ..Config::default() });
    let mut open = Node::start(Config::default());
    hasty.dial(&open.listen(&relay).await);
    let error = hasty.dial_error().await;
    assert!(error.contains("timed out"), "{error}");
}

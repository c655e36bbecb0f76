//! How fast the loss of a peer is noticed, over a wire that can be cut without a word.

mod support;

use std::time::{Duration, Instant};

use cdi_net::NetEvent;
use cdi_types::PeerId;
use futures::StreamExt as _;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use support::{Node, node, wire};
use tokio::sync::oneshot;

const PROTOCOL: &str = "/test/1/silent";

/// Beats of 250 ms: longer than a silence that would be the end of a link.
const BEATS: u64 = 5;

/// Two nodes with a wire between them that can be cut.
async fn pair() -> (Node, Node, oneshot::Sender<()>) {
    let (mut a, b) = (node(1, &[], true), node(2, &[], false));
    let (address, cut) = wire(a.address().await).await;
    assert_eq!(b.net.dial_address(address).await.expect("a listens"), a.net.peer());
    (a, b, cut)
}

async fn gone(node: &mut Node, lost: PeerId) -> Instant {
    node.expect("the loss", |e| matches!(e, NetEvent::PeerDown { peer } if peer == lost).then(Instant::now)).await
}

#[tokio::test]
async fn a_wire_that_is_cut_during_a_session_is_noticed_within_a_second_at_both_ends() {
    let (mut a, mut b, cut) = pair().await;
    let mut incoming = a.net.accept(PROTOCOL).await.expect("free");
    let mut ours = b.net.open_stream(a.net.peer(), PROTOCOL).await.expect("opens");
    ours.write_all(b"x").await.expect("writes");
    ours.flush().await.expect("flushes");
    let (_, mut theirs) = incoming.next().await.expect("opened");
    theirs.read_exact(&mut [0]).await.expect("reads");

    // The session itself is slow: nothing but beats is heard for longer than any deadline of the heartbeat.
    let watch = b.net.watch(a.net.peer()).await.expect("a knows the heartbeat");
    let quiet = a.received().await;
    a.until("beats", async |node| node.received().await >= quiet + BEATS).await;
    for node in [&a, &b] {
        assert_eq!(node.net.stats().await.expect("runs").silent_links, 0, "slow is not dead");
        assert_eq!(node.net.links().await.expect("runs").len(), 1);
    }

    let start = Instant::now();
    cut.send(()).expect("the wire is there");
    let (peer_a, peer_b) = (a.net.peer(), b.net.peer());
    let (at_a, at_b) = tokio::join!(gone(&mut a, peer_b), gone(&mut b, peer_a));
    println!("noticed after {:?} and {:?}", at_a - start, at_b - start);
    // One second by design; without a heartbeat it would be 10 to 15 s.
    for at in [at_a, at_b] {
        assert!(at - start < Duration::from_secs(8), "{:?}", at - start);
    }
    assert!(ours.read(&mut [0]).await.map_or(true, |read| read == 0), "its streams ended");
    drop(watch);
}

#[tokio::test]
async fn the_heartbeat_ends_with_its_watch() {
    let (a, b, _cut) = pair().await;
    let ours = b.net.watch(a.net.peer()).await.expect("a knows the heartbeat");
    let before = a.received().await;
    a.until("beats", async |node| node.received().await > before).await;
    drop(ours);
    // Both ends close the stream of a heartbeat that has ended, and then there is none that could beat.
    for node in [&a, &b] {
        node.until("no heartbeat", async |node| node.net.stats().await.expect("runs").heartbeats == 0).await;
    }
}

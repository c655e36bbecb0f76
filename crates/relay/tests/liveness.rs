//! How fast the loss of a peer is noticed, over a wire that can be cut without a word.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cdi_net::{Address, NetEvent};
use cdi_types::PeerId;
use futures::StreamExt as _;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use support::{Node, node};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const PROTOCOL: &str = "/test/1/silent";

/// A wire to `target`. When it is cut both ends stay open, and nothing gets through any more.
async fn wire(target: SocketAddr) -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (cut, is_cut) = oneshot::channel();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("a client");
        let mut far = TcpStream::connect(target).await.expect("the target listens");
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            _ = is_cut => {}
        }
        std::future::pending::<()>().await;
    });
    (address, cut)
}

/// Two nodes with a wire between them that can be cut.
async fn pair() -> (Node, Node, oneshot::Sender<()>) {
    let (mut a, b) = (node(1, &[], true), node(2, &[], false));
    let target: Vec<String> = a.address().await.to_string().split('/').map(str::to_owned).collect();
    let (near, cut) = wire(format!("{}:{}", target[2], target[4]).parse().expect("an address")).await;
    let address: Address = format!("/ip4/127.0.0.1/tcp/{}", near.port()).parse().expect("an address");
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

    // The session itself is slow: nothing is said for longer than any deadline of the heartbeat.
    let watch = b.net.watch(a.net.peer()).await.expect("a knows the heartbeat");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for node in [&a, &b] {
        assert_eq!(node.net.stats().await.expect("runs").silent_links, 0, "slow is not dead");
        assert_eq!(node.net.links().await.expect("runs").len(), 1);
    }

    let start = Instant::now();
    cut.send(()).expect("the wire is there");
    let (peer_a, peer_b) = (a.net.peer(), b.net.peer());
    let (at_a, at_b) = tokio::join!(gone(&mut a, peer_b), gone(&mut b, peer_a));
    println!("noticed after {:?} and {:?}", at_a - start, at_b - start);
    // One second by design; the rest is for a machine that does other things meanwhile.
    for at in [at_a, at_b] {
        assert!(at - start < Duration::from_millis(1_500), "{:?}", at - start);
    }
    assert!(ours.read(&mut [0]).await.map_or(true, |read| read == 0), "its streams ended");
    drop(watch);
}

#[tokio::test]
async fn the_heartbeat_ends_with_its_watch() {
    let (a, b, _cut) = pair().await;
    let beats = || async {
        let links = b.net.links().await.expect("runs");
        links[0].sent_bytes
    };
    let watch = b.net.watch(a.net.peer()).await.expect("a knows the heartbeat");
    let before = beats().await;
    let beating = async {
        while beats().await == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(support::PATIENCE, beating).await.expect("it beats");
    drop(watch);
    // A beat may be on its way; after that nothing is.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let after = beats().await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_eq!(beats().await, after);
}

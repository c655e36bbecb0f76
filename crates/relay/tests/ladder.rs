//! Better and worse ways to a peer: which is taken, and that a better one breaks nothing.

mod support;

use std::time::{Duration, Instant};

use cdi_net::framed::{read_message, write_message};
use cdi_net::{LinkKind, NetArgs, NetEvent, NetOptions, NetStream};
use futures::StreamExt as _;
use support::{Node, PATIENCE, args, figure, node, relay, start};

const PROTOCOL: &str = "/test/1/echo";

/// Longer than a circuit is kept beside a direct link when nothing runs on it.
const LONGER_THAN_A_DRAIN: Duration = Duration::from_secs(4);

async fn echo(node: &Node) {
    let mut incoming = node.net.accept(PROTOCOL).await.expect("nobody else accepts it");
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            tokio::spawn(async move {
                while let Ok(Some(message)) = read_message(&mut stream, 1 << 20).await {
                    if write_message(&mut stream, &message, 1 << 20).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

async fn there_and_back(stream: &mut NetStream, bytes: usize) {
    let message = vec![7; bytes];
    let round = async {
        write_message(stream, &message, bytes).await.expect("writes");
        read_message(stream, bytes).await.expect("reads").expect("an echo")
    };
    assert!(tokio::time::timeout(PATIENCE, round).await.expect("in time") == message);
}

/// A node that makes links of its own over WebRTC.
fn direct_node(seed: u8, relays: &[cdi_net::Address]) -> Node {
    start(NetArgs { relays: relays.to_vec(), options: NetOptions::default(), ..args(seed) })
}

#[tokio::test]
async fn native_nodes_behind_a_relay_get_a_link_of_their_own() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (direct_node(1, &address), direct_node(2, &address));
    a.relay_up().await;
    b.relay_up().await;
    echo(&b).await;
    let peer = b.net.peer();
    assert_eq!(a.net.dial(peer).await.expect("reaches"), LinkKind::Direct);
    let mut stream = a.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut stream, 1 << 20).await;
    let links = a.net.links().await.expect("runs");
    assert_eq!(links.iter().map(|l| l.address.transport()).collect::<Vec<_>>(), ["WebRTC"]);
    // The circuit carried the signalling and nothing else: it goes, and the stream stays.
    a.until("no circuit", async |_| figure(&relay, "cdi_relay_circuits").await == 0).await;
    there_and_back(&mut stream, 1).await;
    let relayed = figure(&relay, "cdi_relay_stream_received_bytes_total").await;
    assert!(relayed < 1 << 19, "{relayed} bytes went through the relay");
}

#[tokio::test]
async fn a_peer_that_takes_no_direct_links_is_reached_through_the_relay() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (direct_node(1, &address), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    echo(&b).await;
    assert_eq!(a.net.dial(b.net.peer()).await.expect("reaches"), LinkKind::Relayed);
    let mut stream = a.net.open_stream(b.net.peer(), PROTOCOL).await.expect("opens");
    there_and_back(&mut stream, 1000).await;
}

#[tokio::test]
async fn a_better_link_breaks_no_stream() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, true), node(2, &address, false));
    let direct = a.address().await;
    a.relay_up().await;
    b.relay_up().await;
    echo(&a).await;
    let peer = a.net.peer();
    assert_eq!(b.net.dial(peer).await.expect("reaches"), LinkKind::Relayed);
    let mut over_relay = b.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut over_relay, 1000).await;

    b.net.dial_address(direct).await.expect("a listens");
    b.expect("direct link", |e| (e == NetEvent::PeerLink { peer, link: LinkKind::Direct }).then_some(())).await;
    let mut over_link = b.net.open_stream(peer, PROTOCOL).await.expect("opens");
    let since = Instant::now();
    while since.elapsed() < LONGER_THAN_A_DRAIN {
        there_and_back(&mut over_relay, 1000).await;
        there_and_back(&mut over_link, 1000).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(figure(&relay, "cdi_relay_circuits").await, 1);
    drop(over_relay);
    b.until("no circuit", async |_| figure(&relay, "cdi_relay_circuits").await == 0).await;
    there_and_back(&mut over_link, 1000).await;
}

/// The link of one's own breaks in the middle of a session: the peer is reached through the relay again, unasked.
#[tokio::test]
async fn a_link_that_breaks_is_replaced_by_a_circuit() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, true), node(2, &address, false));
    let (target, cut) = support::wire(a.address().await).await;
    a.relay_up().await;
    b.relay_up().await;
    echo(&a).await;
    let peer = a.net.peer();
    b.net.dial_address(target).await.expect("a listens");
    let mut stream = b.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut stream, 1000).await;
    let _watch = b.net.watch(peer).await.expect("a knows the heartbeat");
    cut.send(()).expect("the wire is there");
    b.expect("a circuit", |e| (e == NetEvent::PeerUp { peer, link: LinkKind::Relayed }).then_some(())).await;
    let mut again = b.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut again, 1000).await;
}

//! Scores, bans, room for newcomers, transports, and floods of a node by its peers.

mod support;

use std::time::Duration;

use bytes::Bytes;
use cdi_net::{NetArgs, NetEvent, NetOptions};
use cdi_platform::Place;
use cdi_platform::kv::KeyValue;
use futures::io::AsyncReadExt as _;
use futures::{AsyncWriteExt as _, StreamExt as _};
use support::{Node, PATIENCE, args, node, start};

const PROTOCOL: &str = "/test/1/sink";

/// A node that listens on loopback over TCP and takes streams.
fn listener(seed: u8, options: NetOptions) -> Node {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().expect("an address")];
    start(NetArgs { listen, options, ..args(seed) })
}

#[tokio::test]
async fn a_ban_closes_outlives_a_restart_and_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = KeyValue::open(&Place::disk(directory.path()), "net").await.expect("a store");
    let options = NetOptions { store: Some(store), ..NetOptions::default() };
    let (mut a, b) = (listener(1, options.clone()), node(2, &[], false));
    let peer = b.net.peer();
    b.net.dial_address(a.address().await).await.expect("a listens");
    a.links("connected", |links| links.len() == 1).await;
    a.net.ban(peer, Duration::from_secs(600)).await.expect("runs");
    a.expect("PeerDown", |e| (e == NetEvent::PeerDown { peer }).then_some(())).await;
    a.net.shutdown().await;

    let mut a = listener(1, options);
    let address = a.address().await;
    assert_eq!(a.net.bans().await.expect("runs").iter().map(|ban| ban.peer).collect::<Vec<_>>(), [peer]);
    let _ = b.net.dial_address(address.clone()).await;
    b.links("refused", <[_]>::is_empty).await;
    a.net.unban(peer).await.expect("runs");
    b.net.dial_address(address).await.expect("it is welcome again");
    a.links("connected", |links| links.len() == 1).await;
}

#[tokio::test]
async fn who_delivers_nothing_is_banned_and_who_delivers_is_not() {
    let mut a = listener(1, NetOptions::default());
    let address = a.address().await;
    let (good, bad) = (node(2, &[], false), node(3, &[], false));
    for peer in [&good, &bad] {
        peer.net.dial_address(address.clone()).await.expect("a listens");
    }
    a.links("connected", |links| links.len() == 2).await;
    for _ in 0..200 {
        a.net.report(good.net.peer(), true).await.expect("runs");
        a.net.report(bad.net.peer(), false).await.expect("runs");
    }
    a.links("one is left", |links| links.len() == 1 && links[0].peer == good.net.peer()).await;
    assert!(a.net.links().await.expect("runs")[0].score_permille > 700);
    assert_eq!(a.net.bans().await.expect("runs").len(), 1);
}

#[tokio::test]
async fn the_worst_peer_makes_room_when_connections_run_out() {
    let mut a = listener(1, NetOptions { max_connections: 8, ..NetOptions::default() });
    let address = a.address().await;
    let peers: Vec<_> = (2..=9).map(|seed| node(seed, &[], false)).collect();
    for peer in &peers[..7] {
        peer.net.dial_address(address.clone()).await.expect("a listens");
    }
    a.links("seven", |links| links.len() == 7).await;
    let bad = peers[3].net.peer();
    for _ in 0..5 {
        a.net.report(bad, false).await.expect("runs");
    }
    peers[7].net.dial_address(address).await.expect("there is room for it");
    a.links("seven again", |links| links.len() == 7 && links.iter().all(|l| l.peer != bad)).await;
    assert_eq!(a.net.stats().await.expect("runs").rotated, 1);
}

#[tokio::test]
async fn native_nodes_speak_quic() {
    let listen = vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")];
    let mut a = start(NetArgs { listen, ..args(1) });
    let b = node(2, &[], false);
    b.net.dial_address(a.address_over("QUIC").await).await.expect("a listens");
    let mut incoming = a.net.accept(PROTOCOL).await.expect("free");
    let mut stream = b.net.open_stream(a.net.peer(), PROTOCOL).await.expect("opens");
    stream.write_all(b"hello").await.expect("writes");
    stream.close().await.expect("closes");
    let (_, mut stream) = incoming.next().await.expect("runs");
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.expect("reads");
    assert_eq!(read, b"hello");
}

#[tokio::test]
async fn one_peer_cannot_take_all_streams() {
    let mut a = listener(1, NetOptions::default());
    let address = a.address().await;
    let (greedy, other) = (node(2, &[], false), node(3, &[], false));
    for peer in [&greedy, &other] {
        peer.net.dial_address(address.clone()).await.expect("a listens");
    }
    let mut incoming = a.net.accept(PROTOCOL).await.expect("free");
    let mut held = Vec::new();
    for _ in 0..3 {
        let opened = (0..100).map(|_| greedy.net.open_stream(a.net.peer(), PROTOCOL));
        held.extend(futures::future::join_all(opened).await);
    }
    let stats = a.net.stats().await.expect("runs");
    assert_eq!((stats.streams_accepted, stats.streams_dropped), (128, 172));
    let mut stream = other.net.open_stream(a.net.peer(), PROTOCOL).await.expect("opens");
    stream.write_all(b"x").await.expect("writes");
    let taken = async {
        while let Some((peer, mut stream)) = incoming.next().await {
            if peer == other.net.peer() {
                let mut byte = [0];
                return stream.read_exact(&mut byte).await.expect("reads");
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("the other is served");
}

#[tokio::test]
async fn an_author_that_floods_is_held_to_its_rate() {
    let (mut a, b) = (listener(1, NetOptions::default()), node(2, &[], false));
    let c = node(3, &[], false);
    let address = a.address().await;
    for peer in [&b, &c] {
        peer.net.dial_address(address.clone()).await.expect("a listens");
    }
    let flood = async {
        for number in 0_u32.. {
            // Its own queue is full, or nobody listens to it any more.
            let _ = b.net.publish(Bytes::copy_from_slice(&number.to_le_bytes())).await;
            if number % 50 == 0 && a.net.stats().await.expect("runs").gossip_too_often > 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("the flood is noticed");
    let quiet = async {
        loop {
            c.net.publish(Bytes::from(format!("{:?}", std::time::Instant::now()))).await.expect("publishes");
            let heard = a.expect("gossip", |e| match e {
                NetEvent::Gossip { source, .. } => Some(source == c.net.peer()),
                _ => None,
            });
            if heard.await {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.expect("others are heard");
}

/// Bytes that no protocol would send, on streams of every protocol that a node speaks.
mod garbage {
    use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt as _};
    use libp2p::core::transport::{DialOpts, PortUse};
    use libp2p::core::upgrade::Version;
    use libp2p::futures::future::poll_fn;
    use libp2p::futures::{AsyncReadExt as _, AsyncWriteExt as _};
    use libp2p::{Multiaddr, Transport as _, identity, noise, tcp, yamux};

    pub async fn connect(target: Multiaddr) -> StreamMuxerBox {
        let key = identity::Keypair::generate_ed25519();
        let mut transport = tcp::tokio::Transport::new(tcp::Config::default())
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).expect("noise"))
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: libp2p::core::Endpoint::Dialer, port_use: PortUse::New };
        transport.dial(target, options).expect("an address").await.expect("connects").1
    }

    fn message(text: &str) -> Vec<u8> {
        let line = format!("{text}\n");
        let mut bytes = vec![u8::try_from(line.len()).expect("a short name")];
        bytes.extend_from_slice(line.as_bytes());
        bytes
    }

    /// Opens a stream of `protocol`, sends `bytes`, and waits until the other side has had enough.
    pub async fn send(connection: &mut StreamMuxerBox, protocol: &str, bytes: &[u8]) {
        let opened = poll_fn(|cx| {
            let _ = connection.poll_unpin(cx)?;
            connection.poll_outbound_unpin(cx)
        });
        let Ok(mut stream) = opened.await else { return };
        let exchange = async {
            stream.write_all(&[message("/multistream/1.0.0"), message(protocol)].concat()).await?;
            stream.write_all(bytes).await?;
            stream.flush().await?;
            let mut answer = [0; 256];
            while stream.read(&mut answer).await? > 0 {}
            std::io::Result::Ok(())
        };
        // The connection moves only while it is polled.
        let mut exchange = std::pin::pin!(exchange);
        let both = poll_fn(|cx| {
            let _ = connection.poll_unpin(cx);
            exchange.as_mut().poll(cx)
        });
        let _ = tokio::time::timeout(std::time::Duration::from_millis(300), both).await;
    }
}

#[tokio::test]
async fn garbage_on_any_protocol_harms_nobody() {
    let (mut a, b) = (listener(1, NetOptions::default()), node(2, &[], false));
    let address = a.address().await;
    b.net.dial_address(address.clone()).await.expect("a listens");
    let _incoming = a.net.accept(PROTOCOL).await.expect("free");
    let kad = cdi_net::kad_protocol(cdi_types::Network::Testnet);
    let protocols = [
        "/ipfs/id/1.0.0",
        "/ipfs/id/push/1.0.0",
        "/ipfs/ping/1.0.0",
        "/meshsub/1.1.0",
        "/libp2p/circuit/relay/0.2.0/stop",
        "/libp2p/dcutr",
        "/libp2p/autonat/2/dial-back",
        PROTOCOL,
        &kad,
    ];
    // A length of 4 GiB and little behind it, and noise of a fixed seed.
    let claim = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 4096]].concat();
    let noise: Vec<u8> = (0..200_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    for protocol in protocols {
        for bytes in [&claim, &noise] {
            let mut connection = garbage::connect(address.as_multiaddr().clone()).await;
            garbage::send(&mut connection, protocol, bytes).await;
        }
    }
    let stream = b.net.open_stream(a.net.peer(), PROTOCOL).await;
    assert!(stream.is_ok(), "{stream:?}");
    a.links("only the honest one is left", |links| links.len() == 1).await;
}

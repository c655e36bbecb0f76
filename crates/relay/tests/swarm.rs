//! Nodes and a relay on loopback: gossip, circuits, losses and hostile neighbours.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use cdi_net::framed::{read_message, write_message};
use cdi_net::{LinkKind, NetError, NetEvent, NetStream};
use cdi_relay::{Config, Relay, RelayError, WebRtcListen};
use cdi_types::PeerId;
use cdi_types::advert::MAX_ADVERT_BYTES;
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use futures::{FutureExt as _, StreamExt as _};
use support::{Node, PATIENCE, node, relay, relay_at};

const PROTOCOL: &str = "/test/1/echo";

/// Sends every byte of every stream back.
async fn echo(node: &Node) {
    let mut incoming = node.net.accept(PROTOCOL).await.expect("nobody else accepts it");
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                futures::io::copy(&mut reader, &mut writer).await.expect("echoes");
                writer.close().await.expect("closes");
            });
        }
    });
}

async fn check_echo(stream: NetStream, bytes: usize) {
    let sent = vec![7; bytes];
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(&sent).await.expect("writes");
        writer.close().await.expect("closes");
    };
    let mut received = Vec::new();
    let read = async { reader.read_to_end(&mut received).await.expect("reads") };
    futures::join!(write, read);
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}

/// Publishes until all receivers have got something from the sender: a mesh takes a heartbeat to form.
async fn publish_until_received(sender: &Node, receivers: &mut [&mut Node]) {
    let source = sender.net.peer();
    let mut missing: HashSet<PeerId> = receivers.iter().map(|r| r.net.peer()).collect();
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let all = async {
        let mut round = 0_u32;
        while !missing.is_empty() {
            ticks.tick().await;
            round += 1;
            sender.net.publish(Bytes::from(format!("hello {round}"))).await.expect("publishes");
            for receiver in receivers.iter_mut() {
                while let Some(Some(event)) = receiver.events.next().now_or_never() {
                    if matches!(event, NetEvent::Gossip { source: from, .. } if from == source) {
                        missing.remove(&receiver.net.peer());
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("everybody hears the sender");
}

#[tokio::test]
async fn gossip_reaches_everybody_through_the_relay() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let mut nodes: Vec<_> = (1..=3).map(|seed| node(seed, &address, false)).collect();
    for node in &mut nodes {
        node.relay_up().await;
    }
    let [a, b, c] = &mut nodes[..] else { unreachable!("three nodes") };
    publish_until_received(a, &mut [b, c]).await;
    publish_until_received(c, &mut [a, b]).await;
    assert!(b.net.stats().await.expect("runs").gossip_received > 0);
    assert!(a.net.links().await.expect("runs").is_empty(), "a relay is no peer");
}

#[tokio::test]
async fn publishing_to_nobody_is_no_error_and_too_much_is() {
    let a = node(1, &[], false);
    a.net.publish(Bytes::from_static(b"hello")).await.expect("nobody listens yet");
    let stats = a.net.stats().await.expect("runs");
    assert_eq!((stats.published, stats.published_to_nobody), (1, 1));
    let large = Bytes::from(vec![0; MAX_ADVERT_BYTES + 1]);
    assert!(matches!(a.net.publish(large).await, Err(NetError::TooLarge { .. })));
}

#[tokio::test]
async fn streams_run_through_a_circuit_without_being_cut() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, false), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    echo(&b).await;

    let stream = a.net.open_stream(b.net.peer(), PROTOCOL).await.expect("dials and opens");
    // Far beyond the 128 KiB at which a relay with default limits cuts a circuit.
    check_echo(stream, 4 << 20).await;
    let links = a.net.links().await.expect("runs");
    assert_eq!(links.iter().map(|l| (l.peer, l.link)).collect::<Vec<_>>(), [(b.net.peer(), LinkKind::Relayed)]);
    let up =
        b.expect("peer", |e| if let NetEvent::PeerUp { peer, link } = e { Some((peer, link)) } else { None }).await;
    assert_eq!(up, (a.net.peer(), LinkKind::Relayed));

    let mut messages = a.net.open_stream(b.net.peer(), PROTOCOL).await.expect("opens");
    write_message(&mut messages, b"framed", 16).await.expect("writes");
    assert_eq!(read_message(&mut messages, 16).await.expect("reads").as_deref(), Some(&b"framed"[..]));
}

#[tokio::test]
async fn no_stream_of_a_burst_is_dropped() {
    let (mut a, b) = (node(1, &[], true), node(2, &[], false));
    b.net.dial_address(a.address().await).await.expect("a listens");
    let mut incoming = a.net.accept(PROTOCOL).await.expect("nobody else accepts it");
    let burst = (0..100_u8).map(|number| {
        let (net, peer) = (b.net.clone(), a.net.peer());
        async move {
            let mut stream = net.open_stream(peer, PROTOCOL).await.expect("opens");
            write_message(&mut stream, &[number], 1).await.expect("writes");
            stream
        }
    });
    let streams = futures::future::join_all(burst).await;
    let mut numbers = HashSet::new();
    for _ in &streams {
        let (_, mut stream) = incoming.next().await.expect("runs");
        numbers.extend(read_message(&mut stream, 1).await.expect("reads").expect("a message"));
    }
    assert_eq!(numbers.len(), 100);
    assert_eq!(a.net.stats().await.expect("runs").streams_dropped, 0);
}

/// What one reader leaves unread is bounded, and holds up nobody else.
#[tokio::test]
async fn a_reader_that_never_reads_holds_up_its_own_stream_only() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, false), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    echo(&b).await;
    let mut incoming = b.net.accept("/test/1/unread").await.expect("free");
    let mut stalled = a.net.open_stream(b.net.peer(), "/test/1/unread").await.expect("opens");
    let block = vec![0; 1 << 16];
    let mut written = 0;
    while let Ok(more) = tokio::time::timeout(Duration::from_millis(500), stalled.write(&block)).await {
        written += more.expect("writes");
        assert!(written < 64 << 20, "there is no end to what is taken");
    }
    let (_, _unread) = incoming.next().await.expect("opened");
    check_echo(a.net.open_stream(b.net.peer(), PROTOCOL).await.expect("opens"), 1 << 20).await;
}

#[tokio::test]
async fn refusals_are_typed() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, false), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    let opened = a.net.open_stream(b.net.peer(), "/test/1/nobody").await;
    assert!(matches!(opened, Err(NetError::Unsupported { .. })), "{opened:?}");
    let stranger = PeerId::random();
    let dialled = a.net.dial(stranger).await;
    assert!(matches!(&dialled, Err(NetError::Dial { peer, .. }) if *peer == stranger), "{dialled:?}");
    assert!(matches!(a.net.dial(a.net.peer()).await, Err(NetError::Dial { .. })));
    assert!(matches!(a.net.accept("no slash").await, Err(NetError::ProtocolName(_))));
    let _accepting = a.net.accept(PROTOCOL).await.expect("free");
    assert!(matches!(a.net.accept(PROTOCOL).await, Err(NetError::ProtocolTaken(_))));
    a.net.shutdown().await;
    assert!(matches!(a.net.links().await, Err(NetError::Stopped)));
}

/// The way of a page that may not use a WebSocket without TLS. The address is the same after a restart.
#[tokio::test]
async fn webrtc_direct_reaches_a_relay_and_nodes_behind_it() {
    let data = tempfile::tempdir().expect("a directory");
    let start = |webrtc| {
        let data = Some(data.path().to_owned());
        Relay::start(Config { listen: ([127, 0, 0, 1], 0).into(), webrtc, data, ..Config::default() })
    };
    let relay = start(WebRtcListen::At(([127, 0, 0, 1], 0).into())).await.expect("a relay starts");
    let address = relay.webrtc_address().expect("it listens");
    let relays = [address.clone()];
    let (mut a, mut b) = (node(1, &relays, false), node(2, &relays, false));
    a.relay_up().await;
    b.relay_up().await;
    echo(&b).await;
    let peer = b.net.peer();
    assert_eq!(a.net.dial(peer).await.expect("reaches"), LinkKind::Relayed);
    check_echo(a.net.open_stream(peer, PROTOCOL).await.expect("opens"), 1 << 20).await;
    publish_until_received(&a, &mut [&mut b]).await;
    for node in [a, b] {
        node.net.shutdown().await;
    }
    relay.shutdown().await;

    let socket = cdi_webrtc::direct::parse_dial_address(address.as_multiaddr()).expect("our own address").socket;
    // The port is free when the last connection has gone.
    let again = async {
        loop {
            match start(WebRtcListen::At(socket)).await {
                Err(RelayError::WebRtcListen { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                started => return started.expect("a relay starts again"),
            }
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await.expect("the port is given back");
    assert_eq!(again.webrtc_address(), Some(address));
}

#[tokio::test]
async fn a_peer_that_leaves_is_noticed() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, false), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    let peer = b.net.peer();
    assert_eq!(a.net.dial(peer).await.expect("reaches"), LinkKind::Relayed);
    b.net.shutdown().await;
    a.expect("PeerDown", |e| (e == NetEvent::PeerDown { peer }).then_some(())).await;
    assert!(a.net.links().await.expect("runs").is_empty());
}

/// A tab that is killed says nothing: its sockets just close.
#[tokio::test]
async fn a_peer_that_is_killed_is_noticed() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let mut a = node(1, &address, false);
    a.relay_up().await;
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let victim = std::thread::spawn({
        let address = address.clone();
        move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let b = runtime.block_on(async {
                let mut b = node(2, &address, false);
                b.relay_up().await;
                b
            });
            ready.send(b.net.peer()).expect("the test waits");
            (runtime, b)
        }
    });
    let peer = is_ready.await.expect("the victim starts");
    a.net.dial(peer).await.expect("reaches");
    let (runtime, _b) = victim.join().expect("the victim's thread");
    runtime.shutdown_background();
    a.expect("PeerDown", |e| (e == NetEvent::PeerDown { peer }).then_some(())).await;
}

#[tokio::test]
async fn direct_links_replace_circuits_and_outlive_the_relay() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let (mut a, mut b) = (node(1, &address, true), node(2, &address, false));
    let direct = a.address().await;
    a.relay_up().await;
    b.relay_up().await;
    let peer = a.net.peer();
    assert_eq!(b.net.dial(peer).await.expect("reaches"), LinkKind::Relayed);
    b.net.dial_address(direct).await.expect("a listens");
    b.expect("direct link", |e| (e == NetEvent::PeerLink { peer, link: LinkKind::Direct }).then_some(())).await;
    assert_eq!(b.net.dial(peer).await.expect("is there"), LinkKind::Direct);

    relay.shutdown().await;
    b.expect("RelayDown", |e| matches!(e, NetEvent::RelayDown { .. }).then_some(())).await;
    echo(&a).await;
    let stream = b.net.open_stream(peer, PROTOCOL).await.expect("opens without a relay");
    check_echo(stream, 1000).await;
    let links = b.net.links().await.expect("runs");
    assert_eq!(links.iter().map(|l| l.link).collect::<Vec<_>>(), [LinkKind::Direct]);
}

#[tokio::test]
async fn nodes_come_back_after_the_relay_restarts() {
    let data = tempfile::tempdir().expect("a directory");
    let relay = relay_at(0, Some(data.path())).await;
    let (port, peer_id, address) = (relay.http_addr().port(), relay.peer_id(), [relay.web_socket_address()]);
    let (mut a, mut b) = (node(1, &address, false), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    relay.shutdown().await;
    for node in [&mut a, &mut b] {
        node.expect("RelayDown", |e| matches!(e, NetEvent::RelayDown { .. }).then_some(())).await;
    }
    let failed = a.net.dial(b.net.peer()).await;
    assert!(matches!(failed, Err(NetError::Dial { .. })), "{failed:?}");

    let relay = relay_at(port, Some(data.path())).await;
    assert_eq!(relay.peer_id(), peer_id, "the same identity");
    for node in [&mut a, &mut b] {
        node.net.wake().await.expect("runs");
        node.relay_up().await;
    }
    assert_eq!(a.net.dial(b.net.peer()).await.expect("reaches"), LinkKind::Relayed);
    assert!(a.net.stats().await.expect("runs").relay_losses > 0);
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let address = format!("/ip4/127.0.0.1/tcp/{port}/ws").parse().expect("an address");
    let mut a = node(1, &[address], false);
    let reason =
        a.expect("RelayDown", |e| if let NetEvent::RelayDown { reason, .. } = e { Some(reason) } else { None });
    assert!(reason.await.contains("refused"));
    let _relay = relay_at(port, None).await;
    // Its identity was not in the address: it is learnt.
    a.relay_up().await;
}

mod hostile {
    use libp2p::futures::StreamExt as _;
    use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity};
    use libp2p::swarm::{self, SwarmEvent};
    use libp2p::{Multiaddr, Swarm, Transport as _, identity, noise, tcp, yamux};

    /// A neighbour that sends announcements of any size.
    pub fn flooder() -> Swarm<gossipsub::Behaviour> {
        let key = identity::Keypair::generate_ed25519();
        let config = gossipsub::ConfigBuilder::default().max_transmit_size(1 << 20).build().expect("a configuration");
        let mut gossip: gossipsub::Behaviour =
            gossipsub::Behaviour::new(MessageAuthenticity::Signed(key.clone()), config).expect("a behaviour");
        gossip.subscribe(&topic()).expect("subscribes");
        let transport = tcp::tokio::Transport::default()
            .upgrade(libp2p::core::upgrade::Version::V1Lazy)
            .authenticate(noise::Config::new(&key).expect("noise"))
            .multiplex(yamux::Config::default())
            .boxed();
        Swarm::new(transport, gossip, key.public().to_peer_id(), swarm::Config::with_tokio_executor())
    }

    pub fn topic() -> IdentTopic {
        cdi_net::gossip::topic(cdi_types::Network::Testnet)
    }

    /// Connects and waits until the other side subscribed.
    pub async fn connect(flooder: &mut Swarm<gossipsub::Behaviour>, target: Multiaddr) {
        flooder.dial(target).expect("an address");
        loop {
            match flooder.select_next_some().await {
                SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => return,
                SwarmEvent::OutgoingConnectionError { error, .. } => unreachable!("not connected: {error}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn a_flood_of_oversize_gossip_is_counted_and_harms_nobody() {
    let (mut a, mut b) = (node(1, &[], true), node(2, &[], false));
    let address = a.address().await;
    b.net.dial_address(address.clone()).await.expect("a listens");

    let mut flooder = hostile::flooder();
    hostile::connect(&mut flooder, address.as_multiaddr().clone()).await;
    let flooder_peer = *flooder.local_peer_id();
    let flood = async {
        for number in 0..200_u32 {
            // Over the limit of an announcement, and now and then over that of a frame.
            let size = if number % 50 == 49 { 200 * 1024 } else { MAX_ADVERT_BYTES + 1 };
            let mut data = vec![0; size];
            data[..4].copy_from_slice(&number.to_le_bytes());
            // Errors: its own queue is full, or nobody listens to it any more.
            let _ = flooder.behaviour_mut().publish(hostile::topic(), data);
            tokio::time::timeout(Duration::from_millis(5), flooder.select_next_some()).await.ok();
        }
        loop {
            flooder.select_next_some().await;
        }
    };
    let checks = async {
        let counted = async {
            while a.net.stats().await.expect("runs").gossip_oversize == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, counted).await.expect("the flood is counted");
        publish_until_received(&b, &mut [&mut a]).await;
        publish_until_received(&a, &mut [&mut b]).await;
        assert_eq!(b.net.stats().await.expect("runs").gossip_oversize, 0, "nothing was passed on");
        while let Some(Some(event)) = a.events.next().now_or_never() {
            assert!(!matches!(event, NetEvent::Gossip { source, .. } if source == flooder_peer));
        }
    };
    tokio::select! {
        () = checks => {}
        () = flood => {}
    }
}

/// A laptop that slept: its connections look alive, but nothing answers on them any more.
#[tokio::test]
async fn a_connection_that_died_in_sleep_is_found_on_waking() {
    let relay = relay().await;
    let (proxy, asleep) = freezing_proxy(relay.http_addr()).await;
    let mut a = node(1, &[support::at_proxy(proxy, &relay)], false);
    a.relay_up().await;
    asleep.send_replace(true);
    a.net.wake().await.expect("runs");
    let down = a.expect("RelayDown", |e| matches!(e, NetEvent::RelayDown { .. }).then_some(()));
    // A ping would take 15 s to be sent and 20 s to fail, twice.
    tokio::time::timeout(Duration::from_secs(15), down).await.expect("the silence is noticed");
    asleep.send_replace(false);
    a.net.wake().await.expect("runs");
    a.relay_up().await;
    assert_eq!(a.net.stats().await.expect("runs").found_dead, 1);
}

/// A proxy whose connections stop for good, without being closed, when it is told that they sleep.
async fn freezing_proxy(target: std::net::SocketAddr) -> (std::net::SocketAddr, tokio::sync::watch::Sender<bool>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (sender, asleep) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asleep = asleep.clone();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(target).await.expect("the relay listens");
                let falls_asleep = async { asleep.wait_for(|asleep| *asleep).await.is_ok() };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = falls_asleep => std::future::pending().await,
                }
            });
        }
    });
    (address, sender)
}

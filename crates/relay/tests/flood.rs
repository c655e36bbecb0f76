//! Floods: each is bounded and counted, and everybody else goes on.

mod support;

use std::time::{Duration, Instant};

use cdi_net::Address;
use cdi_net::framed::{read_message, write_message};
use cdi_relay::{Config, limits};
use futures::future::poll_fn;
use futures::stream::FuturesUnordered;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _};
use libp2p::core::StreamMuxer as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{self, PeerCondition};
use libp2p::{Multiaddr, PeerId, Swarm, Transport as _, identity, noise, relay, swarm, tcp, yamux};
use support::{Node, PATIENCE, at_proxy, figure, node, proxy, relay_with};

const PROTOCOL: &str = "/test/1/echo";

fn config() -> Config {
    let p2p_listen = Some("/ip4/127.0.0.1/tcp/0".parse().expect("an address"));
    Config { p2p_listen, behind_proxy: true, ..Config::default() }
}

/// Where native peers, here the hostile ones, reach the relay: all of them from 127.0.0.1.
fn tcp_address(relay: &cdi_relay::RelayHandle) -> Multiaddr {
    let address = relay.p2p_addresses().first().expect("it listens").clone();
    address.with_peer(relay.peer_id()).expect("it names no peer").as_multiaddr().clone()
}

/// Two nodes elsewhere that reach each other through the relay.
async fn pair(relay: &cdi_relay::RelayHandle, ip: &'static str) -> (Node, Node) {
    let address: [Address; 1] = [at_proxy(proxy(relay, ip).await, relay)];
    let (mut a, mut b) = (node(1, &address, false), node(2, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    (a, b)
}

/// A message there and back over a new circuit, within this time.
async fn works_within(limit: Duration, a: &Node, b: &Node) {
    let started = Instant::now();
    let mut incoming = b.net.accept(PROTOCOL).await.expect("nobody else accepts it");
    let answer = async {
        let (_, mut stream) = incoming.next().await.expect("runs");
        let message = read_message(&mut stream, 100).await.expect("reads").expect("a message");
        write_message(&mut stream, &message, 100).await.expect("writes");
        read_message(&mut stream, 100).await.ok();
    };
    let ask = async {
        let mut stream = a.net.open_stream(b.net.peer(), PROTOCOL).await.expect("opens");
        write_message(&mut stream, b"hello", 100).await.expect("writes");
        let echo = read_message(&mut stream, 100).await.expect("reads");
        assert_eq!(echo.as_deref(), Some(&b"hello"[..]));
    };
    tokio::time::timeout(PATIENCE, async { futures::join!(answer, ask) }).await.expect("the circuit works");
    let taken = started.elapsed();
    assert!(taken < limit, "it took {taken:?}");
    a.net.disconnect(b.net.peer()).await.expect("runs");
    let gone = async {
        for (node, other) in [(a, b), (b, a)] {
            while node.net.links().await.expect("runs").iter().any(|link| link.peer == other.net.peer()) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the circuit is closed");
}

fn raw_transport() -> (PeerId, Boxed<(PeerId, StreamMuxerBox)>, relay::client::Behaviour) {
    let key = identity::Keypair::generate_ed25519();
    let peer = key.public().to_peer_id();
    let (relayed, behaviour) = relay::client::new(peer);
    let transport = relayed
        .or_transport(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&key).expect("noise"))
        .multiplex(yamux::Config::default())
        .boxed();
    (peer, transport, behaviour)
}

fn raw_client() -> Swarm<relay::client::Behaviour> {
    let (peer, transport, behaviour) = raw_transport();
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    Swarm::new(transport, behaviour, peer, config)
}

#[tokio::test]
async fn requests_beyond_the_rate_are_refused_to_their_origin_alone() {
    let relay = relay_with(config()).await;
    let client = reqwest::Client::new();
    let url = format!("http://{}/healthz", relay.http_addr());
    let ask = |from: &'static str| client.get(&url).header("x-forwarded-for", from).send();
    let (greedy, quiet) = ("192.0.2.1", "192.0.2.2");
    let flood = async {
        loop {
            let answers = futures::future::join_all((0..64).map(|_| ask(greedy))).await;
            if answers.into_iter().any(|a| a.expect("an answer").status() == 429) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("the flood is refused");
    assert_eq!(ask(quiet).await.expect("an answer").status(), 200);
    assert!(figure(&relay, "cdi_relay_refused_total").await > 0);
}

#[tokio::test]
async fn one_peer_that_asks_for_ever_more_reservations_is_denied() {
    let relay = relay_with(config()).await;
    let circuit = tcp_address(&relay).with(libp2p::multiaddr::Protocol::P2pCircuit);
    let mut flooder = raw_client();
    let flood = async {
        loop {
            let listener = flooder.listen_on(circuit.clone()).expect("an address");
            loop {
                match flooder.select_next_some().await {
                    SwarmEvent::Behaviour(_) => break,
                    SwarmEvent::ListenerClosed { reason: Err(_), .. } => return,
                    _ => {}
                }
            }
            flooder.remove_listener(listener);
        }
    };
    let (_, (a, b)) = tokio::time::timeout(PATIENCE, async { futures::join!(flood, pair(&relay, "192.0.2.1")) })
        .await
        .expect("the flood is refused");
    works_within(PATIENCE, &a, &b).await;
    assert!(figure(&relay, "cdi_relay_refused_total").await > 0);
    assert!(figure(&relay, "cdi_relay_reservations").await <= 3);
}

#[tokio::test]
async fn one_peer_cannot_open_all_circuits_nor_close_its_victim_in() {
    let relay = relay_with(config()).await;
    let (a, b) = pair(&relay, "192.0.2.1").await;
    let victim = b.net.peer();
    let circuit = tcp_address(&relay).with(libp2p::multiaddr::Protocol::P2pCircuit);
    let mut flooder = raw_client();
    flooder.dial(tcp_address(&relay)).expect("an address");
    let mut failed = 0;
    let mut dialled = 0;
    let flood = async {
        while failed < 2 * limits::MAX_CIRCUITS_FROM_PEER {
            if dialled < 4 * limits::MAX_CIRCUITS_FROM_PEER {
                dialled += 1;
                let options = dial_opts::DialOpts::peer_id(victim).condition(PeerCondition::Always);
                let options = options.addresses(vec![circuit.clone()]).build();
                // Refused when too many are in progress.
                let _ = flooder.dial(options);
            }
            let event = tokio::time::timeout(Duration::from_millis(20), flooder.select_next_some()).await;
            if let Ok(SwarmEvent::OutgoingConnectionError { .. } | SwarmEvent::ConnectionClosed { .. }) = event {
                failed += 1;
            }
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("the flood is refused");
    // It stays, and answers what it began.
    tokio::spawn(async move {
        loop {
            flooder.select_next_some().await;
        }
    });
    assert!(figure(&relay, "cdi_relay_circuits").await <= limits::MAX_CIRCUITS_FROM_PEER as u64);
    works_within(PATIENCE, &a, &b).await;
    // The victim itself can still call: what others open to it does not count for it.
    works_within(PATIENCE, &b, &a).await;
}

/// A peer that holds a reservation and falls silent: it reads nothing any more, and its connection stays.
fn mute(circuit: Multiaddr) -> (PeerId, std::sync::mpsc::Sender<()>) {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let swarm = runtime.block_on(async {
            let mut swarm = raw_client();
            swarm.listen_on(circuit).expect("an address");
            while !matches!(swarm.select_next_some().await, SwarmEvent::Behaviour(_)) {}
            swarm
        });
        ready.send(*swarm.local_peer_id()).expect("the test waits");
        // Its tasks stand still meanwhile.
        let _ended = ends.recv();
        drop(swarm);
    });
    (is_ready.recv().expect("it reserves"), end)
}

/// Asks for circuits by hand: libp2p's client would wait once ten of them are not answered.
mod by_hand {
    use libp2p::PeerId;

    /// `HopMessage { type: CONNECT, peer: { id } }`, with its length
    /// (<https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md#connection-initiation>).
    pub fn connect(peer: PeerId) -> Vec<u8> {
        let id = peer.to_bytes();
        let length = |bytes: usize| u8::try_from(bytes).expect("short");
        let head = [length(id.len() + 6), 0x08, 1, 0x12, length(id.len() + 2), 0x0a, length(id.len())];
        [&head[..], &id].concat()
    }

    /// Whether an answer has the status `RESOURCE_LIMIT_EXCEEDED`.
    pub fn is_refusal(answer: &[u8]) -> bool {
        answer.windows(3).any(|part| part == [0x28, 0xc9, 0x01])
    }
}

/// Circuits that are asked for and never answered by the other end. They do not count as circuits yet: how often one
/// may ask bounds them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn circuits_that_stay_half_open_are_bounded() {
    let relay = relay_with(config()).await;
    let (a, b) = pair(&relay, "192.0.2.1").await;
    let circuit = tcp_address(&relay).with(libp2p::multiaddr::Protocol::P2pCircuit);
    let (silent, _end) = tokio::task::spawn_blocking(move || mute(circuit)).await.expect("the silent peer starts");

    let (peer, transport, _) = raw_transport();
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
    let mut flooder = Swarm::new(transport, libp2p_stream::Behaviour::new(), peer, config);
    let mut control = flooder.behaviour().new_control();
    flooder.dial(tcp_address(&relay)).expect("an address");
    while !matches!(flooder.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
    tokio::spawn(async move {
        loop {
            flooder.select_next_some().await;
        }
    });
    let mut answers = FuturesUnordered::new();
    let flood = async {
        for asked in 1.. {
            let opened = control.open_stream(relay.peer_id(), relay::HOP_PROTOCOL_NAME).await;
            let mut stream = opened.expect("opens");
            stream.write_all(&by_hand::connect(silent)).await.expect("writes");
            stream.flush().await.expect("flushes");
            answers.push(async move {
                let mut answer = [0; 64];
                let length = stream.read(&mut answer).await.unwrap_or(0);
                by_hand::is_refusal(&answer[..length])
            });
            while let Some(Some(is_refused)) = answers.next().now_or_never() {
                if is_refused {
                    return asked;
                }
            }
        }
        unreachable!("it goes on for ever")
    };
    let asked = tokio::time::timeout(PATIENCE, flood).await.expect("the flood is refused");
    let burst = usize::try_from(limits::CIRCUIT_PEER_BURST.get()).expect("fits");
    assert!((burst / 2..2 * burst).contains(&asked), "refused after {asked}");
    assert!(figure(&relay, "cdi_relay_refused_total").await > 0);
    works_within(PATIENCE, &a, &b).await;
}

#[tokio::test]
async fn streams_that_say_nothing_are_bounded() {
    let relay = relay_with(config()).await;
    let (_, mut transport, _behaviour) = raw_transport();
    let options = DialOpts { role: libp2p::core::Endpoint::Dialer, port_use: PortUse::New };
    let dial = transport.dial(tcp_address(&relay), options).expect("an address");
    let (_, mut connection) = dial.await.expect("connects");
    let mut streams = Vec::new();
    let flood = async {
        while streams.len() < 10_000 {
            let opened = poll_fn(|cx| {
                if std::pin::Pin::new(&mut connection).poll(cx)?.is_ready() {
                    cx.waker().wake_by_ref();
                }
                std::pin::Pin::new(&mut connection).poll_outbound(cx)
            });
            match tokio::time::timeout(Duration::from_millis(500), opened).await {
                Ok(Ok(stream)) => streams.push(stream),
                // Closed, or not granted any more.
                Ok(Err(_)) | Err(_) => return,
            }
        }
    };
    tokio::time::timeout(PATIENCE, flood).await.expect("the flood ends");
    assert!(streams.len() <= 1024, "{} streams on one connection", streams.len());
    let (a, b) = pair(&relay, "192.0.2.1").await;
    works_within(PATIENCE, &a, &b).await;
}

#[tokio::test]
async fn a_transfer_does_not_starve_a_handshake() {
    // So little that one transfer takes all of it.
    let relay = relay_with(Config { bandwidth_bytes: 1 << 20, ..config() }).await;
    let address = [at_proxy(proxy(&relay, "192.0.2.9").await, &relay)];
    let (mut from, mut to) = (node(11, &address, false), node(12, &address, false));
    from.relay_up().await;
    to.relay_up().await;
    let mut sinks = to.net.accept(PROTOCOL).await.expect("nobody else accepts it");
    let mut transfer = from.net.open_stream(to.net.peer(), PROTOCOL).await.expect("opens");
    let (_, sink) = sinks.next().await.expect("runs");
    let sink = tokio::spawn(async move { futures::io::copy(sink, &mut futures::io::sink()).await });
    let sender = tokio::spawn(async move {
        let block = vec![0; 256 * 1024];
        while write_message(&mut transfer, &block, block.len()).await.is_ok() {}
    });
    let waits = async {
        while figure(&relay, "cdi_relay_stream_waits_total").await < 32 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("the transfer stands in line");
    let (a, b) = pair(&relay, "192.0.2.1").await;
    works_within(Duration::from_secs(3), &a, &b).await;
    sender.abort();
    sink.abort();
    let received = figure(&relay, "cdi_relay_stream_received_bytes_total").await;
    assert!(received > 0 && figure(&relay, "cdi_relay_circuits_opened_total").await >= 2);
}

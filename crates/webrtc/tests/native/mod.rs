//! Native nodes on loopback, and the network between them.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use cdi_webrtc::direct::{address_of, dial_address, parse_dial_address};
use cdi_webrtc::native::{Certificate, Config, Counters, DirectTransport};
use futures::StreamExt as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::{Multiaddr, Transport as _};
use libp2p::identity::{Keypair, PeerId};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{self, Stream, StreamProtocol, Swarm, SwarmEvent};
use libp2p_stream as stream;
use tokio::sync::mpsc;

/// Longer than anything here takes, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

pub type NodeSwarm = Swarm<stream::Behaviour>;
pub type NodeEvent = SwarmEvent<()>;
type Command = Box<dyn FnOnce(&mut NodeSwarm) + Send>;

/// A node whose swarm runs in the background; dropping it stops the swarm.
pub struct Node {
    pub peer: PeerId,
    pub streams: stream::Control,
    pub counters: Counters,
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<NodeEvent>,
}

impl Node {
    pub fn start(config: Config) -> Self {
        Self::with(Keypair::generate_ed25519(), Certificate::generate().unwrap(), config)
    }

    pub fn with(keypair: Keypair, certificate: Certificate, config: Config) -> Self {
        let peer = keypair.public().to_peer_id();
        let direct = DirectTransport::new(keypair, certificate, config);
        let counters = direct.counters();
        let transport = direct.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed();
        let behaviour = stream::Behaviour::new();
        let streams = behaviour.new_control();
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE);
        let mut swarm = Swarm::new(transport, behaviour, peer, config);
        let (commands, mut inbox) = mpsc::unbounded_channel::<Command>();
        let (outbox, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    command = inbox.recv() => match command {
                        Some(command) => command(&mut swarm),
                        None => return,
                    },
                    event = swarm.select_next_some() => drop(outbox.send(event)),
                }
            }
        });
        Self { peer, streams, counters, commands, events }
    }

    /// Listens on a free port of loopback; returns where it is dialled.
    pub async fn listen(&mut self) -> Multiaddr {
        self.listen_on(address_of("127.0.0.1:0".parse().unwrap())).await
    }

    pub async fn listen_on(&mut self, address: Multiaddr) -> Multiaddr {
        self.command(move |swarm| {
            swarm.listen_on(address).unwrap();
        });
        let address = self
            .event(|event| match event {
                SwarmEvent::NewListenAddr { address, .. } => Some(address),
                _ => None,
            })
            .await;
        address.with(Protocol::P2p(self.peer))
    }

    pub fn command(&self, command: impl FnOnce(&mut NodeSwarm) + Send + 'static) {
        assert!(self.commands.send(Box::new(command)).is_ok());
    }

    pub fn dial(&self, address: &Multiaddr) {
        let address = address.clone();
        self.command(move |swarm| {
            let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("no peer in {address}") };
            let options = DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always).build();
            swarm.dial(options).unwrap();
        });
    }

    pub async fn event<T>(&mut self, mut choose: impl FnMut(NodeEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(chosen) = choose(self.events.recv().await.unwrap()) {
                    return chosen;
                }
            }
        };
        patiently(search).await
    }

    pub async fn connected(&mut self) -> PeerId {
        self.event(|event| match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => Some(peer_id),
            SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error}"),
            _ => None,
        })
        .await
    }

    pub async fn closed(&mut self) {
        self.event(|event| matches!(event, SwarmEvent::ConnectionClosed { .. }).then_some(())).await;
    }

    pub async fn dial_error(&mut self) -> String {
        self.event(|event| match event {
            SwarmEvent::OutgoingConnectionError { error, .. } => Some(error.to_string()),
            SwarmEvent::ConnectionEstablished { .. } => panic!("connected"),
            _ => None,
        })
        .await
    }

    pub async fn open(&self, peer: PeerId) -> Stream {
        patiently(self.streams.clone().open_stream(peer, ECHO)).await.unwrap()
    }

    /// Serves every stream of [`ECHO`] with `serve`, in the background.
    pub fn serve<F: Future<Output = ()> + Send + 'static>(&mut self, serve: impl Fn(Stream) -> F + Send + 'static) {
        let mut incoming = self.streams.accept(ECHO).unwrap();
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(serve(stream));
            }
        });
    }
}

/// Fails the test instead of waiting for ever.
pub async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("nothing happened for {PATIENCE:?}"))
}

/// Waits until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(poll).await;
}

/// Two nodes with a connection, dialled by the first.
pub async fn connected_pair(config: Config) -> (Node, Node) {
    let (mut dialer, mut listener) = (Node::start(config.clone()), Node::start(config));
    let address = listener.listen().await;
    dialer.dial(&address);
    assert_eq!(dialer.connected().await, listener.peer);
    assert_eq!(listener.connected().await, dialer.peer);
    (dialer, listener)
}

/// What a network does with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Deliver,
    Lose,
    /// Delivers a damaged copy and then the datagram itself.
    Forge,
}

/// A network in front of the server at `address`, for one client; `fate` is asked with the number of the datagram.
/// Returns where the client dials. The network is cut when the sender is dropped.
pub async fn network(
    address: &Multiaddr,
    mut fate: impl FnMut(usize) -> Fate + Send + 'static,
) -> (Multiaddr, mpsc::Sender<()>) {
    let target = parse_dial_address(address).unwrap();
    let outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let inside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let front = dial_address(outside.local_addr().unwrap(), target.fingerprint);
    let (cut, mut is_cut) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut client: Option<SocketAddr> = None;
        let (mut up, mut down) = ([0; 2048], [0; 2048]);
        for number in 0.. {
            let (datagram, from, to) = tokio::select! {
                Ok((length, source)) = outside.recv_from(&mut up) => {
                    client = Some(source);
                    (&mut up[..length], &inside, target.socket)
                }
                Ok((length, _)) = inside.recv_from(&mut down) => {
                    let Some(client) = client else { continue };
                    (&mut down[..length], &outside, client)
                }
                _ = is_cut.recv() => return,
            };
            let fate = fate(number);
            if fate == Fate::Forge {
                let mut copy = datagram.to_vec();
                let at = number % copy.len();
                copy[at] ^= 0x55;
                from.send_to(&copy, to).await.unwrap();
            }
            if fate != Fate::Lose {
                from.send_to(datagram, to).await.unwrap();
            }
        }
    });
    (target.peer.map_or(front.clone(), |peer| front.with(Protocol::P2p(peer))), cut)
}

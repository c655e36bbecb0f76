//! Swarms that share one page or process: a relay and nodes, joined by libp2p's in-memory transport.
#![allow(dead_code, reason = "each test program uses a part of it")]

#[cfg(not(target_arch = "wasm32"))]
pub mod network;
#[cfg(target_arch = "wasm32")]
#[path = "browser.rs"]
mod target;
#[cfg(not(target_arch = "wasm32"))]
#[path = "native.rs"]
mod target;

use std::future::Future;
use std::time::Duration;

use cdi_webrtc::address::is_direct_webrtc;
use cdi_webrtc::signalled::{self, Config};
use futures::channel::{mpsc, oneshot};
use futures::future::{self, Either};
use futures::{FutureExt as _, StreamExt as _};
use futures_timer::Delay;
use libp2p::core::multiaddr::Protocol;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, MemoryTransport, upgrade};
use libp2p::core::{ConnectedPoint, Multiaddr};
use libp2p::identity::{Keypair, PeerId};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Transport, noise, relay, yamux};
use libp2p_stream as stream;

pub use self::target::*;

/// Longer than anything here takes, even on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(NetworkBehaviour)]
pub struct NodeBehaviour {
    relay: relay::client::Behaviour,
    webrtc: signalled::Behaviour,
    pub streams: stream::Behaviour,
}

type NodeSwarm = Swarm<NodeBehaviour>;
pub type NodeEvent = SwarmEvent<NodeBehaviourEvent>;
type Command = Box<dyn FnOnce(&mut NodeSwarm) + Send>;

fn upgraded<T>(transport: T, keypair: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: futures::AsyncRead + futures::AsyncWrite + Unpin + Send + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    transport
        .upgrade(upgrade::Version::V1)
        .authenticate(noise::Config::new(keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed()
}

/// Starts a relay; returns its address. It runs until the page or the test ends.
pub async fn start_relay() -> Multiaddr {
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let behaviour = relay::Behaviour::new(peer, relay::Config::default());
    let mut swarm = Swarm::new(upgraded(MemoryTransport::new(), &keypair), behaviour, peer, config());
    swarm.listen_on(Protocol::Memory(0).into()).unwrap();
    let address = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(address.clone());
    spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    address.with(Protocol::P2p(peer))
}

/// How a node is set up.
pub struct Settings {
    pub keypair: Keypair,
    pub webrtc: Config,
    pub direct: Direct,
}

/// A node whose swarm runs in the background; dropping it stops the swarm.
pub struct Node {
    pub peer: PeerId,
    pub streams: stream::Control,
    pub connections: Connections,
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<NodeEvent>,
}

impl Node {
    pub fn with(settings: Settings) -> Self {
        let keypair = settings.keypair;
        let peer = keypair.public().to_peer_id();
        let (webrtc, webrtc_behaviour) = signalled::new(peer, settings.webrtc);
        let (relay, relay_behaviour) = relay::client::new(peer);
        let (direct, connections) = direct(&keypair, settings.direct, &webrtc_behaviour);
        let transport = webrtc
            .or_transport(direct)
            .map(|output, _| output.into_inner())
            .or_transport(upgraded(relay, &keypair))
            .map(|output, _| output.into_inner())
            .or_transport(upgraded(MemoryTransport::new(), &keypair))
            .map(|output, _| output.into_inner())
            .boxed();
        let streams = stream::Behaviour::new();
        let control = streams.new_control();
        let behaviour = NodeBehaviour { relay: relay_behaviour, webrtc: webrtc_behaviour, streams };
        let mut swarm = Swarm::new(transport, behaviour, peer, config());
        let (commands, mut inbox) = mpsc::unbounded::<Command>();
        let (outbox, events) = mpsc::unbounded();
        spawn(async move {
            loop {
                match future::select(inbox.next(), swarm.select_next_some()).await {
                    Either::Left((None, _)) => return,
                    Either::Left((Some(command), _)) => command(&mut swarm),
                    Either::Right((event, _)) => drop(outbox.unbounded_send(event)),
                }
            }
        });
        Self { peer, streams: control, connections, commands, events }
    }

    /// Listens behind `relay`; resolves to the address at which this node can be dialled directly.
    pub async fn listen(&mut self, relay: &Multiaddr) -> Multiaddr {
        let circuit = relay.clone().with(Protocol::P2pCircuit);
        self.command(move |swarm| {
            swarm.listen_on("/webrtc".parse().unwrap()).unwrap();
            swarm.listen_on(circuit).unwrap();
        });
        let address = self
            .event(|event| match event {
                SwarmEvent::ExternalAddrConfirmed { address } if is_direct_webrtc(&address) => Some(address),
                _ => None,
            })
            .await;
        self.event(|event| match event {
            SwarmEvent::NewListenAddr { address: listened, .. } if is_direct_webrtc(&listened) => Some(listened),
            _ => None,
        })
        .await;
        address
    }

    /// Reserves a place at `relay`, but does not accept direct connections.
    pub async fn listen_relayed_only(&mut self, relay: &Multiaddr) {
        let circuit = relay.clone().with(Protocol::P2pCircuit);
        self.command(move |swarm| {
            swarm.listen_on(circuit).unwrap();
        });
        self.event(|event| matches!(event, SwarmEvent::NewListenAddr { .. }).then_some(())).await;
    }

    pub fn command(&self, command: impl FnOnce(&mut NodeSwarm) + Send + 'static) {
        self.commands.unbounded_send(Box::new(command)).unwrap();
    }

    pub fn dial(&self, address: &Multiaddr) {
        let address = address.clone();
        self.command(move |swarm| {
            let Some(Protocol::P2p(peer)) = address.iter().last() else { panic!("no peer in {address}") };
            let options = DialOpts::peer_id(peer).addresses(vec![address]).condition(PeerCondition::Always).build();
            swarm.dial(options).unwrap();
        });
    }

    /// The first event from now on that `choose` takes.
    pub async fn event<T>(&mut self, mut choose: impl FnMut(NodeEvent) -> Option<T>) -> T {
        let search = async {
            loop {
                if let Some(chosen) = choose(self.events.next().await.unwrap()) {
                    return chosen;
                }
            }
        };
        patiently(search).await
    }

    pub async fn connected_directly(&mut self) -> PeerId {
        self.event(|event| match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } if is_direct(&endpoint) => Some(peer_id),
            _ => None,
        })
        .await
    }

    /// Waits until there is a direct connection and no relayed one; they come and go in any order.
    pub async fn only_direct(&mut self) -> PeerId {
        let (mut peer, mut is_relayed_closed) = (None, false);
        self.event(|event| {
            match event {
                SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } if is_direct(&endpoint) => {
                    peer = Some(peer_id);
                }
                SwarmEvent::ConnectionClosed { endpoint, .. } if endpoint.is_relayed() => is_relayed_closed = true,
                _ => {}
            }
            peer.filter(|_| is_relayed_closed)
        })
        .await
    }

    pub async fn direct_closed(&mut self) {
        self.event(|event| match event {
            SwarmEvent::ConnectionClosed { endpoint, .. } if is_direct(&endpoint) => Some(()),
            _ => None,
        })
        .await;
    }

    pub async fn dial_error(&mut self) -> String {
        self.event(|event| match event {
            SwarmEvent::OutgoingConnectionError { error, .. } => Some(error.to_string()),
            _ => None,
        })
        .await
    }

    /// Asks the swarm something.
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&mut NodeSwarm) -> T + Send + 'static) -> T {
        let (reply, answer) = oneshot::channel();
        self.command(move |swarm| drop(reply.send(question(swarm))));
        patiently(answer.map(Result::unwrap)).await
    }
}

pub fn is_direct(endpoint: &ConnectedPoint) -> bool {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => is_direct_webrtc(address),
        ConnectedPoint::Listener { local_addr, .. } => is_direct_webrtc(local_addr),
    }
}

/// Fails the test instead of waiting for ever.
pub async fn patiently<F: Future>(future: F) -> F::Output {
    match future::select(std::pin::pin!(future), Delay::new(PATIENCE)).await {
        Either::Left((output, _)) => output,
        Either::Right(_) => panic!("nothing happened for {PATIENCE:?}"),
    }
}

/// Two nodes with a direct connection, opened by the first; their relayed one is closed.
pub async fn connected_pair() -> (Node, Node) {
    let relay = start_relay().await;
    let (mut dialer, mut listener) = (Node::start(Config::default()), Node::start(Config::default()));
    let address = listener.listen(&relay).await;
    dialer.dial(&address);
    assert_eq!(dialer.only_direct().await, listener.peer);
    assert_eq!(listener.only_direct().await, dialer.peer);
    (dialer, listener)
}

//! Nodes of one process, on loopback.

use std::future::Future;

use cdi_webrtc::direct::address_of;
use cdi_webrtc::native::{Certificate, Config, Counters, DirectTransport};
use cdi_webrtc::signalled;
use futures::StreamExt as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::{Multiaddr, Transport as _};
use libp2p::identity::{Keypair, PeerId};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{self, Stream, StreamProtocol, SwarmEvent};
use tokio::time::{Duration, sleep};

use super::{Node, PATIENCE, Settings, patiently};

pub const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

/// How `/webrtc-direct` is set up.
pub type Direct = (Certificate, Config);
/// What a test looks at beside the swarm: what became of connections over `/webrtc-direct`, and over `/webrtc`.
pub struct Connections {
    pub direct: Counters,
    pub signalled: Counters,
}

pub fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

pub fn direct(
    keypair: &Keypair,
    (certificate, config): Direct,
    webrtc: &signalled::Behaviour,
) -> (Boxed<(PeerId, StreamMuxerBox)>, Connections) {
    let direct = DirectTransport::new(keypair.clone(), certificate, config);
    let connections = Connections { direct: direct.counters(), signalled: webrtc.counters() };
    (direct.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed(), connections)
}

pub fn config() -> swarm::Config {
    swarm::Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE)
}

impl Node {
    pub fn start(webrtc: signalled::Config) -> Self {
        let direct = (Certificate::generate().unwrap(), Config::default());
        Self::with(Settings { keypair: Keypair::generate_ed25519(), webrtc, direct })
    }

    /// A node whose connections over `/webrtc-direct` are set up like this.
    pub fn direct(config: Config) -> Self {
        Self::serving(Keypair::generate_ed25519(), Certificate::generate().unwrap(), config)
    }

    pub fn serving(keypair: Keypair, certificate: Certificate, config: Config) -> Self {
        Self::with(Settings { keypair, webrtc: signalled::Config::default(), direct: (certificate, config) })
    }

    /// Listens on a free port of loopback; returns where it is dialled.
    pub async fn serve_directly(&mut self) -> Multiaddr {
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

/// Waits until `condition` holds.
pub async fn until(condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(poll).await;
}

/// Two nodes that are connected over `/webrtc-direct`.
pub async fn served_pair(config: Config) -> (Node, Node) {
    let (mut dialer, mut listener) = (Node::direct(config.clone()), Node::direct(config));
    let address = listener.serve_directly().await;
    dialer.dial(&address);
    assert_eq!(dialer.connected().await, listener.peer);
    assert_eq!(listener.connected().await, dialer.peer);
    (dialer, listener)
}

//! Opens and accepts streams by protocol name, as a libp2p behaviour.
//!
//! Why not `libp2p-stream`: it opens a stream on *any* connection to the peer, so that a bulk transfer may
//! take the relay beside a direct link, and it drops an inbound stream when one other is waiting
//! (`shared.rs` of 0.4.0-alpha: a random choice, and a channel of capacity 0). Here the caller names the
//! connection, and inbound streams wait in a bounded queue.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::future::{Ready, ready};
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, InboundUpgrade, Multiaddr, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

use crate::NetStream;
use crate::busy::Counts;
use crate::traffic::Traffic;

/// Inbound streams of one protocol that wait to be taken. More are dropped, which the opener sees as a
/// closed stream.
const ACCEPT_QUEUE: usize = 512;
/// Open streams of one peer, those that wait included. A session has two.
pub const MAX_PEER_STREAMS: usize = 128;

/// Why a stream was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// The peer does not speak the protocol.
    Unsupported,
    /// The connection failed.
    Failed(String),
}

/// Where the outcome of an opening goes. Dropped, when the connection is gone.
pub type Opened = oneshot::Sender<Result<NetStream, OpenError>>;
type Inbound = mpsc::Sender<(PeerId, NetStream)>;

/// What all handlers share: who takes inbound streams of which protocol.
#[derive(Default)]
struct Accepting {
    queues: Mutex<HashMap<StreamProtocol, Inbound>>,
    open: Counts,
    accepted: AtomicU64,
    dropped: AtomicU64,
}

impl Accepting {
    fn queues(&self) -> MutexGuard<'_, HashMap<StreamProtocol, Inbound>> {
        // The map is whole between any two statements below.
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| !queue.is_closed());
        queues
    }

    fn protocols(&self) -> Protocols {
        Protocols(self.queues().keys().cloned().collect())
    }

    fn deliver(&self, peer: PeerId, protocol: &StreamProtocol, stream: NetStream) {
        // The stream counts already.
        let allowed = self.open.of(&peer) <= MAX_PEER_STREAMS;
        let delivered = allowed && self.queues().get_mut(protocol).is_some_and(|q| q.try_send((peer, stream)).is_ok());
        let counter = if delivered { &self.accepted } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The behaviour. Produces no events: outcomes go to the channels of those who asked.
#[derive(Default)]
pub struct Behaviour {
    accepting: Arc<Accepting>,
    opening: VecDeque<(PeerId, ConnectionId, Open)>,
    /// Bytes of each connection.
    traffic: HashMap<ConnectionId, Arc<Traffic>>,
}

/// A request to open a stream.
#[derive(Debug)]
pub struct Open {
    protocol: StreamProtocol,
    opened: Opened,
}

impl Behaviour {
    /// Opens a stream on `connection`. The swarm must be polled afterwards.
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId, protocol: StreamProtocol, opened: Opened) {
        self.opening.push_back((peer, connection, Open { protocol, opened }));
    }

    /// Takes inbound streams of `protocol` until the receiver is dropped; `None` when somebody does already.
    pub fn accept(&mut self, protocol: StreamProtocol) -> Option<mpsc::Receiver<(PeerId, NetStream)>> {
        let mut queues = self.accepting.queues();
        if queues.contains_key(&protocol) {
            return None;
        }
        let (sender, receiver) = mpsc::channel(ACCEPT_QUEUE);
        queues.insert(protocol, sender);
        Some(receiver)
    }

    /// Open streams by peer.
    pub(crate) fn open_streams(&self) -> Counts {
        self.accepting.open.clone()
    }

    /// Inbound streams taken and dropped since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepting.accepted.load(Ordering::Relaxed), self.accepting.dropped.load(Ordering::Relaxed))
    }

    /// What is counted on a connection that is up.
    pub(crate) fn traffic(&self, connection: ConnectionId) -> Option<Arc<Traffic>> {
        self.traffic.get(&connection).cloned()
    }

    fn handler(&mut self, peer: PeerId, connection: ConnectionId) -> Handler {
        let traffic = self.traffic.entry(connection).or_insert_with(|| Arc::new(Traffic::new(connection))).clone();
        Handler { peer, traffic, accepting: self.accepting.clone(), opening: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, connection))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.traffic.remove(&connection_id);
            }
            // Another behaviour refused a connection that this one had taken: there is no further word of it.
            FromSwarm::ListenFailure(failure) => {
                self.traffic.remove(&failure.connection_id);
            }
            FromSwarm::DialFailure(failure) => {
                self.traffic.remove(&failure.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        // No waker: the worker polls the swarm after every command that reaches `open`.
        match self.opening.pop_front() {
            Some((peer_id, connection, event)) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::One(connection), event })
            }
            None => Poll::Pending,
        }
    }
}

/// The part of the behaviour that lives with one connection.
pub struct Handler {
    peer: PeerId,
    traffic: Arc<Traffic>,
    accepting: Arc<Accepting>,
    opening: VecDeque<Open>,
}

impl Handler {
    fn counted(&self, stream: Stream) -> NetStream {
        NetStream::new(stream, self.traffic.clone(), self.accepting.open.open(self.peer))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Infallible;
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opened;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(self.accepting.protocols(), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocols, Opened, Infallible>> {
        // No waker: the connection is polled after every event from the behaviour.
        match self.opening.pop_front() {
            Some(Open { protocol, opened }) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(Protocols(vec![protocol]), opened),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opening.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Protocols, Protocols, (), Opened>) {
        // A receiver that is gone has lost interest: the stream is closed by dropping it.
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, protocol), ..
            }) => {
                self.accepting.deliver(self.peer, &protocol, self.counted(stream));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (stream, _), info }) => {
                let _ = info.send(Ok(self.counted(stream)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Failed("the peer did not answer in time".to_owned()),
                    StreamUpgradeError::Io(error) => OpenError::Failed(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = info.send(Err(error));
            }
            _ => {}
        }
    }
}

/// An upgrade that agrees on one of the protocols and hands the bare stream on.
pub struct Protocols(Vec<StreamProtocol>);

impl UpgradeInfo for Protocols {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((stream, protocol)))
    }
}

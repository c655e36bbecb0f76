//! The behaviour half: provides signalling streams, announces addresses, closes relayed connections.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::task::{Context, Poll};

use either::Either;
use futures::StreamExt as _;
use futures::channel::mpsc;
use libp2p_core::transport::PortUse;
use libp2p_core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p_identity::PeerId;
use libp2p_swarm::behaviour::{
    ConnectionClosed, ConnectionEstablished, DialFailure, ExpiredListenAddr, FromSwarm, NewListenAddr,
};
use libp2p_swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, NetworkBehaviour, NotifyHandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};

use super::handler::Handler;
use super::transport::{Incoming, ToTransport};
use super::{Error, IceServer, RelayedAfterDirect, Shared, StreamRequest};
use crate::address::{LinkKind, advertised_address, link_kind};

/// libp2p behaviour that belongs to [`Transport`](super::Transport). It emits no events.
pub struct Behaviour {
    shared: Shared,
    requests: mpsc::Receiver<StreamRequest>,
    to_transport: mpsc::Sender<ToTransport>,
    /// Waits for room in the channel. Bounded by the admission permits and our listen addresses.
    outbox: VecDeque<ToTransport>,
    /// Relayed connections by peer, with their local address where a peer opened them.
    relayed: HashMap<PeerId, Vec<(ConnectionId, Multiaddr)>>,
    /// Dials that wait for a relayed connection which we are opening.
    waiting: HashMap<ConnectionId, Vec<StreamRequest>>,
    /// Peers whose relayed connections are to be closed when no handshake needs them.
    to_close: HashSet<PeerId>,
    actions: VecDeque<ToSwarm<Infallible, Either<super::Reply, Infallible>>>,
}

impl Behaviour {
    pub(super) fn new(
        shared: Shared,
        requests: mpsc::Receiver<StreamRequest>,
        to_transport: mpsc::Sender<ToTransport>,
    ) -> Self {
        Self {
            shared,
            requests,
            to_transport,
            outbox: VecDeque::new(),
            relayed: HashMap::new(),
            waiting: HashMap::new(),
            to_close: HashSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// All peer connections of this swarm, to close them when the page goes away.
    #[cfg(target_arch = "wasm32")]
    #[must_use]
    pub fn connections(&self) -> crate::browser::OpenConnections {
        self.shared.connections.clone()
    }

    /// What became of the connections.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn counters(&self) -> crate::native::Counters {
        self.shared.connections.clone()
    }

    /// Connections that are made from now on use these STUN and TURN servers. A malformed URL would make all of
    /// them fail: check before.
    pub fn set_ice_servers(&self, servers: Vec<IceServer>) {
        *self.shared.ice_servers() = servers;
    }

    fn on_request(&mut self, request: StreamRequest) {
        if request.reply.is_canceled() {
            return;
        }
        if let Some((connection, _)) = self.relayed.get(&request.peer).and_then(|list| list.first()) {
            let connection = *connection;
            self.ask_handler(connection, request);
            return;
        }
        if let Some(waiting) = self.waiting.values_mut().find(|waiting| waiting[0].peer == request.peer) {
            waiting.push(request);
            return;
        }
        // The dial of the `/webrtc` address to the same peer is pending, so any other condition
        // would refuse this one.
        let opts = DialOpts::peer_id(request.peer)
            .addresses(vec![request.relayed.clone()])
            .condition(PeerCondition::Always)
            .build();
        self.waiting.insert(opts.connection_id(), vec![request]);
        self.actions.push_back(ToSwarm::Dial { opts });
    }

    fn ask_handler(&mut self, connection: ConnectionId, request: StreamRequest) {
        self.actions.push_back(ToSwarm::NotifyHandler {
            peer_id: request.peer,
            handler: NotifyHandler::One(connection),
            event: Either::Left(request.reply),
        });
    }

    fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        match link_kind(local_view(endpoint)) {
            LinkKind::Relayed => {
                self.relayed.entry(peer).or_default().push((connection, local_view(endpoint).clone()));
            }
            LinkKind::DirectWebRtc if endpoint.is_dialer() => {
                if self.shared.config.relayed_after_direct == RelayedAfterDirect::Close {
                    self.to_close.insert(peer);
                }
            }
            LinkKind::DirectWebRtc | LinkKind::Direct => {}
        }
        for request in self.waiting.remove(&connection).unwrap_or_default() {
            self.ask_handler(connection, request);
        }
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(list) = self.relayed.get_mut(&peer) {
            list.retain(|(known, _)| *known != connection);
            if list.is_empty() {
                self.relayed.remove(&peer);
            }
        }
    }

    /// Closes what is due: relayed connections of peers with a direct one and no handshake.
    fn close_relayed(&mut self, cx: &Context<'_>) {
        if self.to_close.is_empty() {
            return;
        }
        self.shared.admission.wake_on_end(cx);
        let admission = &self.shared.admission;
        for peer in self.to_close.extract_if(|peer| !admission.is_pending(peer)) {
            for (connection, _) in self.relayed.get(&peer).into_iter().flatten() {
                self.actions.push_back(ToSwarm::CloseConnection {
                    peer_id: peer,
                    connection: CloseConnection::One(*connection),
                });
            }
        }
    }

    fn send_outbox(&mut self, cx: &mut Context<'_>) {
        while !self.outbox.is_empty() {
            match self.to_transport.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(message) = self.outbox.pop_front() {
                        let _ = self.to_transport.start_send(message);
                    }
                }
                // The transport has gone, and the swarm with it.
                Poll::Ready(Err(_)) => self.outbox.clear(),
                Poll::Pending => return,
            }
        }
    }
}

/// The address that tells the kind of link: the dialled one, or the local one of an inbound connection.
fn local_view(endpoint: &ConnectedPoint) -> &Multiaddr {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => address,
        ConnectedPoint::Listener { local_addr, .. } => local_addr,
    }
}

fn handler_for(address: &Multiaddr) -> Either<Handler, dummy::ConnectionHandler> {
    match link_kind(address) {
        LinkKind::Relayed => Either::Left(Handler::new()),
        LinkKind::DirectWebRtc | LinkKind::Direct => Either::Right(dummy::ConnectionHandler),
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Either<Handler, dummy::ConnectionHandler>;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        local_addr: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        Ok(handler_for(local_addr))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        Ok(handler_for(address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished { peer_id, connection_id, endpoint, .. }) => {
                self.on_established(peer_id, connection_id, endpoint);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.on_closed(peer_id, connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, error, .. }) => {
                for request in self.waiting.remove(&connection_id).unwrap_or_default() {
                    let _ = request.reply.send(Err(Error::RelayedDial(error.to_string())));
                }
            }
            FromSwarm::NewListenAddr(NewListenAddr { addr, .. }) => {
                if let Some(address) = advertised_address(addr, self.shared.local_peer) {
                    self.actions.push_back(ToSwarm::ExternalAddrConfirmed(address.clone()));
                    self.outbox.push_back(ToTransport::Reachable(address));
                }
            }
            FromSwarm::ExpiredListenAddr(ExpiredListenAddr { addr, .. }) => {
                if let Some(address) = advertised_address(addr, self.shared.local_peer) {
                    self.actions.push_back(ToSwarm::ExternalAddrExpired(address.clone()));
                    self.outbox.push_back(ToTransport::Unreachable(address));
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        let stream = match event {
            Either::Left(stream) => stream,
            Either::Right(never) => match never {},
        };
        let Some((_, local_address)) =
            self.relayed.get(&peer).and_then(|list| list.iter().find(|(known, _)| *known == connection))
        else {
            return;
        };
        match self.shared.admission.admit(peer) {
            Ok(permit) => self.outbox.push_back(ToTransport::Incoming(Box::new(Incoming {
                peer,
                stream,
                permit,
                local_address: up_to_circuit(local_address),
            }))),
            // Dropping the stream resets it: the peer sees the refusal at once.
            Err(error) => tracing::debug!(%peer, %error, "handshake refused"),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        loop {
            if let Some(action) = self.actions.pop_front() {
                return Poll::Ready(action);
            }
            self.send_outbox(cx);
            self.close_relayed(cx);
            if !self.actions.is_empty() {
                continue;
            }
            match self.requests.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.on_request(request),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// `<relay>/p2p-circuit`, without the peer behind it.
fn up_to_circuit(address: &Multiaddr) -> Multiaddr {
    use libp2p_core::multiaddr::Protocol;
    let relay: Multiaddr = address.iter().take_while(|part| *part != Protocol::P2pCircuit).collect();
    relay.with(Protocol::P2pCircuit)
}

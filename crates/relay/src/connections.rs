//! Connections of the swarm, shared out by origin, as a libp2p behaviour; and whom the relay may dial.

use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use cdi_types::PeerId;
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::behaviour::ConnectionClosed;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};

use crate::metrics::Metrics;
use crate::origin::{Origin, Shares};

/// Denies connections of origins that hold their share already.
pub(crate) struct Behaviour {
    shares: Shares,
    origins: HashMap<ConnectionId, Origin>,
    metrics: Metrics,
}

/// The origin holds its share of connections.
#[derive(Debug, thiserror::Error)]
#[error("this address holds its share of connections")]
struct ShareExceeded;

/// Addresses come from strangers: a relay that dialled any could be sent anywhere, its own network included.
#[derive(Debug, thiserror::Error)]
#[error("only clients are dialled, where they are connected from")]
struct NotAClient;

impl Behaviour {
    /// Shares of `capacity` connections.
    pub(crate) fn new(capacity: usize, metrics: Metrics) -> Self {
        Self { shares: Shares::new(capacity), origins: HashMap::new(), metrics }
    }

    fn refuse<T>(&self) -> Result<T, ConnectionDenied> {
        self.metrics.refuse("connection");
        Err(ConnectionDenied::new(ShareExceeded))
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        // Before the handshake, which costs more than the question.
        if self.shares.allows(Origin::of_multiaddr(remote)) { Ok(()) } else { self.refuse() }
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let allowed = |a: &Multiaddr| self.origins.values().any(|origin| *origin == Origin::of_multiaddr(a));
        let named = |a: &Multiaddr| matches!(a.iter().next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
        let all = !addresses.is_empty() && addresses.iter().all(named) && addresses.iter().all(allowed);
        if all { Ok(Vec::new()) } else { Err(ConnectionDenied::new(NotAClient)) }
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let origin = Origin::of_multiaddr(remote);
        if !self.shares.take(origin, false) {
            return self.refuse();
        }
        self.origins.insert(id, origin);
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // A connection that another behaviour denied after this one took its place ends as a failure.
        let id = match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => connection_id,
            FromSwarm::ListenFailure(failure) => failure.connection_id,
            _ => return,
        };
        if let Some(origin) = self.origins.remove(&id) {
            self.shares.give_back(origin);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

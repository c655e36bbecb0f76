//! Gossip, but not over circuits.
//!
//! A circuit costs its relay's bytes twice, and the relay is a neighbour itself: what a node announces reaches the
//! others through it anyway. js-libp2p takes no gossip over circuits at all, and that would go unnoticed here: gossipsub
//! tells a peer its topics once, on the first connection, so a peer that was reached over a circuit first and directly
//! then would never learn them.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::task::{Context, Poll};

use cdi_types::PeerId;
use either::Either;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    dummy,
};
use libp2p::{Multiaddr, gossipsub};

use crate::{LinkKind, address, gossip};

/// Gossipsub on direct connections.
pub(crate) struct DirectGossip {
    inner: gossip::Behaviour,
    /// Direct connections of each peer. Bounded by the connection limits.
    direct: HashMap<PeerId, usize>,
}

impl DirectGossip {
    /// The same behaviour, blind to circuits.
    pub(crate) fn new(inner: gossip::Behaviour) -> Self {
        Self { inner, direct: HashMap::new() }
    }

    fn on_established(&mut self, event: ConnectionEstablished<'_>) {
        if address::of_endpoint(event.endpoint).1 == LinkKind::Direct {
            let others = self.direct.entry(event.peer_id).or_default();
            let event = ConnectionEstablished { other_established: *others, ..event };
            *others += 1;
            self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(event));
        }
    }

    fn on_closed(&mut self, event: ConnectionClosed<'_>) {
        if address::of_endpoint(event.endpoint).1 == LinkKind::Direct {
            let count = self.direct.remove(&event.peer_id).unwrap_or_default();
            let remaining_established = count.saturating_sub(1);
            if remaining_established > 0 {
                self.direct.insert(event.peer_id, remaining_established);
            }
            self.inner.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed { remaining_established, ..event }));
        }
    }
}

impl Deref for DirectGossip {
    type Target = gossip::Behaviour;

    fn deref(&self) -> &gossip::Behaviour {
        &self.inner
    }
}

impl DerefMut for DirectGossip {
    fn deref_mut(&mut self) -> &mut gossip::Behaviour {
        &mut self.inner
    }
}

impl NetworkBehaviour for DirectGossip {
    type ConnectionHandler = Either<THandler<gossip::Behaviour>, dummy::ConnectionHandler>;
    type ToSwarm = gossipsub::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        match LinkKind::of(local.iter().chain(remote.iter())) {
            LinkKind::Relayed => Ok(Either::Right(dummy::ConnectionHandler)),
            LinkKind::Direct => {
                self.inner.handle_established_inbound_connection(connection, peer, local, remote).map(Either::Left)
            }
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        match LinkKind::of(address.iter()) {
            LinkKind::Relayed => Ok(Either::Right(dummy::ConnectionHandler)),
            LinkKind::Direct => self
                .inner
                .handle_established_outbound_connection(connection, peer, address, role, port)
                .map(Either::Left),
        }
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => self.on_established(event),
            FromSwarm::ConnectionClosed(event) => self.on_closed(event),
            event => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, connection, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<gossipsub::Event, THandlerInEvent<Self>>> {
        self.inner.poll(cx).map(|event| event.map_in(Either::Left))
    }
}

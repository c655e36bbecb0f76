//! How the actor reaches others: relays that it stays connected to, and peers on request.

use std::num::NonZeroU8;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use crate::dials::{Reached, ReachedAddress, Way, fail, succeed};
use crate::event::NetEvent;
use crate::kept::GoodRelay;
use crate::relays::{Lost, Relay};
use crate::transport::DIRECT_OVER_RELAY;
use crate::worker::{Worker, root_cause};
use crate::{Address, LinkKind, NetError};

/// Routes to a peer are tried one after the other: each is a circuit, and most peers are at the first relay.
const ROUTES_AT_ONCE: NonZeroU8 = NonZeroU8::MIN;

impl Worker {
    /// Does what is due: relays that were lost, dials whose time is over.
    pub(crate) fn retry(&mut self, now: Instant) {
        for index in self.relays.due(now) {
            if self.relays.get(index).connection.is_some() {
                self.reserve(index);
            } else {
                self.dial_relay(index, now);
            }
        }
        for peer in self.ice.take_due(now) {
            if let Some(index) = self.relays.index_of(&peer) {
                self.ask_ice(index);
            }
        }
        while let Some((peer, dial)) = self.dials.take_overdue(now) {
            match dial.way {
                Way::Direct => self.attempt(peer, Way::Relayed, dial.waiting),
                Way::Relayed => self.look_up(peer, dial.waiting, "no answer in time".to_owned()),
                Way::Found => fail(dial.waiting, peer, "no answer in time"),
            }
        }
        self.close_silent(now);
        self.drop_spare_relay();
        self.maintain(now);
        self.meet(now);
    }

    /// Parts with the slowest relay when there are more than wanted.
    fn drop_spare_relay(&mut self) {
        let links = &self.links;
        if let Some((connection, listener)) = self.relays.spare(|relay| links.uses(relay)) {
            self.swarm.remove_listener(listener);
            self.swarm.close_connection(connection);
        }
    }

    /// Adds relays that were good before.
    pub(crate) fn remember_relays(&mut self, relays: &[GoodRelay]) {
        for relay in relays {
            if let Some(address) = relay.address()
                && (self.relays.addresses().any(|a| *a == address) || self.may_dial(&address))
            {
                self.relays.add(address, relay.rtt());
            }
        }
    }

    /// Stays connected to these relays and no others.
    pub(crate) fn set_relays(&mut self, addresses: Vec<Address>) {
        for relay in self.relays.replace(addresses, Instant::now()) {
            if let Some(listener) = relay.listener() {
                self.swarm.remove_listener(listener);
            }
            if let Some(connection) = relay.connection {
                self.swarm.close_connection(connection);
            }
        }
        for relay in self.relays.peers() {
            self.swarm.behaviour_mut().limits.bypass_peer_id(&relay);
        }
    }

    fn dial_relay(&mut self, index: usize, now: Instant) {
        let relay = self.relays.get(index);
        let address = relay.address.as_multiaddr().clone();
        let options = match relay.peer {
            Some(peer) => dial_options(peer, vec![address]),
            None => DialOpts::unknown_peer_id().address(address).build(),
        };
        self.relays.dialling(index, options.connection_id());
        if let Err(error) = self.swarm.dial(options) {
            let lost = self.relays.refused(index, now);
            self.on_relay_lost(lost, root_cause(&error));
        }
    }

    /// Asks a connected relay to be reachable through it.
    pub(crate) fn reserve(&mut self, index: usize) {
        let Some(circuit) = circuit(self.relays.get(index)) else { return };
        match self.swarm.listen_on(circuit) {
            Ok(listener) => self.relays.reserving(index, listener),
            Err(error) => {
                let lost = self.relays.refused(index, Instant::now());
                self.on_relay_lost(lost, root_cause(&error));
            }
        }
    }

    pub(crate) fn on_reserved(&mut self, peer: PeerId, now: Instant) {
        let Some(relay) = self.relays.accepted(&peer, now) else { return };
        let address = relay.address.clone();
        let mut plain = address.as_multiaddr().clone();
        if address.peer().is_some() {
            plain.pop();
        }
        self.swarm.behaviour_mut().kad.add_address(&peer, plain);
        let transport = address.transport();
        self.rendezvous.hurry(now);
        self.quality.changed();
        self.emit(NetEvent::RelayUp { peer, address, transport });
    }

    pub(crate) fn on_relay_lost(&mut self, lost: Lost, reason: String) {
        self.stats.relay_losses += 1;
        let others_up = self.relays.up().count();
        self.emit(NetEvent::RelayDown { address: lost.address, reason, retry_in: lost.retry_in, others_up });
    }

    /// Reaches a peer, directly if that is possible, and tells `reached`.
    pub(crate) fn dial(&mut self, peer: PeerId, reached: Reached) {
        if self.links.link(&peer) == Some(LinkKind::Direct) {
            return succeed(vec![reached], LinkKind::Direct);
        }
        if peer == *self.swarm.local_peer_id() {
            return fail(vec![reached], peer, "it is this node");
        }
        let Some(reached) = self.dials.join(&peer, reached) else { return };
        if self.dials.is_full() {
            let _ = reached.send(Err(NetError::Busy));
            return;
        }
        let way = if DIRECT_OVER_RELAY { Way::Direct } else { Way::Relayed };
        self.attempt(peer, way, vec![reached]);
    }

    /// Reaches whoever answers at `address`, and tells `reached`.
    pub(crate) fn dial_address(&mut self, address: Address, reached: ReachedAddress) {
        if self.dials.is_full() {
            let _ = reached.send(Err(NetError::Busy));
            return;
        }
        let target = address.as_multiaddr().clone();
        let options = match address.peer() {
            Some(peer) => dial_options(peer, vec![target]),
            None => DialOpts::unknown_peer_id().address(target).build(),
        };
        let attempt = options.connection_id();
        self.dials.begin_address(address, attempt, reached);
        if let Err(error) = self.swarm.dial(options) {
            self.dials.address_failed(attempt, &root_cause(&error));
        }
    }

    /// A dial failed: the next way is tried, or those who wait are told.
    pub(crate) fn on_dial_failed(&mut self, attempt: ConnectionId, reason: &str, now: Instant) {
        self.stats.dials_failed += 1;
        if let Some(lost) = self.relays.dial_failed(attempt, now) {
            self.on_relay_lost(lost, reason.to_owned());
        } else if self.dials.address_failed(attempt, reason) {
        } else if let Some((peer, dial)) = self.dials.take_attempt(attempt) {
            match dial.way {
                Way::Direct => self.attempt(peer, Way::Relayed, dial.waiting),
                Way::Relayed => self.look_up(peer, dial.waiting, reason.to_owned()),
                Way::Found => fail(dial.waiting, peer, reason),
            }
        }
    }

    /// Tries addresses that were found in the DHT.
    pub(crate) fn attempt_at(&mut self, peer: PeerId, addresses: &[Address], waiting: Vec<Reached>) {
        let options = dial_options(peer, addresses.iter().map(|a| a.as_multiaddr().clone()).collect());
        let attempt = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.dials.begin(peer, Way::Found, attempt, waiting, Instant::now()),
            Err(error) => fail(waiting, peer, &root_cause(&error)),
        }
    }

    /// Tries `way`, and after [`Way::Direct`] the relayed one.
    fn attempt(&mut self, peer: PeerId, mut way: Way, waiting: Vec<Reached>) {
        loop {
            if way == Way::Relayed
                && let Some(link) = self.links.link(&peer)
            {
                return succeed(waiting, link);
            }
            let routes = self.routes(peer, way);
            let reason = if routes.is_empty() {
                "no relay is connected".to_owned()
            } else {
                let options = dial_options(peer, routes);
                let attempt = options.connection_id();
                match self.swarm.dial(options) {
                    Ok(()) => return self.dials.begin(peer, way, attempt, waiting, Instant::now()),
                    Err(error) => root_cause(&error),
                }
            };
            match way {
                Way::Direct => way = Way::Relayed,
                Way::Relayed | Way::Found => return self.look_up(peer, waiting, reason),
            }
        }
    }

    /// Addresses at which `peer` may be reached: one over each usable relay.
    fn routes(&self, peer: PeerId, way: Way) -> Vec<Multiaddr> {
        let over = |relay: &Relay| {
            let circuit = circuit(relay)?;
            Some(match way {
                Way::Direct => circuit.with(Protocol::WebRTC),
                Way::Relayed | Way::Found => circuit,
            })
        };
        self.relays.up().filter_map(over).map(|a| a.with(Protocol::P2p(peer))).collect()
    }
}

/// `<relay>/p2p/<its id>/p2p-circuit`, once its id is known.
fn circuit(relay: &Relay) -> Option<Multiaddr> {
    let address = relay.address.as_multiaddr().clone().with_p2p(relay.peer?).ok()?;
    Some(address.with(Protocol::P2pCircuit))
}

/// Dials although the peer may be connected or being dialled: a circuit to it is no reason not to try a
/// direct link, and [`crate::dials`] sees to it that nobody is dialled twice.
fn dial_options(peer: PeerId, addresses: Vec<Multiaddr>) -> DialOpts {
    DialOpts::peer_id(peer)
        .condition(PeerCondition::Always)
        .addresses(addresses)
        .override_dial_concurrency_factor(ROUTES_AT_ONCE)
        .build()
}

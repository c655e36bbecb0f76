//! How the actor reaches others: relays that it stays connected to, and peers on request.

use std::num::NonZeroU8;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};

use crate::dials::{Reached, ReachedAddress, fail, succeed};
use crate::event::NetEvent;
use crate::kept::GoodRelay;
use crate::ladder::{Step, steps};
use crate::relays::{Lost, Relay};
use crate::worker::{Worker, root_cause};
use crate::{Address, LinkKind, NetError};

/// Routes to a peer are tried one after the other: each is a circuit, and most peers are at the first relay.
const ROUTES_AT_ONCE: NonZeroU8 = NonZeroU8::MIN;

impl Worker {
    /// Does what is due: relays that were lost, ways to peers that come next.
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
        self.climb(now);
        self.pursue(now);
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
        let (ways, now) = (self.ways(peer, true), Instant::now());
        let is_relayed = self.links.link(&peer).is_some();
        self.dials.begin(peer, steps(ways), is_relayed, now).waiting.push(reached);
        self.pursue(now);
    }

    /// Reaches a peer that is there through a relay by a link of its own, if that is possible. Nobody waits.
    pub(crate) fn try_directly(&mut self, peer: PeerId, now: Instant) {
        if self.dials.is_full() || self.dials.contains(&peer) {
            return;
        }
        let ways = self.ways(peer, false);
        if !ways.is_empty() {
            self.dials.begin(peer, steps(ways), true, now);
        }
    }

    /// Does what is due for dials: tries the next ways, and ends those that have no more.
    fn pursue(&mut self, now: Instant) {
        while let Some((peer, step)) = self.dials.take_step(now) {
            self.attempt(peer, &step);
        }
        while let Some((peer, dial)) = self.dials.take_over(now) {
            match self.links.link(&peer) {
                Some(link) => succeed(dial.waiting, link),
                None if dial.is_found => fail(dial.waiting, peer, &dial.reason),
                None => self.look_up(peer, dial.waiting, dial.reason),
            }
        }
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
        } else if !self.dials.address_failed(attempt, reason) {
            self.dials.attempt_failed(attempt, reason);
        }
    }

    /// Tries addresses that were found in the DHT.
    pub(crate) fn attempt_at(&mut self, peer: PeerId, addresses: Vec<Address>, waiting: Vec<Reached>) {
        let dial = self.dials.begin(peer, steps(addresses), false, Instant::now());
        dial.waiting = waiting;
        dial.is_found = true;
    }

    fn attempt(&mut self, peer: PeerId, step: &Step) {
        let options = dial_options(peer, step.addresses.iter().map(|a| a.as_multiaddr().clone()).collect());
        let attempt = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.dials.started(&peer, attempt, step.rung),
            Err(error) => self.dials.refused(&peer, root_cause(&error)),
        }
    }

    /// Addresses at which `peer` may be reached: its own, and over each usable relay one for a link over WebRTC and,
    /// if wanted, one for a circuit.
    fn ways(&self, peer: PeerId, with_circuits: bool) -> Vec<Address> {
        let mut ways = self.ladder.known(&peer).to_vec();
        for circuit in self.relays.up().filter_map(circuit) {
            if self.direct {
                ways.push(circuit.clone().with(Protocol::WebRTC).with(Protocol::P2p(peer)).into());
            }
            if with_circuits {
                ways.push(circuit.with(Protocol::P2p(peer)).into());
            }
        }
        ways
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

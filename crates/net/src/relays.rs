//! The links to relays: which of those that are known to use, dial, reserve, and come back after a loss.
//!
//! A pure state machine: the worker tells it what happened and when, and does what [`Relays::due`] asks.

use std::collections::VecDeque;
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::ConnectionId;

use crate::Address;
use crate::backoff::Backoff;
use crate::kept::{GoodRelay, MAX_RELAYS as MAX_KEPT};

/// A link that held this long was good: the next loss starts the waiting times over.
const STABLE: Duration = Duration::from_secs(10);
/// Relays that are used at a time: one may go, and one may be slow.
const WANTED: usize = 3;
/// Relays that are known at most.
const MAX_RELAYS: usize = 64;
/// Further addresses of one relay.
const MAX_ADDRESSES: usize = 8;
/// First and later times at which an unused relay is compared with the used ones.
const COMPARE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(300));
/// A relay takes the place of the slowest when its round trip is this part of the slowest one's.
const CLEARLY_FASTER: f64 = 0.7;

/// One known relay.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Where it is dialled.
    pub(crate) address: Address,
    /// Where else it can be dialled: these take their turns when a dial fails.
    others: VecDeque<Address>,
    /// Who it is: from the address, or learnt when it first answered.
    pub(crate) peer: Option<PeerId>,
    /// The connection to it, if there is one.
    pub(crate) connection: Option<ConnectionId>,
    /// Smoothed round trip, once measured.
    rtt: Option<Duration>,
    /// Whether the user chose it.
    chosen: bool,
    /// Failures since it was last good.
    failures: u32,
    /// Orders relays of which nothing is known: each node has its own order.
    draw: u64,
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not needed now.
    Idle,
    /// Tried again at this time.
    Waiting(Instant),
    /// Being dialled.
    Dialling(ConnectionId),
    /// Connected, asking for a reservation.
    Reserving(ListenerId),
    /// Usable since then.
    Up(ListenerId, Instant),
}

/// A relay that is not usable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Where it was dialled.
    pub(crate) address: Address,
    /// When it is tried again.
    pub(crate) retry_in: Duration,
}

/// All known relays.
#[derive(Debug)]
pub(crate) struct Relays {
    all: Vec<Relay>,
    seed: u64,
    compare: Instant,
    /// Whether one relay more than wanted is used, to compare it.
    comparing: bool,
}

impl Relays {
    /// The relays at `addresses`. `seed` makes the waiting times and the order of those that are equally good.
    pub(crate) fn new(addresses: Vec<Address>, seed: u64, now: Instant) -> Self {
        let mut relays = Self { all: Vec::new(), seed, compare: now + COMPARE.0, comparing: false };
        relays.replace(addresses, now);
        relays
    }

    /// Makes these the relays that the user chose: those that were there stay as they are. Gives those that are not
    /// wanted any more; relays that were learnt otherwise stay.
    pub(crate) fn replace(&mut self, addresses: Vec<Address>, now: Instant) -> Vec<Relay> {
        let wanted = |r: &Relay| {
            !r.chosen || std::iter::once(&r.address).chain(&r.others).any(|known| addresses.contains(known))
        };
        let (kept, dropped) = std::mem::take(&mut self.all).into_iter().partition(wanted);
        self.all = kept;
        for address in addresses {
            if let Some(relay) = self.add(address, None) {
                relay.chosen = true;
            }
        }
        self.choose(now);
        dropped
    }

    /// One more relay, or a further address of one that is known: the better address comes first.
    pub(crate) fn add(&mut self, address: Address, rtt: Option<Duration>) -> Option<&mut Relay> {
        let peer = address.peer();
        let known = self.all.iter().position(|r| r.address == address || (peer.is_some() && r.peer == peer));
        if let Some(index) = known {
            let relay = &mut self.all[index];
            relay.rtt = relay.rtt.or(rtt);
            if relay.address != address && relay.others.len() < MAX_ADDRESSES && !relay.others.contains(&address) {
                relay.others.push_back(address);
            }
            return Some(relay);
        }
        if self.all.len() >= MAX_RELAYS {
            return None;
        }
        let backoff = Backoff::new(self.seed.wrapping_add(self.all.len() as u64));
        let draw = backoff.seed();
        let others = VecDeque::new();
        let state = State::Idle;
        let (connection, failures, chosen) = (None, 0, false);
        self.all.push(Relay { peer, address, others, connection, rtt, failures, chosen, draw, state, backoff });
        self.all.last_mut()
    }

    /// Where all of them are.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.all.iter().map(|r| &r.address)
    }

    /// The relays that were good, best first.
    pub(crate) fn good(&self) -> Vec<GoodRelay> {
        let mut good: Vec<&Relay> = self.all.iter().filter(|r| r.failures == 0 && r.rtt.is_some()).collect();
        good.sort_by_key(|r| r.rtt);
        let kept = |r: &Relay| GoodRelay {
            address: r.address.to_string(),
            rtt_ms: r.rtt.map(|rtt| u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)),
        };
        good.into_iter().take(MAX_KEPT).map(kept).collect()
    }

    /// A round trip to a relay was measured.
    pub(crate) fn measured(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(relay) = self.all.iter_mut().find(|r| r.peer.as_ref() == Some(peer)) {
            relay.rtt = Some(relay.rtt.map_or(rtt, |old| old.mul_f64(0.75) + rtt.mul_f64(0.25)));
        }
    }

    /// Puts unused relays to use until enough are: those that failed least, then the nearest, then any.
    fn choose(&mut self, now: Instant) {
        let wanted = WANTED + usize::from(self.comparing);
        let mut used = self.all.iter().filter(|r| r.is_used()).count();
        for relay in &mut self.all {
            if matches!(relay.state, State::Waiting(at) if at <= now) {
                // Others took over meanwhile, or it was chosen before a better one was remembered.
                if used >= wanted || relay.failures == 0 {
                    relay.state = State::Idle;
                } else {
                    used += 1;
                }
            }
        }
        while used < wanted {
            let rank = |r: &&mut Relay| (r.failures, r.rtt.unwrap_or(Duration::MAX), r.draw);
            let Some(next) = self.all.iter_mut().filter(|r| r.state == State::Idle).min_by_key(rank) else { return };
            next.state = State::Waiting(now);
            used += 1;
        }
    }

    /// From time to time an unused relay is tried beside the others: it may be nearer. Whether one is now.
    fn begin_comparison(&mut self, now: Instant) {
        if self.comparing || now < self.compare || self.up().count() < WANTED {
            return;
        }
        self.compare = now + COMPARE.1;
        let Some(slowest) = self.up().filter_map(|r| r.rtt).max() else { return };
        let promising = |r: &Relay| {
            r.state == State::Idle && r.failures == 0 && r.rtt.is_none_or(|rtt| rtt < slowest.mul_f64(CLEARLY_FASTER))
        };
        self.comparing = self.all.iter().any(promising);
    }

    /// The slowest relay, when one more than wanted is up and all are measured: it is no longer used. `is_busy` says
    /// which carry circuits.
    pub(crate) fn spare(&mut self, is_busy: impl Fn(&PeerId) -> bool) -> Option<(ConnectionId, ListenerId)> {
        if self.up().count() <= WANTED || self.up().any(|r| r.rtt.is_none()) {
            return None;
        }
        self.comparing = false;
        let up = |r: &&mut Relay| matches!(r.state, State::Up(..)) && !r.peer.is_some_and(|peer| is_busy(&peer));
        let slowest = self.all.iter_mut().filter(up).max_by_key(|r| r.rtt)?;
        let State::Up(listener, _) = slowest.state else { return None };
        slowest.state = State::Idle;
        Some((slowest.connection.take()?, listener))
    }

    /// The relay at `index`.
    pub(crate) fn get(&self, index: usize) -> &Relay {
        &self.all[index]
    }

    /// Where `peer` stands among them.
    pub(crate) fn index_of(&self, peer: &PeerId) -> Option<usize> {
        self.all.iter().position(|r| r.peer.as_ref() == Some(peer))
    }

    /// Whether `peer` is one of them.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.all.iter().any(|r| r.peer.as_ref() == Some(peer))
    }

    /// The identities that are known.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.all.iter().filter_map(|r| r.peer)
    }

    /// The connections to them.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> {
        self.all.iter().filter_map(|r| Some((r.peer?, r.connection?)))
    }

    /// The usable ones.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Relay> {
        self.all.iter().filter(|r| matches!(r.state, State::Up(..)))
    }

    /// The relays to try now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<usize> {
        self.begin_comparison(now);
        self.choose(now);
        let due = |r: &Relay| matches!(r.state, State::Waiting(at) if at <= now);
        self.all.iter().enumerate().filter(|(_, r)| due(r)).map(|(index, _)| index).collect()
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = |r: &Relay| match r.state {
            State::Waiting(at) => Some(at),
            _ => None,
        };
        let spare = self.all.iter().any(|r| r.state == State::Idle) && self.up().count() >= WANTED && !self.comparing;
        self.all.iter().filter_map(waiting).chain(spare.then_some(self.compare)).min()
    }

    /// The machine woke up, or the network changed: waiting ones are due now.
    pub(crate) fn wake(&mut self, now: Instant) {
        for relay in &mut self.all {
            if let State::Waiting(at) = &mut relay.state {
                *at = now;
                relay.backoff.reset();
            }
        }
    }

    /// It is being dialled.
    pub(crate) fn dialling(&mut self, index: usize, attempt: ConnectionId) {
        self.all[index].state = State::Dialling(attempt);
    }

    /// It was asked for a reservation.
    pub(crate) fn reserving(&mut self, index: usize, listener: ListenerId) {
        self.all[index].state = State::Reserving(listener);
    }

    /// A connection came up; the relay that was being dialled with it, which now wants a reservation.
    pub(crate) fn connected(&mut self, attempt: ConnectionId, peer: PeerId) -> Option<usize> {
        let index = self.all.iter().position(|r| r.state == State::Dialling(attempt))?;
        self.all[index].peer = Some(peer);
        self.all[index].connection = Some(attempt);
        Some(index)
    }

    /// The relay granted a reservation. The relay, when it was not usable before.
    pub(crate) fn accepted(&mut self, peer: &PeerId, now: Instant) -> Option<&Relay> {
        let relay = self.all.iter_mut().find(|r| r.peer.as_ref() == Some(peer))?;
        let State::Reserving(listener) = relay.state else { return None };
        relay.state = State::Up(listener, now);
        relay.failures = 0;
        Some(relay)
    }

    /// A dial failed.
    pub(crate) fn dial_failed(&mut self, attempt: ConnectionId, now: Instant) -> Option<Lost> {
        let relay = self.all.iter_mut().find(|r| r.state == State::Dialling(attempt))?;
        Some(relay.lose(now))
    }

    /// The attempt failed before it began.
    pub(crate) fn refused(&mut self, index: usize, now: Instant) -> Lost {
        self.all[index].lose(now)
    }

    /// A reservation was refused, expired or fell with its connection.
    pub(crate) fn listener_closed(&mut self, listener: ListenerId, now: Instant) -> Option<Lost> {
        let holds = |r: &Relay| match r.state {
            State::Reserving(id) | State::Up(id, _) => id == listener,
            _ => false,
        };
        self.all.iter_mut().find(|r| holds(r)).map(|r| r.lose(now))
    }

    /// The relay turned out to be of no use. What was lost, and the reservation if there was one.
    pub(crate) fn turn_away(&mut self, peer: &PeerId, now: Instant) -> Option<(Lost, Option<ListenerId>)> {
        let relay = self.all.iter_mut().find(|r| r.peer.as_ref() == Some(peer))?;
        let listener = match relay.state {
            State::Reserving(listener) | State::Up(listener, _) => Some(listener),
            _ => None,
        };
        relay.connection = None;
        Some((relay.lose(now), listener))
    }

    /// A connection is gone, and with it the reservation on it.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId, now: Instant) -> Option<(Lost, ListenerId)> {
        let relay = self.all.iter_mut().find(|r| r.connection == Some(connection))?;
        relay.connection = None;
        match relay.state {
            State::Reserving(listener) | State::Up(listener, _) => Some((relay.lose(now), listener)),
            _ => None,
        }
    }
}

impl Relay {
    /// The reservation that it holds or asks for.
    pub(crate) const fn listener(&self) -> Option<ListenerId> {
        match self.state {
            State::Reserving(listener) | State::Up(listener, _) => Some(listener),
            State::Idle | State::Waiting(_) | State::Dialling(_) => None,
        }
    }

    /// Whether it is up, or being brought up.
    fn is_used(&self) -> bool {
        matches!(self.state, State::Dialling(_) | State::Reserving(_) | State::Up(..))
    }

    fn lose(&mut self, now: Instant) -> Lost {
        self.failures = self.failures.saturating_add(1);
        if matches!(self.state, State::Up(_, since) if now.saturating_duration_since(since) >= STABLE) {
            self.backoff.reset();
        }
        let retry_in = self.backoff.next();
        let was_dialling = matches!(self.state, State::Dialling(_));
        self.state = State::Waiting(now + retry_in);
        let lost = Lost { address: self.address.clone(), retry_in };
        if was_dialling && let Some(next) = self.others.pop_front() {
            self.others.push_back(std::mem::replace(&mut self.address, next));
        }
        lost
    }
}

#[cfg(test)]
mod tests;

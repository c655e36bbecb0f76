//! The links to the configured relays: dial, reserve, and come back after a loss.
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

/// A link that held this long was good: the next loss starts the waiting times over.
const STABLE: Duration = Duration::from_secs(10);

/// One configured relay.
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
    state: State,
    backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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

/// All configured relays.
#[derive(Debug)]
pub(crate) struct Relays(Vec<Relay>);

impl Relays {
    /// The relays at `addresses`, all due at `now`; of one relay the better address comes first. `seed` makes
    /// the waiting times.
    pub(crate) fn new(addresses: Vec<Address>, seed: u64, now: Instant) -> Self {
        let mut relays = Self(Vec::new());
        relays.replace(addresses, seed, now);
        relays
    }

    /// Makes these the relays: those that were there stay as they are, new ones are due at `now`. Gives those that are
    /// not wanted any more.
    pub(crate) fn replace(&mut self, addresses: Vec<Address>, seed: u64, now: Instant) -> Vec<Relay> {
        let wanted = |r: &Relay| std::iter::once(&r.address).chain(&r.others).any(|known| addresses.contains(known));
        let (kept, dropped) = std::mem::take(&mut self.0).into_iter().partition(wanted);
        self.0 = kept;
        for (index, address) in addresses.into_iter().enumerate() {
            let peer = address.peer();
            let known = self.0.iter_mut().find(|r| r.address == address || (peer.is_some() && r.peer == peer));
            match known {
                Some(known) if known.address == address || known.others.contains(&address) => {}
                Some(known) => known.others.push_back(address),
                None => {
                    let backoff = Backoff::new(seed.wrapping_add(index as u64));
                    let state = State::Waiting(now);
                    self.0.push(Relay { peer, address, others: VecDeque::new(), connection: None, state, backoff });
                }
            }
        }
        dropped
    }

    /// The relay at `index`.
    pub(crate) fn get(&self, index: usize) -> &Relay {
        &self.0[index]
    }

    /// Where `peer` stands among them.
    pub(crate) fn index_of(&self, peer: &PeerId) -> Option<usize> {
        self.0.iter().position(|r| r.peer.as_ref() == Some(peer))
    }

    /// Whether `peer` is one of them.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.0.iter().any(|r| r.peer.as_ref() == Some(peer))
    }

    /// The identities that are known.
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerId> {
        self.0.iter().filter_map(|r| r.peer)
    }

    /// The usable ones.
    pub(crate) fn up(&self) -> impl Iterator<Item = &Relay> {
        self.0.iter().filter(|r| matches!(r.state, State::Up(..)))
    }

    /// The relays to try now.
    pub(crate) fn due(&self, now: Instant) -> Vec<usize> {
        let due = |r: &Relay| matches!(r.state, State::Waiting(at) if at <= now);
        self.0.iter().enumerate().filter(|(_, r)| due(r)).map(|(index, _)| index).collect()
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = |r: &Relay| match r.state {
            State::Waiting(at) => Some(at),
            _ => None,
        };
        self.0.iter().filter_map(waiting).min()
    }

    /// The machine woke up, or the network changed: waiting ones are due now.
    pub(crate) fn wake(&mut self, now: Instant) {
        for relay in &mut self.0 {
            if let State::Waiting(at) = &mut relay.state {
                *at = now;
                relay.backoff.reset();
            }
        }
    }

    /// It is being dialled.
    pub(crate) fn dialling(&mut self, index: usize, attempt: ConnectionId) {
        self.0[index].state = State::Dialling(attempt);
    }

    /// It was asked for a reservation.
    pub(crate) fn reserving(&mut self, index: usize, listener: ListenerId) {
        self.0[index].state = State::Reserving(listener);
    }

    /// A connection came up; the relay that was being dialled with it, which now wants a reservation.
    pub(crate) fn connected(&mut self, attempt: ConnectionId, peer: PeerId) -> Option<usize> {
        let index = self.0.iter().position(|r| r.state == State::Dialling(attempt))?;
        self.0[index].peer = Some(peer);
        self.0[index].connection = Some(attempt);
        Some(index)
    }

    /// The relay granted a reservation. The relay, when it was not usable before.
    pub(crate) fn accepted(&mut self, peer: &PeerId, now: Instant) -> Option<&Relay> {
        let relay = self.0.iter_mut().find(|r| r.peer.as_ref() == Some(peer))?;
        let State::Reserving(listener) = relay.state else { return None };
        relay.state = State::Up(listener, now);
        Some(relay)
    }

    /// A dial failed.
    pub(crate) fn dial_failed(&mut self, attempt: ConnectionId, now: Instant) -> Option<Lost> {
        let relay = self.0.iter_mut().find(|r| r.state == State::Dialling(attempt))?;
        Some(relay.lose(now))
    }

    /// The attempt failed before it began.
    pub(crate) fn refused(&mut self, index: usize, now: Instant) -> Lost {
        self.0[index].lose(now)
    }

    /// A reservation was refused, expired or fell with its connection.
    pub(crate) fn listener_closed(&mut self, listener: ListenerId, now: Instant) -> Option<Lost> {
        let holds = |r: &Relay| match r.state {
            State::Reserving(id) | State::Up(id, _) => id == listener,
            _ => false,
        };
        self.0.iter_mut().find(|r| holds(r)).map(|r| r.lose(now))
    }

    /// A connection is gone, and with it the reservation on it.
    pub(crate) fn connection_closed(&mut self, connection: ConnectionId, now: Instant) -> Option<(Lost, ListenerId)> {
        let relay = self.0.iter_mut().find(|r| r.connection == Some(connection))?;
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
            State::Waiting(_) | State::Dialling(_) => None,
        }
    }

    fn lose(&mut self, now: Instant) -> Lost {
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
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    fn relays(now: Instant) -> Relays {
        let with_peer = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{PEER}").parse().expect("an address");
        let without = "/ip4/127.0.0.1/tcp/2/ws".parse().expect("an address");
        Relays::new(vec![with_peer, without], 7, now)
    }

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn dial_reserve_lose_and_come_back() {
        let now = Instant::now();
        let mut relays = relays(now);
        assert_eq!(relays.due(now), [0, 1]);
        let peer: PeerId = PEER.parse().expect("a peer id");
        relays.dialling(0, id(1));
        relays.dialling(1, id(2));
        assert_eq!(relays.next_due(), None);

        assert_eq!(relays.connected(id(9), peer), None, "a connection that is not to a relay");
        assert_eq!(relays.connected(id(1), peer), Some(0));
        let listener = ListenerId::next();
        relays.reserving(0, listener);
        assert_eq!(relays.up().count(), 0);
        assert!(relays.accepted(&peer, now).is_some());
        assert!(relays.accepted(&peer, now).is_none(), "a renewal is not news");
        assert_eq!(relays.up().count(), 1);

        let (lost, closed) = relays.connection_closed(id(1), now).expect("the relay's connection");
        assert_eq!(closed, listener);
        assert!(relays.listener_closed(listener, now).is_none(), "one loss is told once");
        assert!(relays.due(now).is_empty());
        assert_eq!(relays.due(now + lost.retry_in), [0]);
    }

    #[test]
    fn the_identity_of_a_relay_is_learnt() {
        let now = Instant::now();
        let mut relays = relays(now);
        let peer = PeerId::random();
        assert!(!relays.contains(&peer));
        relays.dialling(1, id(2));
        assert_eq!(relays.connected(id(2), peer), Some(1));
        assert!(relays.contains(&peer));
    }

    #[test]
    fn waits_grow_until_a_link_has_held() {
        let start = Instant::now();
        let mut relays = relays(start);
        let fail = |relays: &mut Relays, now| {
            relays.dialling(0, id(1));
            relays.dial_failed(id(1), now).expect("it was being dialled").retry_in
        };
        let waits: Vec<_> = (0..8).map(|_| fail(&mut relays, start)).collect();
        assert!(waits[7] > waits[0] * 10, "{waits:?}");

        let peer: PeerId = PEER.parse().expect("a peer id");
        let mut hold = |held: Duration| {
            relays.dialling(0, id(1));
            relays.connected(id(1), peer);
            let listener = ListenerId::next();
            relays.reserving(0, listener);
            relays.accepted(&peer, start);
            relays.listener_closed(listener, start + held).expect("it was up").retry_in
        };
        assert!(hold(Duration::from_secs(1)) > waits[0] * 10, "a link that falls at once is not a success");
        assert!(hold(STABLE) <= Duration::from_millis(500));
    }

    #[test]
    fn addresses_of_one_relay_take_turns() {
        let now = Instant::now();
        let [first, second] = ["tcp/1/ws", "udp/2/webrtc-direct"]
            .map(|way| format!("/ip4/127.0.0.1/{way}/p2p/{PEER}").parse::<Address>().expect("an address"));
        let mut relays = Relays::new(vec![first.clone(), second.clone()], 7, now);
        assert_eq!(relays.due(now), [0], "one relay is dialled once");
        for expected in [&first, &second, &first] {
            assert_eq!(&relays.get(0).address, expected);
            relays.dialling(0, id(1));
            assert_eq!(&relays.dial_failed(id(1), now).expect("it was being dialled").address, expected);
        }
        relays.dialling(0, id(2));
        relays.connected(id(2), PEER.parse().expect("a peer id"));
        relays.reserving(0, ListenerId::next());
        relays.connection_closed(id(2), now);
        assert_eq!(relays.get(0).address, second, "the way that worked is tried again");
    }

    #[test]
    fn relays_can_be_replaced() {
        let now = Instant::now();
        let mut relays = relays(now);
        let peer: PeerId = PEER.parse().expect("a peer id");
        relays.dialling(0, id(1));
        relays.dialling(1, id(2));
        relays.connected(id(1), peer);
        let listener = ListenerId::next();
        relays.reserving(0, listener);
        let other = PeerId::random();
        let address: Address = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{other}").parse().expect("an address");
        let kept = relays.get(1).address.clone();
        let dropped = relays.replace(vec![address.clone(), kept, address], 7, now);
        assert_eq!(
            dropped.iter().map(|r| (r.listener(), r.connection)).collect::<Vec<_>>(),
            [(Some(listener), Some(id(1)))]
        );
        assert!(!relays.contains(&peer) && relays.contains(&other));
        assert_eq!(relays.due(now), [1], "the new one, once; the other one is being dialled");
    }

    #[test]
    fn waking_up_makes_waiting_relays_due() {
        let now = Instant::now();
        let mut relays = relays(now);
        relays.dialling(0, id(1));
        relays.dial_failed(id(1), now);
        relays.dialling(1, id(2));
        assert!(relays.due(now).is_empty());
        relays.wake(now);
        assert_eq!(relays.due(now), [0], "the one being dialled is left alone");
    }
}

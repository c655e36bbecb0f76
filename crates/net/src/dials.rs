//! Dials in progress: who waits for which peer, and which way is being tried.

use std::collections::HashMap;
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use futures::channel::oneshot;
use libp2p::swarm::ConnectionId;

use crate::transport::CONNECT_TIMEOUT;
use crate::{Address, LinkKind, NetError};

/// Dials at a time.
const MAX_DIALS: usize = 64;
/// Time for a direct link before the caller gets a relayed one. The direct attempt goes on. ICE on a
/// loopback takes 56–210 ms, over the internet a few seconds.
const DIRECT_PATIENCE: Duration = Duration::from_secs(8);

/// Where the outcome of dialling a peer goes.
pub(crate) type Reached = oneshot::Sender<Result<LinkKind, NetError>>;
/// Where the outcome of dialling an address goes.
pub(crate) type ReachedAddress = oneshot::Sender<Result<PeerId, NetError>>;

/// The way being tried. Direct first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A connection of its own.
    Direct,
    /// A circuit.
    Relayed,
    /// Addresses from the DHT.
    Found,
}

/// A peer being dialled.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) way: Way,
    pub(crate) waiting: Vec<Reached>,
    attempt: ConnectionId,
    deadline: Instant,
}

/// Tells everybody who waits that the peer is reached.
pub(crate) fn succeed(waiting: Vec<Reached>, link: LinkKind) {
    for reached in waiting {
        // Whoever dropped the receiver has lost interest.
        let _ = reached.send(Ok(link));
    }
}

/// Tells everybody who waits that the peer cannot be reached.
pub(crate) fn fail(waiting: Vec<Reached>, peer: PeerId, reason: &str) {
    for reached in waiting {
        let _ = reached.send(Err(NetError::Dial { peer, reason: reason.to_owned() }));
    }
}

/// All dials in progress.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    peers: HashMap<PeerId, Dial>,
    addresses: HashMap<ConnectionId, (Address, ReachedAddress)>,
}

impl Dials {
    /// Whether another dial would be one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.peers.len() + self.addresses.len() >= MAX_DIALS
    }

    /// Joins a dial in progress; gives `reached` back when there is none.
    pub(crate) fn join(&mut self, peer: &PeerId, reached: Reached) -> Option<Reached> {
        match self.peers.get_mut(peer) {
            Some(dial) => {
                dial.waiting.push(reached);
                None
            }
            None => Some(reached),
        }
    }

    /// An attempt to reach `peer` has begun.
    pub(crate) fn begin(&mut self, peer: PeerId, way: Way, attempt: ConnectionId, waiting: Vec<Reached>, now: Instant) {
        let patience = match way {
            Way::Direct => DIRECT_PATIENCE,
            Way::Relayed | Way::Found => CONNECT_TIMEOUT,
        };
        self.peers.insert(peer, Dial { way, attempt, deadline: now + patience, waiting });
    }

    /// An attempt to reach `address` has begun.
    pub(crate) fn begin_address(&mut self, address: Address, attempt: ConnectionId, reached: ReachedAddress) {
        self.addresses.insert(attempt, (address, reached));
    }

    /// The peer is reached by `link`: ends its dial, unless that still waits for better.
    pub(crate) fn reached(&mut self, peer: &PeerId, link: LinkKind) {
        let enough = |dial: &Dial| link == LinkKind::Direct || dial.way != Way::Direct;
        if self.peers.get(peer).is_some_and(enough)
            && let Some(dial) = self.peers.remove(peer)
        {
            succeed(dial.waiting, link);
        }
    }

    /// A dialled address answered.
    pub(crate) fn address_reached(&mut self, attempt: ConnectionId, peer: PeerId) {
        if let Some((_, reached)) = self.addresses.remove(&attempt) {
            let _ = reached.send(Ok(peer));
        }
    }

    /// A dialled address failed. Whether the attempt was one.
    pub(crate) fn address_failed(&mut self, attempt: ConnectionId, reason: &str) -> bool {
        let Some((address, reached)) = self.addresses.remove(&attempt) else { return false };
        let _ = reached.send(Err(NetError::DialAddress { address, reason: reason.to_owned() }));
        true
    }

    /// Takes the dial that this attempt belonged to.
    pub(crate) fn take_attempt(&mut self, attempt: ConnectionId) -> Option<(PeerId, Dial)> {
        let peer = *self.peers.iter().find(|(_, d)| d.attempt == attempt)?.0;
        self.peers.remove_entry(&peer)
    }

    /// Takes a dial whose time is over.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Option<(PeerId, Dial)> {
        let peer = *self.peers.iter().find(|(_, d)| d.deadline <= now)?.0;
        self.peers.remove_entry(&peer)
    }

    /// When the next dial's time is over.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().map(|d| d.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    #[test]
    fn a_direct_dial_is_not_content_with_a_circuit() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        let (sender, mut receiver) = oneshot::channel();
        dials.begin(peer, Way::Direct, id(1), vec![sender], now);
        dials.reached(&peer, LinkKind::Relayed);
        assert!(receiver.try_recv().expect("still waiting").is_none());
        dials.reached(&peer, LinkKind::Direct);
        assert!(matches!(receiver.try_recv(), Ok(Some(Ok(LinkKind::Direct)))));
    }

    #[test]
    fn one_attempt_serves_everybody_who_waits() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        let (first, mut first_receiver) = oneshot::channel();
        let (second, mut second_receiver) = oneshot::channel();
        assert!(dials.join(&peer, oneshot::channel().0).is_some(), "nothing to join yet");
        dials.begin(peer, Way::Relayed, id(1), vec![first], now);
        assert!(dials.join(&peer, second).is_none());
        let (failed, dial) = dials.take_attempt(id(1)).expect("the attempt");
        assert_eq!(failed, peer);
        fail(dial.waiting, peer, "gone");
        for receiver in [&mut first_receiver, &mut second_receiver] {
            assert!(matches!(receiver.try_recv(), Ok(Some(Err(NetError::Dial { .. })))));
        }
    }

    #[test]
    fn patience_ends() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        dials.begin(peer, Way::Direct, id(1), Vec::new(), now);
        assert!(dials.take_overdue(now).is_none());
        assert_eq!(dials.next_deadline(), Some(now + DIRECT_PATIENCE));
        assert!(dials.take_overdue(now + DIRECT_PATIENCE).is_some());
        assert_eq!(dials.next_deadline(), None);
    }
}

//! Dials in progress: who waits for which peer, which ways are being tried, and which come next.
//!
//! A pure state machine: [`crate::reach`] tells it what happened and when, and dials what [`Dials::take_step`] gives.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use futures::channel::oneshot;
use libp2p::swarm::ConnectionId;

use crate::ladder::{Rung, Step};
use crate::transport::CONNECT_TIMEOUT;
use crate::{Address, LinkKind, NetError};

/// Dials at a time.
const MAX_DIALS: usize = 64;
/// Time for a direct link before a caller whose peer is there through a relay gets that. The attempt goes on. ICE on a
/// loopback takes 56–210 ms, over the internet a second or two.
const DIRECT_PATIENCE: Duration = Duration::from_secs(4);

/// Where the outcome of dialling a peer goes.
pub(crate) type Reached = oneshot::Sender<Result<LinkKind, NetError>>;
/// Where the outcome of dialling an address goes.
pub(crate) type ReachedAddress = oneshot::Sender<Result<PeerId, NetError>>;

/// A peer being dialled.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) waiting: Vec<Reached>,
    /// Why the last way failed.
    pub(crate) reason: String,
    /// Whether its addresses come from the DHT, so that there is nothing to look up any more.
    pub(crate) is_found: bool,
    began: Instant,
    /// Best first.
    steps: VecDeque<Step>,
    attempts: Vec<(ConnectionId, Rung)>,
    /// It is there through a relay.
    is_relayed: bool,
}

impl Dial {
    /// When its next step is due. The next one is not waited for when nothing else is being tried.
    fn next_step(&self) -> Option<Instant> {
        let step = self.steps.front()?;
        Some(if self.attempts.is_empty() { self.began } else { self.began + step.after })
    }

    /// When it is given up, or content with a circuit.
    fn end(&self) -> Instant {
        let is_over = self.steps.is_empty() && self.attempts.is_empty();
        match self.is_relayed {
            _ if is_over => self.began,
            true => self.began + DIRECT_PATIENCE,
            false => self.began + CONNECT_TIMEOUT,
        }
    }
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

    /// Whether a peer is being dialled.
    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
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

    /// `peer` is to be reached by `steps`.
    pub(crate) fn begin(&mut self, peer: PeerId, steps: VecDeque<Step>, is_relayed: bool, now: Instant) -> &mut Dial {
        let dial = Dial {
            waiting: Vec::new(),
            reason: "no relay is connected".to_owned(),
            is_found: false,
            began: now,
            steps,
            attempts: Vec::new(),
            is_relayed,
        };
        self.peers.entry(peer).insert_entry(dial).into_mut()
    }

    /// A way that is to be tried now.
    pub(crate) fn take_step(&mut self, now: Instant) -> Option<(PeerId, Step)> {
        let due = |dial: &Dial| dial.next_step().is_some_and(|at| at <= now);
        let (peer, dial) = self.peers.iter_mut().find(|(_, dial)| due(dial))?;
        Some((*peer, dial.steps.pop_front()?))
    }

    /// An attempt over such a way has begun.
    pub(crate) fn started(&mut self, peer: &PeerId, attempt: ConnectionId, rung: Rung) {
        if let Some(dial) = self.peers.get_mut(peer) {
            dial.attempts.push((attempt, rung));
        }
    }

    /// It could not even begin.
    pub(crate) fn refused(&mut self, peer: &PeerId, reason: String) {
        if let Some(dial) = self.peers.get_mut(peer) {
            dial.reason = reason;
        }
    }

    /// An attempt to reach `address` has begun.
    pub(crate) fn begin_address(&mut self, address: Address, attempt: ConnectionId, reached: ReachedAddress) {
        self.addresses.insert(attempt, (address, reached));
    }

    /// The peer is reached by `link`: ends its dial, unless that still tries for better.
    pub(crate) fn reached(&mut self, peer: &PeerId, attempt: ConnectionId, link: LinkKind) {
        let Some(dial) = self.peers.get_mut(peer) else { return };
        dial.attempts.retain(|(known, _)| *known != attempt);
        match link {
            LinkKind::Relayed => {
                dial.is_relayed = true;
                dial.steps.retain(|step| step.rung != Rung::Relayed);
            }
            LinkKind::Direct => {
                if let Some(dial) = self.peers.remove(peer) {
                    succeed(dial.waiting, link);
                }
            }
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

    /// An attempt to reach a peer failed.
    pub(crate) fn attempt_failed(&mut self, attempt: ConnectionId, reason: &str) {
        let is_its = |dial: &&mut Dial| dial.attempts.iter().any(|(known, _)| *known == attempt);
        if let Some(dial) = self.peers.values_mut().find(is_its) {
            dial.attempts.retain(|(known, _)| *known != attempt);
            reason.clone_into(&mut dial.reason);
        }
    }

    /// Takes a dial that has nothing left to try, or no time.
    pub(crate) fn take_over(&mut self, now: Instant) -> Option<(PeerId, Dial)> {
        let peer = *self.peers.iter().find(|(_, dial)| dial.end() <= now)?.0;
        self.peers.remove_entry(&peer)
    }

    /// When there is something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().flat_map(|dial| dial.next_step().into_iter().chain([dial.end()])).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder::{HEAD_START, steps};

    const RELAY: &str = "/ip4/192.0.2.1/tcp/1/ws/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    /// A way over WebRTC and one over a circuit, and a socket that is the first of both.
    fn plan(with_socket: bool) -> VecDeque<Step> {
        let socket = with_socket.then(|| "/ip4/192.0.2.2/tcp/1".to_owned());
        let over = ["/webrtc", ""].map(|tail| format!("{RELAY}/p2p-circuit{tail}"));
        steps(over.into_iter().chain(socket).map(|text| text.parse().expect("an address")).collect())
    }

    fn rungs(dials: &mut Dials, now: Instant) -> Vec<Rung> {
        let mut taken = Vec::new();
        while let Some((peer, step)) = dials.take_step(now) {
            dials.started(&peer, id(100 + step.rung as usize), step.rung);
            taken.push(step.rung);
        }
        taken
    }

    #[test]
    fn ways_are_tried_side_by_side() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        dials.begin(peer, plan(true), false, now);
        assert_eq!(rungs(&mut dials, now), [Rung::Socket]);
        assert_eq!(dials.next_deadline(), Some(now + HEAD_START));
        assert_eq!(rungs(&mut dials, now + HEAD_START), [Rung::WebRtc]);
        dials.attempt_failed(id(100 + Rung::Socket as usize), "refused");
        assert_eq!(rungs(&mut dials, now + HEAD_START), [], "one is still under way");
        dials.attempt_failed(id(100 + Rung::WebRtc as usize), "refused");
        assert_eq!(rungs(&mut dials, now + HEAD_START), [Rung::Relayed], "nothing to wait for");
        assert!(dials.take_over(now + HEAD_START).is_none());
        dials.attempt_failed(id(100 + Rung::Relayed as usize), "no reservation");
        let (failed, dial) = dials.take_over(now + HEAD_START).expect("nothing is left");
        assert_eq!((failed, dial.reason.as_str()), (peer, "no reservation"));
    }

    #[test]
    fn a_direct_dial_is_content_with_a_circuit_only_after_a_while() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        dials.begin(peer, plan(false), false, now);
        assert_eq!(rungs(&mut dials, now), [Rung::WebRtc]);
        dials.reached(&peer, id(7), LinkKind::Relayed);
        let later = now + DIRECT_PATIENCE;
        assert_eq!(rungs(&mut dials, later), [], "a second circuit is of no use");
        assert!(dials.take_over(later - Duration::from_millis(1)).is_none());
        assert!(dials.take_over(later).is_some());

        let (sender, mut receiver) = oneshot::channel();
        dials.begin(peer, plan(false), true, now).waiting.push(sender);
        rungs(&mut dials, now);
        dials.reached(&peer, id(100 + Rung::WebRtc as usize), LinkKind::Direct);
        assert!(matches!(receiver.try_recv(), Ok(Some(Ok(LinkKind::Direct)))));
        assert_eq!(dials.next_deadline(), None);
    }

    #[test]
    fn a_failed_direct_way_leaves_the_circuit_that_it_began_with() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        dials.begin(peer, plan(false), false, now);
        rungs(&mut dials, now);
        dials.reached(&peer, id(7), LinkKind::Relayed);
        assert!(dials.take_over(now).is_none());
        dials.attempt_failed(id(100 + Rung::WebRtc as usize), "no way");
        assert!(dials.take_over(now).is_some(), "at once");
    }

    #[test]
    fn one_dial_serves_everybody_who_waits() {
        let (mut dials, peer, now) = (Dials::default(), PeerId::random(), Instant::now());
        let (first, mut first_receiver) = oneshot::channel();
        let (second, mut second_receiver) = oneshot::channel();
        assert!(dials.join(&peer, oneshot::channel().0).is_some(), "nothing to join yet");
        dials.begin(peer, plan(false), false, now).waiting.push(first);
        assert!(dials.join(&peer, second).is_none() && dials.contains(&peer));
        rungs(&mut dials, now);
        let (failed, dial) = dials.take_over(now + CONNECT_TIMEOUT).expect("patience ends");
        assert_eq!(failed, peer);
        fail(dial.waiting, peer, "gone");
        for receiver in [&mut first_receiver, &mut second_receiver] {
            assert!(matches!(receiver.try_recv(), Ok(Some(Err(NetError::Dial { .. })))));
        }
    }
}

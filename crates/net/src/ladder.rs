//! The ladder of ways to a peer: which is better, in which order they are tried, and when a circuit is left for a link
//! of one's own.
//!
//! The ways are tried side by side, the better ones with a head start (RFC 8305, "happy eyeballs"). A peer that is
//! reached through a relay is tried again from time to time: the first failure may have been bad luck, a NAT may have
//! been restarted, the peer may have told another address. Streams stay where they were opened: a circuit is closed
//! when the last one on it has ended, so that a better link never breaks a session.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;

use crate::worker::Worker;
use crate::{Address, LinkKind};

/// How much later the next worse way is tried (RFC 8305, section 8).
pub(crate) const HEAD_START: Duration = Duration::from_millis(250);
/// The same for a circuit beside a link over WebRTC, which begins with a circuit of its own: only if that hangs.
const CIRCUIT_HEAD_START: Duration = Duration::from_secs(2);
/// First and longest time until a peer behind a relay is tried directly again; it doubles in between.
const CLIMB: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// How long a circuit is kept beside a direct link at least: the other end may be about to open a stream on it, and
/// the signalling has its last words.
const DRAIN: Duration = Duration::from_secs(2);
/// Addresses that one peer may tell.
const MAX_TOLD: usize = 8;

/// A kind of way to a peer, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rung {
    /// Through a relay, which sets limits and is shared with others.
    Relayed,
    /// TCP with TLS or a proxy in between.
    WebSocket,
    /// UDP to a server.
    WebRtcDirect,
    /// UDP through both NATs.
    WebRtc,
    /// What only native nodes have: QUIC, TCP.
    Socket,
}

impl Rung {
    /// What an address stands for.
    pub(crate) fn of(address: &Address) -> Self {
        if address.link_kind() == LinkKind::Relayed {
            return Self::Relayed;
        }
        let has = |wanted: fn(&Protocol<'_>) -> bool| address.as_multiaddr().iter().any(|part| wanted(&part));
        if address.is_webrtc() {
            Self::WebRtc
        } else if has(|part| *part == Protocol::WebRTCDirect) {
            Self::WebRtcDirect
        } else if has(|part| matches!(part, Protocol::Ws(_) | Protocol::Wss(_))) {
            Self::WebSocket
        } else {
            Self::Socket
        }
    }
}

/// Addresses of one kind, and how long after the start they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) rung: Rung,
    pub(crate) after: Duration,
    pub(crate) addresses: Vec<Address>,
}

/// In which order `addresses` are tried, and when.
pub(crate) fn steps(addresses: Vec<Address>) -> VecDeque<Step> {
    let mut by_rung: BTreeMap<Rung, Vec<Address>> = BTreeMap::new();
    for address in addresses {
        let of_rung = by_rung.entry(Rung::of(&address)).or_default();
        if !of_rung.contains(&address) {
            of_rung.push(address);
        }
    }
    let begins_with_circuit = by_rung.contains_key(&Rung::WebRtc);
    let mut after = Duration::ZERO;
    let mut steps = VecDeque::new();
    for (rung, addresses) in by_rung.into_iter().rev() {
        if rung == Rung::Relayed && begins_with_circuit {
            after = after.max(CIRCUIT_HEAD_START);
        }
        steps.push_back(Step { rung, after, addresses });
        after += HEAD_START;
    }
    steps
}

/// A peer that is connected.
#[derive(Debug, Default)]
struct Climb {
    /// Addresses of its own, as it told them.
    told: Vec<Address>,
    /// Times that it was tried.
    tries: u32,
    /// When it is tried again; never, while it is reached directly.
    due: Option<Instant>,
}

impl Climb {
    fn schedule(&mut self, now: Instant) {
        let wait = CLIMB.0.saturating_mul(1 << self.tries.min(16)).min(CLIMB.1);
        self.due = Some(now + wait);
    }
}

/// The connected peers, as far as they may be reached better.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    /// Bounded by the limits on connections.
    climbs: BTreeMap<PeerId, Climb>,
    /// Peers whose circuits are to be closed when nothing runs on them, and when to look.
    drains: BTreeMap<PeerId, Instant>,
    /// Connections that are being closed because the other end fell silent.
    silent: HashSet<ConnectionId>,
}

impl Ladder {
    /// The best link to a peer is of this kind now.
    pub(crate) fn linked(&mut self, peer: PeerId, link: LinkKind, now: Instant) {
        let climb = self.climbs.entry(peer).or_default();
        match link {
            LinkKind::Direct => (climb.tries, climb.due) = (0, None),
            LinkKind::Relayed if climb.due.is_none() => climb.schedule(now),
            LinkKind::Relayed => {}
        }
    }

    /// The peer is gone.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.climbs.remove(peer);
        self.drains.remove(peer);
    }

    /// A connected peer told where it is. New addresses are worth a try at once.
    pub(crate) fn told(&mut self, peer: &PeerId, mut addresses: Vec<Address>, now: Instant) {
        let Some(climb) = self.climbs.get_mut(peer) else { return };
        addresses.truncate(MAX_TOLD);
        let has_new = addresses.iter().any(|address| !climb.told.contains(address));
        climb.told = addresses;
        if has_new && climb.due.is_some() {
            climb.due = Some(now);
        }
    }

    /// Where a connected peer is, by what it said.
    pub(crate) fn known(&self, peer: &PeerId) -> &[Address] {
        self.climbs.get(peer).map_or(&[], |climb| &climb.told)
    }

    /// The network changed: what failed before may work now.
    pub(crate) fn wake(&mut self, now: Instant) {
        for climb in self.climbs.values_mut().filter(|climb| climb.due.is_some()) {
            (climb.tries, climb.due) = (0, Some(now));
        }
    }

    /// A peer to try directly now. Each try makes the time to the next one longer.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<PeerId> {
        let (peer, climb) = self.climbs.iter_mut().find(|(_, climb)| climb.due.is_some_and(|due| due <= now))?;
        climb.tries = climb.tries.saturating_add(1);
        climb.schedule(now);
        Some(*peer)
    }

    /// This node has made a direct link: circuits to the peer can go when nothing runs on them.
    pub(crate) fn drain(&mut self, peer: PeerId, now: Instant) {
        self.drains.insert(peer, now + DRAIN);
    }

    /// A peer whose circuits are to be looked at now. While some stay, [`Ladder::drain`] is to be called again.
    pub(crate) fn take_drain(&mut self, now: Instant) -> Option<PeerId> {
        let peer = *self.drains.iter().find(|(_, due)| **due <= now)?.0;
        self.drains.remove(&peer);
        Some(peer)
    }

    /// A connection is closed because nothing is heard of the peer: that is not the wish of anybody.
    pub(crate) fn fell_silent(&mut self, connection: ConnectionId) {
        self.silent.insert(connection);
    }

    /// Whether a connection that is gone was closed for that reason.
    pub(crate) fn take_silent(&mut self, connection: ConnectionId) -> bool {
        self.silent.remove(&connection)
    }

    /// When there is something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let climbs = self.climbs.values().filter_map(|climb| climb.due);
        climbs.chain(self.drains.values().copied()).min()
    }
}

impl Worker {
    /// Tries peers behind relays directly, and closes circuits that nobody uses any more.
    pub(crate) fn climb(&mut self, now: Instant) {
        while let Some(peer) = self.ladder.take_due(now) {
            self.try_directly(peer, now);
        }
        while let Some(peer) = self.ladder.take_drain(now) {
            if self.links.link(&peer) != Some(LinkKind::Direct) {
                continue;
            }
            let (idle, used): (Vec<_>, Vec<_>) =
                self.links.relayed(&peer).into_iter().partition(|(_, streams)| *streams == 0);
            for (connection, _) in idle {
                self.swarm.close_connection(connection);
            }
            if !used.is_empty() {
                self.ladder.drain(peer, now);
            }
        }
    }

    /// A connected peer said where it listens: what can be dialled there is kept.
    pub(crate) fn on_told(&mut self, peer: PeerId, addresses: Vec<libp2p::Multiaddr>, now: Instant) {
        let own =
            addresses.into_iter().map(Address::from).filter(|a| a.link_kind() == LinkKind::Direct && !a.is_webrtc());
        let own = own.filter_map(|a| a.with_peer(peer)).filter(|a| self.may_dial(a)).collect();
        self.ladder.told(&peer, own, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "/ip4/192.0.2.1/tcp/1/ws/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    fn all() -> Vec<Address> {
        let relayed = address(&format!("{RELAY}/p2p-circuit"));
        let webrtc = address(&format!("{RELAY}/p2p-circuit/webrtc"));
        let direct = address("/ip4/192.0.2.2/udp/1/webrtc-direct");
        let (ws, quic) = (address("/ip4/192.0.2.2/tcp/1/ws"), address("/ip4/192.0.2.2/udp/1/quic-v1"));
        vec![relayed, ws.clone(), quic, webrtc, ws, direct]
    }

    #[test]
    fn better_ways_have_a_head_start() {
        let planned: Vec<_> = steps(all()).into_iter().map(|s| (s.rung, s.after, s.addresses.len())).collect();
        let expected = [
            (Rung::Socket, Duration::ZERO, 1),
            (Rung::WebRtc, HEAD_START, 1),
            (Rung::WebRtcDirect, 2 * HEAD_START, 1),
            (Rung::WebSocket, 3 * HEAD_START, 1),
            (Rung::Relayed, CIRCUIT_HEAD_START, 1),
        ];
        assert_eq!(planned, expected);
        let without: Vec<_> = all().into_iter().filter(|a| !a.is_webrtc()).collect();
        assert_eq!(steps(without).back().map(|s| s.after), Some(3 * HEAD_START), "a circuit need not wait for another");
        assert!(steps(Vec::new()).is_empty());
    }

    #[test]
    fn a_peer_behind_a_relay_is_tried_again_ever_more_seldom() {
        let (mut ladder, peer, start) = (Ladder::default(), PeerId::random(), Instant::now());
        ladder.linked(peer, LinkKind::Relayed, start);
        ladder.linked(peer, LinkKind::Relayed, start + CLIMB.0 / 2);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let due = ladder.next_due().expect("it goes on");
            assert_eq!(ladder.take_due(due - Duration::from_millis(1)), None);
            assert_eq!(ladder.take_due(due), Some(peer));
            assert_eq!(ladder.take_due(due), None, "once");
            waits.push(due - now);
            now = due;
        }
        assert_eq!((waits[0], waits[1], waits[11]), (CLIMB.0, 2 * CLIMB.0, CLIMB.1));

        ladder.wake(now);
        assert_eq!(ladder.take_due(now), Some(peer), "another network");
        ladder.linked(peer, LinkKind::Direct, now);
        assert_eq!(ladder.next_due(), None, "nothing better is to be had");
        ladder.linked(peer, LinkKind::Relayed, now);
        assert_eq!(ladder.next_due(), Some(now + CLIMB.0), "it begins anew");
        ladder.gone(&peer);
        assert_eq!(ladder.next_due(), None);
    }

    #[test]
    fn a_new_address_is_tried_at_once_and_an_old_one_is_not() {
        let (mut ladder, peer, now) = (Ladder::default(), PeerId::random(), Instant::now());
        let told = || vec![address("/ip4/192.0.2.2/tcp/1/ws")];
        ladder.told(&peer, told(), now);
        assert!(ladder.known(&peer).is_empty(), "it is not connected");
        ladder.linked(peer, LinkKind::Relayed, now);
        ladder.told(&peer, told(), now);
        assert_eq!(ladder.take_due(now), Some(peer));
        assert_eq!(ladder.known(&peer), told());
        ladder.told(&peer, told(), now);
        assert_eq!(ladder.take_due(now), None);
        ladder.told(&peer, (0..100).map(|n| address(&format!("/ip4/192.0.2.2/tcp/{n}/ws"))).collect(), now);
        assert_eq!(ladder.known(&peer).len(), MAX_TOLD);
        ladder.linked(peer, LinkKind::Direct, now);
        ladder.told(&peer, told(), now);
        assert_eq!(ladder.take_due(now), None, "it is reached directly");
    }

    #[test]
    fn circuits_are_looked_at_after_a_grace_until_they_are_gone() {
        let (mut ladder, peer, now) = (Ladder::default(), PeerId::random(), Instant::now());
        ladder.drain(peer, now);
        assert_eq!(ladder.take_drain(now), None);
        assert_eq!(ladder.next_due(), Some(now + DRAIN));
        assert_eq!(ladder.take_drain(now + DRAIN), Some(peer));
        assert_eq!(ladder.take_drain(now + DRAIN), None);
    }
}

//! Who is connected, and how. A pure table: connections go in, changes that matter come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cdi_types::PeerId;
use libp2p::swarm::ConnectionId;

use crate::traffic::Traffic;
use crate::{Address, LinkKind};

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// The peer.
    pub peer: PeerId,
    /// How it is reached.
    pub link: LinkKind,
    /// Address of the best connection, as this end sees it.
    pub address: Address,
    /// Last measured round trip.
    pub rtt: Option<Duration>,
    /// How good the peer is, in thousandths: by its latency and by what it delivered.
    pub score_permille: u16,
    /// Bytes that streams of this peer brought since it is connected.
    pub received_bytes: u64,
    /// Bytes that went to it on streams.
    pub sent_bytes: u64,
    /// What the relay allows, when the link goes through one that says so.
    pub limit: Option<CircuitLimit>,
}

/// The end of a circuit that its relay sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitLimit {
    /// Bytes in each direction.
    pub bytes: Option<u64>,
    /// Time.
    pub duration: Option<Duration>,
}

/// What a connection changed for its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Its first connection.
    Up(LinkKind),
    /// Its best connection is of another kind now.
    Link(LinkKind),
    /// Its last connection is gone.
    Down,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    link: LinkKind,
    address: Address,
    traffic: Arc<Traffic>,
}

#[derive(Debug, Default)]
struct Peer {
    /// Oldest first.
    connections: Vec<Connection>,
    rtt: Option<Duration>,
    /// Bytes received and sent on connections that are gone.
    earlier: (u64, u64),
    told: Option<LinkInfo>,
}

impl Peer {
    /// Direct before relayed, newer before older: an old connection may be half dead.
    fn best(&self) -> Option<&Connection> {
        self.connections.iter().max_by_key(|c| c.link)
    }

    fn link(&self) -> Option<LinkKind> {
        self.best().map(|c| c.link)
    }

    fn info(&self, peer: PeerId, limits: &BTreeMap<PeerId, CircuitLimit>) -> Option<LinkInfo> {
        let best = self.best()?;
        let relayed = Some(&best.address).filter(|_| best.link == LinkKind::Relayed);
        let sum = |earlier: u64, bytes: fn(&Traffic) -> u64| {
            self.connections.iter().fold(earlier, |sum, c| sum.saturating_add(bytes(&c.traffic)))
        };
        Some(LinkInfo {
            peer,
            link: best.link,
            address: best.address.clone(),
            rtt: self.rtt,
            score_permille: 0,
            received_bytes: sum(self.earlier.0, Traffic::received_in_all),
            sent_bytes: sum(self.earlier.1, Traffic::sent_in_all),
            limit: relayed.and_then(Address::relay).and_then(|relay| limits.get(&relay)).copied(),
        })
    }
}

/// The connected peers. Bounded by the limits on connections.
#[derive(Debug, Default)]
pub(crate) struct Links {
    peers: BTreeMap<PeerId, Peer>,
    /// What each relay allows a circuit. Bounded by the configured relays.
    limits: BTreeMap<PeerId, CircuitLimit>,
}

impl Links {
    /// A connection came up.
    pub(crate) fn opened(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        address: Address,
        link: LinkKind,
        traffic: Arc<Traffic>,
    ) -> Option<Change> {
        let entry = self.peers.entry(peer).or_default();
        let before = entry.link();
        entry.connections.push(Connection { id, link, address, traffic });
        match (before, entry.link()) {
            (None, Some(link)) => Some(Change::Up(link)),
            (Some(old), Some(new)) if old != new => Some(Change::Link(new)),
            _ => None,
        }
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, peer: &PeerId, id: ConnectionId) -> Option<Change> {
        let entry = self.peers.get_mut(peer)?;
        let before = entry.link();
        for gone in entry.connections.extract_if(.., |c| c.id == id) {
            let (received, sent) = &mut entry.earlier;
            *received = received.saturating_add(gone.traffic.received_in_all());
            *sent = sent.saturating_add(gone.traffic.sent_in_all());
        }
        match (before, entry.link()) {
            (_, None) => {
                self.peers.remove(peer);
                Some(Change::Down)
            }
            (Some(old), Some(new)) if old != new => Some(Change::Link(new)),
            _ => None,
        }
    }

    /// A round trip was measured.
    pub(crate) fn measured(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.rtt = Some(rtt);
        }
    }

    /// How the peer is reached, if it is connected.
    pub(crate) fn link(&self, peer: &PeerId) -> Option<LinkKind> {
        self.peers.get(peer)?.link()
    }

    /// The connection that streams to the peer should use.
    pub(crate) fn best(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.peers.get(peer)?.best().map(|c| c.id)
    }

    /// The peer's connections through relays, each with the number of streams on it.
    pub(crate) fn relayed(&self, peer: &PeerId) -> Vec<(ConnectionId, usize)> {
        let connections = self.peers.get(peer).map(|p| p.connections.as_slice()).unwrap_or_default();
        let relayed = connections.iter().filter(|c| c.link == LinkKind::Relayed);
        relayed.map(|c| (c.id, c.traffic.streams())).collect()
    }

    /// Connections to all peers.
    pub(crate) fn connections(&self) -> usize {
        self.peers.values().map(|p| p.connections.len()).sum()
    }

    /// Every connection.
    pub(crate) fn connected(&self) -> impl Iterator<Item = (PeerId, ConnectionId)> {
        self.peers.iter().flat_map(|(peer, entry)| entry.connections.iter().map(|c| (*peer, c.id)))
    }

    /// Whether a connection to a peer goes through `relay`.
    pub(crate) fn uses(&self, relay: &PeerId) -> bool {
        let through = |c: &Connection| c.link == LinkKind::Relayed && c.address.names(relay);
        self.peers.values().flat_map(|p| &p.connections).any(through)
    }

    /// Every connected peer. Scores are not known here.
    pub(crate) fn all(&self) -> Vec<LinkInfo> {
        self.peers.iter().filter_map(|(peer, entry)| entry.info(*peer, &self.limits)).collect()
    }

    /// A relay said what it allows a circuit.
    pub(crate) fn limit(&mut self, relay: PeerId, limit: Option<CircuitLimit>) {
        match limit {
            Some(limit) => self.limits.insert(relay, limit),
            None => self.limits.remove(&relay),
        };
    }

    /// Whether nobody is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The peers of which something changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<LinkInfo> {
        let Self { peers, limits } = self;
        let changed = peers.iter_mut().filter_map(|(peer, entry)| {
            let info = entry.info(*peer, limits);
            if info == entry.told {
                return None;
            }
            entry.told.clone_from(&info);
            info
        });
        changed.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: usize) -> ConnectionId {
        ConnectionId::new_unchecked(number)
    }

    fn open(links: &mut Links, peer: PeerId, number: usize, link: LinkKind) -> Option<Change> {
        let traffic = Arc::new(Traffic::new(id(number)));
        links.opened(peer, id(number), "/ip4/127.0.0.1/tcp/1".parse().expect("an address"), link, traffic)
    }

    #[test]
    fn figures_are_told_when_they_change_and_survive_a_connection() {
        const RELAY: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";
        let (mut links, peer) = (Links::default(), PeerId::random());
        let relay: PeerId = RELAY.parse().expect("a peer id");
        let circuit: Address = format!("/ip4/127.0.0.1/tcp/1/p2p/{RELAY}/p2p-circuit").parse().expect("an address");
        let traffic = Arc::new(Traffic::new(id(1)));
        links.opened(peer, id(1), circuit, LinkKind::Relayed, traffic.clone());
        assert_eq!(links.take_changed().len(), 1);
        assert_eq!(links.take_changed(), []);
        traffic.add_received(7);
        traffic.add_sent(4);
        traffic.add_beside(0, 5, None);
        let limit = CircuitLimit { bytes: Some(1 << 30), duration: None };
        links.limit(relay, Some(limit));
        let told = links.take_changed();
        assert_eq!((told[0].received_bytes, told[0].sent_bytes, told[0].limit), (7, 9, Some(limit)));
        open(&mut links, peer, 2, LinkKind::Direct);
        links.closed(&peer, id(1));
        let told = links.take_changed();
        assert_eq!((told[0].received_bytes, told[0].sent_bytes, told[0].limit), (7, 9, None), "now it is direct");
        links.closed(&peer, id(2));
        assert!(links.is_empty() && links.take_changed().is_empty());
    }

    #[test]
    fn a_direct_connection_replaces_a_relayed_one_and_back() {
        let (mut links, peer) = (Links::default(), PeerId::random());
        assert_eq!(open(&mut links, peer, 1, LinkKind::Relayed), Some(Change::Up(LinkKind::Relayed)));
        assert_eq!(open(&mut links, peer, 2, LinkKind::Direct), Some(Change::Link(LinkKind::Direct)));
        assert_eq!(open(&mut links, peer, 3, LinkKind::Relayed), None);
        assert_eq!(links.best(&peer), Some(id(2)));
        assert_eq!(links.relayed(&peer), [(id(1), 0), (id(3), 0)]);
        assert_eq!(links.closed(&peer, id(2)), Some(Change::Link(LinkKind::Relayed)));
        assert_eq!(links.best(&peer), Some(id(3)), "the newer one");
        assert_eq!(links.closed(&peer, id(1)), None);
        assert_eq!(links.closed(&peer, id(3)), Some(Change::Down));
        assert_eq!(links.closed(&peer, id(3)), None, "a second close is nothing");
        assert!(links.all().is_empty());
    }

    proptest! {
        /// Up, Link and Down alone tell a reader what the table holds.
        #[test]
        fn changes_describe_the_table(steps in proptest::collection::vec((0usize..6, any::<bool>(), any::<bool>()), 0..40)) {
            let (mut links, peer) = (Links::default(), PeerId::random());
            let mut told = None;
            let mut open_ids = Vec::new();
            for (number, opens, direct) in steps {
                let kind = if direct { LinkKind::Direct } else { LinkKind::Relayed };
                let change = if opens && !open_ids.contains(&number) {
                    open_ids.push(number);
                    open(&mut links, peer, number, kind)
                } else {
                    open_ids.retain(|n| *n != number);
                    links.closed(&peer, id(number))
                };
                match change {
                    Some(Change::Up(kind)) => {
                        prop_assert_eq!(told, None);
                        told = Some(kind);
                    }
                    Some(Change::Link(kind)) => {
                        prop_assert!(told.is_some() && told != Some(kind));
                        told = Some(kind);
                    }
                    Some(Change::Down) => {
                        prop_assert!(told.is_some());
                        told = None;
                    }
                    None => {}
                }
                prop_assert_eq!(links.link(&peer), told);
            }
        }
    }
}

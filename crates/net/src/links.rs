//! Who is connected, and how. A pure table: connections go in, changes that matter come out.

use std::collections::BTreeMap;
use std::time::Duration;

use cdi_types::PeerId;
use libp2p::swarm::ConnectionId;

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
}

#[derive(Debug, Default)]
struct Peer {
    /// Oldest first.
    connections: Vec<Connection>,
    rtt: Option<Duration>,
}

impl Peer {
    /// Direct before relayed, newer before older: an old connection may be half dead.
    fn best(&self) -> Option<&Connection> {
        self.connections.iter().max_by_key(|c| c.link)
    }

    fn link(&self) -> Option<LinkKind> {
        self.best().map(|c| c.link)
    }
}

/// The connected peers. Bounded by the limits on connections.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<PeerId, Peer>);

impl Links {
    /// A connection came up.
    pub(crate) fn opened(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        address: Address,
        link: LinkKind,
    ) -> Option<Change> {
        let entry = self.0.entry(peer).or_default();
        let before = entry.link();
        entry.connections.push(Connection { id, link, address });
        match (before, entry.link()) {
            (None, Some(link)) => Some(Change::Up(link)),
            (Some(old), Some(new)) if old != new => Some(Change::Link(new)),
            _ => None,
        }
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, peer: &PeerId, id: ConnectionId) -> Option<Change> {
        let entry = self.0.get_mut(peer)?;
        let before = entry.link();
        entry.connections.retain(|c| c.id != id);
        match (before, entry.link()) {
            (_, None) => {
                self.0.remove(peer);
                Some(Change::Down)
            }
            (Some(old), Some(new)) if old != new => Some(Change::Link(new)),
            _ => None,
        }
    }

    /// A round trip was measured.
    pub(crate) fn measured(&mut self, peer: &PeerId, rtt: Duration) {
        if let Some(entry) = self.0.get_mut(peer) {
            entry.rtt = Some(rtt);
        }
    }

    /// How the peer is reached, if it is connected.
    pub(crate) fn link(&self, peer: &PeerId) -> Option<LinkKind> {
        self.0.get(peer)?.link()
    }

    /// The connection that streams to the peer should use.
    pub(crate) fn best(&self, peer: &PeerId) -> Option<ConnectionId> {
        self.0.get(peer)?.best().map(|c| c.id)
    }

    /// The peer's connections through relays.
    pub(crate) fn relayed(&self, peer: &PeerId) -> Vec<ConnectionId> {
        let connections = self.0.get(peer).map(|p| p.connections.as_slice()).unwrap_or_default();
        connections.iter().filter(|c| c.link == LinkKind::Relayed).map(|c| c.id).collect()
    }

    /// Every connected peer.
    pub(crate) fn all(&self) -> Vec<LinkInfo> {
        let info = |(peer, entry): (&PeerId, &Peer)| {
            let best = entry.best()?;
            Some(LinkInfo { peer: *peer, link: best.link, address: best.address.clone(), rtt: entry.rtt })
        };
        self.0.iter().filter_map(info).collect()
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
        links.opened(peer, id(number), "/ip4/127.0.0.1/tcp/1".parse().expect("an address"), link)
    }

    #[test]
    fn a_direct_connection_replaces_a_relayed_one_and_back() {
        let (mut links, peer) = (Links::default(), PeerId::random());
        assert_eq!(open(&mut links, peer, 1, LinkKind::Relayed), Some(Change::Up(LinkKind::Relayed)));
        assert_eq!(open(&mut links, peer, 2, LinkKind::Direct), Some(Change::Link(LinkKind::Direct)));
        assert_eq!(open(&mut links, peer, 3, LinkKind::Relayed), None);
        assert_eq!(links.best(&peer), Some(id(2)));
        assert_eq!(links.relayed(&peer), [id(1), id(3)]);
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

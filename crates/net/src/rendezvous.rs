//! How nodes of different relays find each other: in the DHT that the relays keep.
//!
//! Every node is a provider of the network's rendezvous key, and puts the addresses at which it is reached under a
//! key of its own. The relays, which know each other, store both for [`RECORD_TTL`]. A node that has few links asks
//! for providers, and dials those that no relay of its own reaches: over such links the announcements of one relay's
//! nodes reach those of the other. A dial that no relay of this node can serve looks the peer up the same way.
//!
//! Nothing here needs to be believed: whoever answers at an address proves that it is the peer that was looked for.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::{Network, PeerId};
use libp2p::kad::{self, QueryId, QueryResult, Quorum, Record, RecordKey};
use libp2p::multiaddr::Protocol;
use serde_ipld_dagcbor::{from_slice, to_vec};

use crate::dials::{Reached, fail};
use crate::kept;
use crate::worker::Worker;
use crate::{Address, LinkKind};

/// How long relays store what nodes say of themselves. A tab that is gone should not be found for long.
pub const RECORD_TTL: Duration = Duration::from_secs(15 * 60);
/// How often a node says it again.
const ROUND: Duration = Duration::from_secs(5 * 60);
/// After a relay came up, so that several of them are told at once.
const SOON: Duration = Duration::from_secs(2);
/// Addresses of one node.
const MAX_ADDRESSES: usize = 8;
/// Largest record.
pub const MAX_RECORD_BYTES: usize = 2048;
/// Links beyond which a node looks for no more.
const ENOUGH_LINKS: usize = 3;
/// Queries at a time.
const MAX_QUERIES: usize = 64;

/// The key that all nodes of a network provide.
#[must_use]
pub fn network_key(network: Network) -> RecordKey {
    RecordKey::new(&network.protocol("rendezvous"))
}

/// The key under which a node's addresses are.
#[must_use]
pub fn node_key(network: Network, peer: &PeerId) -> RecordKey {
    RecordKey::new(&network.protocol(&format!("node/{peer}")))
}

/// What an answer is for.
#[derive(Debug)]
enum Query {
    /// Other nodes of the network.
    Providers,
    /// Addresses of a peer for those who dial it; for the rendezvous itself when nobody does.
    Addresses { peer: PeerId, waiting: Vec<Reached>, reason: String },
}

/// Queries in progress, and peers that were reached without a relay.
#[derive(Debug, Default)]
pub(crate) struct Rendezvous {
    due: Option<Instant>,
    queries: HashMap<QueryId, Query>,
    good: VecDeque<String>,
}

impl Rendezvous {
    /// When there is something to say or to ask.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// A relay came up: it is told soon.
    pub(crate) fn hurry(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now + SOON, |due| due.min(now + SOON)));
    }

    /// Addresses of good peers, latest first.
    pub(crate) fn good_peers(&self) -> Vec<String> {
        self.good.iter().cloned().collect()
    }

    /// A peer was reached at an address of its own.
    pub(crate) fn was_good(&mut self, address: &Address) -> bool {
        let text = address.to_string();
        let known = self.good.contains(&text);
        self.good.retain(|a| *a != text);
        self.good.push_front(text);
        self.good.truncate(kept::MAX_PEERS);
        !known
    }
}

impl Worker {
    /// Dials peers that were good before, as far as this node can.
    pub(crate) fn remember_peers(&mut self, peers: Vec<String>) {
        for text in peers.into_iter().take(kept::MAX_PEERS) {
            if let Ok(address) = text.parse::<Address>()
                && self.may_dial(&address)
            {
                self.rendezvous.good.push_back(text);
                // Nobody waits for the outcome.
                self.dial_address(address, futures::channel::oneshot::channel().0);
            }
        }
    }

    /// Tells the relays where this node is, and asks them for others.
    pub(crate) fn meet(&mut self, now: Instant) {
        if self.rendezvous.due.is_none_or(|due| due > now) {
            return;
        }
        self.rendezvous.due = Some(now + ROUND);
        let (network, me) = (self.network, *self.swarm.local_peer_id());
        let mut addresses: Vec<String> = Vec::new();
        let mut bytes = 0;
        for address in self.swarm.external_addresses().take(MAX_ADDRESSES) {
            let text = address.to_string();
            bytes += text.len() + 8;
            if bytes < MAX_RECORD_BYTES {
                addresses.push(text);
            }
        }
        let kad = &mut self.swarm.behaviour_mut().kad;
        let value = to_vec(&addresses).unwrap_or_default();
        let record = Record::new(node_key(network, &me), value);
        let stored = kad.put_record(record, Quorum::One).map(|_| ()).map_err(|e| e.to_string());
        let provided = kad.start_providing(network_key(network)).map(|_| ()).map_err(|e| e.to_string());
        if let Err(error) = stored.and(provided) {
            tracing::debug!(%error, "this node is not in the DHT");
        }
        if self.links.all().len() < ENOUGH_LINKS && self.rendezvous.queries.len() < MAX_QUERIES {
            let query = self.swarm.behaviour_mut().kad.get_providers(network_key(network));
            self.rendezvous.queries.insert(query, Query::Providers);
        }
    }

    /// No relay of this node leads to the peer: the DHT may know another way.
    pub(crate) fn look_up(&mut self, peer: PeerId, waiting: Vec<Reached>, reason: String) {
        if self.rendezvous.queries.len() >= MAX_QUERIES {
            return fail(waiting, peer, &reason);
        }
        let key = node_key(self.network, &peer);
        let query = self.swarm.behaviour_mut().kad.get_record(key);
        self.rendezvous.queries.insert(query, Query::Addresses { peer, waiting, reason });
    }

    pub(crate) fn on_kad_event(&mut self, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, step, .. } = event else { return };
        match result {
            QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
                self.on_providers(providers.into_iter().collect());
            }
            QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                if let Some(Query::Addresses { peer, waiting, reason }) = self.rendezvous.queries.remove(&id) {
                    if let Some(mut query) = self.swarm.behaviour_mut().kad.query_mut(&id) {
                        query.finish();
                    }
                    self.on_addresses(peer, &found.record.value, waiting, &reason);
                }
            }
            _ => {}
        }
        if step.last
            && let Some(Query::Addresses { peer, waiting, reason }) = self.rendezvous.queries.remove(&id)
        {
            fail(waiting, peer, &reason);
        }
    }

    fn on_providers(&mut self, providers: Vec<PeerId>) {
        let wanted = ENOUGH_LINKS.saturating_sub(self.links.all().len());
        let me = *self.swarm.local_peer_id();
        let strangers = providers.into_iter().filter(|p| *p != me && self.links.link(p).is_none());
        // Providers come from a hash set: every node draws its own.
        let strangers: Vec<PeerId> = strangers.filter(|p| !self.relays.contains(p)).take(wanted).collect();
        for peer in strangers {
            self.look_up(peer, Vec::new(), String::new());
        }
    }

    fn on_addresses(&mut self, peer: PeerId, value: &[u8], waiting: Vec<Reached>, reason: &str) {
        let texts: Vec<String> = match value.len() {
            0..=MAX_RECORD_BYTES => from_slice(value).unwrap_or_default(),
            _ => Vec::new(),
        };
        let parsed = texts.iter().take(MAX_ADDRESSES).filter_map(|text| text.parse::<Address>().ok());
        let addresses: Vec<Address> = parsed
            .filter_map(|a| a.with_peer(peer))
            .filter(|a| self.may_dial(a) && !self.leads_over_own_relay(a))
            .filter(|a| self.direct || a.link_kind() == LinkKind::Relayed)
            .collect();
        if addresses.is_empty() {
            return fail(waiting, peer, reason);
        }
        if self.dials.contains(&peer) {
            return fail(waiting, peer, reason);
        }
        self.attempt_at(peer, addresses, waiting);
    }

    /// A way over a relay of this node was tried already, or would be for nothing.
    fn leads_over_own_relay(&self, address: &Address) -> bool {
        let parts = address.as_multiaddr().iter().take_while(|p| *p != Protocol::P2pCircuit);
        let relay = parts.filter_map(|p| if let Protocol::P2p(peer) = p { Some(peer) } else { None }).last();
        let through = address.as_multiaddr().iter().any(|p| p == Protocol::P2pCircuit);
        through && relay.is_some_and(|relay| self.relays.up().any(|r| r.peer == Some(relay)))
    }

    /// Whether an address that a stranger gave may be dialled. One that leads into this machine or its network is
    /// only taken by nodes whose own relays are there: others could be sent to knock at doors inside (SSRF).
    pub(crate) fn may_dial(&self, address: &Address) -> bool {
        address.is_global() || self.relays.addresses().any(|a| !a.is_global()) || self.lan
    }

    /// A connection came up that this node made itself, without a relay: worth trying again after a restart.
    pub(crate) fn note_good(&mut self, peer: PeerId, address: &Address, link: LinkKind) {
        if link == LinkKind::Direct
            && !address.is_webrtc()
            && let Some(address) = address.clone().with_peer(peer)
            && self.rendezvous.was_good(&address)
        {
            self.quality.changed();
        }
    }
}

//! Who is in the swarm and what they hold: the shard registry.
//!
//! Fed by adverts. A claim is an advert with a shard, a release one without; every advert is a
//! heartbeat; a node that stays silent is evicted.

use std::collections::{BTreeMap, BTreeSet};

use cdi_types::advert::Advert;
use cdi_types::{Cid, PeerId};

/// How often a node announces itself, in milliseconds.
pub const HEARTBEAT_MS: u64 = 5_000;
/// Silence after which a node is evicted: four heartbeats, so that a hidden tab with clamped timers stays.
pub const EVICT_AFTER_MS: u64 = 20_000;
/// Most nodes kept; beyond it the one heard longest ago goes.
pub const MAX_NODES: usize = 4_096;

/// A known node.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it says about itself; `None` after it was lost, until it is heard again.
    advert: Option<Advert>,
    /// Highest sequence number seen: an older advert is a replay.
    sequence: u64,
    heard_ms: u64,
}

/// What an advert changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// The node was unknown, or lost.
    Joined,
    /// Its capabilities changed.
    Changed,
    /// Nothing but the time it was heard.
    Refreshed,
    /// Older than what is known, or out of bounds: ignored.
    Ignored,
}

/// All known nodes.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    nodes: BTreeMap<PeerId, Entry>,
    /// The same nodes in the order in which they were heard.
    heard: BTreeSet<(u64, PeerId)>,
}

impl Registry {
    /// Takes in an advert that `peer` signed with this sequence number.
    pub fn observe(&mut self, peer: PeerId, sequence: u64, advert: Advert, now_ms: u64) -> Observed {
        if !advert.is_valid() {
            return Observed::Ignored;
        }
        let outcome = match self.nodes.get(&peer) {
            Some(known) if known.sequence >= sequence => return Observed::Ignored,
            Some(Entry { advert: Some(known), .. }) if *known == advert => Observed::Refreshed,
            Some(Entry { advert: Some(_), .. }) => Observed::Changed,
            _ => Observed::Joined,
        };
        let before = self.nodes.insert(peer, Entry { advert: Some(advert), sequence, heard_ms: now_ms });
        before.map(|before| self.heard.remove(&(before.heard_ms, peer)));
        self.heard.insert((now_ms, peer));
        if self.nodes.len() > MAX_NODES
            && let Some((_, oldest)) = self.heard.pop_first()
        {
            self.nodes.remove(&oldest);
        }
        outcome
    }

    /// The link to `peer` is gone: it serves nothing until it is heard again. Returns whether it was known.
    pub fn lost(&mut self, peer: &PeerId) -> bool {
        self.nodes.get_mut(peer).is_some_and(|entry| entry.advert.take().is_some())
    }

    /// Evicts every node that was silent too long, and returns them.
    pub fn evict(&mut self, now_ms: u64) -> Vec<PeerId> {
        let mut gone = Vec::new();
        while let Some((_, peer)) =
            self.heard.first().copied().filter(|(heard_ms, _)| now_ms.saturating_sub(*heard_ms) > EVICT_AFTER_MS)
        {
            self.heard.pop_first();
            self.nodes.remove(&peer);
            gone.push(peer);
        }
        gone
    }

    /// Every node that is there, in the order of their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (&PeerId, &Advert)> {
        self.nodes.iter().filter_map(|(peer, entry)| Some((peer, entry.advert.as_ref()?)))
    }

    /// Number of nodes that hold each layer of `model`; claims count only with `claims`.
    #[must_use]
    pub fn coverage(&self, model: &Cid, layers: u32, claims: bool) -> Vec<u32> {
        let mut replicas = vec![0; layers as usize];
        for shard in self.nodes().flat_map(|(_, a)| a.shards_of(model)).filter(|s| s.ready || claims) {
            for layer in shard.layers.iter().take_while(|l| *l < layers) {
                replicas[layer as usize] += 1;
            }
        }
        replicas
    }
}

#[cfg(test)]
mod tests {
    use cdi_types::advert::{Shard, Tier};
    use cdi_types::block::raw_cid;
    use cdi_types::{Keypair, LayerRange};

    use super::*;

    fn peer(n: u8) -> PeerId {
        Keypair::from_seed(&[n; 32]).public().peer_id()
    }

    fn advert(layers: &[(&str, bool)]) -> Advert {
        let shards = layers.iter().map(|(layers, ready)| Shard {
            model: raw_cid(b"model"),
            layers: layers.parse::<LayerRange>().expect("a range"),
            ready: *ready,
            kernel_id: "cpu".to_owned(),
            decode_ms: 1.0,
        });
        Advert {
            build: "test".to_owned(),
            tier: Tier::Cpu,
            shards: shards.collect(),
            spare_layers: 0,
            kv_room: 0,
            stages: 0,
            upload_bytes_per_s: 0,
            hidden: false,
        }
    }

    #[test]
    fn claims_releases_and_replays() {
        let mut registry = Registry::default();
        assert_eq!(registry.observe(peer(1), 1, advert(&[("0-3", true)]), 0), Observed::Joined);
        assert_eq!(registry.observe(peer(1), 2, advert(&[("0-3", true)]), 5), Observed::Refreshed);
        assert_eq!(registry.coverage(&raw_cid(b"model"), 5, false), [1, 1, 1, 1, 0]);
        assert_eq!(registry.observe(peer(1), 3, advert(&[]), 9), Observed::Changed);
        assert_eq!(registry.observe(peer(1), 2, advert(&[("0-3", true)]), 9), Observed::Ignored);
        assert_eq!(registry.coverage(&raw_cid(b"model"), 5, false), [0; 5]);
    }

    #[test]
    fn claims_count_only_when_asked() {
        let mut registry = Registry::default();
        registry.observe(peer(1), 1, advert(&[("0-1", false), ("1-2", true)]), 0);
        assert_eq!(registry.coverage(&raw_cid(b"model"), 3, false), [0, 1, 1]);
        assert_eq!(registry.coverage(&raw_cid(b"model"), 3, true), [1, 2, 1]);
    }

    #[test]
    fn silence_evicts_and_loss_is_immediate() {
        let mut registry = Registry::default();
        registry.observe(peer(1), 1, advert(&[]), 0);
        registry.observe(peer(2), 1, advert(&[]), EVICT_AFTER_MS);
        assert_eq!(registry.evict(EVICT_AFTER_MS), []);
        assert_eq!(registry.evict(EVICT_AFTER_MS + 1), [peer(1)]);
        assert!(registry.lost(&peer(2)));
        assert_eq!(registry.nodes().count(), 0);
        // The advert that was already known cannot bring it back; a newer one does.
        assert_eq!(registry.observe(peer(2), 1, advert(&[]), 30_000), Observed::Ignored);
        assert_eq!(registry.observe(peer(2), 2, advert(&[]), 30_000), Observed::Joined);
    }

    #[test]
    fn the_number_of_nodes_is_bounded() {
        let mut registry = Registry::default();
        let mut seed = [0; 32];
        for n in 0..MAX_NODES + 5 {
            seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
            let peer = Keypair::from_seed(&seed).public().peer_id();
            registry.observe(peer, 1, advert(&[]), n as u64);
        }
        assert_eq!(registry.nodes().count(), MAX_NODES);
    }

    #[test]
    fn layers_beyond_the_model_are_ignored() {
        let mut registry = Registry::default();
        registry.observe(peer(1), 1, advert(&[("2-4000000000", true)]), 0);
        assert_eq!(registry.coverage(&raw_cid(b"model"), 4, false), [0, 0, 1, 1]);
    }
}

//! Swarms whose nodes choose layers without having heard of each other: they end up holding every layer, without
//! going back and forth, and a layer that is held stays held.
//!
//! The registry, the placement and the relocation are the production ones; the network delays and loses adverts, and
//! fetching takes its time. What a node does with their results is the order of steps of `cdi_node::host`.

use std::collections::BTreeMap;

use cdi_swarm::placement::{Policy, neediest};
use cdi_swarm::registry::{HEARTBEAT_MS, Registry};
use cdi_swarm::relocation::{Relocation, may_leave, next_move};
use cdi_types::advert::{Advert, Shard, Tier};
use cdi_types::block::raw_cid;
use cdi_types::{Cid, Keypair, LayerRange, PeerId};
use proptest::prelude::*;

/// A move is made when it has been called for this long.
const SETTLE_MS: u64 = 3 * HEARTBEAT_MS;
/// How often a node looks at its registry, as the engine does.
const STEP_MS: u64 = 500;
/// Longest way of an advert through the gossip mesh, and longest fetch.
const DELAY_MS: u64 = 2_000;
const FETCH_MS: u64 = 12_000;
/// One advert in this many gets lost.
const LOSS: u64 = 20;

struct Node {
    registry: Registry,
    relocation: Relocation,
    share: u32,
    sequence: u64,
    heartbeat_ms: u64,
    held: Option<LayerRange>,
    /// What is being fetched, and when it is there.
    claim: Option<(LayerRange, u64)>,
}

struct Swarm {
    rng: u64,
    now_ms: u64,
    model: Cid,
    layers: u32,
    nodes: BTreeMap<PeerId, Node>,
    /// When it arrives, at whom, from whom, its number, and what it says.
    flying: Vec<(u64, PeerId, PeerId, u64, Advert)>,
    moves: u32,
    policy: Policy,
}

impl Swarm {
    fn new(layers: u32, shares: &[u32], min_replicas: u32, seed: u64) -> Self {
        let mut swarm = Self {
            rng: seed | 1,
            now_ms: 0,
            model: raw_cid(b"model"),
            layers,
            nodes: BTreeMap::new(),
            flying: Vec::new(),
            moves: 0,
            policy: Policy { min_replicas, rebalance_interval_ms: SETTLE_MS },
        };
        for (n, share) in shares.iter().enumerate() {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(seed ^ (n as u64) << 48).to_le_bytes());
            let node = Node {
                registry: Registry::default(),
                relocation: Relocation::default(),
                share: (*share).min(layers),
                sequence: 0,
                heartbeat_ms: 0,
                held: None,
                claim: None,
            };
            swarm.nodes.insert(Keypair::from_seed(&key).public().peer_id(), node);
        }
        swarm
    }

    fn random(&mut self, below: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        self.rng % below
    }

    fn announce(&mut self, from: PeerId) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&from) else { return };
        node.sequence += 1;
        node.heartbeat_ms = now_ms + HEARTBEAT_MS;
        let advert = advert(self.model, node.held, node.claim.map(|(claim, _)| claim));
        let sequence = node.sequence;
        node.registry.observe(from, sequence, advert.clone(), now_ms);
        for to in self.nodes.keys().copied().filter(|to| *to != from).collect::<Vec<_>>() {
            let (delay, lost) = (self.random(DELAY_MS), self.random(LOSS) == 0);
            if !lost {
                self.flying.push((now_ms + delay, to, from, sequence, advert.clone()));
            }
        }
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        let now_ms = self.now_ms;
        let (landed, flying) = std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= now_ms);
        self.flying = flying;
        for (_, to, from, sequence, advert) in landed {
            if let Some(node) = self.nodes.get_mut(&to) {
                node.registry.observe(from, sequence, advert, now_ms);
            }
        }
        for peer in self.nodes.keys().copied().collect::<Vec<_>>() {
            let fetch_ms = now_ms + self.random(FETCH_MS);
            if self.act(peer, fetch_ms) {
                self.announce(peer);
            }
        }
    }

    /// What the node does now; whether it has something to say.
    fn act(&mut self, peer: PeerId, fetch_ms: u64) -> bool {
        let (model, layers, policy, now_ms) = (self.model, self.layers, self.policy, self.now_ms);
        let Some(node) = self.nodes.get_mut(&peer) else { return false };
        node.registry.evict(now_ms);
        match (node.held, node.claim) {
            (None, None) => {
                let replicas = node.registry.coverage(&model, layers, true);
                node.claim = neediest(&replicas, node.share).map(|claim| (claim, fetch_ms));
            }
            (held, Some((claim, there_ms))) if there_ms <= now_ms => {
                node.claim = None;
                if held.is_none_or(|held| may_leave(&node.registry, &peer, &model, held, claim)) {
                    node.held = Some(claim);
                    self.moves += u32::from(held.is_some());
                }
            }
            (_, Some(_)) => return node.heartbeat_ms <= now_ms,
            (Some(_), None) => match node.relocation.consider(&node.registry, &peer, (&model, layers), &policy, now_ms)
            {
                Some(to) => node.claim = Some((to, fetch_ms)),
                None => return node.heartbeat_ms <= now_ms,
            },
        }
        true
    }

    fn coverage(&self) -> Vec<bool> {
        let held = |layer: u32| self.nodes.values().any(|n| n.held.is_some_and(|h| h.contains(layer)));
        (0..self.layers).map(held).collect()
    }

    /// Runs on, and checks at every step that nothing that was held is dropped.
    fn run(&mut self, ms: u64) -> Result<(), TestCaseError> {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            let before = self.coverage();
            self.step();
            let after = self.coverage();
            let dropped = before.iter().zip(&after).any(|(before, after)| *before && !after);
            prop_assert!(!dropped, "{} ms: {:?}", self.now_ms, self.held());
        }
        Ok(())
    }

    fn held(&self) -> Vec<String> {
        self.nodes.values().map(|n| n.held.map(|h| h.to_string()).unwrap_or_default()).collect()
    }

    fn capacity(&self) -> u32 {
        self.nodes.values().map(|n| n.share).sum()
    }
}

fn advert(model: Cid, held: Option<LayerRange>, claim: Option<LayerRange>) -> Advert {
    let shard = |layers, ready| Shard { model, layers, ready, kernel_id: String::new(), decode_ms: 1.0 };
    let (held, claim) = (held.map(|held| shard(held, true)), claim.map(|claim| shard(claim, false)));
    Advert {
        build: String::new(),
        tier: Tier::Cpu,
        shards: held.into_iter().chain(claim).collect(),
        spare_layers: 0,
        kv_room: 0,
        stages: 0,
        upload_bytes_per_s: 0,
        hidden: false,
    }
}

/// Time for `moves` one after the other.
fn time_for(moves: usize) -> u64 {
    moves as u64 * (SETTLE_MS + FETCH_MS + 2 * (DELAY_MS + HEARTBEAT_MS)) + 2 * HEARTBEAT_MS + FETCH_MS
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn tabs_that_join_at_once_end_up_holding_everything(
        layers in 1u32..24,
        shares in proptest::collection::vec(1u32..9, 1..10),
        replicas in 1u32..3,
        seed in any::<u64>(),
    ) {
        let mut swarm = Swarm::new(layers, &shares, replicas, seed);
        swarm.run(time_for(2 * shares.len() * replicas as usize))?;
        if swarm.capacity() >= layers {
            prop_assert!(swarm.coverage().iter().all(|held| *held), "{:?}", swarm.held());
        }
        let (moves, held) = (swarm.moves, swarm.held());
        let most = 2 * shares.len() * replicas as usize;
        prop_assert!(moves as usize <= most, "{} moves of {} nodes", moves, shares.len());
        swarm.run(time_for(2))?;
        prop_assert_eq!(swarm.held(), held, "it has come to rest");
    }

    #[test]
    fn what_a_lost_node_held_is_taken_over(
        layers in 1u32..24,
        shares in proptest::collection::vec(1u32..9, 2..10),
        replicas in 1u32..3,
        seed in any::<u64>(),
    ) {
        let mut swarm = Swarm::new(layers, &shares, replicas, seed);
        swarm.run(time_for(2 * shares.len() * replicas as usize))?;
        let victim = swarm.random(shares.len() as u64);
        let victim = swarm.nodes.keys().nth(usize::try_from(victim).expect("small")).copied();
        swarm.nodes.remove(&victim.expect("a node"));
        swarm.run(time_for(2 * shares.len() * replicas as usize))?;
        if swarm.capacity() >= layers {
            prop_assert!(swarm.coverage().iter().all(|held| *held), "{:?}", swarm.held());
        }
    }
}

proptest! {
    /// From any arrangement that could hold everything, moves lead there, and not in circles.
    #[test]
    fn every_arrangement_is_mended(
        layers in 1u32..24,
        places in proptest::collection::vec((1u32..9, any::<u32>()), 1..12),
        replicas in 1u32..4,
        seed in any::<u64>(),
    ) {
        let shares: Vec<u32> = places.iter().map(|(share, _)| *share).collect();
        let swarm = Swarm::new(layers, &shares, replicas, seed);
        prop_assume!(swarm.capacity() >= layers);
        let (mut registry, model) = (Registry::default(), swarm.model);
        for ((peer, node), (_, place)) in swarm.nodes.iter().zip(&places) {
            let first = place % (layers - node.share + 1);
            let held = LayerRange::new(first, first + node.share - 1).ok();
            registry.observe(*peer, 1, advert(model, held, None), 0);
        }
        let mut moves = 0;
        while let Some((peer, to)) = next_move(&registry, &model, layers, replicas) {
            moves += 1;
            prop_assert!(moves <= 4 * places.len() * replicas as usize, "in circles");
            registry.observe(peer, 1 + moves as u64, advert(model, Some(to), None), 0);
        }
        let held = registry.coverage(&model, layers, true);
        prop_assert!(!held.contains(&0), "{:?}", held);
    }
}

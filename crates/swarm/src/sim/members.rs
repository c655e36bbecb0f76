//! Who is there: tabs join, choose layers, announce themselves, move and leave.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use cdi_types::advert::{Advert, Shard, Tier};
use cdi_types::{LayerRange, PeerId};

use super::scenario::CONTEXT;
use super::world::{Event, SECOND_US, StageKey, World};
use crate::placement::{Policy, neediest};
use crate::registry::{HEARTBEAT_MS, Registry};
use crate::relocation::{Relocation, may_leave};

/// Up to this many nodes each has a registry of its own; beyond, nodes share [`SHARED_VIEWS`].
pub(super) const OWN_VIEWS: u32 = 64;
const SHARED_VIEWS: usize = 4;
/// Time from joining to choosing layers: what others hold is heard until then (`crates/node/src/host.rs`).
const SETTLE_US: u64 = 2_500_000;
/// Longest way of an advert through the gossip mesh.
const GOSSIP_US: u64 = 1_000_000;
/// Share of adverts that get lost.
const GOSSIP_LOSS: f64 = 0.03;
/// Median and deviation of the time to fetch a share of the model.
const FETCH_S: (f64, f64) = (4.0, 0.6);
/// How much slower a slow node is than it says.
const SLOWNESS: f64 = 10.0;

/// What a node does to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conduct {
    Faithful,
    /// Sends wrong rows.
    Lying,
    /// Announces layers and refuses every session.
    Refusing,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) peer: PeerId,
    pub(super) view: usize,
    pub(super) alive: bool,
    /// The half of the swarm that it is in while that is cut.
    pub(super) side: bool,
    pub(super) conduct: Conduct,
    /// What it announces, and how long a layer really takes.
    pub(super) said_layer_ms: f64,
    pub(super) layer_ms: f64,
    pub(super) access_ms: f64,
    pub(super) share: u32,
    pub(super) held: Option<LayerRange>,
    claim: Option<(LayerRange, u64)>,
    relocation: Relocation,
    sequence: u64,
    announce_us: u64,
    chooses_us: u64,
    pub(super) streams: BTreeSet<u64>,
    /// Peers whose distance it has measured.
    pub(super) met: BTreeSet<u32>,
    pub(super) uplink_us: u64,
    /// Stages that wait for its kernels, and the one that has them.
    pub(super) waiting: VecDeque<StageKey>,
    pub(super) computing: Option<(StageKey, u64)>,
}

impl World {
    fn own_views(&self) -> bool {
        self.scenario.nodes <= OWN_VIEWS
    }

    pub(super) fn join(&mut self) {
        let number = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let view = if self.own_views() { self.nodes.len() } else { self.nodes.len() % SHARED_VIEWS };
        if self.views.len() <= view {
            self.views.resize_with(view + 1, Registry::default);
        }
        let Some(peer) = peer_id(self.scenario.seed, number) else { return };
        let scenario = &self.scenario;
        let (rng, least, most) = (&mut self.rng, scenario.share.0, scenario.share.1.min(scenario.layers));
        let said_layer_ms = scenario.layer_ms.draw(rng);
        let slow = rng.chance(scenario.slow);
        let conduct = match rng.unit() {
            u if u < scenario.lying => Conduct::Lying,
            u if u < scenario.lying + scenario.refusing => Conduct::Refusing,
            _ => Conduct::Faithful,
        };
        self.nodes.push(Node {
            peer,
            view,
            alive: true,
            side: view % 2 == 1,
            conduct,
            said_layer_ms,
            layer_ms: said_layer_ms * if slow { SLOWNESS } else { 1.0 },
            access_ms: scenario.access_ms.draw(rng),
            share: rng.between(least, most),
            held: None,
            claim: None,
            relocation: Relocation::default(),
            sequence: 0,
            announce_us: self.now_us,
            chooses_us: self.now_us + SETTLE_US,
            streams: BTreeSet::new(),
            met: BTreeSet::new(),
            uplink_us: 0,
            waiting: VecDeque::new(),
            computing: None,
        });
        self.index.insert(peer, number);
        self.alive.insert(number);
        if let Some(median_s) = self.scenario.lifetime_s {
            let stays_s = self.rng.exponential(median_s / std::f64::consts::LN_2);
            self.at(self.now_us + micros(stays_s), Event::Leave { node: number });
        }
        self.at(self.now_us, Event::Look { node: number });
    }

    pub(super) fn leave(&mut self, node: u32) {
        if self.calm || !self.nodes[node as usize].alive {
            return;
        }
        let goodbye = !self.rng.chance(self.scenario.crashes);
        for session in self.running.iter().copied().collect::<Vec<_>>() {
            if self.sessions[session].node == node {
                self.abandon(session);
            } else if self.route(session).contains(&node) {
                self.sessions[session].mark_lost(self.now_us);
            }
        }
        self.nodes[node as usize].alive = false;
        self.alive.remove(&node);
        self.break_streams(node, goodbye);
        self.stages.retain(|key, _| key.0 != node);
        let streams = &self.streams;
        self.fetching.retain(|id, _| streams.get(id).is_some_and(|s| s.node(1) != node));
        let own = self.nodes[node as usize].view;
        if goodbye && self.own_views() {
            let peer = self.nodes[node as usize].peer;
            for other in &self.alive {
                self.views[self.nodes[*other as usize].view].lost(&peer);
            }
        }
        if self.own_views() {
            self.views[own] = Registry::default();
        }
        let us = self.now_us + self.rng.below(10 * SECOND_US);
        self.at(us, Event::Join);
    }

    /// What a node does about its layers now; the order of steps is that of `cdi_node`'s `host` and `relocate`.
    pub(super) fn look(&mut self, number: u32) {
        let (model, layers, now_us, now_ms) = (self.model, self.scenario.layers, self.now_us, self.now_ms());
        if !self.nodes[number as usize].alive {
            return;
        }
        let step_us = if self.own_views() { SECOND_US / 2 } else { 5 * SECOND_US };
        self.at(now_us + step_us, Event::Look { node: number });
        let fetched_us = now_us + micros(self.rng.log_normal(FETCH_S.0, FETCH_S.1));
        let node = &mut self.nodes[number as usize];
        let view = &mut self.views[node.view];
        view.evict(now_ms);
        let news = match (node.held, node.claim) {
            (None, None) if now_us < node.chooses_us => false,
            (None, None) => {
                node.claim = neediest(&view.coverage(&model, layers, true), node.share).map(|to| (to, fetched_us));
                true
            }
            (held, Some((claim, there_us))) if there_us <= now_us => {
                let leaves = held.is_none_or(|held| may_leave(view, &node.peer, &model, held, claim));
                self.figures.moves += u64::from(leaves && held.is_some());
                node.held = if leaves { Some(claim) } else { held };
                node.claim = None;
                true
            }
            (_, Some(_)) => false,
            (Some(_), None) => {
                let to = node.relocation.consider(view, &node.peer, (&model, layers), &Policy::default(), now_ms);
                node.claim = to.map(|to| (to, fetched_us));
                to.is_some()
            }
        };
        if news || node.announce_us <= now_us {
            self.announce(number);
        }
    }

    fn announce(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        node.sequence += 1;
        node.announce_us = self.now_us + HEARTBEAT_MS * 1_000;
        let (from, sequence, own, side) = (node.peer, node.sequence, node.view, node.side);
        let advert = Arc::new(self.advert(number));
        if self.own_views() {
            self.views[own].observe(from, sequence, Advert::clone(&advert), self.now_us / 1_000);
        }
        let listening: Vec<usize> = if self.own_views() {
            self.alive.iter().map(|n| self.nodes[*n as usize].view).collect()
        } else {
            (0..self.views.len()).collect()
        };
        for view in listening {
            let known = self.own_views() && view == own;
            let across = self.cut && (view % 2 == 1) != side;
            let lost = !self.calm && self.rng.chance(GOSSIP_LOSS);
            if !(known || across || lost) {
                let us = self.now_us + self.rng.below(GOSSIP_US);
                self.at(us, Event::Hear { view, from, sequence, advert: advert.clone() });
            }
        }
    }

    fn advert(&self, number: u32) -> Advert {
        let node = &self.nodes[number as usize];
        let shard = |layers: LayerRange, ready| {
            #[allow(clippy::cast_possible_truncation, reason = "an advert holds an f32")]
            let decode_ms = (node.said_layer_ms * f64::from(layers.count())) as f32;
            Shard { model: self.model, layers, ready, kernel_id: "sim".to_owned(), decode_ms }
        };
        let claim = node.claim.map(|(layers, _)| shard(layers, false));
        Advert {
            build: String::new(),
            tier: Tier::Cpu,
            shards: node.held.map(|layers| shard(layers, true)).into_iter().chain(claim).collect(),
            spare_layers: 0,
            kv_room: CONTEXT,
            stages: u32::try_from(self.stages_at(number).count()).unwrap_or(u32::MAX),
            upload_bytes_per_s: 0,
            hidden: false,
        }
    }

    pub(super) fn hear(&mut self, view: usize, from: PeerId, sequence: u64, advert: &Advert) {
        let now_ms = self.now_ms();
        self.views[view].observe(from, sequence, advert.clone(), now_ms);
    }

    /// Whether all who are there know the same of all who are there (P4).
    pub(super) fn views_agree(&self) -> bool {
        let views: BTreeSet<usize> = self.alive.iter().map(|n| self.nodes[*n as usize].view).collect();
        let mut known = views.iter().map(|view| self.views[*view].nodes().collect::<Vec<_>>());
        let Some(first) = known.next() else { return true };
        // A registry that is full holds those that it heard last, and they need not be the same.
        self.alive.len() > crate::registry::MAX_NODES || known.all(|other| other == first)
    }

    /// How much of the model is there.
    pub(super) fn sample(&mut self) {
        let mut replicas = vec![0u32; self.scenario.layers as usize];
        let held = self.alive.iter().filter_map(|n| self.nodes[*n as usize].held);
        held.flat_map(LayerRange::iter).for_each(|layer| replicas[layer as usize] += 1);
        if !self.calm {
            self.figures.covered(&replicas);
        }
    }
}

pub(super) fn micros(seconds: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and bounded by the caller")]
    let us = (seconds * 1e6) as u64;
    us
}

/// An id that no key belongs to: thousands of keys would take longer than the simulation.
fn peer_id(seed: u64, number: u32) -> Option<PeerId> {
    let mut rng = super::rng::Rng::new(seed ^ u64::from(number) << 32);
    // A SHA-256 multihash.
    let mut bytes = vec![0x12, 32];
    (0..4).for_each(|_| bytes.extend(rng.next().to_le_bytes()));
    PeerId::from_bytes(&bytes).ok()
}

//! The simulated swarm: virtual time, what happens next, and what all parts of it share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cdi_types::advert::Advert;
use cdi_types::block::raw_cid;
use cdi_types::session::Open;
use cdi_types::{Cid, PeerId};

use super::asking::Session;
use super::members::Node;
use super::network::{Packet, Stream};
use super::report::{Figures, Report};
use super::rng::Rng;
use super::scenario::Scenario;
use super::serving::StageRun;
use crate::registry::Registry;

/// Time in which the first nodes join, and hosting begins.
const START_S: u64 = 60;
/// Longest time until everything has come to rest once nobody leaves and asks any more.
const CALM_S: u64 = 900;
/// How often coverage is looked at.
const SAMPLE_US: u64 = 1_000_000;
pub(super) const SECOND_US: u64 = 1_000_000;

/// A stage of a session at a node, by its first layer.
pub(super) type StageKey = (u32, usize, u32);

/// What happens at a moment.
#[derive(Debug)]
pub(super) enum Event {
    Join,
    Leave {
        node: u32,
    },
    /// A node looks at its registry.
    Look {
        node: u32,
    },
    Hear {
        view: usize,
        from: PeerId,
        sequence: u64,
        advert: Arc<Advert>,
    },
    Ask,
    Tick {
        session: usize,
    },
    Arrive {
        stream: u64,
        end: usize,
        packet: Packet,
    },
    Computed {
        node: u32,
    },
    /// Layers for a session are still being fetched.
    Preparing {
        stream: u64,
    },
    Cut,
    Heal,
    Sample,
}

/// Everything.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) model: Cid,
    pub(super) rng: Rng,
    pub(super) now_us: u64,
    queue: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) alive: BTreeSet<u32>,
    pub(super) index: BTreeMap<PeerId, u32>,
    /// What nodes know of the swarm. Beyond [`super::members::OWN_VIEWS`] nodes share a few of them.
    pub(super) views: Vec<Registry>,
    pub(super) streams: BTreeMap<u64, Stream>,
    pub(super) stages: BTreeMap<StageKey, StageRun>,
    /// Requests whose layers are being fetched, and when they are there.
    pub(super) fetching: BTreeMap<u64, (Open, u64)>,
    pub(super) sessions: Vec<Session>,
    /// Sessions that are not over.
    pub(super) running: BTreeSet<usize>,
    pub(super) cut: bool,
    /// Nobody leaves, asks or lies to gossip any more.
    pub(super) calm: bool,
    pub(super) messages: u64,
    pub(super) figures: Figures,
    /// What must never happen, and did.
    pub(super) violations: Vec<String>,
}

/// Runs a scenario to its end.
#[must_use]
pub fn run(scenario: &Scenario) -> Report {
    let mut world = World::new(scenario.clone());
    let asking_until_us = (START_S + u64::from(scenario.seconds)) * SECOND_US;
    world.run_until(asking_until_us, |_| false);
    world.calm_down();
    let rest_us = world.now_us + CALM_S * SECOND_US;
    world.run_until(rest_us, World::has_come_to_rest);
    world.check_end();
    Report::of(world)
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let mut world = Self {
            rng: Rng::new(scenario.seed),
            model: raw_cid(b"model"),
            now_us: 0,
            queue: BTreeMap::new(),
            numbers: 0,
            nodes: Vec::new(),
            alive: BTreeSet::new(),
            index: BTreeMap::new(),
            views: Vec::new(),
            streams: BTreeMap::new(),
            stages: BTreeMap::new(),
            fetching: BTreeMap::new(),
            sessions: Vec::new(),
            running: BTreeSet::new(),
            cut: false,
            calm: false,
            messages: 0,
            figures: Figures::default(),
            violations: Vec::new(),
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let (start_us, asking_us) = (START_S * SECOND_US, u64::from(self.scenario.seconds) * SECOND_US);
        for _ in 0..self.scenario.nodes {
            let us = self.rng.below(start_us / 2);
            self.at(us, Event::Join);
        }
        for _ in 0..self.scenario.askers {
            let us = start_us + self.rng.below(5 * SECOND_US);
            self.at(us, Event::Ask);
        }
        for _ in 0..self.scenario.partitions {
            let us = start_us + self.rng.below(asking_us);
            self.at(us, Event::Cut);
        }
        self.at(start_us, Event::Sample);
    }

    pub(super) fn at(&mut self, us: u64, event: Event) {
        let number = self.number();
        self.queue.insert((us.max(self.now_us), number), event);
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) const fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    fn run_until(&mut self, end_us: u64, done: impl Fn(&Self) -> bool) {
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= end_us) {
            let ((us, _), event) = entry.remove_entry();
            self.now_us = us;
            let looked = matches!(event, Event::Sample);
            self.happen(event);
            if looked && done(self) {
                return;
            }
        }
        self.now_us = end_us;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Join => self.join(),
            Event::Leave { node } => self.leave(node),
            Event::Look { node } => self.look(node),
            Event::Hear { view, from, sequence, advert } => self.hear(view, from, sequence, &advert),
            Event::Ask => self.ask(),
            Event::Tick { session } => self.tick(session),
            Event::Arrive { stream, end, packet } => self.arrive(stream, end, packet),
            Event::Computed { node } => self.computed(node),
            Event::Preparing { stream } => self.preparing(stream),
            Event::Cut => self.begin_cut(),
            Event::Heal => self.cut = false,
            Event::Sample => {
                self.sample();
                self.at(self.now_us + SAMPLE_US, Event::Sample);
            }
        }
    }

    fn begin_cut(&mut self) {
        if self.cut || self.calm {
            return;
        }
        self.cut = true;
        for session in self.running.iter().copied().collect::<Vec<_>>() {
            let node = self.sessions[session].node;
            let cut_off = self.route(session).iter().any(|other| !self.reachable(node, *other));
            if cut_off {
                self.sessions[session].mark_lost(self.now_us);
            }
        }
        self.break_across();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds")]
        let us = (self.scenario.partition_s * 1e6) as u64;
        self.at(self.now_us + us, Event::Heal);
    }

    fn calm_down(&mut self) {
        self.calm = true;
        self.cut = false;
    }

    fn has_come_to_rest(&self) -> bool {
        self.running.is_empty() && self.stages.is_empty() && self.fetching.is_empty() && self.views_agree()
    }

    /// The properties that hold once everything has come to rest.
    fn check_end(&mut self) {
        for session in self.running.clone() {
            let tokens = self.sessions[session].text.len();
            self.violations.push(format!("P6: question {session} has no answer, {tokens} tokens so far"));
        }
        if !self.views_agree() {
            self.violations.push("P4: nodes that heard the same adverts know different things".to_owned());
        }
        let left = self.stages.len() + self.fetching.len();
        if left > 0 {
            self.violations.push(format!("P8: {left} stages of sessions that are over"));
        }
        if !self.streams.is_empty() && self.running.is_empty() {
            self.violations.push(format!("P8: {} streams of sessions that are over", self.streams.len()));
        }
    }
}

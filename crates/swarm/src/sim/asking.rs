//! Questions at simulated nodes: what `cdi_node::answer` does, in virtual time.

use std::collections::{BTreeMap, VecDeque};

use cdi_types::sampling::Sampling;
use cdi_types::{LayerRange, PeerId};

use super::members::{Conduct, micros};
use super::network::{Kind, Packet};
use super::scenario::{CONTEXT, MAX_PROMPT};
use super::toy;
use super::world::{Event, World};
use crate::client::{Action, Client, Spec};
use crate::route::{self, Candidate};

/// How often lateness is looked for.
const TICK_US: u64 = 250_000;
/// Mean time between an answer and the next question.
const THINK_S: f64 = 2.0;
/// Expected one-way time to a peer that was not met yet, and what a stage adds (`crates/node/src/planner.rs`).
const UNKNOWN_HOP_MS: f64 = 15.0;
const STAGE_OVERHEAD_MS: f64 = 1.0;

/// A question and its answer so far.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) node: u32,
    client: Client,
    conns: BTreeMap<u64, u64>,
    prompt: Vec<u32>,
    sampling: Sampling,
    asked_us: u64,
    first_us: Option<u64>,
    /// When a node of its route was lost, until the next token.
    lost_us: Option<u64>,
    pub(super) text: Vec<u32>,
    /// Whether a lying node ever was on its route.
    lied_to: bool,
}

impl Session {
    pub(super) fn mark_lost(&mut self, now_us: u64) {
        if self.first_us.is_some() {
            self.lost_us.get_or_insert(now_us);
        }
    }
}

impl World {
    pub(super) fn ask(&mut self) {
        if self.calm {
            return;
        }
        let pick = usize::try_from(self.rng.below(self.alive.len() as u64)).unwrap_or(0);
        let Some(node) = self.alive.iter().nth(pick).copied() else {
            let us = self.now_us + micros(THINK_S);
            return self.at(us, Event::Ask);
        };
        let number = self.sessions.len();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let prompt_len = self.scenario.prompt_tokens.draw(&mut self.rng).clamp(1.0, MAX_PROMPT) as u32;
        let prompt: Vec<u32> = (0..prompt_len).map(|_| self.rng.between(0, 999)).collect();
        let warm = self.rng.chance(self.scenario.sampled);
        let sampling = match warm {
            true => Sampling { temperature: 0.8, top_k: 0, top_p: 0.95, seed: self.rng.next() },
            false => Sampling::GREEDY,
        };
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let Some(layers) = LayerRange::whole(self.scenario.layers) else { return };
        let spec = Spec {
            session: id,
            model: self.model,
            layers,
            context: CONTEXT,
            prompt: prompt.clone(),
            max_tokens: self.scenario.answer_tokens,
            end_of_text: Vec::new(),
            sampling,
            me: self.nodes[node as usize].peer,
            speculate: self.scenario.speculate,
        };
        let (client, actions) = Client::start(spec, self.now_ms());
        self.figures.asked += 1;
        self.sessions.push(Session {
            node,
            client,
            conns: BTreeMap::new(),
            prompt,
            sampling,
            asked_us: self.now_us,
            first_us: None,
            lost_us: None,
            text: Vec::new(),
            lied_to: false,
        });
        self.running.insert(number);
        self.act(number, actions);
        self.at(self.now_us + TICK_US, Event::Tick { session: number });
    }

    pub(super) fn tick(&mut self, number: usize) {
        if self.running.contains(&number) {
            let now_ms = self.now_ms();
            let actions = self.sessions[number].client.tick(now_ms);
            self.act(number, actions);
            self.at(self.now_us + TICK_US, Event::Tick { session: number });
        }
    }

    /// Nodes that compute a session.
    pub(super) fn route(&self, number: usize) -> Vec<u32> {
        self.sessions[number].client.legs().filter_map(|leg| self.index.get(&leg.peer).copied()).collect()
    }

    pub(super) fn client_heard(&mut self, number: usize, conn: u64, packet: Packet) {
        if !self.running.contains(&number) {
            return;
        }
        let now_ms = self.now_ms();
        let client = &mut self.sessions[number].client;
        let actions = match packet {
            Packet::Control(message) => client.message(conn, message, now_ms),
            _ => client.lost(conn, now_ms),
        };
        self.act(number, actions);
    }

    fn act(&mut self, number: usize, actions: Vec<Action>) {
        let mut todo: VecDeque<Action> = actions.into();
        while let Some(action) = todo.pop_front() {
            let session = &mut self.sessions[number];
            match action {
                Action::Route(layers) => {
                    let candidates = self.candidates(number);
                    let me = self.nodes[self.sessions[number].node as usize].peer;
                    let client = &mut self.sessions[number].client;
                    let spare = if client.excluded(&me) { 0 } else { self.scenario.layers };
                    let route = route::plan(layers, &candidates, me, spare);
                    let more = client.routed(route, self.now_us / 1_000);
                    more.into_iter().rev().for_each(|action| todo.push_front(action));
                }
                Action::Connect { conn, peer } => {
                    let node = session.node;
                    let Some(to) = self.index.get(&peer).copied() else { continue };
                    let id = self.open_stream(node, to, Kind::Control { session: number, conn });
                    self.sessions[number].conns.insert(conn, id);
                    self.sessions[number].lied_to |= self.nodes[to as usize].conduct == Conduct::Lying;
                }
                Action::Send { conn, message } => {
                    let id = session.conns.get(&conn).copied();
                    id.into_iter().for_each(|id| self.send(id, 0, Packet::Control(message.clone())));
                }
                Action::Disconnect { conn } => {
                    let id = session.conns.remove(&conn);
                    id.into_iter().for_each(|id| self.close(id, 0));
                }
                Action::RouteChanged => {}
                Action::Token(id) => self.token(number, id),
                Action::Finished(_) => self.finished(number),
                Action::Failed(message) => self.failed(number, &message),
            }
        }
    }

    fn token(&mut self, number: usize, id: u32) {
        let (now_us, session) = (self.now_us, &mut self.sessions[number]);
        session.text.push(id);
        self.figures.tokens += 1;
        if session.first_us.is_none() {
            session.first_us = Some(now_us);
            self.figures.first_token_ms.push(millis(now_us - session.asked_us));
        }
        if let Some(lost_us) = session.lost_us.take() {
            self.figures.failover_ms.push(millis(now_us - lost_us));
        }
    }

    fn finished(&mut self, number: usize) {
        let session = &self.sessions[number];
        let layers = self.scenario.layers;
        let expected = toy::reference(&session.prompt, self.scenario.answer_tokens as usize, layers, &session.sampling);
        if session.text != expected {
            self.figures.wrong += 1;
            if !session.lied_to {
                self.violations.push(format!("P7: the text of question {number} is wrong"));
            }
        }
        self.figures.answered += 1;
        let (drafted, accepted) = session.client.drafts();
        self.figures.drafted += drafted;
        self.figures.accepted += accepted;
        self.figures.failovers += u64::from(session.client.failovers());
        let rows = session.prompt.len() as u64 + u64::from(self.scenario.answer_tokens) - 1;
        self.figures.useful_rows += rows * u64::from(layers);
        let decoding = self.now_us - session.first_us.unwrap_or(self.now_us);
        if decoding > 0 {
            let tokens = f64::from(self.scenario.answer_tokens) - 1.0;
            self.figures.tokens_per_s.push(tokens / millis(decoding) * 1e3);
        }
        self.over(number);
    }

    fn failed(&mut self, number: usize, message: &str) {
        self.figures.failed += 1;
        self.violations.push(format!("P6: question {number} failed: {message}"));
        self.over(number);
    }

    /// The asking tab is gone.
    pub(super) fn abandon(&mut self, number: usize) {
        self.figures.abandoned += 1;
        self.over(number);
    }

    fn over(&mut self, number: usize) {
        self.running.remove(&number);
        let us = self.now_us + micros(self.rng.exponential(THINK_S));
        self.at(us, Event::Ask);
    }

    fn candidates(&self, number: usize) -> Vec<Candidate> {
        let session = &self.sessions[number];
        let me = &self.nodes[session.node as usize];
        let usable = |(peer, advert): (&PeerId, &cdi_types::advert::Advert)| {
            if session.client.excluded(peer) {
                return None;
            }
            let shard = advert.shards_of(&self.model).find(|s| s.ready)?;
            let other = self.index.get(peer)?;
            let hop_ms = match () {
                () if *other == session.node => 0.0,
                () if me.met.contains(other) => me.access_ms + self.nodes[*other as usize].access_ms,
                () => UNKNOWN_HOP_MS,
            };
            Some(Candidate {
                peer: *peer,
                held: Some(shard.layers),
                spare_layers: advert.spare_layers,
                layer_ms: f64::from(shard.decode_ms) / f64::from(shard.layers.count()),
                hop_ms: STAGE_OVERHEAD_MS + hop_ms,
                stages: advert.stages,
                hidden: advert.hidden,
            })
        };
        self.views[me.view].nodes().filter_map(usable).collect()
    }
}

fn millis(us: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a virtual time of days")]
    let ms = us as f64 / 1e3;
    ms
}

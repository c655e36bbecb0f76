//! Stages at simulated nodes: what `cdi_node::serve` does, in virtual time.

use cdi_types::session::{Control, Frame, Open, Refusal, Welcome};

use super::members::{Conduct, micros};
use super::network::{Kind, Packet};
use super::scenario::CONTEXT;
use super::toy::{Cache, ROW_BYTES};
use super::world::{Event, SECOND_US, StageKey, World};
use crate::stage::{Action, Output, Stage, Work, WorkInput};

/// Most stages of a node.
const MAX_STAGES: usize = 64;
/// What a pass through the kernels costs besides its layers.
const PASS_MS: f64 = 0.5;
/// A further row of the same pass costs this part of the first: weights are read once.
const FURTHER_ROW: f64 = 0.15;
const FETCH_S: f64 = 6.0;
/// From this position on a lying node sends wrong rows.
const LIES_FROM: u32 = 3;

#[derive(Debug)]
pub(super) struct StageRun {
    stage: Stage,
    cache: Cache,
    pending: Option<Work>,
    control: u64,
    inbound: Option<u64>,
    next: Option<u64>,
    /// Tells it from another one with the same key.
    number: u64,
}

impl World {
    /// Something came on the control stream `id`, at the stage's end.
    pub(super) fn stage_heard(&mut self, id: u64, packet: Packet) {
        let Some((stage, node)) = self.streams.get(&id).map(|s| (s.stage, s.node(1))) else { return };
        let message = match packet {
            Packet::Control(message) => message,
            _ => {
                self.fetching.remove(&id);
                return stage.into_iter().for_each(|key| self.end_stage(key));
            }
        };
        if let Some(key) = stage {
            return self.message(key, message);
        }
        match (message, self.fetching.get_mut(&id)) {
            (Control::Open(newer), Some((open, _))) if newer.attempt > open.attempt => *open = *newer,
            (Control::Open(open), None) => self.prepare(id, node, *open),
            (Control::Query, Some(_)) => self.send(id, 1, Packet::Control(Control::Held { have: 0 })),
            _ => self.close(id, 1),
        }
    }

    fn message(&mut self, key: StageKey, message: Control) {
        let Some(run) = self.stages.get_mut(&key) else { return };
        let actions = match message {
            Control::Open(open) => run.stage.reopen(*open, "sim"),
            Control::Tokens { position, ids, fork, .. } => run.stage.tokens(fork, position, &ids),
            Control::Query => vec![Action::Reply(run.stage.status())],
            _ => vec![Action::End],
        };
        self.apply(key, actions);
    }

    /// Stages that a node runs.
    pub(super) fn stages_at(&self, number: u32) -> impl Iterator<Item = &StageRun> {
        self.stages.range((number, 0, 0)..).take_while(move |(key, _)| key.0 == number).map(|(_, run)| run)
    }

    fn prepare(&mut self, id: u64, number: u32, open: Open) {
        let node = &self.nodes[number as usize];
        let own = matches!(self.streams.get(&id).map(|s| s.kind), Some(Kind::Control { session, .. })
            if self.sessions[session].node == number);
        let holds = node.held.is_some_and(|held| held.covers(open.layers));
        let mine = || self.stages.range((number, 0, 0)..).take_while(|(key, _)| key.0 == number);
        let reserved: u32 = mine().map(|(_, run)| run.stage.open().max_positions).sum();
        let full =
            mine().count() >= MAX_STAGES || reserved + open.max_positions > self.scenario.kv_positions.max(CONTEXT);
        if !own && (node.conduct == Conduct::Refusing || !holds) {
            return self.refuse(id, &open, Refusal::NotHeld);
        }
        if !own && full {
            return self.refuse(id, &open, Refusal::Full);
        }
        if holds {
            return self.grant(id, number, &open);
        }
        self.fetching.insert(id, (open, self.now_us + micros(FETCH_S)));
        self.preparing(id);
    }

    pub(super) fn preparing(&mut self, id: u64) {
        let Some((_, there_us)) = self.fetching.get(&id) else { return };
        if *there_us > self.now_us {
            self.send(id, 1, Packet::Control(Control::Preparing { done_bytes: 0, total_bytes: 1 }));
            return self.at(self.now_us + SECOND_US, Event::Preparing { stream: id });
        }
        let node = self.streams.get(&id).map(|s| s.node(1));
        if let (Some(node), Some((open, _))) = (node, self.fetching.remove(&id)) {
            self.grant(id, node, &open);
        }
    }

    fn refuse(&mut self, id: u64, open: &Open, reason: Refusal) {
        self.send(id, 1, Packet::Control(Control::Refused { attempt: open.attempt, reason }));
        self.close(id, 1);
    }

    fn grant(&mut self, id: u64, node: u32, open: &Open) {
        let session = session_of(&open.session);
        let key = (node, session, open.layers.first());
        if self.stages.contains_key(&key) {
            return self.refuse(id, open, Refusal::Full);
        }
        let cache = Cache::new(open.layers);
        match Stage::new(open.clone(), ROW_BYTES, CONTEXT) {
            Ok(stage) => {
                let granted = vec![Action::Reply(stage.granted("sim"))];
                let number = self.number();
                let run = StageRun { stage, cache, pending: None, control: id, inbound: None, next: None, number };
                self.stages.insert(key, run);
                self.streams.get_mut(&id).into_iter().for_each(|s| s.stage = Some(key));
                self.apply(key, granted);
            }
            Err(refusal) => self.refuse(id, open, refusal),
        }
    }

    /// Something came from a predecessor.
    pub(super) fn predecessor_said(&mut self, id: u64, packet: Packet) {
        let Some((bound, node)) = self.streams.get(&id).map(|s| (s.stage, s.node(1))) else { return };
        match packet {
            Packet::Hello(hello) => {
                let key = (node, session_of(&hello.session), hello.layer);
                let welcome = self.stages.get_mut(&key).map_or(Welcome::Refused, |run| run.stage.hello(&hello));
                let refused = welcome == Welcome::Refused;
                self.send(id, 1, Packet::Welcome(welcome));
                if refused {
                    return self.close(id, 1);
                }
                self.streams.get_mut(&id).into_iter().for_each(|s| s.stage = Some(key));
                let earlier = self.stages.get_mut(&key).and_then(|run| run.inbound.replace(id));
                earlier.into_iter().for_each(|earlier| self.close(earlier, 1));
            }
            Packet::Frame(frame) => self.frame(id, bound, &frame),
            _ => {}
        }
    }

    fn frame(&mut self, id: u64, bound: Option<StageKey>, frame: &Frame) {
        let Some(key) = bound else { return };
        let Some(run) = self.stages.get_mut(&key).filter(|run| run.inbound == Some(id)) else { return };
        let actions = run.stage.frame(frame);
        self.apply(key, actions);
    }

    /// Something came from a successor.
    pub(super) fn successor_said(&mut self, id: u64, from: StageKey, packet: Packet) {
        let Some(run) = self.stages.get_mut(&from).filter(|run| run.next == Some(id)) else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let actions = match packet {
            Packet::Welcome(welcome) if !std::mem::replace(&mut stream.greeted, true) => {
                run.stage.next_welcome(&welcome)
            }
            Packet::Welcome(Welcome::Have(have)) => run.stage.next_credit(have),
            _ => {
                run.next = None;
                run.stage.next_lost()
            }
        };
        self.apply(from, actions);
    }

    fn apply(&mut self, key: StageKey, actions: Vec<Action>) {
        for action in actions {
            let Some(run) = self.stages.get_mut(&key) else { return };
            match action {
                Action::Reply(message) => {
                    let control = run.control;
                    self.send(control, 1, Packet::Control(message));
                }
                Action::Compute(work) => {
                    if run.pending.replace(work).is_some() {
                        self.violations.push("P8: a stage computes two pieces at once".to_owned());
                    }
                    self.nodes[key.0 as usize].waiting.push_back(key);
                    self.compute_next(key.0);
                }
                Action::ConnectNext { peer, hello } => {
                    let earlier = run.next.take();
                    earlier.into_iter().for_each(|id| self.close(id, 0));
                    let to = cdi_types::PeerId::from_bytes(&peer).ok().and_then(|peer| self.index.get(&peer).copied());
                    let Some(to) = to else { continue };
                    let id = self.open_stream(key.0, to, Kind::Rows { from: key });
                    self.stages.get_mut(&key).into_iter().for_each(|run| run.next = Some(id));
                    self.send(id, 0, Packet::Hello(hello));
                }
                Action::SendNext(frame) => {
                    let next = run.next;
                    next.into_iter().for_each(|id| self.send(id, 0, Packet::Frame(frame.clone())));
                }
                Action::Credit(have) => {
                    let inbound = run.inbound;
                    inbound.into_iter().for_each(|id| self.send(id, 1, Packet::Welcome(Welcome::Have(have))));
                }
                Action::End => self.end_stage(key),
            }
        }
    }

    fn end_stage(&mut self, key: StageKey) {
        let Some(run) = self.stages.remove(&key) else { return };
        self.close(run.control, 1);
        run.next.into_iter().for_each(|id| self.close(id, 0));
        run.inbound.into_iter().for_each(|id| self.close(id, 1));
    }

    fn compute_next(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        if node.computing.is_some() {
            return;
        }
        while let Some(key) = node.waiting.pop_front() {
            let Some(run) = self.stages.get(&key) else { continue };
            let Some(work) = &run.pending else { continue };
            let (rows, layers) = (rows_of(work), run.stage.open().layers.count());
            node.computing = Some((key, run.number));
            self.figures.computed_rows += u64::from(rows) * u64::from(layers);
            let further = f64::from(rows.saturating_sub(1)) * FURTHER_ROW;
            let ms = PASS_MS + node.layer_ms * f64::from(layers) * (1.0 + further);
            return self.at(self.now_us + micros(ms / 1e3), Event::Computed { node: number });
        }
    }

    /// The kernels of a node are done.
    pub(super) fn computed(&mut self, number: u32) {
        let node = &mut self.nodes[number as usize];
        let Some((key, id)) = node.computing.take() else { return };
        let lying = node.conduct == Conduct::Lying;
        if let Some(run) = self.stages.get_mut(&key).filter(|run| run.number == id)
            && let Some(work) = run.pending.take()
        {
            let sampling = run.stage.open().sampling;
            let actions = match run.cache.compute(&work, &sampling) {
                Some(mut output) => {
                    if lying && work.start >= LIES_FROM {
                        lie(&mut output);
                    }
                    run.stage.computed(output)
                }
                None => {
                    self.violations.push("P7: rows computed on positions that are not held".to_owned());
                    vec![Action::End]
                }
            };
            self.apply(key, actions);
        }
        self.compute_next(number);
    }
}

fn rows_of(work: &Work) -> u32 {
    let rows = match &work.input {
        WorkInput::Tokens(ids) => ids.len(),
        WorkInput::Rows(bytes) => bytes.len() / ROW_BYTES,
    };
    u32::try_from(rows).unwrap_or(u32::MAX)
}

fn lie(output: &mut Output) {
    match output {
        Output::Rows(bytes) => bytes.last_mut().into_iter().for_each(|byte| *byte ^= 1),
        Output::Tokens(tokens) => tokens.last_mut().into_iter().for_each(|(_, id)| *id ^= 1),
    }
}

/// The number of a session stands in its id.
pub(super) fn session_of(id: &[u8; 16]) -> usize {
    id.iter().take(8).rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

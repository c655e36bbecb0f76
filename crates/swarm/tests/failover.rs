//! Whole sessions over a simulated network that loses nodes: the text never changes (P7), and a session
//! always ends (P6).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cdi_swarm::client::{self, Client, Ended, Spec};
use cdi_swarm::route::{self, Candidate};
use cdi_swarm::stage::{Action, Output, Stage, Work, WorkInput};
use cdi_types::block::raw_cid;
use cdi_types::sampling::Sampling;
use cdi_types::session::{Control, Frame, Hello, Welcome};
use cdi_types::{Keypair, LayerRange, PeerId};
use proptest::prelude::*;

const LAYERS: u32 = 8;
const HIDDEN_BYTES: usize = 8;
const ANSWER: u32 = 30;

/// A "layer" whose result depends on every earlier position, so that a lost or doubled row shows.
fn layer(state: u64, layer: u32, input: u64) -> u64 {
    (state ^ input.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(layer) << 7)
        ^ (state >> 29)
}

fn embed(id: u32) -> u64 {
    u64::from(id).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Few different tokens: the client finds drafts everywhere, and most of them are wrong.
fn choose(row: u64) -> u32 {
    u32::try_from((row >> 20) % 3).expect("small")
}

/// What one process alone would answer.
fn reference(prompt: &[u32]) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    let mut states = [0u64; LAYERS as usize];
    for position in 0.. {
        let mut row = embed(ids[position]);
        for l in 0..LAYERS {
            states[l as usize] = layer(states[l as usize], l, row);
            row = states[l as usize];
        }
        if position + 1 == ids.len() {
            ids.push(choose(row));
        }
        if ids.len() == prompt.len() + ANSWER as usize {
            break;
        }
    }
    ids.split_off(prompt.len())
}

/// A stage with its "KV cache": the state after each position, a row a layer.
struct Running {
    stage: Stage,
    cache: Vec<Vec<u64>>,
    pending: Option<Work>,
    /// The client's stream and the stream to the next stage.
    control: u64,
    next: Option<(PeerId, u32)>,
    /// Who sends rows to it.
    previous: Option<(PeerId, u32)>,
}

impl Running {
    fn compute(&mut self, work: Work) -> Output {
        let rows: Vec<u64> = match work.input {
            WorkInput::Tokens(ids) => ids.into_iter().map(embed).collect(),
            WorkInput::Rows(bytes) => {
                bytes.chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes"))).collect()
            }
        };
        let range = self.stage.open().layers;
        let mut out = Vec::new();
        for (position, mut row) in (work.start as usize..).zip(rows) {
            for (l, cache) in range.iter().zip(&mut self.cache) {
                let state = position.checked_sub(1).map_or(0, |p| cache[p]);
                row = layer(state, l, row);
                cache.truncate(position);
                cache.push(row);
            }
            out.push((position, row));
        }
        match work.sample_from {
            None => Output::Rows(out.iter().flat_map(|(_, row)| row.to_le_bytes()).collect()),
            Some(from) => Output::Tokens(
                out.iter()
                    .filter(|(p, _)| *p >= from as usize)
                    .map(|(p, row)| (u32::try_from(p + 1).expect("small"), choose(*row)))
                    .collect(),
            ),
        }
    }
}

/// Everything in flight. Streams are first-in first-out; streams among each other are not ordered.
#[derive(Debug)]
enum Packet {
    ToStage { peer: PeerId, conn: u64, message: Control },
    ToClient { conn: u64, message: Control },
    Hello { from: (PeerId, u32), to: (PeerId, u32), hello: Hello },
    Welcome { to: (PeerId, u32), welcome: Welcome },
    Frame { to: (PeerId, u32), frame: Frame },
    Credit { to: (PeerId, u32), by: (PeerId, u32), have: u32 },
    Work { at: (PeerId, u32) },
    LostAtClient { conn: u64 },
    LostNext { at: (PeerId, u32) },
}

struct World {
    rng: u64,
    now_ms: u64,
    me: PeerId,
    hosts: BTreeMap<PeerId, Candidate>,
    dead: BTreeSet<PeerId>,
    stages: BTreeMap<(PeerId, u32), Running>,
    conns: BTreeMap<u64, PeerId>,
    queues: BTreeMap<String, VecDeque<Packet>>,
    text: Vec<u32>,
    end: Option<Result<Ended, String>>,
    /// Whether a dead node's streams break, or it just falls silent.
    silent: bool,
}

impl World {
    fn random(&mut self, below: usize) -> usize {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        usize::try_from(self.rng % below as u64).expect("small")
    }

    fn push(&mut self, stream: String, packet: Packet) {
        self.queues.entry(stream).or_default().push_back(packet);
    }

    fn client(&mut self, client: &mut Client, actions: Vec<client::Action>) {
        for action in actions {
            match action {
                client::Action::Route(layers) => {
                    let candidates: Vec<Candidate> =
                        self.hosts.values().filter(|c| !client.excluded(&c.peer)).cloned().collect();
                    let route = route::plan(layers, &candidates, self.me, LAYERS);
                    let more = client.routed(route, self.now_ms);
                    self.client(client, more);
                }
                client::Action::Connect { conn, peer } => {
                    self.conns.insert(conn, peer);
                    if self.dead.contains(&peer) && !self.silent {
                        self.push(format!("client {conn}"), Packet::LostAtClient { conn });
                    }
                }
                client::Action::Send { conn, message } => {
                    let peer = self.conns[&conn];
                    self.push(format!("control {conn}"), Packet::ToStage { peer, conn, message });
                }
                client::Action::Disconnect { conn } => {
                    self.queues.remove(&format!("client {conn}"));
                }
                client::Action::Token(id) => self.text.push(id),
                client::Action::RouteChanged => {}
                client::Action::Finished(ended) => self.end = Some(Ok(ended)),
                client::Action::Failed(message) => self.end = Some(Err(message)),
            }
        }
    }

    fn stage(&mut self, at: (PeerId, u32), actions: Vec<Action>) {
        for action in actions {
            let Some(running) = self.stages.get_mut(&at) else { return };
            let conn = running.control;
            match action {
                Action::Reply(message) => self.push(format!("client {conn}"), Packet::ToClient { conn, message }),
                Action::Compute(work) => {
                    assert!(running.pending.replace(work).is_none(), "one piece at a time");
                    self.push(format!("work {at:?}"), Packet::Work { at });
                }
                Action::ConnectNext { peer, hello } => {
                    let peer = PeerId::from_bytes(&peer).expect("a peer id");
                    let to = (peer, hello.layer);
                    running.next = Some(to);
                    self.queues.remove(&format!("rows {at:?}"));
                    self.push(format!("rows {at:?}"), Packet::Hello { from: at, to, hello });
                }
                Action::SendNext(frame) => {
                    let to = running.next.expect("connected");
                    self.push(format!("rows {at:?}"), Packet::Frame { to, frame });
                }
                Action::Credit(have) => {
                    if let Some(to) = running.previous {
                        self.push(format!("back {to:?}"), Packet::Credit { to, by: at, have });
                    }
                }
                Action::End => {
                    self.stages.remove(&at);
                }
            }
        }
    }

    fn deliver(&mut self, client: &mut Client, packet: Packet) {
        let gone = |world: &Self, peer: &PeerId| world.dead.contains(peer);
        match packet {
            Packet::ToStage { peer, .. } if gone(self, &peer) => {}
            Packet::ToStage { peer, conn, message: Control::Open(open) } => {
                let at = (peer, open.layers.first());
                let actions = match self.stages.get_mut(&at).filter(|r| r.control == conn) {
                    Some(running) => running.stage.reopen(*open, "k"),
                    None => {
                        let cache = vec![Vec::new(); open.layers.count() as usize];
                        let stage = Stage::new(*open, HIDDEN_BYTES, 512).expect("in bounds");
                        let actions = vec![Action::Reply(stage.granted("k"))];
                        let running =
                            Running { stage, cache, pending: None, control: conn, next: None, previous: None };
                        self.stages.insert(at, running);
                        self.queues.remove(&format!("work {at:?}"));
                        actions
                    }
                };
                self.stage(at, actions);
            }
            Packet::ToStage { peer, conn, message } => {
                let found = self.stages.iter_mut().find(|(at, r)| at.0 == peer && r.control == conn);
                let Some((&at, running)) = found else { return };
                let actions = match message {
                    Control::Tokens { position, ids, fork, .. } => running.stage.tokens(fork, position, &ids),
                    Control::Query => vec![Action::Reply(running.stage.status())],
                    Control::Close => vec![Action::End],
                    other => unreachable!("{other:?} to a stage"),
                };
                self.stage(at, actions);
            }
            Packet::ToClient { conn, message } => {
                let actions = client.message(conn, message, self.now_ms);
                self.client(client, actions);
            }
            Packet::Hello { from, to, hello } => {
                if gone(self, &to.0) {
                    if !self.silent {
                        self.push(format!("back {from:?}"), Packet::LostNext { at: from });
                    }
                    return;
                }
                let welcome = self.stages.get_mut(&to).map_or(Welcome::Refused, |r| {
                    r.previous = Some(from);
                    r.stage.hello(&hello)
                });
                self.push(format!("back {from:?}"), Packet::Welcome { to: from, welcome });
            }
            Packet::Welcome { to, welcome } => {
                let Some(running) = self.stages.get_mut(&to) else { return };
                let actions = running.stage.next_welcome(&welcome);
                self.stage(to, actions);
            }
            Packet::Credit { to, by, have } => {
                let Some(running) = self.stages.get_mut(&to).filter(|r| r.next == Some(by)) else { return };
                let actions = running.stage.next_credit(have);
                self.stage(to, actions);
            }
            Packet::Frame { to, frame } => {
                let Some(running) = self.stages.get_mut(&to) else { return };
                let actions = running.stage.frame(&frame);
                self.stage(to, actions);
            }
            Packet::Work { at } => {
                let Some(running) = self.stages.get_mut(&at) else { return };
                let Some(work) = running.pending.take() else { return };
                let output = running.compute(work);
                let actions = running.stage.computed(output);
                self.stage(at, actions);
            }
            Packet::LostAtClient { conn } => {
                let actions = client.lost(conn, self.now_ms);
                self.client(client, actions);
            }
            Packet::LostNext { at } => {
                let Some(running) = self.stages.get_mut(&at) else { return };
                let actions = running.stage.next_lost();
                self.stage(at, actions);
            }
        }
    }

    fn kill(&mut self, peer: PeerId) {
        self.dead.insert(peer);
        self.hosts.remove(&peer);
        self.stages.retain(|at, _| at.0 != peer);
        if self.silent {
            return;
        }
        let conns: Vec<u64> = self.conns.iter().filter(|(_, p)| **p == peer).map(|(c, _)| *c).collect();
        for conn in conns {
            self.push(format!("client {conn}"), Packet::LostAtClient { conn });
        }
        let senders: Vec<(PeerId, u32)> =
            self.stages.iter().filter(|(_, r)| r.next.is_some_and(|n| n.0 == peer)).map(|(at, _)| *at).collect();
        for at in senders {
            self.push(format!("back {at:?}"), Packet::LostNext { at });
        }
    }
}

fn peer(n: u8) -> PeerId {
    Keypair::from_seed(&[n; 32]).public().peer_id()
}

fn host(n: u8, held: (u32, u32), spare_layers: u32) -> (PeerId, Candidate) {
    let held = LayerRange::new(held.0, held.1).ok();
    (peer(n), Candidate { peer: peer(n), held, spare_layers, layer_ms: 1.0, hop_ms: 5.0, stages: 0, hidden: false })
}

/// Runs one session; `kills` are pairs of step and host. Returns text, end and route changes.
fn run(
    seed: u64,
    hosts: &[(PeerId, Candidate)],
    kills: &[(usize, u8)],
    silent: bool,
    prompt: &[u32],
) -> (Vec<u32>, u32) {
    let (text, client) = outcome(seed, hosts, kills, silent, prompt, seed.is_multiple_of(2));
    (text, client.failovers())
}

fn outcome(
    seed: u64,
    hosts: &[(PeerId, Candidate)],
    kills: &[(usize, u8)],
    silent: bool,
    prompt: &[u32],
    speculate: bool,
) -> (Vec<u32>, Client) {
    let me = peer(0);
    let spec = Spec {
        session: [1; 16],
        model: raw_cid(b"model"),
        layers: LayerRange::whole(LAYERS).expect("layers"),
        context: 512,
        prompt: prompt.to_vec(),
        max_tokens: ANSWER,
        end_of_text: vec![5_000],
        sampling: Sampling::GREEDY,
        me,
        speculate,
    };
    let mut world = World {
        rng: seed | 1,
        now_ms: 0,
        me,
        hosts: hosts.iter().cloned().collect(),
        dead: BTreeSet::new(),
        stages: BTreeMap::new(),
        conns: BTreeMap::new(),
        queues: BTreeMap::new(),
        text: Vec::new(),
        end: None,
        silent,
    };
    let (mut client, actions) = Client::start(spec, 0);
    world.client(&mut client, actions);
    for step in 0..100_000 {
        for (_, victim) in kills.iter().filter(|(at, _)| *at == step) {
            world.kill(peer(*victim));
        }
        world.queues.retain(|_, queue| !queue.is_empty());
        if world.end.is_some() {
            break;
        }
        if world.queues.is_empty() {
            // Nothing is in flight: only time can help.
            world.now_ms += 500;
            let actions = client.tick(world.now_ms);
            world.client(&mut client, actions);
            continue;
        }
        let pick = world.random(world.queues.len());
        let queue = world.queues.values_mut().nth(pick).expect("in range");
        let packet = queue.pop_front().expect("not empty");
        // A round takes some packets, and long enough for drafts to pay.
        world.now_ms += 10;
        world.deliver(&mut client, packet);
    }
    assert_eq!(world.end, Some(Ok(Ended::Length)), "seed {seed}: {} tokens", world.text.len());
    (world.text, client)
}

const PROMPT: [u32; 5] = [3, 1, 4, 1, 5];

#[test]
fn a_calm_swarm_answers_like_one_process() {
    let hosts = [host(1, (0, 2), 0), host(2, (3, 5), 0), host(3, (5, 7), 0)];
    assert_eq!(run(7, &hosts, &[], false, &PROMPT), (reference(&PROMPT), 0));
}

#[test]
fn nobody_hosts_and_the_asking_node_answers_alone() {
    assert_eq!(run(7, &[], &[], false, &PROMPT), (reference(&PROMPT), 0));
}

#[test]
fn a_prompt_longer_than_a_piece_flows_through() {
    let prompt: Vec<u32> = (0..200).map(|i| i * 7 % 97).collect();
    let hosts = [host(1, (0, 3), 0), host(2, (4, 7), 8)];
    assert_eq!(run(3, &hosts, &[(20, 1)], false, &prompt), (reference(&prompt), 1));
}

/// Longer than the window: it flows only as fast as the successors compute.
#[test]
fn a_prompt_longer_than_the_window_flows_through() {
    let prompt: Vec<u32> = (0..450).map(|i| i * 7 % 97).collect();
    let hosts = [host(1, (0, 2), 0), host(2, (3, 5), 0), host(3, (6, 7), 0)];
    for seed in 1..20 {
        assert_eq!(run(seed, &hosts, &[], false, &prompt), (reference(&prompt), 0));
    }
}

#[test]
fn every_stage_can_die_alone() {
    let hosts = [host(1, (0, 2), 8), host(2, (3, 5), 8), host(3, (6, 7), 8)];
    for victim in 1..=3 {
        for silent in [false, true] {
            let (text, failovers) = run(11, &hosts, &[(150, victim)], silent, &PROMPT);
            assert_eq!(text, reference(&PROMPT), "victim {victim}, silent {silent}");
            assert!(failovers >= 1);
        }
    }
}

#[test]
fn drafts_change_nothing_but_the_number_of_rounds() {
    let hosts = [host(1, (0, 2), 0), host(2, (3, 5), 0), host(3, (5, 7), 0)];
    let (mut offered, mut accepted) = (0, 0);
    for seed in 1..200 {
        let (text, client) = outcome(seed, &hosts, &[], false, &PROMPT, true);
        assert_eq!(text, reference(&PROMPT), "seed {seed}");
        assert_eq!(client.failovers(), 0, "seed {seed}: a wrong draft is nobody's fault");
        offered += client.drafts().0;
        accepted += client.drafts().1;
    }
    assert!(accepted > 200 && offered > 2 * accepted, "{accepted} of {offered}");
    let (_, plain) = outcome(1, &hosts, &[], false, &PROMPT, false);
    assert_eq!(plain.drafts(), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn whoever_dies_and_whenever_the_text_is_the_same(
        seed in any::<u64>(),
        held in proptest::collection::vec((0u32..8, 0u32..5, 0u32..9), 1..7),
        kills in proptest::collection::vec((0usize..900, 1u8..7), 0..7),
        silent in any::<bool>(),
    ) {
        let hosts: Vec<_> = (1u8..)
            .zip(held)
            .map(|(n, (first, more, spare))| host(n, (first, (first + more).min(LAYERS - 1)), spare))
            .collect();
        let (text, _) = run(seed, &hosts, &kills, silent, &PROMPT);
        prop_assert_eq!(text, reference(&PROMPT));
    }
}

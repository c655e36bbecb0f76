//! Streams between simulated nodes: in order, with latency and bandwidth, cut by deaths and partitions.

use std::collections::BTreeSet;

use cdi_types::session::{Control, Frame, Hello, Welcome};

use super::world::{Event, StageKey, World};

/// Silence after which a link is given up, in microseconds (`crates/net/src/liveness.rs`).
const SILENCE_US: u64 = 1_000_000;
/// How unevenly the end of silence is noticed.
const NOTICE_US: u64 = 250_000;
/// A link within a node.
const LOCAL_US: u64 = 50;

/// What a stream carries.
#[derive(Debug)]
pub(super) enum Packet {
    Control(Control),
    Hello(Hello),
    Welcome(Welcome),
    Frame(Frame),
    /// The other end closed it, or the link broke.
    Closed,
}

/// What a stream is for; its end 0 is the one that opened it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Between a client and a stage.
    Control { session: usize, conn: u64 },
    /// From a stage to the next.
    Rows { from: StageKey },
}

#[derive(Debug)]
pub(super) struct Stream {
    ends: [u32; 2],
    pub(super) kind: Kind,
    /// The stage at end 1.
    pub(super) stage: Option<StageKey>,
    /// Whether end 1 has answered.
    pub(super) greeted: bool,
    open: [bool; 2],
    /// Whether something may have been lost on it: nothing goes through any more.
    broken: bool,
    /// When the last packet to each end arrives.
    clear_us: [u64; 2],
}

impl Stream {
    pub(super) const fn node(&self, end: usize) -> u32 {
        self.ends[end]
    }
}

impl World {
    /// One way between two nodes.
    pub(super) fn latency_us(&mut self, a: u32, b: u32) -> u64 {
        if a == b {
            return LOCAL_US;
        }
        let base_ms = self.nodes[a as usize].access_ms + self.nodes[b as usize].access_ms;
        let jitter = self.rng.exponential(0.05);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds at most")]
        let us = (base_ms * 1e3 * (1.0 + jitter)) as u64;
        us
    }

    pub(super) fn reachable(&self, a: u32, b: u32) -> bool {
        let (one, other) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        one.alive && other.alive && (a == b || !self.cut || one.side == other.side)
    }

    pub(super) fn open_stream(&mut self, from: u32, to: u32, kind: Kind) -> u64 {
        let id = self.number();
        let reachable = self.reachable(from, to);
        let stream = Stream {
            ends: [from, to],
            kind,
            stage: None,
            greeted: false,
            open: [true, reachable],
            broken: false,
            clear_us: [self.now_us; 2],
        };
        self.streams.insert(id, stream);
        for node in [from, to] {
            self.nodes[node as usize].streams.insert(id);
        }
        if reachable {
            self.nodes[from as usize].met.insert(to);
        } else {
            self.at(self.now_us + SILENCE_US, Event::Arrive { stream: id, end: 0, packet: Packet::Closed });
        }
        id
    }

    pub(super) fn send(&mut self, id: u64, from_end: usize, packet: Packet) {
        let Some(stream) = self.streams.get(&id).filter(|s| s.open[from_end] && !s.broken) else { return };
        let (from, to, end) = (stream.ends[from_end], stream.ends[1 - from_end], 1 - from_end);
        if !self.reachable(from, to) {
            return;
        }
        self.messages += 1;
        let mut leaves_us = self.now_us;
        if let Packet::Frame(frame) = &packet
            && from != to
        {
            let bytes = f64::from(frame.rows) * f64::from(self.scenario.row_bytes);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds at most")]
            let takes_us = (bytes / self.scenario.upload_bytes_per_s * 1e6) as u64;
            let uplink_us = &mut self.nodes[from as usize].uplink_us;
            *uplink_us = leaves_us.max(*uplink_us) + takes_us;
            leaves_us = *uplink_us;
        }
        let arrives_us = leaves_us + self.latency_us(from, to);
        self.arrive_at(id, end, arrives_us, packet);
    }

    /// Ends a stream at one end; the other learns of it after what was sent before.
    pub(super) fn close(&mut self, id: u64, end: usize) {
        let Some(stream) = self.streams.get_mut(&id).filter(|s| s.open[end]) else { return };
        stream.open[end] = false;
        let (from, to) = (stream.ends[end], stream.ends[1 - end]);
        if self.reachable(from, to) {
            let arrives_us = self.now_us + self.latency_us(from, to);
            self.arrive_at(id, 1 - end, arrives_us, Packet::Closed);
        }
        self.forget_closed(id);
    }

    fn arrive_at(&mut self, id: u64, end: usize, us: u64, packet: Packet) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let us = us.max(stream.clear_us[end]);
        stream.clear_us[end] = us;
        self.at(us, Event::Arrive { stream: id, end, packet });
    }

    /// A packet is there: hands it on, unless that end is gone.
    pub(super) fn arrive(&mut self, id: u64, end: usize, packet: Packet) {
        let Some(stream) = self.streams.get_mut(&id).filter(|s| s.open[end]) else { return };
        if matches!(packet, Packet::Closed) {
            stream.open[end] = false;
        }
        match (stream.kind, end) {
            (Kind::Control { session, conn }, 0) => self.client_heard(session, conn, packet),
            (Kind::Control { .. }, _) => self.stage_heard(id, packet),
            (Kind::Rows { from }, 0) => self.successor_said(id, from, packet),
            (Kind::Rows { .. }, _) => self.predecessor_said(id, packet),
        }
        self.forget_closed(id);
    }

    fn forget_closed(&mut self, id: u64) {
        if let Some(ends) = self.streams.get(&id).filter(|s| s.open == [false, false]).map(|s| s.ends) {
            self.streams.remove(&id);
            for node in ends {
                self.nodes[node as usize].streams.remove(&id);
            }
        }
    }

    /// All streams of a node that left, with or without a goodbye.
    pub(super) fn break_streams(&mut self, node: u32, goodbye: bool) {
        for id in std::mem::take(&mut self.nodes[node as usize].streams) {
            let Some(ends) = self.streams.get(&id).map(|s| s.ends) else { continue };
            for end in [0, 1] {
                if ends[end] == node {
                    self.streams.get_mut(&id).into_iter().for_each(|s| s.open[end] = false);
                } else if goodbye {
                    let us = self.now_us + self.latency_us(node, ends[end]);
                    self.arrive_at(id, end, us, Packet::Closed);
                } else {
                    self.fall_silent(id, end);
                }
            }
            self.forget_closed(id);
        }
    }

    /// Both ends of every stream across the cut fall silent for each other.
    pub(super) fn break_across(&mut self) {
        let across = |(id, s): (&u64, &Stream)| {
            let [a, b] = s.ends.map(|n| self.nodes[n as usize].side);
            (a != b).then_some(*id)
        };
        let ids: BTreeSet<u64> = self.streams.iter().filter_map(across).collect();
        for id in ids {
            self.fall_silent(id, 0);
            self.fall_silent(id, 1);
        }
    }

    fn fall_silent(&mut self, id: u64, end: usize) {
        let us = self.now_us + SILENCE_US + self.rng.below(NOTICE_US);
        self.streams.get_mut(&id).into_iter().for_each(|s| s.broken = true);
        self.arrive_at(id, end, us, Packet::Closed);
    }
}

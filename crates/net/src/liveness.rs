//! Which connections are alive. A pure machine: it is told of time, of pongs and of bytes, and names the dead.
//!
//! A browser tells a lost peer by `connectionState` after 15 s and more, a TCP connection perhaps never. So every
//! connection is judged here: an idle one by libp2p's pings, one with a session by a heartbeat that runs while
//! nothing else does.
//!
//! Slow is not dead. A peer whose page has no time for a beat may still acknowledge packets in another thread, which a
//! browser can tell ([`Liveness::packets`]); and a machine that is late itself does not judge others to the quarter of a
//! second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use futures::channel::mpsc;
use libp2p::swarm::ConnectionId;

use crate::traffic::Traffic;

/// Time between two heartbeats.
pub(crate) const BEAT: Duration = Duration::from_millis(250);
/// Silence after which a connection with a session is dead: the third look in a row that finds nothing, although looks
/// come a little early or late. Together with the time before the first of them it stays below one second.
pub(crate) const BEAT_SILENCE: Duration = Duration::from_millis(650);
/// Time between two looks at connections without a session. One that was silent for two such times is dead: it is
/// noticed after 10 to 15 s. As long as that between two pings, and kept by the same kind of timer: in a hidden page both
/// are slowed down alike, so that a ping was sent before its answer is missed.
pub(crate) const SWEEP: Duration = Duration::from_secs(5);
/// Silence after which it is asked whether packets come at least.
const DOUBT: Duration = Duration::from_millis(400);
/// How long packets alone keep a connection with a session alive.
const PACKETS_ONLY: Duration = Duration::from_secs(10);
/// A look that comes so much later than it should says that this process was stopped, not that the others are dead.
const STALL: Duration = Duration::from_millis(500);
/// Heartbeat streams of one connection; each session of two nodes has one.
pub(crate) const MAX_BEAT_STREAMS: usize = 128;

/// One connection.
#[derive(Debug)]
struct Link {
    peer: PeerId,
    traffic: Arc<Traffic>,
    /// When anything was heard: bytes, pongs or packets.
    heard: Instant,
    /// When its streams said something, and how much they had said then.
    spoke: Instant,
    received: u64,
    /// Bytes sent at the last look, and whether a heartbeat was asked for then.
    sent: u64,
    beaten: bool,
    /// Whether the other end answers pings.
    answers: bool,
    /// Heartbeat streams: each takes the wish to send one beat.
    streams: Vec<mpsc::Sender<()>>,
}

impl Link {
    /// Takes in the bytes that came since the last look.
    fn listen(&mut self, now: Instant) {
        let received = self.traffic.received();
        if received != self.received {
            self.received = received;
            self.spoke = now;
            self.heard = now;
        }
        if let Some(heard) = self.traffic.heard_beside() {
            self.spoke = self.spoke.max(heard);
            self.heard = self.heard.max(heard);
        }
    }
}

/// What a look at the connections with a heartbeat found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Looked {
    /// Nothing is heard of these any more.
    pub(crate) dead: Vec<ConnectionId>,
    /// Nothing was heard of these for a while: [`Liveness::packets`] may know more.
    pub(crate) doubtful: Vec<(ConnectionId, PeerId)>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    links: HashMap<ConnectionId, Link>,
    /// The last look at connections with a heartbeat.
    looked: Option<Instant>,
    /// How late looks came; it fades.
    late: Duration,
    /// The last two looks at the others, the older first.
    sweeps: (Option<Instant>, Option<Instant>),
}

impl Liveness {
    /// A connection came up.
    pub(crate) fn opened(&mut self, connection: ConnectionId, peer: PeerId, traffic: Arc<Traffic>, now: Instant) {
        let link = Link {
            peer,
            traffic,
            heard: now,
            spoke: now,
            received: 0,
            sent: 0,
            beaten: false,
            answers: true,
            streams: Vec::new(),
        };
        self.links.insert(connection, link);
    }

    /// A connection is gone.
    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.links.remove(&connection);
    }

    /// The other end answered a ping.
    pub(crate) fn heard(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.heard = now;
        }
    }

    /// The other end does not know the ping protocol: while it is idle, nothing can be said of it.
    pub(crate) fn no_pings(&mut self, connection: ConnectionId) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.answers = false;
        }
    }

    /// A heartbeat stream exists; it asks for beats while it is not full, and ends when its receiver is dropped.
    /// `false` when there are too many.
    pub(crate) fn beat_on(&mut self, connection: ConnectionId, stream: mpsc::Sender<()>, now: Instant) -> bool {
        let Some(link) = self.links.get_mut(&connection) else { return false };
        link.streams.retain(|stream| !stream.is_closed());
        if link.streams.len() >= MAX_BEAT_STREAMS {
            return false;
        }
        if link.streams.is_empty() {
            // The other end has just spoken: it negotiated the stream.
            (link.heard, link.spoke) = (now, now);
        }
        link.streams.push(stream);
        true
    }

    /// The last packet of any kind came `ago`, on the transport below a connection.
    pub(crate) fn packets(&mut self, connection: ConnectionId, ago: Duration, now: Instant) {
        if let Some(link) = self.links.get_mut(&connection)
            && now.saturating_duration_since(link.spoke) < PACKETS_ONLY
            && let Some(at) = now.checked_sub(ago)
        {
            link.heard = link.heard.max(at);
        }
    }

    /// Whether any connection has a heartbeat, and [`Liveness::beat`] is to be called every [`BEAT`].
    pub(crate) fn is_beating(&self) -> bool {
        self.links.values().any(|link| !link.streams.is_empty())
    }

    /// Heartbeat streams that are open.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.links.values().flat_map(|link| &link.streams).filter(|stream| !stream.is_closed()).count() as u64
    }

    /// Time for a heartbeat: sends one wherever nothing else was sent, and returns the connections that fell silent.
    pub(crate) fn beat(&mut self, now: Instant) -> Looked {
        let late = self.looked.map(|looked| now.saturating_duration_since(looked).saturating_sub(BEAT));
        let stalled = late.is_none_or(|late| late > STALL);
        self.late = late.unwrap_or_default().min(STALL).max(self.late * 7 / 8);
        let patience = BEAT_SILENCE + 4 * self.late;
        self.looked = Some(now);
        let mut found = Looked::default();
        for (connection, link) in &mut self.links {
            link.listen(now);
            link.streams.retain(|stream| !stream.is_closed());
            let Some(stream) = link.streams.first_mut() else { continue };
            if stalled {
                (link.heard, link.spoke) = (now, now);
            }
            let silent = now.saturating_duration_since(link.heard);
            if silent >= patience {
                found.dead.push(*connection);
                // It takes a moment to close.
                link.heard = now;
                continue;
            }
            if silent >= DOUBT {
                found.doubtful.push((*connection, link.peer));
            }
            let sent = link.traffic.sent();
            // The beat of the last look is one byte.
            link.beaten = sent <= link.sent + u64::from(link.beaten);
            link.sent = sent;
            if link.beaten {
                // One that is still to be written will do.
                let _full = stream.try_send(());
            }
        }
        if !self.is_beating() {
            self.looked = None;
        }
        found
    }

    /// When [`Liveness::sweep`] is to be called.
    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        let last = self.sweeps.1.map(|last| last + SWEEP);
        (!self.links.is_empty()).then(|| last.or_else(|| self.links.values().map(|link| link.heard).min())).flatten()
    }

    /// The connections of which nothing was heard since the look before the last one. To be called by a timer only.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<ConnectionId> {
        if self.next_sweep().is_none_or(|next| now < next) {
            return Vec::new();
        }
        let since = self.sweeps.0;
        self.sweeps = (self.sweeps.1, Some(now));
        let mut dead = Vec::new();
        for (connection, link) in &mut self.links {
            link.listen(now);
            if link.answers && since.is_some_and(|since| link.heard <= since) {
                dead.push(*connection);
                link.heard = now;
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table {
        liveness: Liveness,
        traffic: Arc<Traffic>,
        start: Instant,
        beats: mpsc::Receiver<()>,
    }

    fn id() -> ConnectionId {
        ConnectionId::new_unchecked(1)
    }

    /// A connection with a session, looked at once.
    fn beating() -> Table {
        let (mut liveness, start) = (Liveness::default(), Instant::now());
        let traffic = Arc::new(Traffic::new(id()));
        liveness.opened(id(), PeerId::random(), traffic.clone(), start);
        assert!(!liveness.is_beating());
        let (sender, beats) = mpsc::channel(0);
        assert!(liveness.beat_on(id(), sender, start));
        assert!(liveness.is_beating());
        assert_eq!(liveness.beat(start), Looked::default());
        Table { liveness, traffic, start, beats }
    }

    #[test]
    fn a_silent_peer_is_dead_within_a_second() {
        let Table { mut liveness, traffic, start, beats: _beats } = beating();
        let mut now = start;
        for _ in 0..20 {
            now += BEAT;
            traffic.add_received(1);
            assert_eq!(liveness.beat(now), Looked::default(), "alive");
        }
        // It dies right after its last byte.
        let died = now;
        let noticed = (1..10).map(|n| died + n * BEAT).find(|at| !liveness.beat(*at).dead.is_empty()).expect("noticed");
        assert!(noticed - died <= Duration::from_secs(1), "{:?}", noticed - died);
        assert!(noticed - died >= BEAT_SILENCE);
    }

    #[test]
    fn beats_are_sent_only_while_nothing_else_is() {
        let Table { mut liveness, traffic, start, mut beats } = beating();
        let mut now = start;
        let mut take = || beats.try_recv().is_ok();
        assert!(take(), "the first look");
        for round in 0..6 {
            now += BEAT;
            traffic.add_received(1);
            // What the last beat wrote.
            traffic.add_sent(1);
            liveness.beat(now);
            assert!(take(), "round {round}: its own beats do not suppress it");
        }
        for _ in 0..6 {
            now += BEAT;
            traffic.add_received(1);
            traffic.add_sent(5_000);
            liveness.beat(now);
            assert!(!take(), "frames flow");
        }
    }

    /// A worker's rows are told of once a second: they keep a peer alive whose page is late, and do not make a dead one
    /// live longer, nor heartbeats rarer.
    #[test]
    fn what_channels_bring_counts_from_when_it_came() {
        let Table { mut liveness, traffic, start, mut beats } = beating();
        let mut beaten = || std::iter::from_fn(|| beats.try_recv().ok()).count();
        let mut now = start;
        for round in 1..=8 {
            now += BEAT;
            traffic.add_beside(1_000, 1_000, Some(now));
            assert_eq!(liveness.beat(now), Looked::default(), "rows come");
            assert_eq!(beaten(), 1, "round {round}");
            traffic.add_sent(1);
        }
        let died = now;
        let noticed = (1..10).map(|n| died + n * BEAT).find(|at| {
            // The last report, long after the rows.
            traffic.add_beside(1_000, 0, Some(died));
            !liveness.beat(*at).dead.is_empty()
        });
        assert!(noticed.is_some_and(|at| at - died <= Duration::from_secs(1)), "{noticed:?}");
    }

    #[test]
    fn a_process_that_was_stopped_does_not_bury_its_peers() {
        let Table { mut liveness, start, beats: _beats, .. } = beating();
        let woken = start + Duration::from_secs(60);
        let found = (0..60_u32).find(|n| liveness.beat(woken + *n * BEAT).dead == [id()]);
        assert!(found.is_some_and(|n| (3..=12).contains(&n)), "not at once, but then it is: {found:?}");
    }

    #[test]
    fn packets_keep_a_slow_peer_alive_for_a_while() {
        let Table { mut liveness, traffic, start, beats: _beats } = beating();
        traffic.add_received(1);
        let dead = |n: &u32| {
            let now = start + *n * BEAT;
            let Looked { dead, doubtful } = liveness.beat(now);
            for (connection, _) in doubtful {
                liveness.packets(connection, Duration::from_millis(100), now);
            }
            !dead.is_empty()
        };
        let died = (1..100_u32).find(dead).expect("packets alone are not enough for ever") * BEAT;
        assert!(died > PACKETS_ONLY && died < PACKETS_ONLY + Duration::from_secs(2), "{died:?}");
    }

    #[test]
    fn a_machine_that_is_late_itself_is_patient() {
        let Table { mut liveness, start, beats: _beats, .. } = beating();
        // Each look is 150 ms late.
        let dead = |n: &u32| !liveness.beat(start + *n * Duration::from_millis(400)).dead.is_empty();
        let died = (1..100_u32).find(dead).expect("patience ends") * Duration::from_millis(400);
        assert!(died >= Duration::from_millis(1_200) && died <= Duration::from_secs(2), "{died:?}");
    }

    #[test]
    fn an_idle_peer_that_goes_is_noticed_within_15_seconds() {
        for died_ms in [1, 2_500, 4_999, 20_001] {
            let (mut liveness, start) = (Liveness::default(), Instant::now());
            liveness.opened(id(), PeerId::random(), Arc::new(Traffic::new(id())), start);
            let died = start + Duration::from_millis(died_ms);
            let noticed = loop {
                let now = liveness.next_sweep().expect("a connection is there");
                // Pongs come two seconds after a sweep, as long as it lives.
                let pong = now + Duration::from_secs(2);
                if !liveness.sweep(now).is_empty() {
                    break now;
                }
                assert_eq!(liveness.sweep(now + Duration::from_secs(1)), [], "not so soon again");
                if pong < died {
                    liveness.heard(id(), pong);
                }
            };
            let after = noticed.saturating_duration_since(died);
            assert!(after <= Duration::from_secs(15) && noticed > died, "{after:?} after {died_ms} ms");
        }
    }

    #[test]
    fn bytes_are_as_good_as_pongs_and_who_knows_no_pings_is_spared() {
        let (mut liveness, start) = (Liveness::default(), Instant::now());
        let (talks, mute) = (id(), ConnectionId::new_unchecked(2));
        let traffic = Arc::new(Traffic::new(talks));
        liveness.opened(talks, PeerId::random(), traffic.clone(), start);
        liveness.opened(mute, PeerId::random(), Arc::new(Traffic::new(mute)), start);
        liveness.no_pings(mute);
        assert_eq!(liveness.beat(start + 3 * BEAT_SILENCE), Looked::default(), "they have no session");
        for round in 0..6 {
            traffic.add_received(1);
            assert_eq!(liveness.sweep(start + round * SWEEP), []);
        }
        assert_eq!(liveness.sweep(start + 6 * SWEEP), []);
        assert_eq!(liveness.sweep(start + 7 * SWEEP), [talks]);
    }

    /// Timers of a hidden page fire once a minute, and so do its pings.
    #[test]
    fn slow_timers_make_no_peer_dead() {
        let (mut liveness, start) = (Liveness::default(), Instant::now());
        liveness.opened(id(), PeerId::random(), Arc::new(Traffic::new(id())), start);
        for minute in 0..5 {
            let now = start + minute * Duration::from_secs(60);
            assert_eq!(liveness.sweep(now), []);
            liveness.heard(id(), now + Duration::from_millis(50));
        }
    }

    #[test]
    fn streams_end_with_their_users_and_are_bounded() {
        let Table { mut liveness, start, beats, .. } = beating();
        drop(beats);
        assert_eq!(liveness.beat(start + 9 * BEAT), Looked::default());
        assert!(!liveness.is_beating());
        let kept: Vec<_> = (0..MAX_BEAT_STREAMS + 1)
            .filter_map(|_| {
                let (sender, receiver) = mpsc::channel(0);
                liveness.beat_on(id(), sender, start).then_some(receiver)
            })
            .collect();
        assert_eq!(kept.len(), MAX_BEAT_STREAMS);
        liveness.closed(id());
        assert!(!liveness.is_beating() && liveness.next_sweep().is_none());
    }
}

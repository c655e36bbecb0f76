//! Which peers are worth a connection: scores, bans, and room for newcomers.

use std::time::Duration;

use cdi_platform::kv::KeyValue;
use cdi_platform::time::{self, Instant};
use cdi_types::PeerId;

use crate::LinkInfo;
use crate::bans::{Ban, Bans};
use crate::gossip::{Guard, QUALITY_SCORE, Verdict};
use crate::kept::{self, Kept};
use crate::score::Scores;
use crate::worker::Worker;

/// How often scores reach gossipsub, ended bans are lifted and what changed is kept.
const ROUND: Duration = Duration::from_secs(30);
/// Part of the connections from which on bad ones make room, in percent.
const FULL_PERCENT: usize = 90;

/// What the actor knows of the worth of peers.
#[derive(Debug)]
pub(crate) struct Quality {
    pub(crate) scores: Scores,
    pub(crate) bans: Bans,
    pub(crate) guard: Guard,
    /// Where it is kept.
    pub(crate) store: Option<KeyValue>,
    /// Connections beyond which no more are taken.
    max_connections: usize,
    due: Instant,
    changed: bool,
}

impl Quality {
    pub(crate) fn new(store: Option<KeyValue>, max_connections: u32, now: Instant) -> Self {
        Self {
            scores: Scores::default(),
            bans: Bans::default(),
            guard: Guard::default(),
            store,
            max_connections: usize::try_from(max_connections).unwrap_or(usize::MAX),
            due: now + ROUND,
            changed: false,
        }
    }

    /// When the next round is due.
    pub(crate) fn next_due(&self) -> Instant {
        self.due
    }

    /// Something is to be kept.
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }
}

/// The peer to part with when connections run out: the worst that does nothing now and is worse than the newcomer.
fn worst(peers: impl Iterator<Item = (PeerId, f64, bool)>, newcomer: f64) -> Option<PeerId> {
    let idle = peers.filter(|(_, score, busy)| !busy && *score < newcomer);
    idle.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(peer, ..)| peer)
}

impl Worker {
    /// Takes up what was kept.
    pub(crate) async fn restore(&mut self) {
        let Kept { bans, relays, peers } = kept::load(self.quality.store.as_ref()).await;
        self.quality.bans = Bans::restore(bans, time::unix_ms());
        let banned: Vec<PeerId> = self.quality.bans.current(time::unix_ms()).map(|ban| ban.peer).collect();
        for peer in banned {
            self.swarm.behaviour_mut().bans.block_peer(peer);
        }
        self.remember_relays(&relays);
        self.remember_peers(peers);
    }

    /// What a later start should know.
    fn kept(&self) -> Kept {
        Kept { bans: self.quality.bans.all(), relays: self.relays.good(), peers: self.rendezvous.good_peers() }
    }

    /// Does what is due from time to time.
    pub(crate) fn maintain(&mut self, now: Instant) {
        if now < self.quality.due {
            return;
        }
        self.quality.due = now + ROUND;
        let now_ms = time::unix_ms();
        let current: Vec<PeerId> = self.quality.bans.current(now_ms).map(|ban| ban.peer).collect();
        let blocked: Vec<PeerId> = self.swarm.behaviour().bans.blocked_peers().iter().copied().collect();
        for peer in blocked.into_iter().filter(|peer| !current.contains(peer)) {
            self.swarm.behaviour_mut().bans.unblock_peer(peer);
        }
        for link in self.links.all() {
            let score = (self.quality.scores.of(&link.peer) * 2.0 - 1.0) * QUALITY_SCORE;
            self.swarm.behaviour_mut().gossip.set_application_score(&link.peer, score);
        }
        if std::mem::take(&mut self.quality.changed)
            && let Some(store) = self.quality.store.clone()
        {
            // Rounds are far apart, so that two of these do not cross.
            cdi_platform::task::spawn(kept::save(store, self.kept()));
        }
    }

    /// Keeps what is known, before the actor stops.
    pub(crate) async fn keep(&mut self) {
        if let Some(store) = self.quality.store.clone() {
            kept::save(store, self.kept()).await;
        }
    }

    /// A peer did what it should, or did not.
    pub(crate) fn outcome(&mut self, peer: PeerId, delivered: bool) {
        if !self.relays.contains(&peer) && self.quality.scores.outcome(peer, delivered, Instant::now()) {
            tracing::info!(%peer, "delivers nothing: banned");
            self.ban(peer, None);
        }
    }

    /// Parts with a peer and does not talk to it for a while. Relays that the user chose are not banned.
    pub(crate) fn ban(&mut self, peer: PeerId, length: Option<Duration>) {
        if self.relays.contains(&peer) {
            return;
        }
        self.quality.bans.add(peer, length, time::unix_ms());
        self.quality.scores.forget(&peer);
        self.quality.changed = true;
        self.stats.bans += 1;
        self.swarm.behaviour_mut().bans.block_peer(peer);
    }

    /// Ends a ban.
    pub(crate) fn unban(&mut self, peer: &PeerId) {
        if self.quality.bans.lift(peer) {
            self.quality.changed = true;
            self.swarm.behaviour_mut().bans.unblock_peer(*peer);
        }
    }

    /// The bans that hold.
    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.quality.bans.current(time::unix_ms()).cloned().collect()
    }

    /// A peer said what it is: one of ours, but of another network, is left alone.
    pub(crate) fn check_family(&mut self, peer: PeerId, family: &str) {
        if !crate::is_of_another_network(family, self.network) {
            return;
        }
        tracing::debug!(%peer, "is of another network");
        if let Some((lost, listener)) = self.relays.turn_away(&peer, Instant::now()) {
            if let Some(listener) = listener {
                self.swarm.remove_listener(listener);
            }
            self.on_relay_lost(lost, "it serves another network".to_owned());
        }
        // An error says that it is gone already.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    /// A link with the score of its peer.
    pub(crate) fn scored(&self, link: LinkInfo) -> LinkInfo {
        LinkInfo { score_permille: self.quality.scores.permille(&link.peer), ..link }
    }

    /// A peer connected: when connections run out, a worse one goes.
    pub(crate) fn make_room(&mut self, newcomer: PeerId) {
        if self.links.connections() * 100 <= self.quality.max_connections * FULL_PERCENT {
            return;
        }
        let (scores, busy) = (&self.quality.scores, &self.busy);
        let peers = self.links.all().into_iter().filter(|l| l.peer != newcomer);
        let peers = peers.map(|l| (l.peer, scores.of(&l.peer), busy.of(&l.peer) > 0));
        if let Some(peer) = worst(peers, scores.of(&newcomer)) {
            self.stats.rotated += 1;
            tracing::debug!(%peer, "makes room");
            // An error says that it is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    /// Whether an announcement is passed on. A flood is its sender's failure.
    pub(crate) fn judge(&mut self, message: &libp2p::gossipsub::Message, neighbour: PeerId) -> Verdict {
        let verdict = self.quality.guard.judge(message, neighbour, Instant::now());
        match verdict {
            Verdict::Accepted => self.stats.gossip_received += 1,
            Verdict::TooOften => self.stats.gossip_too_often += 1,
            Verdict::Flood => self.stats.gossip_too_often += 1,
            Verdict::Oversize => self.stats.gossip_oversize += 1,
            Verdict::Anonymous => self.stats.gossip_anonymous += 1,
        }
        if matches!(verdict, Verdict::Flood | Verdict::Oversize | Verdict::Anonymous) {
            self.outcome(neighbour, false);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_idle_peer_makes_room_for_a_better_one() {
        let [bad, worse, busy, good] = [(); 4].map(|()| PeerId::random());
        let peers = [(bad, 0.4, false), (worse, 0.2, false), (busy, 0.1, true), (good, 0.9, false)];
        assert_eq!(worst(peers.into_iter(), 0.6), Some(worse));
        assert_eq!(worst(peers.into_iter(), 0.2), None, "not for somebody who is no better");
        assert_eq!(worst(peers.into_iter().filter(|p| p.0 == busy), 0.6), None, "who works stays");
    }
}

//! How good peers are: one figure from 0 to 1 for each, from its latency and from what it delivered.
//!
//! `score = delivered / total × (1 + latency) / 2`, where `latency` is 1 for an instant answer and one half at
//! [`HALF_RTT`]. So a peer far away that keeps its word has at least one half, and a near one that does not has
//! nothing. Both parts fade, so that a peer can better itself. Pure: times are given.

use std::collections::HashMap;
use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;

/// Round trip at which the latency counts half. Between continents it is about this long.
const HALF_RTT: Duration = Duration::from_millis(250);
/// Weight of a new round trip in the average (RFC 6298 uses 1/8).
const RTT_WEIGHT: f64 = 0.125;
/// What happened this long ago counts half.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// A newcomer is treated as if it had kept four of five promises.
const PRIOR: (f64, f64) = (4.0, 5.0);
/// Outcomes before a score may ban: fewer say more about the weather than about the peer.
const JUDGED_AFTER: f64 = 20.0;
/// Score below which a peer is banned.
const BANNED_BELOW: f64 = 0.1;
/// Peers that are remembered. Beyond it the one heard of longest ago is forgotten.
const MAX_PEERS: usize = 1024;

/// What is known of one peer.
#[derive(Debug, Clone, Copy)]
struct Record {
    rtt: Option<Duration>,
    delivered: f64,
    total: f64,
    at: Instant,
}

impl Record {
    fn fade(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        let kept = (-age).exp2();
        self.delivered *= kept;
        self.total *= kept;
        self.at = now;
    }

    fn score(&self) -> f64 {
        let latency = self.rtt.map_or(0.5, |rtt| 1.0 / (1.0 + rtt.as_secs_f64() / HALF_RTT.as_secs_f64()));
        (self.delivered + PRIOR.0) / (self.total + PRIOR.1) * (1.0 + latency) / 2.0
    }
}

/// The scores of all peers that were heard of.
#[derive(Debug, Default)]
pub(crate) struct Scores(HashMap<PeerId, Record>);

impl Scores {
    fn record(&mut self, peer: PeerId, now: Instant) -> &mut Record {
        if self.0.len() >= MAX_PEERS
            && !self.0.contains_key(&peer)
            && let Some(oldest) = self.0.iter().min_by_key(|(_, r)| r.at).map(|(peer, _)| *peer)
        {
            self.0.remove(&oldest);
        }
        let record = self.0.entry(peer).or_insert(Record { rtt: None, delivered: 0.0, total: 0.0, at: now });
        record.fade(now);
        record
    }

    /// A round trip was measured.
    pub(crate) fn measured(&mut self, peer: PeerId, rtt: Duration, now: Instant) {
        let record = self.record(peer, now);
        let average = |old: Duration| old.mul_f64(1.0 - RTT_WEIGHT) + rtt.mul_f64(RTT_WEIGHT);
        record.rtt = Some(record.rtt.map_or(rtt, average));
    }

    /// The peer did what it should, or did not. Whether it is to be banned.
    pub(crate) fn outcome(&mut self, peer: PeerId, delivered: bool, now: Instant) -> bool {
        let record = self.record(peer, now);
        record.total += 1.0;
        record.delivered += f64::from(u8::from(delivered));
        record.total >= JUDGED_AFTER && record.score() < BANNED_BELOW
    }

    /// The score of a peer, from 0 to 1. What was true a while ago is not faded to now: it changes little.
    pub(crate) fn of(&self, peer: &PeerId) -> f64 {
        let newcomer = PRIOR.0 / PRIOR.1 * 0.75;
        self.0.get(peer).map_or(newcomer, Record::score)
    }

    /// The score of a peer in thousandths.
    pub(crate) fn permille(&self, peer: &PeerId) -> u16 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1,000")]
        let permille = (self.of(peer) * 1000.0).round() as u16;
        permille
    }

    /// Forgets a peer: it starts again as a newcomer.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reliable_and_near_is_best_and_unreliable_is_worst() {
        let (mut scores, now) = (Scores::default(), Instant::now());
        let [near, far, liar, newcomer] = [(); 4].map(|()| PeerId::random());
        scores.measured(near, Duration::from_millis(5), now);
        scores.measured(far, Duration::from_millis(600), now);
        scores.measured(liar, Duration::from_millis(1), now);
        let mut banned = false;
        for _ in 0..60 {
            assert!(!scores.outcome(near, true, now) && !scores.outcome(far, true, now));
            banned |= scores.outcome(liar, false, now);
        }
        assert!(scores.of(&near) > 0.95, "{}", scores.of(&near));
        assert!((0.5..0.7).contains(&scores.of(&far)), "{}", scores.of(&far));
        assert!((0.5..0.7).contains(&scores.of(&newcomer)));
        assert!(banned && scores.of(&liar) < BANNED_BELOW);
    }

    #[test]
    fn a_few_failures_ban_nobody_and_are_forgiven() {
        let (mut scores, peer, start) = (Scores::default(), PeerId::random(), Instant::now());
        for _ in 0..10 {
            assert!(!scores.outcome(peer, false, start));
        }
        let low = scores.of(&peer);
        scores.measured(peer, Duration::from_millis(100), start + HALF_LIFE * 4);
        assert!(scores.of(&peer) > low * 1.5, "{} after {low}", scores.of(&peer));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut scores, start) = (Scores::default(), Instant::now());
        let first = PeerId::random();
        scores.outcome(first, true, start);
        for number in 0..2 * MAX_PEERS as u64 {
            scores.outcome(PeerId::random(), true, start + Duration::from_millis(number + 1));
        }
        assert_eq!(scores.0.len(), MAX_PEERS);
        assert!(!scores.0.contains_key(&first), "the oldest is forgotten");
    }

    proptest! {
        #[test]
        fn scores_stay_between_0_and_1(steps in proptest::collection::vec((any::<bool>(), 0u64..100_000, 0u64..10_000), 0..60)) {
            let (mut scores, peer, mut now) = (Scores::default(), PeerId::random(), Instant::now());
            for (delivered, rtt_ms, passed_s) in steps {
                now += Duration::from_secs(passed_s);
                scores.measured(peer, Duration::from_millis(rtt_ms), now);
                scores.outcome(peer, delivered, now);
                prop_assert!((0.0..=1.0).contains(&scores.of(&peer)));
            }
        }
    }
}

//! Who is not talked to, and until when. Pure: times are given, and the list is kept by [`crate::kept`].

use std::collections::BTreeMap;
use std::time::Duration;

use cdi_types::PeerId;
use serde::{Deserialize, Serialize};

/// Most peers on the list. Beyond it the one whose ban ends first is let go.
const MAX_BANS: usize = 1024;
/// Longest ban. A peer id costs nothing, so that longer ones keep out nobody but those who changed.
pub(crate) const LONGEST_BAN: Duration = Duration::from_secs(7 * 24 * 3600);
/// First ban of a peer whose score fell too low; each further one is twice as long.
pub(crate) const FIRST_BAN: Duration = Duration::from_secs(3600);
/// How long an ended ban is remembered for the length of the next one.
const MEMORY_MS: u64 = 7 * 24 * 3600 * 1000;

/// A banned peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who.
    #[serde(with = "crate::kept::peer_text")]
    pub peer: PeerId,
    /// Until when, in milliseconds since 1970.
    pub until_ms: u64,
    /// How often it was banned.
    pub times: u32,
}

/// The list.
#[derive(Debug, Default)]
pub(crate) struct Bans(BTreeMap<PeerId, Ban>);

impl Bans {
    /// The list that was kept, without what is over for long.
    pub(crate) fn restore(kept: Vec<Ban>, now_ms: u64) -> Self {
        let mut bans = Self::default();
        for mut ban in kept.into_iter().take(MAX_BANS) {
            // A clock that was wrong when it was written bans nobody for years.
            ban.until_ms = ban.until_ms.min(now_ms + millis(LONGEST_BAN));
            bans.0.insert(ban.peer, ban);
        }
        bans.0.retain(|_, ban| ban.until_ms + MEMORY_MS > now_ms);
        bans
    }

    /// Bans a peer for this long, or, when nothing is said, for longer each time.
    pub(crate) fn add(&mut self, peer: PeerId, length: Option<Duration>, now_ms: u64) -> &Ban {
        let times = self.0.get(&peer).map_or(0, |ban| ban.times);
        let length = length.unwrap_or_else(|| FIRST_BAN.saturating_mul(1 << times.min(16))).min(LONGEST_BAN);
        if self.0.len() >= MAX_BANS
            && !self.0.contains_key(&peer)
            && let Some(first) = self.0.values().min_by_key(|ban| ban.until_ms).map(|ban| ban.peer)
        {
            self.0.remove(&first);
        }
        let ban = Ban { peer, until_ms: now_ms + millis(length), times: times.saturating_add(1) };
        self.0.entry(peer).insert_entry(ban).into_mut()
    }

    /// Ends a ban, and forgets it.
    pub(crate) fn lift(&mut self, peer: &PeerId) -> bool {
        self.0.remove(peer).is_some()
    }

    /// Those that hold at `now_ms`.
    pub(crate) fn current(&self, now_ms: u64) -> impl Iterator<Item = &Ban> {
        self.0.values().filter(move |ban| ban.until_ms > now_ms)
    }

    /// All that is remembered.
    pub(crate) fn all(&self) -> Vec<Ban> {
        self.0.values().cloned().collect()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_end_and_grow() {
        let (mut bans, peer) = (Bans::default(), PeerId::random());
        let hour = millis(FIRST_BAN);
        assert_eq!(bans.add(peer, None, 0).until_ms, hour);
        assert_eq!(bans.current(hour - 1).count(), 1);
        assert_eq!(bans.current(hour).count(), 0, "it ends");
        assert_eq!(bans.add(peer, None, hour).until_ms, hour * 3, "the second is twice as long");
        for _ in 0..40 {
            bans.add(peer, None, 0);
        }
        assert_eq!(bans.add(peer, None, 0).until_ms, millis(LONGEST_BAN));
        assert_eq!(bans.add(peer, Some(Duration::from_secs(1)), 0).until_ms, 1000, "somebody decided");
        assert!(bans.lift(&peer) && !bans.lift(&peer));
    }

    #[test]
    fn the_list_is_bounded_and_outlives_a_restart() {
        let mut bans = Bans::default();
        for number in 0..=MAX_BANS as u64 {
            bans.add(PeerId::random(), Some(Duration::from_secs(100 + number)), 0);
        }
        assert_eq!(bans.all().len(), MAX_BANS);
        assert!(bans.all().iter().all(|ban| ban.until_ms > 100_000), "the one that ends first went");
        assert_eq!(Bans::restore(bans.all(), 0).all(), bans.all());
        assert!(Bans::restore(bans.all(), MEMORY_MS * 2).all().is_empty(), "old ones are forgotten");
    }

    #[test]
    fn a_wrong_clock_bans_nobody_for_years() {
        let ban = Ban { peer: PeerId::random(), until_ms: u64::MAX / 2, times: 1 };
        let bans = Bans::restore(vec![ban], 1000);
        assert_eq!(bans.all()[0].until_ms, 1000 + millis(LONGEST_BAN));
    }
}

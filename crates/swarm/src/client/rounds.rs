//! How long rounds take, and from when on one is late.

use std::collections::VecDeque;

/// A round is late after this many times its p95, and never before [`LEAST_MS`] nor after [`MOST_MS`] (NET-10).
const LATE: u64 = 6;
const LEAST_MS: u64 = 300;
const MOST_MS: u64 = 30_000;
/// Rounds remembered of each size, and how many it takes to know their p95.
const REMEMBERED: usize = 64;
const ENOUGH: usize = 8;
/// Rows of the largest round of each size but the last.
const SIZES: [usize; 3] = [1, 8, 64];

/// Rounds through the ring: from feeding rows to the token after the first of them.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Milliseconds of the latest rounds, by size.
    recent: [VecDeque<u64>; SIZES.len() + 1],
    /// The round on its way: position of the token that ends it, rows, and when it began.
    running: Option<(u32, usize, u64)>,
}

impl Rounds {
    /// Rows were sent, the first at `position`.
    pub(super) const fn sent(&mut self, position: u32, rows: usize, now_ms: u64) {
        // The token after the first row comes with those after the others: they are computed together.
        if self.running.is_none() {
            self.running = Some((position.saturating_add(1), rows, now_ms));
        }
    }

    /// The token at `position` came: rows and milliseconds of the round that it ends.
    pub(super) fn arrived(&mut self, position: u32, now_ms: u64) -> Option<(usize, u64)> {
        let (_, rows, since_ms) = self.running.take_if(|(ends, ..)| *ends <= position)?;
        let took_ms = now_ms.saturating_sub(since_ms);
        let recent = &mut self.recent[size(rows)];
        recent.push_back(took_ms);
        if recent.len() > REMEMBERED {
            recent.pop_front();
        }
        Some((rows, took_ms))
    }

    /// The route is being changed.
    pub(super) const fn interrupt(&mut self) {
        self.running = None;
    }

    /// After how long without progress the round on its way is late; `None` while too few like it are known.
    pub(super) fn late_after_ms(&self) -> Option<u64> {
        let (_, rows, _) = self.running?;
        let mut recent: Vec<u64> = self.recent[size(rows)].iter().copied().collect();
        recent.sort_unstable();
        let p95 = recent.get(recent.len() * 95 / 100).filter(|_| recent.len() >= ENOUGH)?;
        Some((LATE * p95).clamp(LEAST_MS, MOST_MS))
    }
}

fn size(rows: usize) -> usize {
    SIZES.iter().position(|most| rows <= *most).unwrap_or(SIZES.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_follows_the_rounds_of_the_same_size() {
        let mut rounds = Rounds::default();
        let mut now_ms = 0;
        let mut round = |rounds: &mut Rounds, position: u32, rows: usize, ms: u64| {
            rounds.sent(position, rows, now_ms);
            now_ms += ms;
            rounds.arrived(position + 1, now_ms)
        };
        for position in 0..20 {
            assert_eq!(round(&mut rounds, position, 1, 100), Some((1, 100)));
        }
        rounds.sent(20, 1, 0);
        assert_eq!(rounds.late_after_ms(), Some(600));
        rounds.interrupt();
        rounds.sent(20, 5, 0);
        assert_eq!(rounds.late_after_ms(), None, "never seen one like it");
        rounds.interrupt();
        for position in 20..100 {
            round(&mut rounds, position, 1, if position == 99 { 90_000 } else { 10 });
        }
        rounds.sent(100, 1, 0);
        assert_eq!(rounds.late_after_ms(), Some(LEAST_MS), "one slow round is none, and old ones are forgotten");
    }
}

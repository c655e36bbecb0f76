//! Drafts of a session: what was fed beyond the known text, what came of it, and how much of it pays.
//!
//! A draft is accepted only if the sampler draws that very token at that position, with its own seed and after the same
//! ids: the text is the one that would have come without drafts, greedy or sampled.

use std::collections::VecDeque;

use cdi_types::session::Fork;

use crate::draft;

/// Most drafts on their way at a time.
pub const MAX_DRAFTS: usize = 24;
/// Most drafts of one message: a longer run flows through the stages in several pieces.
const PIECE: usize = 8;
/// How many outcomes the estimate of acceptance remembers, and what it starts from: one of three. Two tokens that came
/// before say little in a story, much in a list: the first guesses are few, and soon more where they are right.
const MEMORY: f64 = 32.0;
const PRIOR: (f64, f64) = (1.0, 3.0);
/// Weight of a new measurement of time.
const FRESH: f64 = 0.2;
/// A further row of a pass costs this share of a round before it is measured.
const UNKNOWN_ROW: f64 = 0.1;
/// Rounds shorter than this hide nothing: they are arithmetic, and milliseconds are too coarse to weigh a row with. One
/// tab alone told a story at 280 tokens/s with drafts, all of them wrong, and at 307 without.
const LEAST_ROUND_MS: f64 = 10.0;

/// What a token from the last stage was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It had been fed as a draft: nothing to do.
    Foreseen,
    /// Nothing had been fed at its position.
    New,
    /// Another one had been fed: everything after it is void.
    Refuted,
}

/// The state of drafting.
#[derive(Debug)]
pub(super) struct Drafting {
    /// Ids on their way at the positions after the known text.
    fed: VecDeque<u32>,
    /// The current branch, and where it began.
    fork: Fork,
    /// First position that a stage may hold of an earlier branch.
    doubtful: Option<u32>,
    offered: u64,
    accepted: u64,
    pace: Pace,
}

impl Drafting {
    pub(super) fn new() -> Self {
        Self {
            fed: VecDeque::new(),
            fork: Fork::default(),
            doubtful: None,
            offered: 0,
            accepted: 0,
            pace: Pace::default(),
        }
    }

    pub(super) const fn branch(&self) -> u32 {
        self.fork.branch
    }

    /// The current branch, with the first position that may be wrong at a stage that does not know it.
    pub(super) fn fork(&self) -> Fork {
        let position = self.doubtful.map_or(self.fork.position, |doubtful| doubtful.min(self.fork.position));
        Fork { branch: self.fork.branch, position }
    }

    /// Number of drafts that nothing is known of yet.
    pub(super) fn on_their_way(&self) -> usize {
        self.fed.len()
    }

    /// Drafts fed, and drafts accepted.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.offered, self.accepted)
    }

    /// The token at `position`, the first unknown one, is `id`.
    pub(super) fn known(&mut self, position: u32, id: u32) -> Verdict {
        if position > self.fork.position {
            // A row of this branch came through all stages, and with it the news of the fork.
            self.doubtful = None;
        }
        match self.fed.pop_front() {
            None => {
                self.pace.forget();
                Verdict::New
            }
            Some(draft) => {
                self.offered += 1;
                let right = draft == id;
                self.pace.judged(right);
                if right {
                    self.accepted += 1;
                    return Verdict::Foreseen;
                }
                self.offered += self.fed.len() as u64;
                self.branch_off(position);
                Verdict::Refuted
            }
        }
    }

    /// The route is being changed at a text of `known` ids: drafts on their way are void.
    pub(super) fn interrupt(&mut self, known: u32) {
        if !self.fed.is_empty() {
            self.offered += self.fed.len() as u64;
            self.branch_off(known);
        }
    }

    /// All stages know the current branch.
    pub(super) const fn told(&mut self) {
        self.doubtful = None;
    }

    fn branch_off(&mut self, position: u32) {
        self.fed.clear();
        self.fork = Fork { branch: self.fork.branch + 1, position };
        self.doubtful = Some(self.doubtful.map_or(position, |doubtful| doubtful.min(position)));
    }

    /// Drafts to feed after `ids` and what is on its way, in pieces; at most `room` of them.
    pub(super) fn more(&mut self, ids: &[u32], room: usize) -> Vec<Vec<u32>> {
        let depth = self.pace.depth();
        let most = depth.saturating_sub(self.fed.len()).min(room);
        // A pass costs about the same for one row as for a few: only whole pieces are added to those on their way.
        if most == 0 || (!self.fed.is_empty() && most < PIECE.min(depth)) {
            return Vec::new();
        }
        let text: Vec<u32> = ids.iter().chain(&self.fed).copied().collect();
        let drafts = draft::lookup(&text, most);
        self.fed.extend(&drafts);
        drafts.chunks(PIECE).map(<[u32]>::to_vec).collect()
    }

    /// A round of so many rows took so long.
    pub(super) fn measured(&mut self, rows: usize, took_ms: u64) {
        self.pace.measured(rows, took_ms);
    }
}

/// How often drafts are right, and what a round costs.
#[derive(Debug, Default)]
struct Pace {
    /// Outcomes remembered, and how many of them were good.
    judged: f64,
    right: f64,
    /// Milliseconds of a round of one row, and of each further row.
    round_ms: Option<f64>,
    row_ms: Option<f64>,
}

impl Pace {
    fn acceptance(&self) -> f64 {
        (self.right + PRIOR.0) / (self.judged + PRIOR.1)
    }

    fn judged(&mut self, right: bool) {
        let fade = 1.0 - 1.0 / MEMORY;
        self.judged = self.judged * fade + 1.0;
        self.right = self.right * fade + f64::from(u8::from(right));
    }

    /// A token without a draft: what was learnt fades, so that drafts are tried again.
    fn forget(&mut self) {
        let fade = 1.0 - 1.0 / MEMORY;
        self.judged *= fade;
        self.right *= fade;
    }

    fn measured(&mut self, rows: usize, took_ms: u64) {
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of one round")]
        let (took_ms, further) = (took_ms as f64, rows.saturating_sub(1) as f64);
        match self.round_ms {
            Some(round_ms) if further > 0.0 => {
                let row_ms = ((took_ms - round_ms) / further).max(0.0);
                self.row_ms = Some(self.row_ms.map_or(row_ms, |known| known + FRESH * (row_ms - known)));
            }
            Some(round_ms) => self.round_ms = Some(round_ms + FRESH * (took_ms - round_ms)),
            None if further == 0.0 => self.round_ms = Some(took_ms),
            None => {}
        }
    }

    /// The number of drafts with the most tokens expected a millisecond: `E(k) / (round + k·row)` with
    /// `E(k) = (1 - α^(k+1)) / (1 - α)`. Source: Leviathan et al., <https://arxiv.org/abs/2211.17192>, section 3.3.
    fn depth(&self) -> usize {
        // Without a round of one row to compare with, drafts cannot be weighed.
        let Some(round_ms) = self.round_ms.filter(|ms| *ms >= LEAST_ROUND_MS) else { return 0 };
        let row_ms = self.row_ms.unwrap_or(round_ms * UNKNOWN_ROW);
        let alpha = self.acceptance().min(0.99);
        let (mut best, mut depth) = (1.0 / round_ms, 0);
        let (mut expected, mut chance, mut cost) = (1.0, 1.0, round_ms);
        for k in 1..=MAX_DRAFTS {
            chance *= alpha;
            expected += chance;
            cost += row_ms;
            if expected / cost > best {
                (best, depth) = (expected / cost, k);
            }
        }
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(round_ms: f64, row_ms: f64, outcomes: &[bool]) -> Pace {
        let mut pace = Pace { round_ms: Some(round_ms), row_ms: Some(row_ms), ..Pace::default() };
        outcomes.iter().for_each(|right| pace.judged(*right));
        pace
    }

    #[test]
    fn the_width_follows_latency_and_acceptance() {
        let good = [true; 40];
        let bad = [false; 40];
        let mixed: Vec<bool> = (0..40).map(|i| i % 2 == 0).collect();
        assert!(pace(400.0, 1.0, &good).depth() > 16, "far apart and easy");
        assert!(pace(400.0, 1.0, &mixed).depth() > pace(20.0, 5.0, &mixed).depth());
        assert_eq!(pace(20.0, 5.0, &bad).depth(), 0, "not worth it");
        assert_eq!(pace(9.0, 0.0, &good).depth(), 0, "nothing to hide");
        let mut learnt = pace(20.0, 5.0, &bad);
        (0..200).for_each(|_| learnt.forget());
        assert!(learnt.depth() > 0, "tried again");
        assert_eq!(Pace::default().depth(), 0, "nothing is known yet");
    }

    #[test]
    fn rounds_and_rows_are_measured() {
        let mut pace = Pace::default();
        pace.measured(60, 700);
        assert_eq!(pace.round_ms, None, "a prompt says nothing of a round");
        pace.measured(1, 50);
        assert_eq!(pace.round_ms, Some(50.0));
        pace.measured(5, 70);
        assert_eq!(pace.row_ms, Some(5.0));
    }

    #[test]
    fn a_wrong_draft_begins_a_branch_there() {
        let mut drafting = Drafting::new();
        drafting.fed = [7, 8, 9].into();
        assert_eq!(drafting.known(20, 7), Verdict::Foreseen);
        assert_eq!(drafting.known(21, 5), Verdict::Refuted);
        assert_eq!(drafting.fork(), Fork { branch: 1, position: 21 });
        assert_eq!(drafting.known(22, 6), Verdict::New);
        assert_eq!(drafting.counts(), (3, 1));
        drafting.fed = [1].into();
        assert_eq!(drafting.known(23, 2), Verdict::Refuted);
        drafting.fed = [1].into();
        drafting.interrupt(24);
        assert_eq!(drafting.fork(), Fork { branch: 3, position: 23 }, "nothing of branch 2 has come back");
    }
}

//! The running hash of one edge, with its past: a fork goes back to where it was.

use cdi_types::session::Transcript;

/// The transcript after each row of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// Position of the first row.
    start: u32,
    after: Vec<Transcript>,
}

impl Chain {
    /// Takes in whole rows, the first at `position`, which follows the last.
    pub(super) fn push(&mut self, position: u32, row_bytes: usize, rows: &[u8]) {
        if self.after.is_empty() {
            self.start = position;
        }
        for (position, row) in (position..).zip(rows.chunks_exact(row_bytes.max(1))) {
            let mut transcript = self.last();
            transcript.push(position, 1, row);
            self.after.push(transcript);
        }
    }

    /// Forgets the rows from `position` on.
    pub(super) fn truncate(&mut self, position: u32) {
        self.after.truncate(position.saturating_sub(self.start) as usize);
    }

    fn last(&self) -> Transcript {
        self.after.last().copied().unwrap_or_default()
    }

    /// The hash after the last row.
    pub(super) fn value(&self) -> [u8; 32] {
        self.last().value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_back_leaves_no_trace() {
        let mut straight = Chain::default();
        straight.push(5, 2, &[1, 2, 3, 4, 5, 6]);
        let mut detour = Chain::default();
        detour.push(5, 2, &[1, 2, 9, 9, 9, 9, 9, 9]);
        assert_ne!(straight.value(), detour.value());
        detour.truncate(6);
        detour.push(6, 2, &[3, 4, 5, 6]);
        assert_eq!(straight, detour);
        detour.truncate(2);
        detour.push(2, 2, &[7, 7]);
        let mut anew = Chain::default();
        anew.push(2, 2, &[7, 7]);
        assert_eq!(anew, detour, "a fork before the first row begins anew");
    }
}

//! Rows that wait for the kernels of a stage.

use std::collections::VecDeque;

use super::WorkInput;

/// Pieces of consecutive positions, in order.
#[derive(Debug)]
pub(super) struct Pieces {
    row_bytes: usize,
    /// First position, rows, and what they are.
    queue: VecDeque<(u32, u32, WorkInput)>,
}

impl Pieces {
    pub(super) const fn new(row_bytes: usize) -> Self {
        Self { row_bytes, queue: VecDeque::new() }
    }

    pub(super) fn push(&mut self, start: u32, rows: u32, input: WorkInput) {
        self.queue.push_back((start, rows, input));
    }

    /// The next piece. Frames are small, pieces are not: rows that wait are computed together, up to `most`.
    pub(super) fn pop(&mut self, most: u32) -> Option<(u32, u32, WorkInput)> {
        let (start, mut rows, mut input) = self.queue.pop_front()?;
        while let Some((_, more, next)) = self.queue.front().filter(|(_, more, _)| rows + more <= most) {
            match (&mut input, next) {
                (WorkInput::Rows(rows), WorkInput::Rows(more)) => rows.extend(more),
                (WorkInput::Tokens(ids), WorkInput::Tokens(more)) => ids.extend(more),
                // A stage has one kind of input.
                _ => break,
            }
            rows += more;
            self.queue.pop_front();
        }
        Some((start, rows, input))
    }

    /// Drops the rows from `position` on.
    pub(super) fn truncate(&mut self, position: u32) {
        self.queue.retain(|(start, _, _)| *start < position);
        if let Some((start, rows, input)) = self.queue.back_mut() {
            *rows = (*rows).min(position - *start);
            match input {
                WorkInput::Tokens(ids) => ids.truncate(*rows as usize),
                WorkInput::Rows(bytes) => bytes.truncate(*rows as usize * self.row_bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_wait_together_and_are_taken_back() {
        let mut pieces = Pieces::new(2);
        for start in [4, 6, 8] {
            pieces.push(start, 2, WorkInput::Rows(vec![u8::try_from(start).expect("small"); 4]));
        }
        pieces.truncate(9);
        assert_eq!(pieces.pop(4), Some((4, 4, WorkInput::Rows(vec![4, 4, 4, 4, 6, 6, 6, 6]))));
        assert_eq!(pieces.pop(4), Some((8, 1, WorkInput::Rows(vec![8, 8]))));
        pieces.push(9, 1, WorkInput::Rows(vec![9, 9]));
        pieces.truncate(3);
        assert_eq!(pieces.pop(4), None);
    }
}

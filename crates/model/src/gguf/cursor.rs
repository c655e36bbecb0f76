//! Reads a header from front to back through a small window.

use super::{GgufError, MAX_HEADER_BYTES};
use crate::range_read::RangeRead;

/// Bytes read at once: a header is some hundred of these, and a browser's file is slow to ask.
const WINDOW: u64 = 64 << 10;

/// A place in a header.
pub(super) struct Cursor<'a, R: ?Sized> {
    file: &'a R,
    /// Bytes of the file from `start` on.
    window: Vec<u8>,
    start: u64,
    /// The next byte to read.
    at: u64,
    /// Where a header must have ended.
    end: u64,
}

impl<'a, R: RangeRead + ?Sized> Cursor<'a, R> {
    pub(super) fn new(file: &'a R, at: u64) -> Self {
        Self { file, window: Vec::new(), start: 0, at, end: file.size().min(MAX_HEADER_BYTES) }
    }

    pub(super) const fn position(&self) -> u64 {
        self.at
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), GgufError> {
        self.at = self.end_of(count)?;
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A count that is at most `limit`.
    pub(super) fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        match self.u64()? {
            found if found > limit => Err(GgufError::TooMany { what, found, limit }),
            found => Ok(found),
        }
    }

    /// A text of at most `limit` bytes.
    pub(super) fn text(&mut self, what: &'static str, limit: u64) -> Result<String, GgufError> {
        let len = self.count(what, limit)?;
        let at = self.at;
        // Checked before it is allocated.
        self.end_of(len)?;
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| GgufError::HeaderTooLarge)?];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes).map_err(|_| GgufError::NotUtf8(at))
    }

    fn end_of(&self, count: u64) -> Result<u64, GgufError> {
        self.at.checked_add(count).filter(|end| *end <= self.end).ok_or(if self.end == self.file.size() {
            GgufError::Truncated(self.end)
        } else {
            GgufError::HeaderTooLarge
        })
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), GgufError> {
        let end = self.end_of(out.len() as u64)?;
        if out.len() as u64 > WINDOW {
            self.file.read_at(self.at, out)?;
        } else {
            let part = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            let held = self.start + self.window.len() as u64;
            if self.at < self.start || end > held {
                self.start = self.at;
                self.window.resize(part(WINDOW.min(self.end - self.at)), 0);
                self.file.read_at(self.at, &mut self.window)?;
            }
            out.copy_from_slice(&self.window[part(self.at - self.start)..][..out.len()]);
        }
        self.at = end;
        Ok(())
    }
}

//! When a connection is held up because its streams are not read.
//!
//! SCTP has one receive window for all streams of a connection, and `str0m` empties it at once. So the window
//! is closed one layer below: datagrams wait here, and those that find no room are dropped; the sender slows
//! down, and repeats them. That stalls all streams of the connection, so it must not last: a stream whose reader
//! waits for another stream would wait for ever. After [`MAX_PAUSE`] the connection goes on, and a stream that
//! is still not read is reset when it holds too much (`half_close.rs` has the limit).

use std::time::{Duration, Instant};

/// Unread bytes of a connection that hold it up: half of what one stream may have unread.
pub(super) const PAUSE_ABOVE_BYTES: usize = 8 * 1024 * 1024;

/// Unread bytes at which it goes on.
const RESUME_BELOW_BYTES: usize = 4 * 1024 * 1024;

/// Longest pause. Shorter than what pings and ICE allow for an answer.
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Whether a connection is held up.
#[derive(Debug, Default)]
pub(super) struct Pause {
    since: Option<Instant>,
    /// The last pause took too long: none before the streams have been read.
    is_spent: bool,
}

impl Pause {
    /// Whether datagrams have to wait, with this many bytes unread.
    pub(super) fn update(&mut self, unread_bytes: usize, now: Instant) -> bool {
        if unread_bytes < RESUME_BELOW_BYTES {
            *self = Self::default();
        } else if let Some(since) = self.since {
            if now.saturating_duration_since(since) >= MAX_PAUSE {
                self.since = None;
                self.is_spent = true;
            }
        } else if unread_bytes > PAUSE_ABOVE_BYTES && !self.is_spent {
            self.since = Some(now);
        }
        self.since.is_some()
    }

    pub(super) const fn is_on(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_the_streams_are_read() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert!(!pause.update(PAUSE_ABOVE_BYTES, now));
        assert!(pause.update(PAUSE_ABOVE_BYTES + 1, now));
        assert!(pause.update(RESUME_BELOW_BYTES, now), "not for every byte that is read");
        assert!(!pause.update(RESUME_BELOW_BYTES - 1, now));
    }

    #[test]
    fn a_pause_ends_in_time_and_does_not_come_back() {
        let (mut pause, now) = (Pause::default(), Instant::now());
        assert!(pause.update(PAUSE_ABOVE_BYTES + 1, now));
        assert!(!pause.update(PAUSE_ABOVE_BYTES + 1, now + MAX_PAUSE));
        assert!(!pause.update(PAUSE_ABOVE_BYTES + 1, now + 2 * MAX_PAUSE));
        assert!(!pause.update(0, now + 2 * MAX_PAUSE));
        assert!(pause.update(PAUSE_ABOVE_BYTES + 1, now + 2 * MAX_PAUSE), "read in between");
    }
}

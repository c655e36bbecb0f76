//! How many streams are open to each peer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_types::PeerId;

/// Open streams by peer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Counts(Arc<Mutex<HashMap<PeerId, usize>>>);

/// Counts as one stream until it is dropped.
#[derive(Debug)]
pub struct Busy {
    peer: PeerId,
    counts: Counts,
}

impl Counts {
    fn counts(&self) -> MutexGuard<'_, HashMap<PeerId, usize>> {
        // Whole between any two statements that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more stream.
    pub(crate) fn open(&self, peer: PeerId) -> Busy {
        *self.counts().entry(peer).or_default() += 1;
        Busy { peer, counts: self.clone() }
    }

    /// Streams open to a peer.
    pub(crate) fn of(&self, peer: &PeerId) -> usize {
        self.counts().get(peer).copied().unwrap_or_default()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut counts = self.counts.counts();
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_count_until_they_are_dropped() {
        let (counts, peer) = (Counts::default(), PeerId::random());
        let streams = [counts.open(peer), counts.open(peer)];
        assert_eq!(counts.of(&peer), 2);
        drop(streams);
        assert_eq!(counts.of(&peer), 0);
        assert!(counts.counts().is_empty());
    }
}

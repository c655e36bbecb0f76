//! How many links each peer holds to this node: a bound that keeps one peer from taking all there is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_types::PeerId;

/// Most links of one peer at a time. A session takes one of the client and one of the predecessor; beyond it a link is
/// closed at once, which its peer takes for a full node.
pub(crate) const MAX_LINKS_PER_PEER: usize = 32;

/// The links of all peers. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guests(Arc<Mutex<Links>>);

#[derive(Debug, Default)]
struct Links {
    /// Peers with at least one link.
    held: HashMap<PeerId, usize>,
    refused: u64,
}

/// A link that counts until this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    peer: PeerId,
    guests: Guests,
}

impl Guests {
    /// Counts a link of `peer`, unless it has as many as it may.
    pub(crate) fn admit(&self, peer: PeerId) -> Option<Guest> {
        let mut links = self.links();
        let held = links.held.entry(peer).or_default();
        if *held >= MAX_LINKS_PER_PEER {
            links.refused += 1;
            return None;
        }
        *held += 1;
        Some(Guest { peer, guests: self.clone() })
    }

    /// Links that were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.links().refused
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut links = self.guests.links();
        if let Some(held) = links.held.get_mut(&self.peer) {
            *held -= 1;
            if *held == 0 {
                links.held.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cdi_types::Keypair;

    use super::*;

    #[test]
    fn a_peer_may_hold_so_many_links_and_no_more() {
        let peer = |n: u8| Keypair::from_seed(&[n; 32]).public().peer_id();
        let guests = Guests::default();
        let mut held: Vec<Guest> = (0..MAX_LINKS_PER_PEER).map_while(|_| guests.admit(peer(1))).collect();
        assert_eq!(held.len(), MAX_LINKS_PER_PEER);
        assert!(guests.admit(peer(1)).is_none());
        assert_eq!(guests.refused(), 1);
        assert!(guests.admit(peer(2)).is_some(), "another peer is not concerned");
        held.pop();
        assert!(guests.admit(peer(1)).is_some(), "an ended link makes room");
        drop(held);
        assert!(guests.links().held.is_empty(), "peers without links are forgotten");
    }
}

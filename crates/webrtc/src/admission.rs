//! How many handshakes may be in progress: each holds an `RTCPeerConnection`, sockets and timers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use libp2p_identity::PeerId;

/// Handshakes in progress at a time, both directions together.
pub const MAX_PENDING_HANDSHAKES: usize = 32;

/// Handshakes in progress at a time with one peer: two dials of ours and two of theirs.
pub const MAX_PENDING_HANDSHAKES_PER_PEER: usize = 4;

/// A limit that would have been exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// [`MAX_PENDING_HANDSHAKES`] are in progress.
    #[error("{MAX_PENDING_HANDSHAKES} handshakes are in progress already")]
    Total,
    /// [`MAX_PENDING_HANDSHAKES_PER_PEER`] are in progress with this peer.
    #[error("{MAX_PENDING_HANDSHAKES_PER_PEER} handshakes with this peer are in progress already")]
    PerPeer,
}

/// The handshakes in progress, shared by transport and behaviour.
#[derive(Debug, Clone, Default)]
pub struct Admission(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    by_peer: HashMap<PeerId, usize>,
    waker: Option<Waker>,
}

/// One admitted handshake; it counts until dropped.
#[derive(Debug)]
pub struct Permit {
    peer: PeerId,
    admission: Admission,
}

impl Admission {
    /// Admits one more handshake with `peer`.
    ///
    /// # Errors
    /// [`AdmissionError`] naming the limit that is reached.
    pub fn admit(&self, peer: PeerId) -> Result<Permit, AdmissionError> {
        let mut pending = self.lock();
        if pending.by_peer.values().sum::<usize>() >= MAX_PENDING_HANDSHAKES {
            return Err(AdmissionError::Total);
        }
        let count = pending.by_peer.entry(peer).or_default();
        if *count >= MAX_PENDING_HANDSHAKES_PER_PEER {
            return Err(AdmissionError::PerPeer);
        }
        *count += 1;
        drop(pending);
        Ok(Permit { peer, admission: self.clone() })
    }

    /// Whether a handshake with `peer` is in progress.
    #[must_use]
    pub fn is_pending(&self, peer: &PeerId) -> bool {
        self.lock().by_peer.contains_key(peer)
    }

    /// Wakes the task of `cx` when the next handshake ends.
    pub fn wake_on_end(&self, cx: &Context<'_>) {
        self.lock().waker = Some(cx.waker().clone());
    }

    /// Never poisoned in practice: nothing panics while holding the lock.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut pending = self.admission.lock();
        if let Some(count) = pending.by_peer.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                pending.by_peer.remove(&self.peer);
            }
        }
        if let Some(waker) = pending.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        let digest = [seed; 32];
        let mut bytes = vec![0x12, 32];
        bytes.extend_from_slice(&digest);
        PeerId::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn limits_hold_per_peer_and_in_total_and_permits_come_back() {
        let admission = Admission::default();
        let first: Vec<_> = (0..MAX_PENDING_HANDSHAKES_PER_PEER).map(|_| admission.admit(peer(0)).unwrap()).collect();
        assert_eq!(admission.admit(peer(0)).unwrap_err(), AdmissionError::PerPeer);
        let mut others = Vec::new();
        for seed in 1.. {
            match admission.admit(peer(seed)) {
                Ok(permit) => others.push(permit),
                Err(error) => {
                    assert_eq!(error, AdmissionError::Total);
                    break;
                }
            }
        }
        assert_eq!(first.len() + others.len(), MAX_PENDING_HANDSHAKES);
        drop(first);
        assert!(!admission.is_pending(&peer(0)) && admission.is_pending(&peer(1)));
        assert!(admission.admit(peer(0)).is_ok());
    }
}

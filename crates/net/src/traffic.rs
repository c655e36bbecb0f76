//! Bytes of a connection, counted where streams are read and written.

use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::swarm::ConnectionId;

/// What the streams of one connection carried, in both directions. What libp2p's own protocols send (identify, ping,
/// gossip) is not counted.
#[derive(Debug)]
pub(crate) struct Traffic {
    connection: ConnectionId,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    /// Nothing yet.
    pub(crate) const fn new(connection: ConnectionId) -> Self {
        Self { connection, received: AtomicU64::new(0), sent: AtomicU64::new(0) }
    }

    /// Whose bytes these are.
    pub(crate) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Bytes read.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes written.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Counts what was read.
    pub(crate) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what was written.
    pub(crate) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

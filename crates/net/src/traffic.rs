//! Streams and bytes of a connection, counted where streams are opened, read and written.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use libp2p::swarm::ConnectionId;

/// What the streams of one connection carried, in both directions. What libp2p's own protocols send (identify, ping,
/// gossip) is not counted.
#[derive(Debug)]
pub(crate) struct Traffic {
    connection: ConnectionId,
    received: AtomicU64,
    sent: AtomicU64,
    streams: AtomicUsize,
}

impl Traffic {
    /// Nothing yet.
    pub(crate) const fn new(connection: ConnectionId) -> Self {
        let [received, sent] = [AtomicU64::new(0), AtomicU64::new(0)];
        Self { connection, received, sent, streams: AtomicUsize::new(0) }
    }

    /// Whose bytes these are.
    pub(crate) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Streams that are open.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// A stream was opened.
    pub(crate) fn stream_opened(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream is over.
    pub(crate) fn stream_over(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
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

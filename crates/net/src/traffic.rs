//! Streams and bytes of a connection, counted where streams are opened, read and written, and bytes of channels beside
//! them as their users report.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use cdi_platform::time::Instant;
use libp2p::swarm::ConnectionId;

/// What the streams of one connection carried, in both directions. What libp2p's own protocols send (identify, ping,
/// gossip) is not counted.
#[derive(Debug)]
pub(crate) struct Traffic {
    connection: ConnectionId,
    received: AtomicU64,
    sent: AtomicU64,
    streams: AtomicUsize,
    beside: Mutex<Beside>,
}

/// What channels beside the streams carried.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    received: u64,
    sent: u64,
    heard: Option<Instant>,
}

impl Traffic {
    /// Nothing yet.
    pub(crate) fn new(connection: ConnectionId) -> Self {
        let [received, sent] = [AtomicU64::new(0), AtomicU64::new(0)];
        Self { connection, received, sent, streams: AtomicUsize::new(0), beside: Mutex::default() }
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

    /// A channel beside the streams received and sent so much, the last of it then. No reason to omit a heartbeat: the
    /// word comes too late for that.
    pub(crate) fn add_beside(&self, received: u64, sent: u64, heard: Option<Instant>) {
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.received = beside.received.saturating_add(received);
        beside.sent = beside.sent.saturating_add(sent);
        beside.heard = beside.heard.max(heard);
    }

    fn beside(&self) -> Beside {
        *self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a channel beside the streams last brought something.
    pub(crate) fn heard_beside(&self) -> Option<Instant> {
        self.beside().heard
    }

    /// Bytes that came, on streams and beside them.
    pub(crate) fn received_in_all(&self) -> u64 {
        self.received().saturating_add(self.beside().received)
    }

    /// Bytes that went, on streams and beside them.
    pub(crate) fn sent_in_all(&self) -> u64 {
        self.sent().saturating_add(self.beside().sent)
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

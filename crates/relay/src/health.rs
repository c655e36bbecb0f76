//! What the relay is doing, as `/healthz` tells it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cdi_platform::time::Instant;
use cdi_webrtc::native::{Counters, Figures};
use serde::Serialize;

/// Figures that the swarm keeps and the HTTP side reads.
#[derive(Debug)]
pub(crate) struct Health {
    started: Instant,
    /// Connected peers.
    pub(crate) peers: AtomicUsize,
    /// Peers that can be reached through this relay.
    pub(crate) reservations: AtomicUsize,
    /// Open circuits.
    pub(crate) circuits: AtomicUsize,
    /// STUN requests answered.
    pub(crate) stun_answered: AtomicU64,
    /// STUN requests not answered because of a limit.
    pub(crate) stun_limited: AtomicU64,
    /// Datagrams at the STUN port that were no requests.
    pub(crate) stun_ignored: AtomicU64,
    /// WebRTC-direct.
    pub(crate) webrtc: Counters,
}

/// A reading of them.
#[derive(Debug, Serialize)]
pub(crate) struct Reading {
    status: &'static str,
    version: &'static str,
    uptime_s: u64,
    peers: usize,
    reservations: usize,
    circuits: usize,
    stun_answered: u64,
    stun_limited: u64,
    stun_ignored: u64,
    webrtc: Figures,
}

impl Health {
    /// All zero, from now on. WebRTC-direct counts by itself.
    pub(crate) fn new(webrtc: Counters) -> Self {
        Self {
            started: Instant::now(),
            peers: AtomicUsize::new(0),
            reservations: AtomicUsize::new(0),
            circuits: AtomicUsize::new(0),
            stun_answered: AtomicU64::new(0),
            stun_limited: AtomicU64::new(0),
            stun_ignored: AtomicU64::new(0),
            webrtc,
        }
    }

    /// The figures now.
    pub(crate) fn read(&self) -> Reading {
        Reading {
            status: "ok",
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            peers: self.peers.load(Ordering::Relaxed),
            reservations: self.reservations.load(Ordering::Relaxed),
            circuits: self.circuits.load(Ordering::Relaxed),
            stun_answered: self.stun_answered.load(Ordering::Relaxed),
            stun_limited: self.stun_limited.load(Ordering::Relaxed),
            stun_ignored: self.stun_ignored.load(Ordering::Relaxed),
            webrtc: self.webrtc.figures(),
        }
    }
}

//! What the relay is doing, as figures for Prometheus.
//!
//! Source of the format: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cdi_webrtc::native::Counters;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::health::Health;

/// Media type of the figures.
pub(crate) const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A counter for each kind of thing, or for each reason. Both are words of this program, never of a client, so
/// that there are few.
pub(crate) type ByWord = Family<[(&'static str, &'static str); 1], Counter>;

/// Figures that every part of the relay adds to. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// Figures that `/healthz` tells too.
    pub(crate) health: Arc<Health>,
    /// Connections of the swarm.
    pub(crate) connections: Gauge,
    /// Circuits that were opened.
    pub(crate) circuits_opened: Counter,
    /// TCP connections to the HTTP port.
    pub(crate) http_connections: Gauge,
    /// HTTP requests.
    pub(crate) http_requests: Counter,
    /// Bytes of all streams.
    pub(crate) traffic: Traffic,
    /// Announcements, by what became of them.
    pub(crate) gossip: ByWord,
    /// What was refused, by what was asked for.
    pub(crate) refused: ByWord,
}

/// Bytes of streams. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    received: Counter,
    sent: Counter,
    waits: Counter,
}

impl Traffic {
    /// Bytes came in.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.inc_by(bytes as u64);
    }

    /// Bytes went out.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.inc_by(bytes as u64);
    }

    /// A stream stood in line.
    pub(crate) fn waited(&self) {
        self.waits.inc();
    }
}

/// The figures of [`Health`], read when they are asked for.
#[derive(Debug)]
struct HealthFigures(Arc<Health>);

impl Collector for HealthFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Health { peers, reservations, circuits, .. } = &*self.0;
        let figures: [(_, _, &AtomicUsize); 3] = [
            ("peers", "Connected peers", peers),
            ("reservations", "Peers that can be reached through this relay", reservations),
            ("circuits", "Open circuits", circuits),
        ];
        for (name, help, figure) in figures {
            let gauge = ConstGauge::new(i64::try_from(figure.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let stun = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let webrtc = self.0.webrtc.figures();
        let counters = [
            ("stun_answered", "STUN requests answered", stun(&self.0.stun_answered)),
            ("stun_limited", "STUN requests not answered because of a limit", stun(&self.0.stun_limited)),
            ("stun_ignored", "Datagrams at the STUN port that were no requests", stun(&self.0.stun_ignored)),
            ("webrtc_accepted", "WebRTC-direct connections authenticated", webrtc.accepted),
            ("webrtc_failed", "WebRTC-direct handshakes that failed or took too long", webrtc.failed),
            ("webrtc_refused_rate", "WebRTC-direct connections refused because of a rate", webrtc.refused_rate),
            ("webrtc_refused_busy", "WebRTC-direct connections refused because of a limit", webrtc.refused_busy),
            ("webrtc_refused_streams", "Streams above the limit of a WebRTC-direct connection", webrtc.refused_streams),
            ("webrtc_stray", "Datagrams at the WebRTC-direct port that belong to nothing", webrtc.stray),
            ("webrtc_overrun", "Datagrams that came faster than their connection took them", webrtc.overrun),
            ("webrtc_paused", "Times that a connection was held up because nobody read it", webrtc.paused),
        ];
        for (name, help, count) in counters {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

impl Metrics {
    /// All zero, and where they are read. WebRTC-direct counts by itself.
    pub(crate) fn new(webrtc: Counters) -> (Self, Registry) {
        let metrics = Self {
            health: Arc::new(Health::new(webrtc)),
            connections: Gauge::default(),
            circuits_opened: Counter::default(),
            http_connections: Gauge::default(),
            http_requests: Counter::default(),
            traffic: Traffic::default(),
            gossip: ByWord::default(),
            refused: ByWord::default(),
        };
        let registry = metrics.register();
        (metrics, registry)
    }

    fn register(&self) -> Registry {
        let mut all = Registry::with_prefix("cdi_relay");
        all.register_collector(Box::new(HealthFigures(self.health.clone())));
        all.register("connections", "Connections of the swarm", self.connections.clone());
        all.register("circuits_opened", "Circuits opened since the start", self.circuits_opened.clone());
        all.register("http_connections", "TCP connections to the HTTP port", self.http_connections.clone());
        all.register("http_requests", "HTTP requests since the start", self.http_requests.clone());
        let Traffic { received, sent, waits } = self.traffic.clone();
        all.register_with_unit("stream_received", "Read from streams of peers", Unit::Bytes, received);
        all.register_with_unit("stream_sent", "Written to streams of peers", Unit::Bytes, sent);
        all.register("stream_waits", "Times that a stream stood in line for its turn", waits);
        all.register("gossip", "Announcements by what became of them", self.gossip.clone());
        all.register("refused", "What was refused, by what was asked for", self.refused.clone());
        let started: Gauge<u64, AtomicU64> = Gauge::default();
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        started.set(since.map_or(0, |since| since.as_secs()));
        all.register_with_unit("start_time", "When the relay started, since 1970", Unit::Seconds, started);
        all
    }

    /// Something was refused.
    pub(crate) fn refuse(&self, what: &'static str) {
        self.refused.get_or_create(&[("what", what)]).inc();
    }

    /// An announcement came.
    pub(crate) fn gossip(&self, verdict: &'static str) {
        self.gossip.get_or_create(&[("verdict", verdict)]).inc();
    }
}

/// All figures as text.
pub(crate) fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _ = encode(&mut text, registry);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_the_names_of_the_documentation() {
        let (metrics, registry) = Metrics::new(Counters::default());
        metrics.refuse("circuit");
        metrics.gossip("accepted");
        metrics.traffic.received(7);
        let text = text(&registry);
        for line in ["cdi_relay_stream_received_bytes_total 7", "cdi_relay_refused_total{what=\"circuit\"} 1", "# EOF"]
        {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let documentation = include_str!("../../../docs/relay.md");
        for name in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).filter_map(|l| l.split(' ').next()) {
            assert!(documentation.contains(name), "docs/relay.md does not name {name}");
        }
    }
}

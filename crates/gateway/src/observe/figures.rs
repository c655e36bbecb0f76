//! Figures for Prometheus. Their labels are words of this program, never of a client, so that there are few.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::places::Places;

/// Seconds: a first token takes from tens of milliseconds beside the host to a minute in line.
const FIRST_TOKEN_SECONDS: [f64; 11] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0];
/// Seconds: a long answer of a slow swarm takes minutes.
const ANSWER_SECONDS: [f64; 10] = [0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    route: String,
    status: u16,
}

/// Figures of the API. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    requests: Family<Requested, Counter>,
    tokens: Family<[(&'static str, &'static str); 1], Counter>,
    pub(crate) first_token: Histogram,
    pub(crate) answers: Histogram,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            tokens: Family::default(),
            first_token: Histogram::new(FIRST_TOKEN_SECONDS),
            answers: Histogram::new(ANSWER_SECONDS),
        }
    }
}

impl Figures {
    /// A request for `route`, which is a pattern and no path, was answered.
    pub(crate) fn request(&self, route: &str, status: u16) {
        self.requests.get_or_create(&Requested { route: route.to_owned(), status }).inc();
    }

    /// Tokens of a kind: of prompts or of answers.
    pub(crate) fn tokens(&self, kind: &'static str) -> Counter {
        self.tokens.get_or_create(&[("kind", kind)]).clone()
    }

    /// Has them told with those of `registry`.
    pub(crate) fn register(&self, registry: &mut Registry, places: Arc<Places>) {
        let api = registry.sub_registry_with_prefix("api");
        api.register("requests", "Requests by route and status", self.requests.clone());
        api.register("tokens", "Tokens of prompts and answers", self.tokens.clone());
        let first = self.first_token.clone();
        api.register_with_unit(
            "first_token",
            "From the place in the gateway to the first text of an answer",
            Unit::Seconds,
            first,
        );
        let answers = self.answers.clone();
        api.register_with_unit(
            "answer",
            "From the place in the gateway to the end of an answer",
            Unit::Seconds,
            answers,
        );
        api.register_collector(Box::new(Line(places)));
    }
}

/// The places, read when they are asked for.
#[derive(Debug)]
struct Line(Arc<Places>);

impl Collector for Line {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let taken = i64::try_from(self.0.taken()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("running", "Answers that are computed", taken),
            ("waiting", "Requests in line for a place", self.0.waiting().into()),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn figures_have_the_names_of_the_documentation() {
        let (figures, mut registry) = (Figures::default(), Registry::with_prefix("cdi_relay"));
        figures.register(&mut registry, Arc::default());
        figures.request("/v1/models", 200);
        figures.tokens("answer").inc_by(3);
        figures.first_token.observe(0.3);
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes everything");
        for line in [
            "cdi_relay_api_requests_total{route=\"/v1/models\",status=\"200\"} 1",
            "cdi_relay_api_tokens_total{kind=\"answer\"} 3",
            "cdi_relay_api_first_token_seconds_bucket{le=\"0.5\"} 1",
            "cdi_relay_api_waiting 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let documentation = include_str!("../../../../docs/api.md");
        for name in text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).filter_map(|l| l.split(' ').next()) {
            assert!(documentation.contains(name), "docs/api.md does not name {name}");
        }
    }
}

//! Names of requests: `x-request-id`, and the trace that a request belongs to.
//!
//! Source: <https://www.w3.org/TR/trace-context/>.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue};

use crate::gateway::fresh_id;

/// Longest name that is taken from a client, in bytes.
const MAX_ID_BYTES: usize = 128;

/// The name that the client gave to its request, if it is harmless in a log, or one of our own.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let given = headers.get("x-request-id").and_then(|id| id.to_str().ok()).filter(harmless);
    given.map_or_else(|| fresh_id("req_"), str::to_owned)
}

/// A step of a trace: the client's trace goes on here, or one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    trace: String,
    span: String,
    /// Whether the client records the trace.
    sampled: bool,
}

impl Trace {
    /// This request's step.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let span = fresh_id("")[..16].to_owned();
        let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(parse);
        let (trace, sampled) = given.unwrap_or_else(|| (fresh_id(""), false));
        Self { trace, span, sampled }
    }

    /// What the client is told.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.to_string()).ok()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// The trace of a `traceparent`, and whether it is recorded. Later versions may have more fields.
fn parse(text: &str) -> Option<(String, bool)> {
    let mut fields = text.split('-');
    let mut field = |length: usize| {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        fields.next().filter(|field| field.len() == length && field.bytes().all(is_hex))
    };
    let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    let is_zero = |field: &str| field.bytes().all(|byte| byte == b'0');
    let known = version != "ff" && (version != "00" || fields.next().is_none());
    (known && !is_zero(trace) && !is_zero(span)).then_some(())?;
    Some((trace.to_owned(), u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_trace_goes_on_with_a_step_of_our_own() {
        let trace = Trace::of(&headers("traceparent", GIVEN)).to_string();
        assert!(trace.starts_with(&GIVEN[..36]) && trace.ends_with("-01") && trace != GIVEN, "{trace}");
        assert!(parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more").is_some());
        let wrong = [
            "",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ];
        for text in wrong {
            assert_eq!(parse(text), None, "{text}");
            let fresh = Trace::of(&headers("traceparent", text)).to_string();
            assert!(parse(&fresh).is_some_and(|(_, sampled)| !sampled), "{fresh}");
        }
    }

    #[test]
    fn a_client_s_name_is_kept_if_it_is_harmless() {
        assert_eq!(request_id(&headers("x-request-id", "a-1")), "a-1");
        for bad in ["", "a b", "a\tb"] {
            assert!(request_id(&headers("x-request-id", bad)).starts_with("req_"), "{bad:?}");
        }
    }
}

//! What an operator sees of requests, and what not.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Response;
use serde_json::json;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::client::{Api, body};
use crate::support::STORY;

const SECRET: &str = "xyzzy-plugh";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Everything that was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_and_logged_without_what_they_say() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let ours = Targets::new().with_target("cdi", LevelFilter::TRACE);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(ours).with(lines))
        .expect("the only one");

    let api = Api::start().await;
    let _host = api.host().await;
    let model = api.model().await;
    let request = json!({
        "model": model, "temperature": 0, "max_tokens": 20,
        "messages": [{ "role": "system", "content": SECRET }, { "role": "user", "content": format!("{STORY} {SECRET}") }],
    });
    let chat = api.client.post(api.url("/v1/chat/completions")).json(&request);
    let response = chat.header("x-request-id", "mine-7").header("traceparent", TRACE).send().await.expect("an answer");
    assert_eq!((header(&response, "x-request-id"), header(&response, "request-id")), ("mine-7", "mine-7"));
    let trace = header(&response, "traceparent");
    assert!(trace.starts_with(&TRACE[..36]) && trace != TRACE, "{trace}");
    let answer = body(response).await;
    let text = answer["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    let tokens = format!("tokens={} ", answer["usage"]["completion_tokens"]);
    let wrong = json!({ "model": SECRET, "temperature": SECRET, "messages": SECRET });
    for path in ["/v1/chat/completions", "/v1/messages", "/api/chat", "/v1/images/xyzzy-plugh"] {
        let response = api.post(path, &wrong).await;
        assert!(header(&response, "x-request-id").starts_with("req_"));
        assert!(!response.status().is_success());
    }

    let figures = api.client.get(api.url("/metrics")).send().await.expect("an answer").text().await.expect("text");
    for line in [
        "cdi_relay_api_requests_total{route=\"/v1/messages\",status=\"400\"} 1",
        "cdi_relay_api_requests_total{route=\"/v1/{*rest}\",status=\"404\"} 1",
        "cdi_relay_api_running 0",
    ] {
        assert!(figures.lines().any(|found| found == line), "{line} is not in\n{figures}");
    }
    let counted = |name: &str| {
        let value = figures.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        value.trim().parse::<f64>().expect("a number")
    };
    assert!(counted("cdi_relay_api_tokens_total{kind=\"answer\"}") >= 5.0);
    assert!(counted("cdi_relay_api_first_token_seconds_count") >= 1.0);

    let log = log.text();
    let line = log.lines().find(|line| line.contains("API request") && line.contains("mine-7")).expect("a line");
    assert!(line.contains("status=200") && line.contains(&TRACE[3..35]), "{line}");
    assert!(log.lines().any(|line| line.contains("API answer") && line.contains("mine-7") && line.contains(&tokens)));
    assert!(text.len() > 20, "{text}");
    for said in [SECRET, &text] {
        let telling = log.lines().find(|line| line.contains(said));
        assert_eq!(telling, None);
    }
    api.relay.shutdown().await;
}

//! Keys: who may ask, how often and how much.

use std::path::Path;

use cdi_gateway::keys::{KeyFile, Limits};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::client::{Api, body};
use crate::support::PATIENCE;

const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/messages", "/api/chat"];
const BOBS_REQUESTS: u32 = 3;

fn add(file: &mut KeyFile, name: &str, limits: Limits) -> String {
    file.add(name, limits).expect("a new name")
}

fn client(key: &str) -> Client {
    let value = HeaderValue::from_str(&format!("Bearer {key}")).expect("a header");
    Client::builder().default_headers(HeaderMap::from_iter([(AUTHORIZATION, value)])).build().expect("a client")
}

/// Where a refusal has its words, by path.
fn kind(path: &str, body: &Value) -> Value {
    match path {
        "/api/chat" => json!(body["error"].is_string()),
        "/v1/messages" => body["error"]["type"].clone(),
        _ => body["error"]["code"].clone(),
    }
}

fn write(file: &KeyFile, path: &Path) {
    file.write(path).expect("writable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_asked_for_and_has_its_limits() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("keys.json");
    let mut file = KeyFile::default();
    let alice = add(&mut file, "alice", Limits { requests_a_minute: None, tokens_a_day: Some(400) });
    let bob = add(&mut file, "bob", Limits { requests_a_minute: Some(BOBS_REQUESTS), tokens_a_day: None });
    let carol = add(&mut file, "carol", Limits::default());
    write(&file, &path);
    let api = Api::with_keys(Some(path.clone()), client(&carol)).await;
    let _host = api.host().await;
    let model = api.model().await;

    let words = [json!("invalid_api_key"), json!("authentication_error"), json!(true)];
    for given in [Client::new(), client("sk-cdi-wrong")] {
        for (asked, expected) in PATHS.iter().zip(&words) {
            let refused = given.post(api.url(asked)).body("{}").send().await.expect("an answer");
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(refused.headers()["www-authenticate"], "Bearer");
            assert_eq!(kind(asked, &body(refused).await), *expected);
        }
    }

    // As Anthropic's clients send it; and the rate, in every shape.
    for request in 0..=BOBS_REQUESTS {
        let asked = PATHS[request as usize % PATHS.len()];
        let response = Client::new().post(api.url(asked)).header("x-api-key", &bob).body("{}").send().await;
        let response = response.expect("an answer");
        if request < BOBS_REQUESTS {
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "it was let in");
        } else {
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert!(response.headers().contains_key("retry-after"));
            assert_eq!(kind(asked, &body(response).await), "rate_limit_exceeded");
        }
    }

    // The quota counts prompts and answers, of streams too.
    let messages = json!([{ "role": "user", "content": "Tell me a story." }]);
    let request = json!({ "model": model, "messages": messages, "max_tokens": 60, "stream": true });
    let alice = client(&alice);
    let mut answered = 0;
    let refused = loop {
        let response = alice.post(api.url("/v1/messages")).json(&request).send().await.expect("an answer");
        if response.status() != StatusCode::OK {
            break response;
        }
        assert!(response.text().await.expect("text").contains("message_stop"));
        answered += 1;
        assert!(answered < 10, "nobody counts");
    };
    assert!((3..7).contains(&answered), "400 tokens are {answered} answers of 60 tokens and their prompts");
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body(refused).await["error"]["type"], "rate_limit_error");

    // A key that is revoked counts no more, and the others still do.
    file.revoke("alice").expect("it is there");
    write(&file, &path);
    let revoked = async {
        while alice.get(api.url("/v1/models")).send().await.expect("an answer").status() != StatusCode::UNAUTHORIZED {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, revoked).await.expect("it is noticed");
    assert!(api.get("/v1/models").await["data"].is_array());
    api.relay.shutdown().await;
}

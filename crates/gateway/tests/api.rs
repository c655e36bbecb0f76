//! The API of a real relay, computed by a node that hosts the genesis model beside it.

#[path = "../../node/tests/support/mod.rs"]
mod support;

use std::time::Duration;

use cdi_node::view::{HostLayers, RouteMode};
use cdi_relay::{ApiAccess, Config, RelayHandle};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use support::{Node, PATIENCE, STORY, node, relay_with};

struct Api {
    relay: RelayHandle,
    client: Client,
}

impl Api {
    /// An API that knows its model.
    async fn start() -> Self {
        let relay = relay_with(Config { api: ApiAccess::Local, ..Config::default() }).await;
        let api = Self { relay, client: Client::new() };
        let known = async {
            while api.get("/v1/models").await["data"].as_array().is_none_or(Vec::is_empty) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.expect("the model in time");
        api
    }

    /// A node that hosts the whole model, and is known to the API's own node.
    async fn host(&self) -> Node {
        let mut host = node(&self.relay).await;
        host.host(HostLayers::Exactly(8)).await;
        let served = async {
            while self.chat(json!({ "max_tokens": 1 })).await.status() != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.expect("the host in time");
        host
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.relay.http_addr())
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.client.get(self.url(path)).send().await.expect("an answer");
        response.json().await.expect("JSON")
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).json(body).send().await.expect("an answer")
    }

    /// The model's name.
    async fn model(&self) -> String {
        self.get("/v1/models").await["data"][0]["id"].as_str().expect("a name").to_owned()
    }

    /// Asks for the story, greedily, with `more` in the request.
    async fn chat(&self, more: Value) -> Response {
        let mut request = json!({
            "model": self.model().await,
            "messages": [{ "role": "user", "content": STORY }],
            "temperature": 0,
            "max_tokens": 60,
        });
        for (name, value) in more.as_object().expect("an object") {
            request[name] = value.clone();
        }
        self.post("/v1/chat/completions", &request).await
    }
}

async fn body(response: Response) -> Value {
    response.json().await.expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_interfaces_answer_as_the_swarm_does() {
    let api = Api::start().await;
    let mut host = api.host().await;
    host.see_nodes(0).await;
    let alone = host.ask(STORY, RouteMode::ThisTab, |_| ()).await.text;
    let model = api.model().await;

    // OpenAI, whole.
    let response = api.chat(json!({})).await;
    assert_eq!(response.status(), StatusCode::OK);
    let whole = body(response).await;
    let text = whole["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    assert!(text.len() > 100 && alone.starts_with(&text), "{text}\nis not the beginning of\n{alone}");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 60);
    assert!(whole["usage"]["prompt_tokens"].as_u64() > Some(5), "{}", whole["usage"]);

    // As events.
    let response = api.chat(json!({ "stream": true, "stream_options": { "include_usage": true } })).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let events = response.text().await.expect("text");
    let data: Vec<&str> = events.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = data[..data.len() - 1].iter().map(|d| serde_json::from_str(d).expect("JSON")).collect();
    let streamed: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, text);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[chunks.len() - 1]["usage"], whole["usage"]);

    // Several, and a stop text.
    let word = text.split_whitespace().nth(6).expect("words");
    let stopped = body(api.chat(json!({ "n": 2, "stop": word })).await).await;
    for choice in stopped["choices"].as_array().expect("choices") {
        assert_eq!(choice["message"]["content"], text[..text.find(word).expect("it is there")]);
        assert_eq!(choice["finish_reason"], "stop");
    }
    assert_eq!(stopped["choices"][1]["index"], 1);

    // Ollama: lines, and whole.
    let options = json!({ "temperature": 0, "num_predict": 60 });
    let tagged = format!("{model}:latest");
    let messages = json!([{ "role": "user", "content": STORY }]);
    let response = api.post("/api/chat", &json!({ "model": tagged, "messages": messages, "options": options })).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let lines = response.text().await.expect("text");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let streamed: String = lines.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!(streamed, text);
    let end = lines.last().expect("an end");
    assert_eq!((&end["done"], &end["done_reason"], &end["eval_count"]), (&json!(true), &json!("length"), &json!(60)));
    let request = json!({ "model": model, "prompt": STORY, "stream": false, "options": options });
    let generated = body(api.post("/api/generate", &request).await).await;
    assert_eq!(generated["response"], text);
    assert!(generated["total_duration"].as_u64() >= generated["prompt_eval_duration"].as_u64());
    assert_eq!(api.get("/api/tags").await["models"][0]["name"], tagged);
    let shown = body(api.post("/api/show", &json!({ "model": model })).await).await;
    assert_eq!(shown["model_info"]["llama.block_count"], 8);
    api.relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_answered_is_refused_in_each_interface_s_shape() {
    let api = Api::start().await;
    let check = async |response: Response, status: u16, code: &str| {
        assert_eq!(response.status().as_u16(), status);
        let body = body(response).await;
        assert_eq!(body["error"]["code"], code, "{body}");
        assert!(body["error"]["message"].as_str().is_some_and(|text| text.len() > 20), "{body}");
    };
    // Nobody hosts, and the relay computes nothing itself.
    check(api.chat(json!({})).await, 503, "swarm").await;
    check(api.chat(json!({ "stream": true })).await, 503, "swarm").await;
    check(api.chat(json!({ "model": "absent" })).await, 404, "model_not_found").await;
    check(api.chat(json!({ "tools": [{ "type": "function" }] })).await, 501, "unsupported_parameter").await;
    check(api.chat(json!({ "temperature": 9 })).await, 400, "invalid_value").await;
    check(api.chat(json!({ "messages": "hi" })).await, 400, "invalid_request").await;
    check(api.chat(json!({ "messages": [{ "role": "user", "content": "why ".repeat(600) }] })).await, 503, "swarm")
        .await;
    let path = api.url("/v1/chat/completions");
    for bytes in [b"{\"model\": \"\xff\"".to_vec(), Vec::new()] {
        let response = api.client.post(&path).body(bytes).send().await.expect("an answer");
        check(response, 400, "invalid_request").await;
    }
    // On a connection of its own, which the relay closes: it does not read the rest.
    let large = Client::new().post(&path).body(vec![b' '; 9 << 20]).send().await.expect("an answer");
    check(large, 413, "invalid_request").await;
    check(api.client.get(&path).send().await.expect("an answer"), 405, "invalid_request").await;
    check(api.post("/v1/images/generations", &json!({})).await, 404, "invalid_request").await;

    let response = api.post("/api/chat", &json!({ "model": "absent", "messages": [] })).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(body(response).await["error"].is_string());
    let response = api.post("/api/generate", &json!({ "model": api.model().await })).await;
    assert_eq!(body(response).await["done_reason"], "load");

    // A page from elsewhere gets nothing.
    let foreign = api.client.get(api.url("/v1/models")).header("origin", "https://example.org");
    assert_eq!(foreign.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    api.relay.shutdown().await;
}

//! A program that uses the API.

use std::path::PathBuf;
use std::time::Duration;

use cdi_node::view::HostLayers;
use cdi_relay::{ApiAccess, Config, RelayHandle};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{Node, PATIENCE, STORY, node, relay_with};

/// A relay with an API, and a program that uses it.
pub struct Api {
    pub relay: RelayHandle,
    pub client: Client,
}

impl Api {
    /// An API that knows its model.
    pub async fn start() -> Self {
        Self::with_keys(None, Client::new()).await
    }

    /// The same with a file of keys, of which `client` has one.
    pub async fn with_keys(api_keys: Option<PathBuf>, client: Client) -> Self {
        let relay = relay_with(Config { api: ApiAccess::Local, api_keys, ..Config::default() }).await;
        let api = Self { relay, client };
        let known = async {
            while api.get("/v1/models").await["data"].as_array().is_none_or(Vec::is_empty) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, known).await.expect("the model in time");
        api
    }

    /// A node that hosts the whole model, and is known to the API's own node.
    pub async fn host(&self) -> Node {
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

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.relay.http_addr())
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self.client.get(self.url(path)).send().await.expect("an answer");
        response.json().await.expect("JSON")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(self.url(path)).json(body).send().await.expect("an answer")
    }

    /// The model's name.
    pub async fn model(&self) -> String {
        self.get("/v1/models").await["data"][0]["id"].as_str().expect("a name").to_owned()
    }

    /// Asks for the story, greedily, with `more` in the request.
    pub async fn chat(&self, more: Value) -> Response {
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

/// The JSON of a response.
pub async fn body(response: Response) -> Value {
    response.json().await.expect("JSON")
}

/// The values of a stream of server-sent events, and the names that they have.
pub async fn events(response: Response) -> (Vec<String>, Vec<Value>) {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.expect("text");
    let after = |prefix: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let data = after("data: ");
    let values = data.iter().filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON"));
    (after("event: "), values.collect())
}

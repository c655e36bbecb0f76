//! Bodies that nobody should send: whatever comes, there is an answer, and a refusal has the interface's shape.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::client::Api;

/// Of all fields that any interface reads, and some of others.
const NAMES: &str = "model|messages|prompt|input|system|instructions|stream|stream_options|temperature|top_p|top_k|seed|n|\
                     stop|stop_sequences|max_tokens|max_completion_tokens|max_output_tokens|options|echo|raw|tools|text|\
                     thinking|response_format|suffix|rest|role|content|type";
const PATHS: [&str; 8] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/show",
];
const CASES: usize = 400;

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-3_i64..10).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["user", "system", "text", "function_call", "\u{0}", "\u{202e}\u{1f469}\u{200d}"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..5)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES.split('|').map(|name| name.trim().to_owned()).collect::<Vec<_>>())
}

/// A request that is nearly one, or no JSON at all.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let changed = prop::collection::vec((name(), value()), 1..4).prop_map(|changes| {
        let user = json!([{ "role": "user", "content": "hi" }]);
        let mut request = json!({
            "model": "genesis", "messages": user, "prompt": "hi", "input": "hi", "max_tokens": 1, "stream": false,
        });
        for (name, value) in changes {
            request[name] = value;
        }
        request.to_string().into_bytes()
    });
    let deep = (1_usize..100_000).prop_map(|depth| [b"{\"messages\":".to_vec(), vec![b'['; depth]].concat());
    prop_oneof![
        8 => changed,
        1 => value().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
        1 => deep,
    ]
}

fn has_shape(path: &str, body: &Value) -> bool {
    match path {
        path if path.starts_with("/api") => body["error"].is_string(),
        path if path.starts_with("/v1/messages") => {
            body["type"] == "error" && body["error"]["type"].is_string() && body["error"]["message"].is_string()
        }
        _ => body["error"]["message"].is_string() && body["error"]["type"].is_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_is_answered_and_a_refusal_has_a_shape() {
    let api = Api::start().await;
    let (mut runner, strategy) = (TestRunner::deterministic(), request());
    for case in 0..CASES {
        let bytes = strategy.new_tree(&mut runner).expect("a request").current();
        let path = PATHS[case % PATHS.len()];
        let response = api.client.post(api.url(path)).body(bytes.clone()).send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("text");
        let shown = || format!("{path} {}\n{status} {text}", String::from_utf8_lossy(&bytes));
        assert!([200, 400, 404, 501, 503].contains(&status), "{}", shown());
        if status != 200 {
            let body = serde_json::from_str(&text).unwrap_or(Value::Null);
            assert!(has_shape(path, &body), "{}", shown());
        }
    }
    api.relay.shutdown().await;
}

//! What is refused.

use reqwest::{Client, Response, StatusCode};
use serde_json::json;

use crate::client::{Api, body};

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
    let long = json!([{ "role": "user", "content": "why ".repeat(600) }]);
    for stream in [false, true] {
        let request = json!({ "messages": long, "stream": stream });
        check(api.chat(request).await, 400, "context_length_exceeded").await;
    }
    let model = api.model().await;
    let request = json!({ "model": model, "messages": long, "max_tokens": 9 });
    let refused = api.post("/v1/messages", &request).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let refused = body(refused).await;
    assert_eq!((&refused["type"], &refused["error"]["type"]), (&json!("error"), &json!("invalid_request_error")));
    let message = refused["error"]["message"].as_str().expect("a message");
    assert!(message.starts_with("prompt is too long: "), "{message}");
    let counted = json!({ "model": model, "messages": long });
    let counted = body(api.post("/v1/messages/count_tokens", &counted).await).await;
    assert!(counted["input_tokens"].as_u64() > Some(512), "what is too long can be counted: {counted}");
    let refused = api.post("/api/chat", &json!({ "model": model, "messages": long })).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(body(refused).await["error"].as_str().is_some_and(|text| text.contains("too long")));

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
    let refused = api.client.get(api.url("/v1/messages")).send().await.expect("an answer");
    assert_eq!((refused.status().as_u16(), &body(refused).await["type"]), (405, &json!("error")));
    let refused = api.post("/api/embed", &json!({})).await;
    assert_eq!((refused.status().as_u16(), body(refused).await["error"].is_string()), (501, true));
    check(api.post("/v1/embeddings", &json!({})).await, 501, "unsupported_parameter").await;

    let response = api.post("/api/chat", &json!({ "model": "absent", "messages": [] })).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(body(response).await["error"].is_string());
    let response = api.post("/api/generate", &json!({ "model": api.model().await })).await;
    assert_eq!(body(response).await["done_reason"], "load");

    // What the document names is there.
    let document = api.get("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let url = api.url(&path.replace("{model}", &model));
        let request = if methods["get"].is_object() { api.client.get(url) } else { api.client.post(url).body("{}") };
        let status = request.send().await.expect("an answer").status().as_u16();
        assert!([200, 400].contains(&status), "{path}: {status}");
    }

    // A page from elsewhere gets nothing.
    let foreign = api.client.get(api.url("/v1/models")).header("origin", "https://example.org");
    assert_eq!(foreign.send().await.expect("an answer").status(), StatusCode::FORBIDDEN);
    api.relay.shutdown().await;
}

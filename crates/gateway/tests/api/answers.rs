//! What is answered.

use cdi_node::view::RouteMode;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::client::{Api, body, events};
use crate::support::STORY;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_interface_answers_as_the_swarm_does() {
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

    older_completions(&api, &model, &alone).await;
    responses(&api, &model, &text).await;
    anthropic(&api, &model, &text, word).await;
    api.relay.shutdown().await;
}

/// The older interface reads the prompt as it is.
async fn older_completions(api: &Api, model: &str, alone: &str) {
    let prompt = &alone[..alone.char_indices().nth(80).expect("a long story").0];
    let request = json!({ "model": model, "prompt": prompt, "temperature": 0, "max_tokens": 30 });
    let with = |more: Value| {
        let mut request = request.clone();
        request.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        request
    };
    let whole = body(api.post("/v1/completions", &request).await).await;
    let text = whole["choices"][0]["text"].as_str().expect("text").to_owned();
    assert!(text.len() > 30 && text != alone[..text.len()], "it goes on, and does not answer: {text}");
    assert_eq!(
        (&whole["object"], &whole["choices"][0]["finish_reason"]),
        (&json!("text_completion"), &json!("length"))
    );

    let echo = json!({ "prompt": [prompt, "A"], "n": 2, "echo": true, "stream": true,
                       "stream_options": { "include_usage": true } });
    let (_, chunks) = events(api.post("/v1/completions", &with(echo)).await).await;
    let mut texts = vec![String::new(); 4];
    for choice in chunks.iter().filter_map(|chunk| chunk["choices"].get(0)) {
        let index = choice["index"].as_u64().and_then(|index| usize::try_from(index).ok()).expect("an index");
        texts[index] += choice["text"].as_str().expect("text");
    }
    assert_eq!((&texts[0], &texts[1]), (&format!("{prompt}{text}"), &texts[0]));
    assert!(texts[2].starts_with('A') && texts[2] != texts[0]);
    let usage = &chunks.last().expect("the figures")["usage"];
    assert!(usage["completion_tokens"].as_u64() > Some(60), "both prompts have answers: {usage}");
    let prompts = usage["prompt_tokens"].as_u64().expect("a number");
    let one = whole["usage"]["prompt_tokens"].as_u64().expect("a number");
    assert!((one + 1..one + 4).contains(&prompts), "each prompt counts once: {prompts} and {one}");

    let counted = json!({ "max_tokens": 0, "echo": true });
    let counted = body(api.post("/v1/completions", &with(counted)).await).await;
    assert_eq!((&counted["choices"][0]["text"], &counted["usage"]["prompt_tokens"]), (&json!(prompt), &json!(one)));
    let raw = json!({ "model": model, "prompt": prompt, "raw": true, "stream": false,
                      "options": { "temperature": 0, "num_predict": 30 } });
    assert_eq!(body(api.post("/api/generate", &raw).await).await["response"], text);
}

async fn responses(api: &Api, model: &str, text: &str) {
    let request = json!({ "model": model, "input": STORY, "temperature": 0, "max_output_tokens": 60 });
    let whole = body(api.post("/v1/responses", &request).await).await;
    assert_eq!(whole["output"][0]["content"][0]["text"], text);
    assert_eq!((&whole["status"], &whole["usage"]["output_tokens"]), (&json!("incomplete"), &json!(60)));
    let mut streamed = request.clone();
    streamed["stream"] = json!(true);
    streamed["input"] = json!([{ "role": "user", "content": [{ "type": "input_text", "text": STORY }] }]);
    let (names, values) = events(api.post("/v1/responses", &streamed).await).await;
    let begin =
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"];
    let end =
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.incomplete"];
    assert_eq!((&names[..4], &names[names.len() - 4..]), (&begin.map(str::to_owned)[..], &end.map(str::to_owned)[..]));
    assert!(values.iter().enumerate().all(|(number, value)| value["sequence_number"] == number));
    assert!(values.iter().zip(&names).all(|(value, name)| value["type"] == *name));
    let deltas: String = values.iter().filter_map(|value| value["delta"].as_str()).collect();
    assert_eq!(deltas, text);
    assert_eq!(values.last().expect("an end")["response"]["usage"], whole["usage"]);
}

async fn anthropic(api: &Api, model: &str, text: &str, word: &str) {
    let messages = json!([{ "role": "user", "content": STORY }]);
    let request = json!({ "model": model, "messages": messages, "temperature": 0, "max_tokens": 60 });
    let whole = body(api.post("/v1/messages", &request).await).await;
    assert_eq!(whole["content"], json!([{ "type": "text", "text": text }]));
    assert_eq!((&whole["stop_reason"], &whole["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(60)));
    let count = json!({ "model": model, "messages": messages });
    let counted = body(api.post("/v1/messages/count_tokens", &count).await).await;
    assert_eq!(counted["input_tokens"], whole["usage"]["input_tokens"]);

    let mut streamed = request.clone();
    streamed["stream"] = json!(true);
    streamed["stop_sequences"] = json!([word]);
    let (names, values) = events(api.post("/v1/messages", &streamed).await).await;
    assert_eq!(&names[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(&names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert_eq!(values[0]["message"]["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    let deltas: String = values.iter().filter_map(|value| value["delta"]["text"].as_str()).collect();
    assert_eq!(deltas, text[..text.find(word).expect("it is there")]);
    let delta = &values[values.len() - 2]["delta"];
    assert_eq!(*delta, json!({ "stop_reason": "stop_sequence", "stop_sequence": word }));
}

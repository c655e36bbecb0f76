//! `/v1/chat/completions`, whole and as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use cdi_node::view::{Ask, Message, RouteMode};
use cdi_platform::time::unix_ms;
use cdi_types::sampling::Sampling;
use futures::future::try_join_all;
use futures::stream::{self, SelectAll, StreamExt as _};
use futures::{FutureExt as _, Stream};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::problem::{body, respond};
use crate::completion::{Completion, End, Piece};
use crate::gateway::{Gateway, Rest, fresh_id, fresh_seed};
use crate::number::between;
use crate::problem::Problem;
use crate::request::Body;

/// Most answers to one request.
const MAX_CHOICES: u32 = 8;
/// Most stop texts (OpenAI's own limit), and their length in bytes.
const MAX_STOPS: usize = 4;
const MAX_STOP_BYTES: usize = 256;
/// A proxy closes a connection on which nothing comes for long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct Request {
    model: String,
    messages: Vec<Turn>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    /// Not OpenAI's, but many servers' and clients'.
    top_k: Option<u32>,
    seed: Option<i64>,
    n: Option<u32>,
    #[serde(default, deserialize_with = "one_or_many")]
    stop: Vec<String>,
    max_tokens: Option<u32>,
    /// The newer name.
    max_completion_tokens: Option<u32>,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text {
        text: String,
    },
    /// Pictures, sound, files.
    #[serde(other)]
    Other,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Nothing(()),
        One(String),
        Many(Vec<String>),
    }
    Ok(match Given::deserialize(deserializer)? {
        Given::Nothing(()) => Vec::new(),
        Given::One(stop) => vec![stop],
        Given::Many(stops) => stops,
    })
}

/// Parameters that change an answer and are not there yet, each with the value that means nothing.
fn refuse_unsupported(rest: &Rest) -> Result<(), Problem> {
    let nothing = [
        ("tools", json!([])),
        ("functions", json!([])),
        ("logprobs", json!(false)),
        ("logit_bias", json!({})),
        ("frequency_penalty", json!(0.0)),
        ("presence_penalty", json!(0.0)),
        ("response_format", json!({ "type": "text" })),
        ("modalities", json!(["text"])),
        ("audio", Value::Null),
        ("prediction", Value::Null),
    ];
    for (name, neutral) in nothing {
        let is_neutral = |value: &Value| {
            value.is_null() || *value == neutral || (value.as_f64() == Some(0.0) && neutral.as_f64() == Some(0.0))
        };
        if rest.get(name).is_some_and(|value| !is_neutral(value)) {
            return Err(Problem::unsupported(name));
        }
    }
    Ok(())
}

fn message(turn: Turn) -> Result<Message, Problem> {
    let role = match turn.role.as_str() {
        // OpenAI's newer name of the same thing.
        "developer" => "system".to_owned(),
        "system" | "user" | "assistant" => turn.role,
        "tool" | "function" => return Err(Problem::unsupported("tools")),
        other => {
            let message = format!("messages has a role `{other}`; there are system, user and assistant");
            return Err(Problem::parameter("messages", message));
        }
    };
    let content = match turn.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut text = String::new();
            for part in parts {
                match part {
                    Part::Text { text: more } => text += &more,
                    Part::Other => {
                        let message = "messages has a part that is not text; the models here read text only";
                        return Err(Problem::parameter("messages", message));
                    }
                }
            }
            text
        }
    };
    Ok(Message { role, content })
}

/// What is asked of the swarm, once for each choice.
struct Order {
    asks: Vec<Ask>,
    stops: Vec<String>,
}

fn order(request: Request, context: u32) -> Result<Order, Problem> {
    refuse_unsupported(&request.rest)?;
    let choices = between("n", request.n.unwrap_or(1), 1, MAX_CHOICES)?;
    let temperature = between("temperature", request.temperature.unwrap_or(1.0), 0.0, 2.0)?;
    let top_p = between("top_p", request.top_p.unwrap_or(1.0), f32::MIN_POSITIVE, 1.0)?;
    let max_tokens = request.max_completion_tokens.or(request.max_tokens).unwrap_or(context);
    let max_tokens = between("max_tokens", max_tokens, 1, u32::MAX)?;
    if request.stop.len() > MAX_STOPS || request.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("stop takes at most {MAX_STOPS} texts of at most {MAX_STOP_BYTES} bytes");
        return Err(Problem::parameter("stop", message));
    }
    let messages = request.messages.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    if messages.last().is_none_or(|last| last.content.trim().is_empty()) {
        return Err(Problem::parameter("messages", "messages must end with one that has text"));
    }
    let seed = request.seed.map_or_else(fresh_seed, i64::cast_unsigned);
    let top_k = request.top_k.unwrap_or(0);
    let ask = |choice: u32| Ask {
        messages: messages.clone(),
        route: RouteMode::Swarm,
        sampling: Sampling { temperature, top_k, top_p, seed: seed.wrapping_add(choice.into()) },
        max_tokens,
    };
    Ok(Order { asks: (0..choices).map(ask).collect(), stops: request.stop })
}

/// Answers a request.
pub(super) async fn complete(State(gateway): State<Gateway>, Body(request): Body<Request>) -> Response {
    match try_complete(gateway, request).await {
        Ok(response) => response,
        Err(problem) => respond(&problem),
    }
}

async fn try_complete(gateway: Gateway, request: Result<Request, Problem>) -> Result<Response, Problem> {
    let request = request?;
    let model = gateway.model(&request.model)?;
    let stream = request.stream.unwrap_or(false);
    let with_usage = request.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let head = Head { id: fresh_id("chatcmpl-"), created: unix_ms() / 1000, model: model.view.name };
    let Order { asks, stops } = order(request, model.view.context)?;
    let mut choices = Vec::new();
    for ask in asks {
        choices.push(Completion::new(gateway.ask(ask).await?, stops.clone()));
    }
    if stream {
        // The first piece tells whether there is an answer at all: until then there can be a status.
        let mut begun = Vec::new();
        for mut choice in choices {
            let first = choice.next().await.ok_or_else(Problem::stopped)??;
            begun.push((first, choice));
        }
        let events = events(head, begun, with_usage);
        return Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response());
    }
    let whole = try_join_all(choices.into_iter().map(Completion::whole)).await?;
    let choices: Vec<Value> = whole.iter().enumerate().map(|(index, (text, end))| choice(index, text, end)).collect();
    let ends: Vec<End> = whole.iter().map(|(_, end)| *end).collect();
    Ok(Json(json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": usage(&ends),
    }))
    .into_response())
}

fn choice(index: usize, text: &str, end: &End) -> Value {
    json!({
        "index": index,
        "message": { "role": "assistant", "content": text, "refusal": null },
        "logprobs": null,
        "finish_reason": end.reason.name(),
    })
}

/// The prompt counts once, however many answers there are.
fn usage(ends: &[End]) -> Value {
    let prompt = ends.first().map_or(0, |end| end.prompt_tokens);
    let tokens: u32 = ends.iter().map(|end| end.tokens).sum();
    json!({ "prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens })
}

/// What every chunk repeats.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn chunk(&self, choices: &Value, usage: Option<Value>) -> Event {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        data(&chunk)
    }

    fn delta(&self, index: usize, delta: &Value, finish: Option<&str>) -> Event {
        self.chunk(&json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish }]), None)
    }
}

fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// A choice while it is read: its next piece, and what comes after.
type Begun = (Piece, Completion);

fn events(head: Head, begun: Vec<Begun>, with_usage: bool) -> impl Stream<Item = Result<Event, Infallible>> {
    let roles: Vec<Event> =
        (0..begun.len()).map(|index| head.delta(index, &json!({ "role": "assistant", "content": "" }), None)).collect();
    let pieces: SelectAll<_> =
        begun.into_iter().enumerate().map(|(index, begun)| pieces(index, begun).boxed()).collect();
    let mut ends = Vec::new();
    let body_events = pieces.map(Some).chain(stream::once(async { None })).map(move |piece| match piece {
        Some((index, Ok(Piece::Text(text)))) => vec![head.delta(index, &json!({ "content": text }), None)],
        Some((index, Ok(Piece::End(end)))) => {
            ends.push(end);
            vec![head.delta(index, &json!({}), Some(end.reason.name()))]
        }
        Some((_, Err(problem))) => vec![data(&body(&problem))],
        None => {
            let usage = with_usage.then(|| head.chunk(&json!([]), Some(usage(&ends))));
            usage.into_iter().chain([Event::default().data("[DONE]")]).collect()
        }
    });
    stream::iter(roles).chain(body_events.flat_map(stream::iter)).map(Ok)
}

fn pieces(index: usize, (first, rest): Begun) -> impl Stream<Item = (usize, Result<Piece, Problem>)> {
    let rest = stream::unfold(rest, |mut rest| async move { rest.next().await.map(|piece| (piece, rest)) });
    stream::once(async { Ok(first) }.boxed()).chain(rest).map(move |piece| (index, piece))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Order, Problem> {
        order(serde_json::from_value(value).expect("a request"), 512)
    }

    fn refused(extra: &Value) -> Problem {
        let mut request = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        for (name, value) in extra.as_object().expect("an object") {
            request[name] = value.clone();
        }
        read(request).err().unwrap_or_else(|| panic!("{extra} is taken"))
    }

    #[test]
    fn a_request_becomes_an_order() {
        let order = read(json!({
            "model": "m",
            "messages": [
                { "role": "developer", "content": "Be short." },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
            ],
            "n": 2, "seed": -1, "temperature": 0, "max_tokens": 9, "stop": "x",
            "frequency_penalty": 0, "response_format": { "type": "text" }, "user": "whoever",
        }))
        .expect("it is whole");
        assert_eq!(order.stops, ["x"]);
        assert_eq!(order.asks.len(), 2);
        let texts: Vec<_> = order.asks[0].messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(texts, [("system", "Be short."), ("user", "ab")]);
        assert_eq!((order.asks[0].sampling.seed, order.asks[1].sampling.seed), (u64::MAX, 0));
        assert_eq!((order.asks[0].sampling.temperature, order.asks[0].max_tokens), (0.0, 9));
    }

    #[test]
    fn what_is_absurd_or_not_there_is_refused_by_name() {
        for (extra, parameter) in [
            (json!({ "temperature": -0.1 }), "temperature"),
            (json!({ "temperature": 2.1 }), "temperature"),
            (json!({ "top_p": 0 }), "top_p"),
            (json!({ "n": 0 }), "n"),
            (json!({ "n": 99 }), "n"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "messages": [{ "role": "user", "content": "  " }] }), "messages"),
            (json!({ "messages": [{ "role": "wizard", "content": "hi" }] }), "messages"),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }] }),
                "messages",
            ),
            (json!({ "tools": [{ "type": "function" }] }), "tools"),
            (json!({ "logprobs": true }), "logprobs"),
            (json!({ "presence_penalty": 0.5 }), "presence_penalty"),
            (json!({ "response_format": { "type": "json_object" } }), "response_format"),
        ] {
            assert_eq!(refused(&extra).parameter, Some(parameter));
        }
    }
}

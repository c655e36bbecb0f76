//! `/api/chat` and `/api/generate`, whole and as lines of JSON.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use cdi_node::view::{Ask, Message, RouteMode};
use cdi_types::sampling::Sampling;
use futures::Stream;
use futures::stream::{self, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::{body, respond};
use super::{models, now};
use crate::completion::{Completion, End, Piece};
use crate::gateway::{Gateway, Rest, fresh_seed};
use crate::number::between;
use crate::problem::Problem;
use crate::request::Body;

/// Most stop texts, and their length in bytes.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;

/// Ollama's own defaults, where a model says nothing.
const TEMPERATURE: f32 = 0.8;
const TOP_K: u32 = 40;
const TOP_P: f32 = 0.9;

#[derive(Deserialize)]
pub(super) struct Chat {
    #[serde(default)]
    messages: Vec<Turn>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    images: Vec<Value>,
}

#[derive(Deserialize)]
pub(super) struct Generate {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    system: String,
    #[serde(flatten)]
    common: Common,
}

/// What both requests have.
#[derive(Deserialize)]
struct Common {
    model: String,
    stream: Option<bool>,
    #[serde(default)]
    options: Options,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Default, Deserialize)]
struct Options {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    seed: Option<i64>,
    /// −1: as many as there is room for.
    num_predict: Option<i64>,
    #[serde(default)]
    stop: Vec<String>,
}

/// Which of the two a response is for: they differ in where the text stands.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Chat,
    Generate,
}

/// Answers a conversation.
pub(super) async fn chat(State(gateway): State<Gateway>, Body(request): Body<Chat>) -> Response {
    let order = request.and_then(|Chat { messages, common }| {
        let messages = messages.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
        Ok((messages, common))
    });
    answered(gateway, Shape::Chat, order).await
}

/// Answers one question.
pub(super) async fn generate(State(gateway): State<Gateway>, Body(request): Body<Generate>) -> Response {
    let order = request.map(|Generate { prompt, system, common }| {
        let turns = [("system", system), ("user", prompt)].into_iter().filter(|(_, content)| !content.is_empty());
        let messages = turns.map(|(role, content)| Message { role: role.to_owned(), content }).collect();
        (messages, common)
    });
    answered(gateway, Shape::Generate, order).await
}

fn message(turn: Turn) -> Result<Message, Problem> {
    if !turn.images.is_empty() {
        return Err(Problem::unsupported("images"));
    }
    match turn.role.as_str() {
        "system" | "user" | "assistant" => Ok(Message { role: turn.role, content: turn.content }),
        "tool" => Err(Problem::unsupported("tools")),
        other => {
            let message = format!("messages has a role `{other}`; there are system, user and assistant");
            Err(Problem::parameter("messages", message))
        }
    }
}

type Order = (Vec<Message>, Common);

async fn answered(gateway: Gateway, shape: Shape, order: Result<Order, Problem>) -> Response {
    match try_answer(gateway, shape, order).await {
        Ok(response) => response,
        Err(problem) => respond(&problem),
    }
}

async fn try_answer(gateway: Gateway, shape: Shape, order: Result<Order, Problem>) -> Result<Response, Problem> {
    let (messages, common) = order?;
    let model = gateway.model(&common.model)?;
    let streamed = common.stream.unwrap_or(true);
    refuse_unsupported(&common.rest)?;
    let (sampling, max_tokens, stops) = options(common.options, model.view.context)?;
    let line = Line { model: models::tagged(&model), shape };
    if messages.last().is_none_or(|last| last.content.trim().is_empty()) {
        // Ollama's way to have a model loaded. The swarm holds it already.
        return Ok(Json(line.loaded()).into_response());
    }
    let ask = Ask { messages, route: RouteMode::Swarm, sampling, max_tokens };
    let mut completion = Completion::new(gateway.ask(ask).await?, stops);
    if streamed {
        // The first piece tells whether there is an answer at all: until then there can be a status.
        let first = completion.next().await.ok_or_else(Problem::stopped)??;
        let body = ResponseBody::from_stream(lines(line, first, completion));
        return Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response());
    }
    let (text, end) = completion.whole().await?;
    Ok(Json(line.end(&text, &end)).into_response())
}

/// Parameters that change an answer and are not there yet.
fn refuse_unsupported(rest: &Rest) -> Result<(), Problem> {
    for name in ["tools", "format", "images", "suffix", "template", "context", "raw", "think"] {
        let is_neutral = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        };
        if rest.get(name).is_some_and(|value| !is_neutral(value)) {
            return Err(Problem::unsupported(name));
        }
    }
    Ok(())
}

fn options(options: Options, context: u32) -> Result<(Sampling, u32, Vec<String>), Problem> {
    let temperature = between("temperature", options.temperature.unwrap_or(TEMPERATURE), 0.0, 100.0)?;
    let top_p = between("top_p", options.top_p.unwrap_or(TOP_P), f32::MIN_POSITIVE, 1.0)?;
    let top_k = options.top_k.unwrap_or(TOP_K);
    let seed = options.seed.map_or_else(fresh_seed, i64::cast_unsigned);
    let predicted = options.num_predict.filter(|count| *count >= 0);
    let max_tokens = predicted.map_or(context, |count| u32::try_from(count).unwrap_or(u32::MAX));
    let max_tokens = between("num_predict", max_tokens, 1, u32::MAX)?;
    if options.stop.len() > MAX_STOPS || options.stop.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("stop takes at most {MAX_STOPS} texts of at most {MAX_STOP_BYTES} bytes");
        return Err(Problem::parameter("stop", message));
    }
    Ok((Sampling { temperature, top_k, top_p, seed }, max_tokens, options.stop))
}

/// What every line repeats.
struct Line {
    model: String,
    shape: Shape,
}

impl Line {
    fn text(&self, text: &str, done: bool) -> Value {
        let mut line = json!({ "model": self.model, "created_at": now(), "done": done });
        match self.shape {
            Shape::Chat => line["message"] = json!({ "role": "assistant", "content": text }),
            Shape::Generate => line["response"] = json!(text),
        }
        line
    }

    fn loaded(&self) -> Value {
        let mut line = self.text("", true);
        line["done_reason"] = json!("load");
        line
    }

    fn end(&self, text: &str, end: &End) -> Value {
        let mut line = self.text(text, true);
        line["done_reason"] = json!(end.reason.name());
        line["total_duration"] = nanoseconds(end.total);
        line["load_duration"] = json!(0);
        line["prompt_eval_count"] = json!(end.prompt_tokens);
        line["prompt_eval_duration"] = nanoseconds(end.until_first);
        line["eval_count"] = json!(end.tokens);
        line["eval_duration"] = nanoseconds(end.total.saturating_sub(end.until_first));
        line
    }
}

fn nanoseconds(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn lines(line: Line, first: Piece, rest: Completion) -> impl Stream<Item = Result<String, Infallible>> {
    let rest = stream::unfold(rest, |mut rest| async move { rest.next().await.map(|piece| (piece, rest)) });
    stream::iter([Ok(first)]).chain(rest).map(move |piece| {
        let value = match piece {
            Ok(Piece::Text(text)) => line.text(&text, false),
            Ok(Piece::End(end)) => line.end("", &end),
            Err(problem) => body(&problem),
        };
        Ok(format!("{value}\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_ollamas_defaults_and_limits() {
        let (sampling, most, stops) = options(Options::default(), 512).expect("nothing said");
        assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.8, 40, 0.9));
        assert_eq!((most, stops.len()), (512, 0));
        let read = |value: Value| options(serde_json::from_value(value).expect("options"), 512);
        assert_eq!(read(json!({ "num_predict": -1 })).expect("all").1, 512);
        assert_eq!(read(json!({ "num_predict": 5 })).expect("five").1, 5);
        assert_eq!(read(json!({ "num_predict": 0 })).expect_err("none").parameter, Some("num_predict"));
        assert_eq!(read(json!({ "temperature": -1 })).expect_err("cold").parameter, Some("temperature"));
    }

    #[test]
    fn what_is_not_there_is_refused_and_its_absence_is_not() {
        let rest = |value: Value| serde_json::from_value::<Rest>(value).expect("an object");
        let harmless = json!({ "keep_alive": "5m", "format": "", "tools": [], "think": false, "raw": null });
        assert_eq!(refuse_unsupported(&rest(harmless)), Ok(()));
        for name in ["tools", "format", "raw", "think"] {
            let mut asked = rest(json!({}));
            asked.insert(name.to_owned(), json!(["x"]));
            assert_eq!(refuse_unsupported(&asked).expect_err(name).parameter, Some(name));
        }
    }
}

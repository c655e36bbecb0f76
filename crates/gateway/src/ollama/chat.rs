//! `/api/chat` and `/api/generate`, whole and as lines of JSON.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body as ResponseBody;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use cdi_node::view::Message;
use cdi_types::sampling::Sampling;
use futures::{Stream, StreamExt as _};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DIALECT, models, now};
use crate::completion::{Begun, End, Piece};
use crate::conversation::role;
use crate::gateway::{Gateway, Order, Prompt};
use crate::problem::Problem;
use crate::request::Body;
use crate::rest::Rest;
use crate::sampling::{Defaults, Given, between};
use crate::stop;

/// Most stop texts.
const MAX_STOPS: usize = 16;

/// Ollama's own defaults, where a model says nothing.
const DEFAULTS: Defaults = Defaults { temperature: 0.8, hottest: 100.0, top_p: 0.9, top_k: 40 };

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OllamaChatRequest")]
pub(super) struct Chat {
    #[serde(default)]
    messages: Vec<Turn>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OllamaMessage")]
struct Turn {
    role: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    images: Vec<Value>,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OllamaGenerateRequest")]
pub(super) struct Generate {
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    system: String,
    /// The prompt is read as it is, without the model's template.
    raw: Option<bool>,
    #[serde(flatten)]
    common: Common,
}

/// What both requests have.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "OllamaCommon")]
struct Common {
    model: String,
    stream: Option<bool>,
    #[serde(default)]
    options: Options,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Default, Deserialize, JsonSchema)]
#[schemars(rename = "OllamaOptions")]
struct Options {
    #[serde(flatten)]
    sampling: Given,
    /// −1: as many as there is room for.
    num_predict: Option<i64>,
    #[serde(default)]
    stop: Vec<String>,
    #[serde(flatten)]
    rest: Rest,
}

/// Which of the two a response is for: they differ in where the text stands.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Chat,
    Generate,
}

/// Answers a conversation.
pub(super) async fn chat(gateway: Gateway, Body(request): Body<Chat>) -> Response {
    let order = request.and_then(|Chat { messages, common }| {
        let messages = messages.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
        Ok((Prompt::Chat(messages), common))
    });
    DIALECT.answer(try_answer(gateway, Shape::Chat, order).await)
}

/// Answers one question.
pub(super) async fn generate(gateway: Gateway, Body(request): Body<Generate>) -> Response {
    let order = request.map(|Generate { prompt, system, raw, common }| {
        if raw.unwrap_or(false) {
            return (Prompt::Text(prompt), common);
        }
        let turns = [("system", system), ("user", prompt)].into_iter().filter(|(_, content)| !content.is_empty());
        let messages = turns.map(|(role, content)| Message { role: role.to_owned(), content }).collect();
        (Prompt::Chat(messages), common)
    });
    DIALECT.answer(try_answer(gateway, Shape::Generate, order).await)
}

fn message(turn: Turn) -> Result<Message, Problem> {
    if !turn.images.is_empty() {
        return Err(Problem::unsupported("images"));
    }
    Ok(Message { role: role(turn.role, "messages")?, content: turn.content })
}

type Asked = (Prompt, Common);

async fn try_answer(gateway: Gateway, shape: Shape, asked: Result<Asked, Problem>) -> Result<Response, Problem> {
    let (prompt, common) = asked?;
    let model = gateway.model(&common.model)?;
    let streamed = common.stream.unwrap_or(true);
    refuse_unsupported(&common.rest)?;
    let (sampling, max_tokens, stops) = options(common.options, model.view.context)?;
    let line = Line { model: models::tagged(&model), shape };
    let is_empty = match &prompt {
        Prompt::Chat(messages) => messages.last().is_none_or(|last| last.content.trim().is_empty()),
        Prompt::Text(text) => text.is_empty(),
    };
    if is_empty {
        // Ollama's way to have a model loaded. The swarm holds it already.
        return Ok(Json(line.loaded()).into_response());
    }
    let completion = gateway.complete(Order { prompt, sampling, max_tokens, stops }).await?;
    if streamed {
        let body = ResponseBody::from_stream(lines(line, completion.begin().await?));
        return Ok(([(CONTENT_TYPE, "application/x-ndjson")], body).into_response());
    }
    let (text, end) = completion.whole().await?;
    Ok(Json(line.end(&text, &end)).into_response())
}

/// Parameters that change an answer and are not there yet.
fn refuse_unsupported(rest: &Rest) -> Result<(), Problem> {
    rest.refuse(&["tools", "format", "images", "suffix", "template", "context", "think"])
}

fn options(options: Options, context: u32) -> Result<(Sampling, u32, Vec<String>), Problem> {
    for (name, neutral) in [("repeat_penalty", 1), ("typical_p", 1)] {
        options.rest.refuse_unless(name, &json!(neutral))?;
    }
    for name in ["presence_penalty", "frequency_penalty", "min_p", "mirostat"] {
        options.rest.refuse_unless(name, &json!(0))?;
    }
    let predicted = options.num_predict.filter(|count| *count >= 0);
    let max_tokens = predicted.map_or(context, |count| u32::try_from(count).unwrap_or(u32::MAX));
    let max_tokens = between("num_predict", max_tokens, 1, u32::MAX)?;
    Ok((options.sampling.sampling(DEFAULTS)?, max_tokens, stop::checked(options.stop, MAX_STOPS, "stop")?))
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

fn lines(line: Line, begun: Begun) -> impl Stream<Item = Result<String, Infallible>> {
    begun.pieces().map(move |piece| {
        let value = match piece {
            Ok(Piece::Text(text)) => line.text(&text, false),
            Ok(Piece::End(end)) => line.end("", &end),
            Err(problem) => DIALECT.body(&problem),
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
    fn what_is_not_there_is_refused_by_name() {
        for name in ["tools", "format", "think"] {
            let rest = serde_json::from_value(json!({ name: ["x"] })).expect("an object");
            assert_eq!(refuse_unsupported(&rest).expect_err(name).parameter, Some(name));
        }
        for (name, neutral) in [("repeat_penalty", 1.0), ("min_p", 0.0)] {
            let read = |value: f64| options(serde_json::from_value(json!({ name: value })).expect("options"), 512);
            assert!(read(neutral).is_ok());
            assert_eq!(read(0.5).expect_err(name).parameter, Some(name));
        }
    }
}
